"""Benchmarks, with whatever synthc is installed beside this Python.

    python -m bench engine                            # all lines; installs the peers, takes half an hour
    python -m bench engine --only chain,resume        # some of them
    python -m bench engine --scale 0.1 --rounds 1     # a try, with a tenth of the rows
    python -m bench embed                             # texts embedded, beside sentence-transformers
    python -m bench http                              # the HTTP clients beside aiohttp, plain and with TLS
    python -m bench compiler                          # `synthc check` of an example and of long specs
    python -m bench editor                            # the language server's answers in a long spec

Each contender is a whole process, and runs in turn with the others against a new loopback server; the
quickest of its runs counts. Exit status 1 if a goal is not met, 2 if something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench import compiler, editing, embeddings, engine, http_clients
from bench.processes import Failed
from bench.report import Result, document, machine, show

GROUPS = {
    "engine": engine.LINES,
    "embed": embeddings.LINES,
    "http": http_clients.LINES,
    "compiler": compiler.LINES,
    "editor": editing.LINES,
}


def main() -> int:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("group", choices=list(GROUPS))
    parser.add_argument("--only", metavar="LINES", help=f"of {', '.join(engine.LINES)}")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the rows")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    options = parser.parse_args()
    lines = GROUPS[options.group]
    names = options.only.split(",") if options.only else list(lines)
    if unknown := [name for name in names if name not in lines]:
        parser.error(f"no line {', '.join(unknown)}; there are {', '.join(lines)}")
    about = machine()
    results: list[Result] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="synthc-bench-") as folder:
        bench = engine.Bench(Path(folder), options.rounds, options.scale)
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                results += lines[name](bench)
            except Failed as error:
                failed = True
                print(f"{name}: {error}", file=sys.stderr)
    show(results, about)
    if options.json:
        chosen = {"lines": names, "scale": options.scale, "rounds": options.rounds}
        text = json.dumps(document(results, about, chosen), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    if failed:
        return 2
    return int(any(result.met is False for result in results))


if __name__ == "__main__":
    sys.exit(main())
