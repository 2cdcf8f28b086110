"""A database of which every part is hostile: what a model answered, what was read, how things are called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.runtime.loopback import Said, Sent, listening

SYNTHC = str(Path(sys.executable).with_name("synthc"))

RUNS = "window.canary=1"
"""What no page may run."""

ANSWERS = (
    f"<script>{RUNS}</script>",
    f"</script><script>{RUNS}</script>",
    f'"><img src=x onerror="{RUNS}">',
    f"<svg onload={RUNS}><!--<script>",
    f"</title></style><iframe srcdoc='<script>parent.{RUNS}</script>'></iframe>",
    "{{ 7 * 7 }}{% raw %} ${7*7} javascript:alert(1) ]]>",
    "line\u2028paragraph\u2029null\x00bell\x07escape\x1b[31m",
    "shown \u202egnorw\u202c and hid\u200bden",
    "half of a pair: \ud800, the other: \udc00",
    "x" * 10_000_000,
    "plain",
    "plain",
)

SPEC_NAME = "<img src=x onerror=canary=1>.synth"
SPEC = """
backend teller {
  url = env("SYNTH_URL")  model = "<b>teller</b>"  attempts = 1  reasks = 1
  price { input_usd_per_mtok = 1  output_usd_per_mtok = 2 }
}
mutations twist {
  in current: text
  longer "Longer: {{ current }}"
  shorter weight 2 "Shorter: {{ current }}"
}

task tell {
  in  number: int
  let tone: text = sample "calm" | "<i>loud</i>"
  out answer: text = ask "Tell number {{ number }}, {{ tone }}"
}
task grade {
  in number: int
  out (score: 1 | 2 | 3, advice: text?) = ask "Grade number {{ number }} {{ output_format }}"
}
task change {
  in  number: int
  let first: text = "of {{ number }}"
  out changed: text = repeat 2 times current: text = first { next ask one of twist }
}
table told = read("numbers.jsonl", key = key)
  |> tell
  |> select("*, answer AS \\"<img src=x onerror=canary=1>\\"")
  |> grade as g
  |> where("g.score > 1")
  |> change
table likes = sql \"\"\"
  SELECT number, left(answer, 40) AS answer, if(number % 2 = 0, '<b>even</b>', 'odd') AS kind,
         CAST([cos(number), sin(number), number % 3] AS FLOAT[3]) AS v
  FROM told
\"\"\" key number
table `it's "<b>parts</b>"` = told
  |> select("number, string_split(changed, ' ') AS words")
  |> unnest(words as word)
expect short: sql "SELECT * FROM told WHERE length(answer) > 100000"
"""


def answered(sent: Sent) -> Said | dict[str, Any]:
    """Answers of a model that means harm, and grades of which some break their contract."""
    prompt = sent.body["messages"][0]["content"]
    if prompt.startswith("Tell number"):
        number = int(prompt.split()[2].rstrip(","))
        return _completion(ANSWERS[number], reasoning="<b>because</b>")
    if prompt.startswith("Grade number"):
        number = int(prompt.split()[2])
        if number == 0:
            return Said({"error": {"message": "</script><script>canary=1</script>"}}, status=400)
        if number == 10:
            return _completion(f"no JSON: <img src=x onerror={RUNS}>")
        if number == 3 and len(sent.body["messages"]) == 1:
            return _completion("not yet")
        advice = "half of a pair: \ud800" if number == 4 else None
        return _completion(
            json.dumps({"score": 1 if number == 1 else number % 2 + 2, "advice": advice})
        )
    return _completion(f"<b>{prompt[:60]}</b> and more")


def _completion(text: str, reasoning: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
    return {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50},
        "model": "<b>teller</b>",
    }


def database(folder: Path) -> Path:
    """Make the database by a real run against a real server."""
    lines = ({"key": f"</script>{n}", "number": n} for n in range(len(ANSWERS)))
    (folder / "numbers.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (folder / SPEC_NAME).write_text(SPEC, encoding="utf-8")
    with listening(answered) as server:
        done = subprocess.run(
            [SYNTHC, "run", SPEC_NAME, "-d", "hostile.duckdb"],
            cwd=folder,
            env={**os.environ, "SYNTH_URL": f"{server.url}/v1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "`short` does not hold" in done.stderr, done.stderr
    return folder / "hostile.duckdb"


def report(path: Path) -> Path:
    """The report about a database, beside it."""
    subprocess.run(
        [SYNTHC, "report", "-d", path.name], cwd=path.parent, capture_output=True, check=True
    )
    return path.with_suffix(".html")
