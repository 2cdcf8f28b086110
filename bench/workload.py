"""The work that is measured: rows, specs, and what the server will make of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench.answers import MODEL, Seen, default_answer
from bench.server import Server, digest_of

ANSWERS = """
backend server { url = env("BENCH_URL")  model = "%(model)s"%(concurrency)s }

task answer {
  in  question: text
  out answer: text = ask "Answer in one sentence: {{ question }}"
}

table answers = read("rows.jsonl", key = id) |> answer
"""

LINKS = (
    "Name what matters most for this: %s",
    "Say why that matters: %s",
    "Doubt it: %s",
    "Conclude from all of it: %s",
)

CHAIN = """
backend server { url = env("BENCH_URL")  model = "%(model)s"%(concurrency)s }

task conclude {
  in  question: text
  let matter: text = ask "{links[0]}"
  let why: text = ask "{links[1]}"
  let doubt: text = ask "{links[2]}"
  out conclusion: text = ask "{links[3]}"
}

table answers = read("rows.jsonl", key = id) |> conclude
"""


def answers_spec(concurrency: int | None = None) -> str:
    """One ask for each row; with no `concurrency`, that which synthc takes by itself."""
    return ANSWERS % _named(concurrency)


def chain_spec(concurrency: int) -> str:
    """Four asks for each row, of which each needs the answer of the one before."""
    names = ("question", "matter", "why", "doubt")
    links = [link % f"{{{{ {name} }}}}" for link, name in zip(LINKS, names, strict=True)]
    spec = CHAIN % _named(concurrency)
    for number, link in enumerate(links):
        spec = spec.replace(f"{{links[{number}]}}", link)
    return spec


def _named(concurrency: int | None) -> dict[str, str]:
    told = "" if concurrency is None else f"  concurrency = {concurrency}"
    return {"model": MODEL, "concurrency": told}


def question(number: int) -> str:
    """The question of a row."""
    return f"What is special about the number {number}?"


def write_rows(path: Path, count: int) -> None:
    """A JSON lines file with the columns id and question."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps({"id": number, "question": question(number)}) + "\n")


def chain_latencies(count: int, latency_s: tuple[float, float]) -> Iterator[tuple[float, ...]]:
    """How long the server takes for each ask of each row of `chain_spec`, in seconds."""
    server = Server(latency_s=latency_s)
    for number in range(count):
        text = question(number)
        waits: list[float] = []
        for link in LINKS:
            body = {"messages": [{"role": "user", "content": link % text}]}
            seen = Seen(0, 0, digest_of(body), {}, body)
            waits.append(server.wait_s(seen))
            text = default_answer(seen)
        yield tuple(waits)
