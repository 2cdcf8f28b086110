// The colours of every spec under specs/examples, by the engine of VS Code, against scopes.txt.
//
//     npm ci && npm test            node test.mjs --update   writes scopes.txt anew
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const textmate = require("vscode-textmate");
const oniguruma = require("vscode-oniguruma");

const here = dirname(fileURLToPath(import.meta.url));
const examples = join(here, "..", "..", "specs", "examples");
const snapshot = join(here, "scopes.txt");

await oniguruma.loadWASM(readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm")).buffer);
const registry = new textmate.Registry({
  onigLib: Promise.resolve({
    createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
    createOnigString: (text) => new oniguruma.OnigString(text),
  }),
  loadGrammar: async () => {
    const file = join(here, "syntaxes", "synth.tmLanguage.json");
    return textmate.parseRawGrammar(readFileSync(file, "utf8"), file);
  },
});
const grammar = await registry.loadGrammar("source.synth");

const lines = [];
const specs = readdirSync(examples, { recursive: true }).filter((file) => file.endsWith(".synth"));
for (const name of specs.map((file) => file.replaceAll("\\", "/")).sort()) {
  lines.push(`== ${name}`);
  let state = textmate.INITIAL;
  for (const line of readFileSync(join(examples, name), "utf8").split("\n")) {
    const read = grammar.tokenizeLine(line, state);
    state = read.ruleStack;
    for (const token of read.tokens) {
      const text = line.slice(token.startIndex, token.endIndex).trim();
      const scope = token.scopes.slice(1).join(" ");
      if (text && scope) lines.push(`${text}\t${scope}`);
    }
  }
  if (state.depth !== 1) lines.push("NOT CLOSED: a string or a block goes on behind the end");
}
const found = `${lines.join("\n")}\n`;

if (process.argv.includes("--update")) {
  writeFileSync(snapshot, found);
} else {
  const wanted = readFileSync(snapshot, "utf8").split("\n");
  const got = found.split("\n");
  const at = got.findIndex((line, index) => line !== wanted[index]);
  if (at >= 0 || got.length !== wanted.length) {
    console.error(`scopes.txt:${at + 1}: expected ${wanted[at]}, found ${got[at]}`);
    process.exit(1);
  }
  console.log(`${got.length} scopes of the examples are as they were`);
}
