// Starts `synthc lsp` for the specs that are open, and ends it with the editor.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = async () => {
  const command = workspace.getConfiguration("synthc").get("command");
  const files = workspace.createFileSystemWatcher("**/*.{synth,jinja,jsonl,json,csv,parquet,txt}");
  client = new LanguageClient(
    "synthc",
    { command, args: ["lsp"] },
    { documentSelector: [{ language: "synth" }], synchronize: { fileEvents: files } },
  );
  await client.start();
};

exports.deactivate = () => client?.stop();
