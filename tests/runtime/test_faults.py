"""A server that goes wrong in every way at once: nothing is lost, nothing hangs, each row says why."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import serving
from synthc.runtime.backends.pace import Pace
from synthc.runtime.run import Options, Report, run
from tests.runtime.helpers import column, compiled, finished, rows, started, topics

ROWS = 300
ATTEMPTS = 6
# A 429 in three forms; with the last one it is 0 to 0.1 s, as a date has whole seconds.
BUSY = (FAULTS["429"], Fault(429, retry_after_s=0.02), Fault(429, retry_after_s=-0.9, as_date=True))
BROKEN = ("500", "503", "drop", "half", "drip", "wrong_json", "empty_choices")
ODD = ("length", "other_model")
REASONS = {"http_500", "http_503", "connection", "timeout", "bad_answer"}
SPEC = f"""
backend b {{ url = env("SYNTH_URL")  model = "m"  attempts = {ATTEMPTS}  timeout_s = 0.15 }}
task write {{ in topic: text  out answer: text = ask "About {{{{ topic }}}}" }}
task judge {{ in answer: text  out score: int = ask "Judge {{{{ answer }}}}" }}
table t = read("topics.jsonl") |> write |> judge |> where("score > 2")
"""


class Everything:
    """Each fault for a tenth of the requests: only one in five is answered, half of them oddly."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()

    def answer(self, seen: Seen) -> str | Fault:
        rng = random.Random(f"{seen.digest} {seen.occurrence}")
        self.requests[seen.digest] += 1
        draw = rng.randrange(10)
        if draw == 0:
            return rng.choice(BUSY)
        self.attempts[seen.digest] += 1
        return FAULTS[(*BROKEN, *ODD)[draw - 1]]


def test_every_fault_at_once(tmp_path: Path) -> None:
    topics(tmp_path, ROWS)
    everything, report = Everything(), Report()
    pace = Pace(backoff_s=0.01, backoff_max_s=0.05)
    with serving(everything.answer) as server:
        options = Options(tmp_path / "x.duckdb", tmp_path, {"SYNTH_URL": server.url}, pace=pace)
        run(compiled(SPEC, tmp_path), options, report, lambda _note: None)
    t = report.tables["t"]
    assert t.rows_in == ROWS == t.kept + t.dropped + t.failed
    assert min(t.kept, t.dropped, t.failed) > 10
    assert column(tmp_path, "SELECT count(*) FROM t") == [t.kept]
    failures = Counter(column(tmp_path, "SELECT reason FROM synth.failures"))
    assert failures.total() == t.failed
    assert failures.keys() == REASONS
    details = column(tmp_path, "SELECT detail FROM synth.failures")
    assert all(f"({ATTEMPTS} attempts)" in detail for detail in details)
    # A 429 is no attempt: nothing else is asked more often than it may be.
    assert max(everything.attempts.values()) == ATTEMPTS
    assert max(everything.requests.values()) > ATTEMPTS
    models = dict(rows(tmp_path, "SELECT model, count(*) FROM synth.calls GROUP BY ALL"))
    assert models.keys() == {"m", "another-model"}
    cut = column(tmp_path, "SELECT count(*) FROM synth.calls WHERE finish_reason = 'length'")
    assert cut == [report.backends["b"].cut_off] != [0]


def test_an_outage_is_said_once_and_the_run_continues(tmp_path: Path) -> None:
    topics(tmp_path, 60)
    spec = SPEC.replace(f"attempts = {ATTEMPTS}", "attempts = 1  concurrency = 8")
    (tmp_path / "x.synth").write_text(spec)
    with serving() as server:
        server.answer = lambda seen: FAULTS["503"] if seen.number >= 40 else default_answer(seen)
        status, said = finished(started(tmp_path, "run", SYNTH_URL=server.url))
        assert status == 3, said
        assert said.count("10 calls in a row failed, the last with http_503") == 1
        assert "Traceback" not in said
        assert column(tmp_path, "SELECT count(*) FROM synth.calls") == [40]
        server.answer = default_answer
        status, said = finished(started(tmp_path, "run", SYNTH_URL=server.url))
        assert status == 0, said
    assert column(tmp_path, "SELECT rows_in FROM synth.tables") == [60]
    assert column(tmp_path, "SELECT count(DISTINCT digest) - count(*) FROM synth.calls") == [0]
