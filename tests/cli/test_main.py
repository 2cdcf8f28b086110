"""What holds for every command: help, streams, exit statuses, faults of synthc's own, what is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import pytest

from bench.server import serving
from synthc.cli import console
from synthc.cli.main import COMMANDS
from synthc.cli.main import synthc as group
from tests.cli.conftest import SYNTHC, Synthc

BASH = ["bash", "-o", "pipefail", "-c"]
HEAVY = {"duckdb", "lark", "jinja2", "pyarrow", "numpy", "onnxruntime", "rich"} | {
    *("torch", "transformers", "optimum"),
}


def modules_after(arguments: list[str], folder: Path, **env: str) -> set[str]:
    """The modules that a command imported."""
    code = (
        "import sys\n"
        "from synthc.cli.main import ended\n"
        "status = ended()\n"
        "open('modules', 'w').write('\\n'.join(sys.modules))\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set((folder / "modules").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["sql", "-h"], ["--version"]])
def test_help_imports_nothing_heavy(folder: Path, arguments: list[str]) -> None:
    assert not modules_after(arguments, folder) & HEAVY


def test_a_run_without_an_embedder_imports_no_model_library(spec: Path, folder: Path) -> None:
    with serving() as server:
        found = modules_after(["run"], folder, SYNTH_URL=server.url)
    assert "duckdb" in found
    assert not found & {"torch", "transformers", "optimum", "onnx", "onnxruntime", "xllamacpp"}


def test_a_run_whose_graph_is_there_imports_no_exporter(folder: Path, synthc: Synthc) -> None:
    assert synthc("init").status == 0
    with serving() as server:
        assert synthc("run", "--limit", "1", SYNTH_URL=server.url).status == 0  # exports, once
        found = modules_after(["run", "--limit", "2"], folder, SYNTH_URL=server.url)
    assert "onnxruntime" in found
    assert not found & {"torch", "transformers", "optimum", "onnx"}


def test_every_command_has_help(call: Synthc) -> None:
    for name in COMMANDS:
        done = call(name, "--help")
        assert done.status == 0
        assert done.out.startswith(f"Usage: synthc {name}")
        short = group.commands[name].get_short_help_str(200)
        assert short, name


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run", "--frobnicate"],
        ["run", "a", "b"],
        ["run", "--seed", "x"],
        ["run", "--seed", "-1"],
        ["run", "--seed", str(2**63)],
        ["run", "--limit", "0"],
        ["sql"],
        ["diff", "a.duckdb"],
        ["explain"],
        ["model", "frobnicate"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_where_help_is(call: Synthc, arguments: list[str]) -> None:
    done = call(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert "--help' for help" in done.err


def test_a_command_that_is_mistyped_is_found(call: Synthc) -> None:
    assert "Did you mean 'check'?" in call("chek").err


def test_no_command_shows_the_help(call: Synthc) -> None:
    done = call()
    assert done.status == 2
    assert "Commands:" in done.out + done.err


def test_a_fault_of_ours_says_so_first(call: Synthc, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("\x1b[31mbroken")

    monkeypatch.setitem(group.commands, "broken", click.command(broken))
    done = call("broken")
    assert done.status == 70
    assert done.err.startswith("error: this is a fault of synthc's; please report it")
    assert r"RuntimeError: \x1b[31mbroken" in done.err


def test_a_file_that_fails_is_no_fault_of_ours(
    call: Synthc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "/somewhere/x")

    monkeypatch.setitem(group.commands, "full", click.command(full))
    done = call("full")
    assert (done.status, done.err) == (2, "error: /somewhere/x: No space left on device\n")


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]], ids=["table", "csv", "json"])
def test_a_reader_that_leaves_is_no_error(folder: Path, form: list[str]) -> None:
    duckdb.connect(str(folder / "x.duckdb")).close()
    done = subprocess.run(
        [*BASH, '"$0" sql "FROM range(300000)" "$@" | head -2', SYNTHC, *form],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_a_run_goes_on_when_nobody_reads_what_it_says(spec: Path, folder: Path) -> None:
    with serving() as server:
        env = {**os.environ, "SYNTH_URL": server.url}
        reader, writer = os.pipe()
        os.close(reader)
        for command in (["run"], ["run", "--fresh", "--json"]):
            (folder / "titles.csv").unlink(missing_ok=True)
            process = subprocess.run(
                [SYNTHC, *command], cwd=folder, env=env, stdout=writer, stderr=writer, check=False
            )
            assert process.returncode == 0
            assert (folder / "titles.csv").is_file()
        os.close(writer)


def test_ctrl_c_ends_with_130_and_the_next_run_continues(
    spec: Path, folder: Path, synthc: Synthc
) -> None:
    topics = "".join(f'{{"topic": "topic {number}"}}\n' for number in range(200))
    (folder / "topics.jsonl").write_text(topics, encoding="utf-8")
    with serving(latency_s=0.3) as server:
        env = {**os.environ, "SYNTH_URL": server.url}
        process = subprocess.Popen(
            [SYNTHC, "run", "-p", "count=200"], cwd=folder, env=env, stderr=subprocess.PIPE
        )
        server.wait_for(2 * 64)  # the first 64 are answered, and the others under way
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        told = err.decode()
        assert process.returncode == 130
        assert "stopped: interrupted; what was answered is kept" in told
        assert "run the same command again, and it continues" in told
        assert "not finished (incomplete)" in told
        assert "Traceback" not in told
        asked = server.count
        assert synthc("run", "-p", "count=200", SYNTH_URL=server.url).status == 0
        assert server.count - asked <= 200 - 64


def test_what_steers_a_terminal_is_made_visible() -> None:
    assert console.visible("a\x1b[31mb\x9bc\x07\rd\u202ee\x7f") == (
        r"a\x1b[31mb\x9bc\x07\rd\u202ee\x7f"
    )
    harmless = "漢字\u3000é\xa0x\n\tक\u200dष 👩\u200d🔬"
    assert console.visible(harmless) == harmless


def test_a_command_to_type_next_is_one_that_a_shell_takes() -> None:
    assert console.command("synthc", "sql", "FROM x", "-d", Path("my é.duckdb")) == (
        'synthc sql "FROM x" -d "my é.duckdb"'
    )
    words = ["synthc", 'FROM "a"', "$HOME/`x`"]
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {console.command(*words)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == words
