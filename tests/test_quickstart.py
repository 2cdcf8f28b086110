"""The main job as a newcomer runs it: the real language model and the real MiniLM, through the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from bench.answers import Seen, default_answer
from bench.server import serving

ROOT = Path(__file__).parents[1]
SYNTHC = Path(sys.executable).with_name("synthc")
FILES = ("quickstart.synth", "topics.jsonl")


def synthc(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SYNTHC), *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(ROOT / "specs" / "examples" / name, tmp_path)
    return tmp_path


def test_a_real_model_answers_and_sql_shows_it(folder: Path) -> None:
    assert synthc(folder, "compile").returncode == 0
    ran = synthc(folder, "run", "--json")
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout.splitlines()[-1])
    pairs = summary["tables"]["pairs"]
    assert pairs["rows_in"] == 8 == pairs["kept"] + pairs["failed"]
    assert pairs["kept"] >= 6  # the model is small: a broken answer is an honest failure
    assert summary["backends"]["local"]["sent"] >= 8

    shown = synthc(folder, "sql", "FROM neighbours", "--json")
    neighbours = json.loads(shown.stdout)
    assert len(neighbours) == pairs["kept"]
    assert all(-1 <= row["similarity"] <= 1 for row in neighbours)
    with duckdb.connect(str(folder / "quickstart.duckdb"), read_only=True) as connection:
        rows = connection.sql(
            "SELECT array_cosine_similarity(embedding, embedding), list_sum(list_transform("
            "embedding::FLOAT[], lambda x: x * x)) FROM pairs"
        ).fetchall()
    assert all(abs(one - 1) < 1e-5 and abs(norm - 1) < 1e-4 for one, norm in rows)

    again = json.loads(synthc(folder, "run", "--json").stdout.splitlines()[-1])
    assert again["skipped"] == ["pairs", "neighbours"]
    assert again["backends"]["local"]["sent"] == 0


def test_one_variable_moves_it_to_another_server(folder: Path) -> None:
    with serving() as server:
        ran = synthc(folder, "run", SYNTH_URL=server.url)
        assert ran.returncode == 0, ran.stderr
        assert server.count == 8
        assert synthc(folder, "run", SYNTH_URL=server.url).returncode == 0
        assert server.count == 8


def test_a_kill_in_the_middle_costs_at_most_the_last_second(folder: Path) -> None:
    topics = [{"topic": f"topic {number}"} for number in range(200)]
    (folder / "topics.jsonl").write_text("\n".join(map(json.dumps, topics)), encoding="utf-8")
    latency_s = 0.5
    asked_at: dict[str, float] = {}

    def answer(seen: Seen) -> str:
        asked_at.setdefault(seen.digest, time.monotonic())
        return default_answer(seen)

    with serving(answer=answer, latency_s=latency_s) as server:
        env = {**os.environ, "SYNTH_URL": server.url}
        process = subprocess.Popen(
            [str(SYNTHC), "run"],
            cwd=folder,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server.wait_for(199)
        process.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        process.wait()

        ran = synthc(folder, "run", "--json", SYNTH_URL=server.url)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout.splitlines()[-1])["tables"]["pairs"]["kept"] == 200
        repeated = [digest for digest, count in server.by_prompt.items() if count > 1]
        assert len(server.by_prompt) == 200
        assert all(asked_at[digest] + latency_s > killed_at - 1.0 for digest in repeated)
        assert len(repeated) < 199  # something was old enough to be safe
