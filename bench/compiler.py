"""The lines of `python -m bench compiler`: `synthc check` as a whole process, caches being warm."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench.engine import SYNTHC, Bench, Line
from bench.processes import ROOT, Measured, measured
from bench.report import TIMES, Result

EXAMPLES = ROOT / "specs" / "examples"
BACKENDS = """
backend small { url = "http://localhost:8000/v1"  model = "small" }
backend judge extends small { model = "large"  temperature = 0 }
"""
TASKS = '''
# A message, a desk for it, and two answers of which the better one is kept.
type Label@ = "billing" | "delivery" | "returns" | "technical"
param wanted@: int = 3

task write@ {
  "A message to a shop's support; what it is about is drawn."
  out label: Label@ = sample
  let product: text = sample "kettle" | "bicycle" | "tent" | "headphones" | "desk lamp" | "winter coat"
  let tone: text = sample "friendly" weight 3 | "angry" | "confused" | "very brief"
  out ticket: text = ask """
    A customer writes to the support of an online shop: about a {{ product }}, and the subject is {{ label }}.
    The tone is {{ tone }}. Write the message, in one to three sentences. Write nothing else.
  """
}

task classify@ {
  in  ticket: text
  out judged: Label@ = ask """
    A shop's support has four desks: billing, delivery, returns and technical (something does not work).

    Message: {{ ticket }}

    Which desk is it for? {{ output_format }}
  """
}

task talk@(turns: int = 2) {
  "A conversation of so many turns."
  in  ticket: text
  out messages: chat = repeat $turns times so_far: chat = [] {
    let said: text = ask """
      You wrote this to a shop: {{ ticket }}
      {% for message in so_far %}
      {{ "You" if message.role == "user" else "Assistant" }}: {{ message.content }}
      {% endfor %}
      Write what you say next, in one or two sentences.
    """
    let heard: chat = sql "so_far || [{role: 'user', content: said}]"
    let reply: text = ask heard system "You are a helpful assistant. You answer in a few sentences."
    next sql "heard || [{role: 'assistant', content: reply}]"
  }
}

task compare@ {
  in  ticket: text
  in  x: text
  in  y: text
  out (x_score: float, y_score: float) = ask """
    Message: {{ ticket }}
    Answer x: {{ x }}
    Answer y: {{ y }}
    Score both answers from 1 (useless) to 10 (could not be better). {{ output_format }}
  """
}

table tickets@ = rows(5000)
  |> write@ using small
  |> classify@ using judge
  |> where("judged = label")
  |> dedup(ticket)
  |> limit($wanted@, per = label)
  |> select("label, ticket")

table pairs@ = tickets@
  |> talk@ using small as a
  |> talk@(turns = 3) using small as b
  |> select("*, a.messages[-1].content AS x, b.messages[-1].content AS y")
  |> compare@ using judge
  |> where("abs(x_score - y_score) >= 2")
  |> select("""
    label,
    ticket AS prompt,
    if(x_score > y_score, a.messages, b.messages) AS chosen,
    if(x_score > y_score, b.messages, a.messages) AS rejected
  """)

expect full@: sql "SELECT count(*) AS found FROM tickets@ HAVING found <> 4 * $wanted@"
export pairs@ to "pairs@.jsonl"
'''
"""Tasks and tables as examples have them."""

SQL = '''
table sales@ = read("sales.jsonl", key = id)
  |> where("price > 0 AND region IS NOT NULL AND NOT starts_with(region, 'test')")
  |> select("""
    id, region, product, price * amount AS total, amount, upper(product) AS shown,
    CASE WHEN price * amount > 1000 THEN 'large' WHEN price > 100 THEN 'dear' ELSE 'small' END AS size
  """)
  |> where("total < 1e6 AND length(shown) > 2")
table regions@ = sql """
  WITH sums AS (SELECT region, size, sum(total) AS total, count(*) AS n FROM sales@ GROUP BY ALL)
  SELECT s.region, s.size, s.total / nullif(s.n, 0) AS mean,
         rank() OVER (PARTITION BY s.size ORDER BY s.total) AS place
  FROM sums AS s JOIN sales@ AS o ON s.region = o.region AND s.size = o.size
  WHERE s.n > (SELECT min(length) FROM sizes@ AS z WHERE z.size = s.size) ORDER BY place, s.region
"""
table sizes@ = sql "SELECT DISTINCT size, length(size) AS length FROM sales@"
table best@ = regions@ |> where("place <= 3") |> select("region, round(mean, 2) AS mean, size || '!' AS size")
expect some_best@: sql "SELECT count(*) AS n FROM best@ HAVING n = 0"
'''
"""SQL, eight pieces in 18 lines."""

SALES = '{"id": 1, "region": "north", "product": "tea", "price": 1.5, "amount": 3}\n'


def check(bench: Bench) -> Iterator[Result]:
    """An example that uses two files of the standard library."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        place = Path(folder, "examples")
        shutil.copytree(EXAMPLES, place)
        best = _quickest(bench, place / "deita.synth", max(5, bench.rounds))
    yield _result("check", "deita.synth", best, 0.5)


def lines(bench: Bench) -> Iterator[Result]:
    """A long spec of tasks, and one of SQL; and how the time grows with the lines."""
    for what, block in (("tasks", TASKS), ("SQL", SQL)):
        count = bench.count(10_000)
        one, two = (_long(bench, block, lines_) for lines_ in (count, 2 * count))
        yield _result("lines", f"{count:,} lines of {what}", one, 3)
        yield Result(
            "lines",
            f"{2 * count:,} lines of {what}; {count:,}",
            f"{two.wall_s:.2f} s",
            f"{one.wall_s:.2f} s",
            two.wall_s / one.wall_s,
            TIMES,
            "≤",
            2.2,
        )


def _long(bench: Bench, block: str, lines_: int) -> Measured:
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        place = Path(folder)
        (place / "sales.jsonl").write_text(SALES, encoding="utf-8")
        spec = place / "long.synth"
        spec.write_text(long(block, lines_), encoding="utf-8")
        return _quickest(bench, spec, bench.rounds)


def long(block: str, lines_: int) -> str:
    """A spec of at least so many lines: a block again and again, each time under other names."""
    times = 1 + lines_ // block.count("\n")
    return BACKENDS + "".join(block.replace("@", str(number)) for number in range(times))


def _quickest(bench: Bench, spec: Path, rounds: int) -> Measured:
    """The quickest of some checks, after one that fills the cache."""
    env = {"SYNTHC_CACHE": str(bench.folder / "cache")}
    command = [SYNTHC, "check", spec.name]
    runs = [measured(command, spec.parent, env) for _ in range(1 + rounds)]
    return min(runs[1:], key=lambda run: run.wall_s)


def _result(line: str, what: str, best: Measured, goal: float) -> Result:
    runs = {name: value for name, value in asdict(best).items() if name.endswith(("_s", "_bytes"))}
    return Result(
        line, what, f"{best.wall_s:.2f} s", "", best.wall_s, "s", "≤", goal, {"ours": runs}
    )


LINES: dict[str, Line] = {line.__name__: line for line in (check, lines)}
