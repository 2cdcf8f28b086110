"""The benchmark measures: few rows, and nobody else."""

import json
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bench.http_clients import certificate
from bench.processes import Failed, measured, server
from bench.server import serving
from bench.workload import LINKS, chain_latencies, chain_spec, write_rows
from tests.runtime.helpers import made

ROOT = Path(__file__).parents[2]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_line_is_measured_shown_and_written(tmp_path: Path) -> None:
    document = tmp_path / "bench.json"
    words = ("--only", "resume", "--scale", "0.00001", "--rounds", "1")
    ran = bench("engine", *words, "--json", str(document))
    assert ran.returncode in (0, 1), ran.stderr  # whether the goals are met says nothing here
    found = json.loads(document.read_text())
    (resume,) = found["results"]
    assert resume["line"] == "resume"
    assert resume["runs"]["ours"]["wall_s"] == resume["value"]
    assert resume["runs"]["ours"]["peak_bytes"] > 10_000_000
    assert resume["runs"]["ours"]["cpu_s"] > 0
    assert resume["met"] == (resume["value"] <= 3)
    assert found["machine"]["packages"]["duckdb"] in ran.stdout
    assert "run again, no request" in ran.stdout


def test_the_memory_of_who_measures_is_not_counted(tmp_path: Path) -> None:
    held = bytearray(b"x" * 100_000_000)
    assert measured([sys.executable, "-S", "-c", "pass"], tmp_path).peak_bytes < len(held)
    with pytest.raises(Failed, match=r"exit status 3\nwhy"):
        measured(
            [sys.executable, "-c", "import sys; print('why', file=sys.stderr); exit(3)"], tmp_path
        )


def test_a_line_that_is_not_there() -> None:
    ran = bench("engine", "--only", "chian")
    assert ran.returncode == 2
    assert "no line chian; there are latency, cpu" in ran.stderr


def test_the_bound_of_the_chain_is_of_the_prompts_that_are_asked(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 3)
    latency_s = (0.0, 0.001)
    with serving(latency_s=latency_s) as asked:
        made(chain_spec(4), tmp_path, asked, env={"BENCH_URL": asked.url})
        waited = sorted(asked.wait_s(seen) for seen in asked.requests)
    assert waited == sorted(wait for waits in chain_latencies(3, latency_s) for wait in waits)
    assert len(waited) == 3 * len(LINKS)


def test_the_server_speaks_tls(tmp_path: Path) -> None:
    public, both = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=public)
    with server("--tls", both) as listening:
        address = listening.url.removesuffix("/v1") + "/stats"
        with urllib.request.urlopen(address, context=trust) as reply:
            assert json.load(reply)["total"] == 0
