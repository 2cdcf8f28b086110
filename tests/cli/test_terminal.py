"""What stands on a terminal: nothing wider than it, colours unless unwanted, nothing obeyed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from rich.cells import cell_len

from bench.server import serving
from synthc.cli.display import Display, duration
from synthc.compiler.compile import compile_spec
from synthc.runtime.engine.asking import AskCounts
from synthc.runtime.engine.engine import Progress
from synthc.runtime.run import Report
from tests.cli.conftest import without_codes

Terminal = Callable[..., str]
COLOUR = "\x1b[1m"


def lines(printed: str) -> list[str]:
    return [part for line in without_codes(printed).split("\n") for part in line.split("\r")]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_run_is_never_wider_than_the_terminal(
    spec: Path, terminal: Terminal, columns: int
) -> None:
    with serving(latency_s=0.3) as server:
        printed = terminal(columns, "run", env={"SYNTH_URL": server.url})
    told = lines(printed)
    assert "Traceback" not in printed, printed
    assert any(line.startswith("topics  ") for line in told)
    fixed = ("next: ", "exported ")  # to be copied: a line break would break them
    assert [x for x in told if cell_len(x) > columns and not x.startswith(fixed)] == []
    assert "3 rows in = 3 kept" in without_codes(printed)
    assert "Traceback" not in printed
    assert printed.rstrip().endswith("-d titles.duckdb")
    assert "\x1b[?25h" in printed  # the cursor is back
    notes = lines(terminal(columns, "run", "--retry-failed"))
    assert any("--retry-failed: " in line for line in notes)
    assert [line for line in notes if cell_len(line) > columns and not line.startswith(fixed)] == []


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_table_is_never_wider_than_the_terminal(
    folder: Path, terminal: Terminal, columns: int
) -> None:
    with duckdb.connect(str(folder / "x.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT repeat('漢字 ', 90) AS a, repeat('x', 300) AS b,"
            " 'two' || chr(10) || 'lines' AS c, range(384)::FLOAT[384] AS d,"
            " {'k': repeat('long ', 60)} AS e, 1 AS f, 2 AS g, chr(9) || 'tab' AS h"
        )
    printed = terminal(columns, "sql", "FROM t")
    assert [line for line in lines(printed) if cell_len(line) > columns] == []
    assert "1 row; " in printed
    one = terminal(columns, "sql", "SELECT f FROM t")
    assert without_codes(one).split() == ["f", "─", "1", "1", "row"]


def test_colours_only_where_they_are_wanted(spec: Path, terminal: Terminal) -> None:
    spec.write_text('table a = read("nope.jsonl")\n', encoding="utf-8")
    assert COLOUR in terminal(80, "check")
    plain = terminal(80, "check", env={"NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert "error[" in plain


def test_a_dumb_terminal_gets_plain_lines(spec: Path, terminal: Terminal) -> None:
    with serving() as server:
        env = {"SYNTH_URL": server.url, "TERM": "dumb", "NO_COLOR": "1"}
        printed = terminal(80, "run", env=env)
    assert "\x1b" not in printed
    assert "3 rows in = 3 kept" in printed


def test_a_spec_cannot_steer_the_terminal(folder: Path, terminal: Terminal) -> None:
    (folder / "a.synth").write_text(
        'table a = read("\x1b[2J\x9b[31m[bold]nope.jsonl")\n', encoding="utf-8"
    )
    printed = terminal(80, "check")
    assert "\x1b[2J" not in printed
    assert "\x9b" not in printed
    assert "[bold]nope.jsonl" in printed


def test_answers_cannot_steer_the_terminal(folder: Path, terminal: Terminal) -> None:
    with duckdb.connect(str(folder / "x.duckdb")) as connection:
        connection.execute('CREATE TABLE t ("\x1b[2J" VARCHAR)')
        connection.execute("INSERT INTO t VALUES ('\x1b[31m\x9b2J\x07[bold]')")
    for form in ([], ["--csv"], ["--json"]):
        printed = terminal(80, "sql", "FROM t", *form)
        assert "\x1b[2J" not in printed
        assert "\x1b[31m" not in printed
        assert not set(printed) & set("\x9b\x07")
        assert "[bold]" in printed


def shown(spec: Path, report: Report) -> list[str]:
    plan = compile_spec(spec).plan
    assert plan is not None
    return list(Display(plan, report).lines())


def test_lines_say_how_far_each_table_is(spec: Path) -> None:
    report = Report()
    report.tables["a"] = Progress("a", total=9, kept=2, dropped=1, failed=3, state="running")
    report.tables["b" * 60] = Progress("b" * 60)
    report.tables["c"] = Progress("c", state="running")
    report.backends["small"] = AskCounts(sent=1, from_store=2)
    told = shown(spec, report)
    assert told[:4] == [
        "a                     6 of 9 rows, 3 failed, 1 dropped",
        f"{'b' * 19}…  waiting",
        "c                     0 of ? rows",
        "small                 1 call, 2 from the store, 0 tokens/s",
    ]
    assert told[4:] == ["0 s"]


def test_a_note_stays_until_something_else_moves(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compile_spec(spec).plan
    assert plan is not None
    report = Report()
    clock = [100.0]
    monkeypatch.setattr("synthc.cli.display.time.monotonic", lambda: clock[0])
    display = Display(plan, report)
    for note in ("pypi:x: 1 MB", "pypi:x: 2 MB", "exporting \x1b[31mx", "exporting \x1b[31mx"):
        display.note(note)
    assert capsys.readouterr().err == "pypi:x: 1 MB\nexporting \\x1b[31mx\n"
    clock[0] += 60
    assert list(display.lines())[-1] == "exporting \\x1b[31mx"
    report.backends["small"] = AskCounts(sent=1)
    assert list(display.lines())[-1] == "1 min 0 s"


def test_the_time_left_is_told_by_the_speed_of_late(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compile_spec(spec).plan
    assert plan is not None
    report, clock = Report(), [100.0]
    monkeypatch.setattr("synthc.cli.display.time.monotonic", lambda: clock[0])
    table = report.tables["a"] = Progress("a", total=1000, state="running")
    small = report.backends["small"] = AskCounts()
    display = Display(plan, report)
    told = list(display.lines())
    assert "left" not in told[0]
    table.kept = small.from_store = 500  # what the store answers is there at once
    for _ in range(30):
        clock[0] += 1
        table.kept += 1
        small.output_tokens += 20
        told = list(display.lines())
    assert told[0] == "a      530 of 1000 rows, about 7 min 50 s left"
    assert told[1] == "small  0 calls, 500 from the store, 20 tokens/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
