"""The examples, as a newcomer copies them: each runs simulated, and some with the real local model."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from bench.answers import Seen
from bench.server import serving
from synthc.cli.main import ended
from tests.runtime.tiny_media import saved

EXAMPLES = Path(__file__).parents[1] / "specs" / "examples"
SPECS = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.synth"))

Rows = list[tuple[Any, ...]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = shutil.ignore_patterns("*.duckdb*", "*.plan.json")  # by whoever ran them in place
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=made))


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str


Synthc = Callable[..., Done]


@pytest.fixture
def synthc(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Synthc:
    """The command, in this process and in the folder of the examples."""
    monkeypatch.chdir(folder)
    for name in ("SYNTH_URL", "SYNTH_API_KEY", "SYNTH_MODEL", "SYNTH_LARGE_MODEL"):
        monkeypatch.delenv(name, raising=False)

    def called(*arguments: str, **env: str) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["synthc", *arguments])
            for name, value in env.items():
                patch.setenv(name, value)
            status = ended()
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return called


def ran(synthc: Synthc, *arguments: str, **env: str) -> dict[str, Any]:
    """What a run says of itself; all its rows are accounted for, and its failures have reasons."""
    done = synthc("run", "--json", *arguments, **env)
    assert done.status == 0, done.err
    summary = json.loads(done.out.splitlines()[-1])
    stopped = dict(
        rows(
            Path(summary["database"]),
            "SELECT table_name, count(DISTINCT row_key) FROM synth.failures"
            " WHERE stops_row AND reason <> '' AND detail <> '' GROUP BY ALL",
        )
    )
    for name, table in summary["tables"].items():
        ends = ("kept", "dropped", "failed", "not_asked")
        assert table["rows_in"] == sum(table[end] for end in ends), name
        assert table["failed"] == stopped.get(name, 0)
    return summary


def rows(database: Path, query: str) -> Rows:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.sql(query).fetchall()


def head(spec: str) -> str:
    """The comment that a spec begins with."""
    return (EXAMPLES / spec).read_text(encoding="utf-8").partition("\n\n")[0]


# With simulated answers


@pytest.mark.parametrize("spec", SPECS)
def test_it_runs_simulated(folder: Path, synthc: Synthc, spec: str) -> None:
    checked = synthc("check", spec)
    assert (checked.status, checked.err) == (0, f"{Path(spec).name}: no problems\n")

    summary = ran(synthc, spec, "--simulate")
    assert summary["ok"]  # what it expects holds
    assert min(table["kept"] for table in summary["tables"].values()) > 0
    assert not any(table["failed"] for table in summary["tables"].values())
    assert summary["exports"] and min(summary["exports"].values()) > 0
    written = [(folder / spec).parent / name for name in summary["exports"]]
    assert all(path.stat().st_size for path in written)

    again = ran(synthc, spec, "--simulate")
    assert set(again["skipped"]) == set(summary["tables"])


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "quickstart.synth"])
def test_its_comment_says_how_to_run_and_query_it(synthc: Synthc, spec: str) -> None:
    lines = head(spec).splitlines()
    assert 2 < len(lines) <= 4 and all(line.startswith("# ") for line in lines)
    (run,) = [line for line in lines if f"synthc run {spec}" in line]
    (query,) = [line for line in lines if "synthc sql" in line]
    _, *arguments = shlex.split(run[run.index("synthc") :])
    assert synthc(*arguments, "--simulate").status == 0
    _, *arguments = shlex.split(query.removeprefix("#   ").replace(".duckdb", ".simulated.duckdb"))
    shown = synthc(*arguments, "--json")
    assert shown.status == 0, shown.err
    assert json.loads(shown.out)


def test_exactly_as_many_of_each_label(folder: Path, synthc: Synthc) -> None:
    summary = ran(synthc, "balanced.synth", "--simulate", "-p", "wanted=5")
    assert summary["tables"]["tickets"]["not_asked"] > 4000
    found = rows(folder / summary["database"], "SELECT label FROM tickets")
    assert Counter(label for (label,) in found) == dict.fromkeys(
        ("billing", "delivery", "returns", "technical"), 5
    )
    few = synthc("run", "balanced.synth", "--simulate", "--fresh", "-p", "wanted=2000")
    assert few.status == 1 and "full" in few.err  # 5000 are not enough, and it says so


def test_a_dialogue_has_its_turns(folder: Path, synthc: Synthc) -> None:
    summary = ran(synthc, "dialogues.synth", "--simulate", "-p", "turns=3")
    found = rows(folder / summary["database"], "SELECT persona, messages FROM dialogues")
    personas = (folder / "personas.txt").read_text(encoding="utf-8").splitlines()
    for persona, messages in found:
        assert persona in personas
        assert [message["role"] for message in messages] == ["user", "assistant"] * 3


def test_own_mutations_are_drawn_beside_the_standard_ones(folder: Path, synthc: Synthc) -> None:
    ran(synthc, "own_mutations.synth", "--simulate", "-p", "rounds=20")
    found = rows(
        folder / "own_mutations.simulated.duckdb",
        "SELECT mutation, count(*) FROM synth.mutations GROUP BY ALL",
    )
    drawn = dict(found)
    assert set(drawn) == {
        *("constraints", "deepening", "concretizing", "reasoning"),
        *("false_premise", "little_means"),
    }
    assert sum(drawn.values()) == 16 * 20
    assert drawn["false_premise"] == max(drawn.values())  # it has twice the weight


# With a server that is told what to answer, and the real vectors


def test_pictures_and_their_captions_are_embedded(
    folder: Path, synthc: Synthc, tmp_path: Path
) -> None:
    model = saved(tmp_path, "clip", projection_dim=512)  # of random weights: no hub is asked

    with serving(answer=lambda seen: f"A picture of {len(seen.prompt)} letters.") as server:
        summary = ran(synthc, "pictures.synth", SYNTH_URL=server.url, SYNTH_CLIP=str(model))
    assert (summary["tables"]["pictures"]["kept"], summary["tables"]["neighbours"]["kept"]) == (
        12,
        24,
    )
    found = rows(folder / summary["database"], "SELECT path, look FROM pictures ORDER BY path")
    assert [path for path, _ in found] == sorted(
        path.relative_to(folder).as_posix() for path in folder.glob("pictures/*.jpg")
    )
    looks = dict(found)
    near = rows(folder / summary["database"], "SELECT path, neighbour, similarity FROM neighbours")
    for path, neighbour, similarity in near:
        assert abs(similarity - np.dot(looks[path], looks[neighbour])) < 1e-3
        others = sorted(
            (float(np.dot(looks[path], look)) for name, look in found if name != path), reverse=True
        )
        assert similarity >= others[1] - 1e-3


def test_the_best_are_complex_well_answered_and_unlike_each_other(
    folder: Path, synthc: Synthc
) -> None:
    coast, bread = "How long is Norway's coast, in kilometres?", "Name a bread."
    seeds = [{"id": 1, "instruction": coast}, {"id": 2, "instruction": bread}]
    text = "".join(json.dumps(seed) + "\n" for seed in seeds)
    (folder / "instructions.jsonl").write_text(text, encoding="utf-8")
    same = "How long is the coast of Norway, in kilometres?"
    other = "Plan a day on which bread is baked for a village of four hundred people."

    def answer(seen: Seen) -> str:
        prompt = seen.prompt
        if "Compare these" in prompt:
            return "\n".join(f"[{number}] Score: {number}" for number in range(1, 4))  # not the 4th
        if "How good is the answer?" in prompt:
            return json.dumps({"quality": 6 if "bread" in prompt else 3})
        if "<prompt>" in prompt:
            return f"Prompt: {same if 'Norway' in prompt else other}"
        return f"An answer to: {prompt}"

    with serving(answer=answer) as server:
        summary = ran(synthc, "deita.synth", SYNTH_URL=server.url)
    scored = summary["tables"]["scored"]  # two of four have no score, or are there already
    assert (scored["rows_in"], scored["kept"], scored["dropped"]) == (8, 4, 4)
    database = folder / "deita.duckdb"
    (found,) = rows(
        database,
        "SELECT array_cosine_similarity(a.embedding, b.embedding) FROM scored AS a, scored AS b"
        " WHERE a.seed = 1 AND b.seed = 1 AND a.instruction < b.instruction",
    )
    assert found[0] > 0.9
    chosen = rows(database, "SELECT instruction, complexity, quality, score FROM best")
    assert chosen == [(other, 2, 6, 12), (bread, 1, 6, 6), (same, 2, 3, 6)]


def test_a_judge_who_favours_the_first_prefers_neither(synthc: Synthc) -> None:
    def answer(seen: Seen) -> str:
        if "Score both" not in seen.prompt:
            return f"At {seen.body['temperature']}: {seen.digest}"
        return json.dumps({"x_score": 9, "y_score": 2})

    with serving(answer=answer) as server:
        summary = ran(synthc, "preferences.synth", SYNTH_URL=server.url)
    assert summary["tables"]["pairs"]["kept"] == 16
    assert summary["tables"]["preferences"]["kept"] == 0


def test_each_instruction_has_answers_of_three_models(folder: Path, synthc: Synthc) -> None:
    names = ("notus", "zephyr", "gemma", "llama", "zephyr_gemma", "ultramerge", "judge")

    def answer(seen: Seen) -> str:
        if seen.body["model"] == "judge":
            return (
                "[3] 2, because it is short.\n[1] 5: nothing is missing\nThe second is not rated."
            )
        return f"{seen.body['model']} says so."

    with serving(answer=answer) as server:
        models = {name.upper(): name for name in names}
        summary = ran(synthc, "migrated/ultrafeedback.synth", SYNTH_URL=server.url, **models)
    assert sum(backend["sent"] for backend in summary["backends"].values()) == 16 * 4
    database = folder / "migrated" / "ultrafeedback.duckdb"
    feedback = rows(database, "SELECT * EXCLUDE (instruction) FROM feedback")
    assert len(feedback) == 16
    for generations, models, ratings, rationales, judge in feedback:
        assert [f"{name} says so." for name in models] == generations
        assert len(set(models)) == 3 and set(models) < set(names)
        assert (ratings, judge) == ([5, None, 2], "judge")
        assert rationales == ["nothing is missing", None, "because it is short."]
    assert {name for _, models, *_ in feedback for name in models} == set(names) - {"judge"}


def test_the_tests_of_an_example_pass(synthc: Synthc) -> None:
    done = synthc("test", "migrated/text_to_sql.synth")
    assert (done.status, done.err) == (0, "3 passed, 0 failed\n")


def test_a_topic_is_drawn_with_its_sector(folder: Path, synthc: Synthc) -> None:
    ran(synthc, "migrated/text_to_sql.synth", "--simulate", "-p", "records=60")
    database = folder / "migrated" / "text_to_sql.simulated.duckdb"
    assert rows(database, "SELECT count(DISTINCT sector), count(DISTINCT topic) FROM records") == [
        (3, 9)
    ]
    strays = "FROM records ANTI JOIN subjects USING (sector, topic)"
    assert rows(database, strays) == []


def test_entities_are_near_those_with_their_label(folder: Path, synthc: Synthc) -> None:
    summary = ran(synthc, "entities.synth")
    entities = [
        json.loads(line)
        for line in (folder / "entities.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    count = sum(len(sentence["entities"]) for sentence in entities)
    assert summary["tables"]["entities"]["kept"] == count
    shares = dict(rows(folder / "entities.duckdb", "SELECT label, share FROM agreement"))
    assert set(shares) == {"person", "place", "work"}
    assert min(shares["person"], shares["place"]) > 0.7  # by chance it would be below 0.4


def test_topics_are_guessed_from_neighbours_that_say_something_else(
    folder: Path, synthc: Synthc
) -> None:
    sentences = ran(synthc, "topics.synth")["tables"]["sentences"]
    assert (sentences["rows_in"], sentences["kept"], sentences["dropped"]) == (60, 55, 5)
    database = folder / "topics.duckdb"
    said_again = rows(
        database,
        "SELECT ordinal FROM synth.rows WHERE table_name = 'sentences' AND status = 'dropped'",
    )
    assert sorted(ordinal for (ordinal,) in said_again) == [50, 51, 52, 53, 54]
    ((share,),) = rows(database, "SELECT sum(guessed) / sum(sentences) FROM accuracy")
    assert share > 0.8  # by chance it would be 0.2


def test_measured_flowers_are_near_those_of_their_species(folder: Path, synthc: Synthc) -> None:
    flowers = ran(synthc, "iris.synth")["tables"]["flowers"]
    assert (flowers["rows_in"], flowers["kept"], flowers["dropped"]) == (150, 148, 2)
    dropped = rows(
        folder / "iris.duckdb",
        "SELECT row_key FROM synth.rows WHERE table_name = 'flowers' AND status = 'dropped'",
    )
    assert ("143",) in dropped  # it has the measures of 102
    shares = dict(rows(folder / "iris.duckdb", "SELECT species, share FROM agreement"))
    assert set(shares) == {"setosa", "versicolor", "virginica"}
    assert min(shares.values()) > 0.7  # by chance it would be a third
    clusters = rows(folder / "iris.duckdb", "FROM clusters")
    leaders = rows(folder / "iris.duckdb", "SELECT id FROM leaders")
    assert {leader for leader, *_ in clusters} == {leader for (leader,) in leaders}
    assert 5 < len(clusters) < 30
    assert [flowers for _, flowers, *_ in clusters] == [sum(of) for _, _, *of in clusters]
    assert sum(flowers for _, flowers, *_ in clusters) == 148
    assert sum(max(of) for _, _, *of in clusters) / 148 > 0.7  # all in one, it would be a third


# With the real model


def test_the_real_model_evolves_and_answers(folder: Path, synthc: Synthc) -> None:
    summary = ran(synthc, "evolve.synth", "--limit", "1", "-p", "rounds=1")
    assert summary["tables"]["evolved"]["rows_in"] == 1
    assert summary["backends"]["local"]["sent"] >= 2
    database = folder / "evolve.duckdb"
    stages = rows(database, "SELECT messages FROM sft")
    assert len(stages) == 2 * summary["tables"]["evolved"]["kept"]
    for (messages,) in stages:
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert all(message["content"].strip() for message in messages)
    drawn = rows(database, "SELECT round, set, mutation, value FROM synth.mutations")
    assert [(number, kind) for number, kind, *_ in drawn] == [(1, "evol.wizard")]
    assert drawn[0][3] == "Explain how a bicycle stays upright."


def test_the_real_model_talks_to_itself(folder: Path, synthc: Synthc) -> None:
    summary = ran(synthc, "dialogues.synth", "-p", "dialogues=1", "-p", "turns=2")
    database = folder / "dialogues.duckdb"
    talks = rows(database, "SELECT persona, mood, messages FROM dialogues")
    assert len(talks) == summary["tables"]["dialogues"]["kept"]
    for *_, messages in talks:
        assert len(messages) == 4 and all(message["content"].strip() for message in messages)
    drawn = rows(database, "SELECT \"column\", value->>'$' FROM synth.draws")
    assert {re.sub(r".*\.", "", column) for column, _ in drawn} == {"persona", "mood"}
    if talks:
        assert {value for _, value in drawn} == set(talks[0][:2])


def test_the_real_model_makes_more_of_what_it_is_shown(folder: Path, synthc: Synthc) -> None:
    summary = ran(synthc, "few_shot.synth", "-p", "wanted=2")
    riddles = summary["tables"]["riddles"]
    assert riddles["kept"] == 2 and riddles["not_asked"] > 900
    database = folder / "few_shot.duckdb"
    assert all(riddle and answer for riddle, answer in rows(database, "FROM riddles"))
    (prompts,) = rows(database, "SELECT list(request) FROM synth.calls")[0]
    # The model may have written the word itself, in an answer that it is shown again.
    assert all(prompt.count("Riddle: ") >= 3 for prompt in prompts)
    gold = {
        key for (key,) in rows(database, "SELECT row_key FROM synth.rows WHERE table_name = 'gold'")
    }
    for (drawn,) in rows(database, "SELECT value FROM synth.draws WHERE \"column\" = 'shots'"):
        assert len(set(json.loads(drawn))) == 3 and set(json.loads(drawn)) <= gold
