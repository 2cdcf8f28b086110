"""`synthc export`: what others read of it is what stands in the database, and it is whole or not there."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pytest
import yaml
from datasets import config

from bench.answers import Seen
from bench.server import serving
from tests.cli.conftest import Synthc
from tests.cli.hub import TOKEN, hub
from tests.runtime.helpers import made, rows

HOSTILE = (
    "plain",
    'é漢 👩‍🔬 "quoted", and\n\ttwo\r\nlines',
    "",
    '=HYPERLINK("http://evil")',
    "-1.5",
    "@SUM(A1)",
    "| a | <script>`b`</script>",
    "half \ud800 of a pair",
    "nul \x00 \x1b[31m \ufffe \u2028 end",
    " spaces ",
    "null",
    "NaN",
    "x" * 10_000_000,
)
SPEC = """
backend b {
  url = env("SYNTH_URL")  model = "m"  api_key = env("SYNTH_KEY", "")  attempts = 1
  headers { `X-Team` = env("TEAM", "") }
  price { input_usd_per_mtok = 1000  output_usd_per_mtok = 2000 }
}
task write { in topic: text  out answer: text? = ask "About {{ topic }}" system "Be | brief." }
table texts = read("topics.jsonl") |> write
table kinds = sql \"\"\"
  SELECT n, [n, 0.5]::FLOAT[2] AS vector, ['a', NULL] AS list, {'x': n, 'y': ['é']} AS part,
    '{"k": [1, "é"]}'::JSON AS json, NULL AS missing, if(n = 1, NULL, 'a') AS some, n > 0 AS yes,
    DATE '2024-01-02' AS day, 'nan'::DOUBLE AS odd, ['inf'::FLOAT, 1] AS odds, MAP {'k': n} AS map,
    'a\\x00'::BLOB AS bytes, INTERVAL 3 MONTH AS span, 9007199254740993 AS big
  FROM texts WHERE n < 3 ORDER BY n
\"\"\"
table `the "best", 100%` = texts |> where("n < 2")
"""


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that a run made: its answers are hostile."""
    folder = tmp_path_factory.mktemp("run")
    topics = (json.dumps({"n": n, "topic": f"topic {n}"}) + "\n" for n in range(len(HOSTILE)))
    (folder / "topics.jsonl").write_text("".join(topics), encoding="utf-8")

    def answer(seen: Seen) -> str:
        return HOSTILE[int(seen.prompt.rpartition(" ")[2])]

    with serving(answer) as server:
        made(SPEC, folder, server, env={"SYNTH_KEY": "sk-hunter2", "TEAM": "hunter2"})
    return folder / "x.duckdb"


@pytest.fixture
def database(run_once: Path, folder: Path) -> Path:
    return Path(shutil.copy(run_once, folder / "x.duckdb"))


def held(folder: Path, query: str) -> list[dict[str, Any]]:
    with duckdb.connect(str(folder / "x.duckdb"), read_only=True) as connection:
        return connection.sql(query).to_arrow_table().to_pylist()


def loaded(form: str, path: Path, folder: Path) -> Any:
    """A file as `datasets` loads it."""
    return datasets.load_dataset(
        form, data_files=str(path), cache_dir=str(folder / "cache"), split="train"
    )


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()


def export(call: Synthc, *arguments: str | Path) -> str:
    """What a command says that has to succeed."""
    done = call("export", *arguments)
    assert (done.status, done.out) == (0, ""), done.err
    return done.err


# Files


def test_texts_come_back_from_every_format(database: Path, folder: Path, call: Synthc) -> None:
    wanted = [{"n": row["n"], "answer": row["answer"]} for row in held(folder, "FROM texts")]
    assert {row["answer"] for row in wanted} == {*HOSTILE[:2], *HOSTILE[3:7], *HOSTILE[8:], None}
    for ending in ("parquet", "jsonl"):
        export(call, "SELECT n, answer FROM texts", f"x.{ending}")
        form = {"jsonl": "json"}.get(ending, ending)
        assert loaded(form, folder / f"x.{ending}", folder).to_list() == wanted
    said = export(call, "SELECT n, answer FROM texts", "x.csv")
    assert "2 cells begin as a formula does" in said
    csv.field_size_limit(1 << 30)
    with (folder / "x.csv").open(encoding="utf-8", newline="") as file:
        read = [*csv.DictReader(file)]
    assert read == [{"n": str(row["n"]), "answer": row["answer"] or ""} for row in wanted]
    with duckdb.connect() as connection:
        found = connection.sql(
            f"SELECT n, answer FROM read_csv('{folder}/x.csv', all_varchar = true,"
            " allow_quoted_nulls = false, max_line_size = 20000000)"
        ).fetchall()
    assert found == [(str(row["n"]), row["answer"]) for row in wanted]


def test_values_come_back_from_parquet(database: Path, folder: Path, call: Synthc) -> None:
    export(call, "kinds", "x.parquet")
    read = loaded("parquet", folder / "x.parquet", folder)
    first, second, _ = read.to_list()
    assert first.pop("odd") != first["n"]  # what is no number equals nothing
    assert first == {
        "n": 0,
        "vector": [0.0, 0.5],
        "list": ["a", None],
        "part": {"x": 0, "y": ["é"]},
        "json": '{"k": [1, "é"]}',
        "missing": None,
        "some": "a",
        "yes": False,
        "day": held(folder, "FROM kinds")[0]["day"],
        "odds": [float("inf"), 1.0],
        "map": '{"k":0}',
        "bytes": b"a\x00",
        "span": "3 months",
        "big": 9007199254740993,
    }
    assert second["some"] is None
    assert read.features["vector"].length == 2


def test_values_come_back_from_json_lines(database: Path, folder: Path, call: Synthc) -> None:
    export(call, "kinds", "x.jsonl")

    def no_constant(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    lines = (folder / "x.jsonl").read_text(encoding="utf-8").splitlines()
    first, second, _ = (json.loads(line, parse_constant=no_constant) for line in lines)
    assert first == {
        "n": 0,
        "vector": [0.0, 0.5],
        "list": ["a", None],
        "part": {"x": 0, "y": ["é"]},
        "json": {"k": [1, "é"]},
        "missing": None,
        "some": "a",
        "yes": False,
        "day": "2024-01-02",
        "odd": None,
        "odds": [None, 1.0],
        "map": {"k": 0},
        "bytes": "6100",
        "span": "3 months",
        "big": 9007199254740993,
    }
    assert second["some"] is None


def test_values_in_csv(database: Path, folder: Path, call: Synthc) -> None:
    export(call, "kinds", "x.csv")
    with (folder / "x.csv").open(encoding="utf-8", newline="") as file:
        first, second, _ = csv.DictReader(file)
    assert json.loads(first["odds"]) == [None, 1.0]
    assert json.loads(first["part"]) == {"x": 0, "y": ["é"]}
    assert (first["yes"], first["bytes"], first["odd"]) == ("false", "6100", "nan")
    assert (first["missing"], second["some"]) == ("", "")


def test_formulas_are_guarded_where_that_is_wanted(
    database: Path, folder: Path, call: Synthc
) -> None:
    query = (
        "SELECT answer, length(answer) - 99 AS less FROM texts WHERE n BETWEEN 3 AND 5 ORDER BY n"
    )
    said = export(call, query, "x.csv", "--guard-formulas")
    assert "formula" not in said
    with (folder / "x.csv").open(encoding="utf-8", newline="") as file:
        assert [*csv.reader(file)][1:] == [
            ['\'=HYPERLINK("http://evil")', "-74"],
            ["-1.5", "-95"],  # a number is none
            ["'@SUM(A1)", "-91"],
        ]


def test_what_is_there_is_replaced_only_when_that_is_said(
    database: Path, folder: Path, call: Synthc
) -> None:
    (folder / "x.jsonl").write_text("mine")
    done = call("export", "kinds", "x.jsonl")
    assert done.status == 2
    assert done.err == "error: x.jsonl is there already\n  = help: `--force` replaces it\n"
    assert (folder / "x.jsonl").read_text() == "mine"
    export(call, "kinds", "x.jsonl", "--force")
    assert (folder / "x.jsonl").read_text().count("\n") == 3
    export(call, "kinds", "lines.txt", "--format", "jsonl")
    assert (folder / "lines.txt").read_bytes() == (folder / "x.jsonl").read_bytes()


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_query_that_fails_half_way_leaves_nothing(
    database: Path, folder: Path, call: Synthc, ending: str
) -> None:
    query = "SELECT if(range = 49999, error('no\x1b[31m'), 'x') AS a FROM range(50000)"
    done = call("export", query, f"x.{ending}")
    assert done.status == 2
    assert done.err == "error: Invalid Input Error: no\\x1b[31m\n"
    assert [path.name for path in folder.iterdir()] == ["x.duckdb"]


@pytest.mark.parametrize(
    "query",
    [
        "FROM texts WHERE n < 2;",
        "FROM texts WHERE n < 2 -- the first",
        "WITH a AS (FROM texts) FROM a WHERE n < 2 /* x */ ; ",
        'FROM "the ""best"", 100%"',
        'the "best", 100%',
    ],
)
def test_queries_as_people_write_them(
    database: Path, folder: Path, call: Synthc, query: str
) -> None:
    assert export(call, query, "new é/x.jsonl").startswith("exported 2 rows to new é/x.jsonl\n")
    document = json.loads(call("export", query, "x.parquet", "--json").out)
    assert document == {"table": query, "file": "x.parquet", "rows": 2}


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("x.xls", "the ending of `x.xls` names no known format"),
        ("x", "use one of .parquet, .jsonl, .csv"),
        ("folder.csv", "folder.csv cannot be written: Is a directory"),
        ("file/x.csv", "x.csv cannot be written: "),
    ],
)
def test_a_file_that_cannot_be(
    database: Path, folder: Path, call: Synthc, file: str, told: str
) -> None:
    (folder / "folder.csv").mkdir()
    (folder / "file").touch()
    done = call("export", "kinds", file)
    assert (done.status, done.out) == (1, "")
    assert told in done.err
    assert {path.name for path in folder.iterdir()} == {"x.duckdb", "folder.csv", "file"}


# The forms of trainers

TALK = """[{'role': 'system', 'content': 'Be kind.'}, {'content': 'Hi', 'role': 'user'},
    {'role': 'assistant', 'content': 'Hello'}]"""


def forms(call: Synthc, folder: Path, query: str, *options: str) -> list[dict[str, Any]]:
    """What `datasets` loads of both formats, which has to be the same."""
    found: list[Any] = []
    for ending, form in (("jsonl", "json"), ("parquet", "parquet")):
        export(call, query, f"form.{ending}", "--force", *options)
        found.append(loaded(form, folder / f"form.{ending}", folder).to_list())
    assert found[0] == found[1]
    return found[0]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_questions_and_answers_become_messages(database: Path, folder: Path, call: Synthc) -> None:
    query = (
        "SELECT topic AS question, {'answer': answer} AS a, if(n = 0, 'S', NULL) AS s"
        " FROM texts WHERE n < 2"
    )
    given = ("--as", "chat", "--column", "assistant=a.answer", "--column", "system=s")
    assert forms(call, folder, query, *given) == [
        {"messages": [turn("system", "S"), turn("user", "topic 0"), turn("assistant", HOSTILE[0])]},
        {"messages": [turn("user", "topic 1"), turn("assistant", HOSTILE[1])]},
    ]
    assert "user = question, assistant = a.answer" in export(call, query, "y.jsonl", *given)


def test_a_conversation_is_taken_as_it_is(database: Path, folder: Path, call: Synthc) -> None:
    wanted = [turn("system", "Be kind."), turn("user", "Hi"), turn("assistant", "Hello")]
    query = f"SELECT {TALK} AS talk, 1 AS question"
    assert forms(call, folder, query, "--as", "chat") == [{"messages": wanted}]
    query = f"SELECT {TALK}[:2] AS messages, 'Hello' AS generation"
    given = ("--as", "chat", "--column", "assistant=generation")
    assert forms(call, folder, query, *given) == [{"messages": wanted}]


def test_preferences_are_texts_or_messages(database: Path, folder: Path, call: Synthc) -> None:
    query = "SELECT 'P' AS instruction, 'C' AS chosen, 'R' AS rejected, 5 AS score"
    texts = {"prompt": "P", "chosen": "C", "rejected": "R"}
    messages = {
        "prompt": [turn("user", "P")],
        "chosen": [turn("assistant", "C")],
        "rejected": [turn("assistant", "R")],
    }
    assert forms(call, folder, query, "--as", "preference") == [texts]
    assert forms(call, folder, query, "--as", "preference", "--conversational") == [messages]
    query = query.replace("5 AS score", "'S' AS system_prompt")
    messages["prompt"] = [turn("system", "S"), turn("user", "P")]
    assert forms(call, folder, query, "--as", "preference") == [messages]


def test_whole_conversations_need_no_prompt(database: Path, folder: Path, call: Synthc) -> None:
    query = f"SELECT {TALK} AS chosen, {TALK} AS rejected"
    (row,) = forms(call, folder, query, "--as", "preference")
    assert [*row] == ["chosen", "rejected"]
    assert row["chosen"][-1] == turn("assistant", "Hello")


@pytest.mark.parametrize(
    "columns",
    [
        "'N' AS negative, 'A' AS anchor, 'P' AS positive",
        "'A' AS user_query, 'P' AS positive_document, 'N' AS hard_negative_document",
        "'A' AS input_text, 'P' AS label, 'N' AS misleading_label",
        "'A' AS S1, 'P' AS S2, 'N' AS S3",
    ],
)
def test_pairs_and_triplets_stand_in_their_order(
    database: Path, folder: Path, call: Synthc, columns: str
) -> None:
    (row,) = forms(call, folder, f"SELECT {columns}", "--as", "embedding")
    assert [*row.items()] == [("anchor", "A"), ("positive", "P"), ("negative", "N")]
    (row,) = forms(call, folder, "SELECT 'P' AS answer, 'A' AS query", "--as", "embedding")
    assert [*row.items()] == [("anchor", "A"), ("positive", "P")]


WRONG_FORMS = [
    ("chat", "SELECT 1 AS n", "no column is `user`, which the form `chat` needs (there are: n)"),
    ("chat", "SELECT 'a' AS question, 'b' AS instruction", "could be `user`: instruction, question"),
    ("chat", "SELECT 'a' AS question", "no column is `assistant`"),
    ("chat", f"SELECT {TALK} AS a, {TALK} AS b", "several columns could be `messages`: a, b"),
    ("chat", f"SELECT {TALK}[:2] AS a", "`a` does not end with a message of the assistant"),
    ("chat", f"SELECT {TALK}[:0] AS a", "`a` has no message in row 1"),
    ("chat", f"SELECT {TALK} AS a, 'S' AS system", "`a` has a system message of its own"),
    (
        "chat",
        "SELECT [{'role': 'robot', 'content': 'x'}, {'role': 'assistant', 'content': 'x'}] AS a",
        "of none of system, developer, user, assistant, tool in row 1",
    ),
    ("chat", "SELECT 'a' AS question, NULL::TEXT AS answer FROM range(3)", "is null in 3 rows, first"),
    ("preference", "SELECT 'p' AS prompt, 'c' AS chosen", "no column is `rejected`"),
    ("embedding", "SELECT 'a' AS anchor, 'p' AS positive, if(range = 1, NULL, 'n') AS negative"
        " FROM range(3)", "`negative` is null in row 2"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "query", "told"), WRONG_FORMS)
def test_a_form_that_cannot_be_made(
    database: Path, folder: Path, call: Synthc, form: str, query: str, told: str
) -> None:
    done = call("export", query, "x.jsonl", "--as", form)
    assert done.status in (1, 2)
    assert done.err.startswith("error: ")
    assert told in done.err
    assert "  = help: " in done.err
    assert not (folder / "x.jsonl").exists()


WRONG_USE = [
    (["texts", "x.jsonl", "--as", "chat", "--column", "usr=topic"], "has no role `usr`"),
    (["texts", "x.jsonl", "--as", "chat", "--column", "user=tpic"], "there is no column `tpic`"),
    (["texts", "x.jsonl", "--as", "chat", "--column", "user=topic.x"], "no column `topic.x`"),
    (["texts", "x.jsonl", "--as", "chat", "--column", "user"], "is not of the form"),
    (["texts", "x.jsonl", "--as", "chat", "--column", "user=n"], "`n` is no text and cannot be"),
    (["texts", "x.jsonl", "--as", "chat", "--column", "messages=n"], "`n` is no conversation"),
    (["texts", "x.jsonl", "--column", "user=n"], "say how the columns of `--as` are made"),
    (["SELECT 'q' AS question, 'a' AS answer", "x.csv", "--as", "chat"], "CSV has no lists"),
    (["texts"], "`texts` is to be exported where to?"),
    ([], "a table (or a query) and a file are needed"),
    (["a", "b", "c"], "one table goes to one file"),
    (["txts", "x.csv"], "did you mean `texts`?"),
    (["synth.calls", "x.csv"], 'a query reaches it: "FROM synth.calls"'),
    (["SELEC 1", "x.csv"], "syntax error"),
    (["DROP TABLE texts", "x.csv"], "what is exported is a table, or one SELECT"),
    (["texts", "x.csv", "--public"], "are for datasets"),
    (["texts", "x.duckdb", "--format", "csv", "--force"], "x.duckdb is the database itself"),
    (["--to", "d", "--license", "my own"], "is no identifier of a licence"),
    (["--to", "d", "--tag", "a\nb"], "is no tag"),
    (["--to", "d", "--as", "chat"], "which table is `--as` about? There are: "),
    (["--to", "d", "nope"], "there is no table `nope`"),
    (["texts", "x.csv", "--to", "d"], "`x.csv` is a file, and `--to` and `--push` make a dataset"),
    (["--to", "x.duckdb"], "x.duckdb is a file, and a dataset is a folder"),
    (["--to", "."], "is not empty, and no dataset of synthc's"),
    (["--push", "noorg"], "`noorg` is no name of a dataset on the Hub"),
    (["--push", "org/name"], "HF_TOKEN is not set"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "told"), WRONG_USE)
def test_wrong_use_is_told(
    database: Path,
    folder: Path,
    call: Synthc,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = call("export", *arguments)
    assert done.status in (1, 2)
    assert told in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in folder.iterdir()] == ["x.duckdb"]


# Datasets


def front_matter(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_a_dataset_folder_is_loaded_by_its_name(database: Path, folder: Path, call: Synthc) -> None:
    export(call, "--to", "set", "--license", "Apache-2.0", "--tag", "bread: rye")
    names = ["the__best___100_", "kinds", "texts"]
    head = front_matter(folder / "set")
    assert head["license"] == "apache-2.0"
    assert head["tags"] == ["synthetic", "synthc", "bread: rye"]
    assert head["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in head["configs"]] == names
    for name, table in zip(names, ('"the ""best"", 100%"', "kinds", "texts"), strict=True):
        read = datasets.load_dataset(str(folder / "set"), name, cache_dir=str(folder / "cache"))
        count = held(folder, f"SELECT count(*) AS n FROM {table}")[0]["n"]
        assert {split: len(part) for split, part in read.items()} == {"train": count}
    default = datasets.load_dataset(str(folder / "set"), cache_dir=str(folder / "cache"))
    assert len(default["train"]) == 2


def test_the_card_tells_what_was_done(database: Path, folder: Path, call: Synthc) -> None:
    export(call, "--to", "set")
    card = (folder / "set" / "README.md").read_text(encoding="utf-8")
    assert "from `x.synth` with the seed 42" in card
    assert "| `texts` | 13 | 13 | 13 | 0 | 0 | 0 | complete |" in card
    calls = rows(folder, "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM synth.calls")
    count, into, out = calls[0]
    assert f"| `b` | `m` | {count} | {into:,} | {out:,} |" in card
    assert f"cost: ${(into * 1000 + out * 2000) / 1e6:,.4f}" in card
    assert "| `texts` | `write.answer` | `b` | `" in card
    assert "no licence" not in card
    assert "Licence: none was given." in card


def test_nothing_secret_is_in_a_dataset(database: Path, folder: Path, call: Synthc) -> None:
    export(call, "--to", "set")
    for path in (folder / "set").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"hunter2" not in content
            assert b"127.0.0.1" not in content


def test_what_a_model_calls_itself_is_shown_and_not_obeyed(
    database: Path, folder: Path, call: Synthc
) -> None:
    name = "m | `x` <script>alert(1)</script>\n# head\n---\nlicense: mit"
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE synth.calls SET model = ? ", [name])
    export(call, "--to", "set")
    assert "license" not in front_matter(folder / "set")
    card = (folder / "set" / "README.md").read_text(encoding="utf-8")
    assert "| ``m \\| `x` <script>alert(1)</script> # head --- license: mit`` |" in card
    assert "\n# head" not in card
    for name, shown in (
        ("https://me:hunter2@host/m?key=hunter2", "https://host/m"),
        ("/home/hunter2/m.gguf", "m.gguf"),
        ("C:\\hunter2\\m.gguf", "m.gguf"),
    ):
        with duckdb.connect(str(database)) as connection:
            connection.execute("UPDATE synth.calls SET model = ?", [name])
        export(call, "--to", "set", "--force")
        card = (folder / "set" / "README.md").read_text(encoding="utf-8")
        assert f"`{shown}`" in card
        assert "hunter2" not in card


def test_a_dataset_is_replaced_and_what_lies_beside_it_stays(
    database: Path, folder: Path, call: Synthc
) -> None:
    export(call, "--to", "set")
    (folder / "set" / ".git").mkdir()
    done = call("export", "texts", "--to", "set")
    assert done.status == 1
    assert "there is a dataset in set already" in done.err
    export(call, "texts", "--to", "set", "--force")
    assert [path.name for path in (folder / "set" / "data").iterdir()] == ["texts.parquet"]
    assert (folder / "set" / ".git").is_dir()
    assert {path.name for path in folder.iterdir()} == {"set", "x.duckdb"}


def test_a_form_makes_a_dataset_that_trainers_read(
    database: Path, folder: Path, call: Synthc
) -> None:
    done = call("export", "texts", "--to", "set", "--as", "chat", "--column", "user=topic")
    assert done.status == 1
    assert "`answer` is null in 2 rows, first in row 3" in done.err
    assert not (folder / "set").exists()
    name = 'the "best", 100%'
    export(call, name, "--to", "set", "--as", "chat", "--column", "user=topic")
    read = datasets.load_dataset(str(folder / "set"), cache_dir=str(folder / "cache"))["train"]
    assert read[0]["messages"][-1] == turn("assistant", HOSTILE[0])


# The Hub


def test_a_dataset_is_pushed_with_the_users_token(
    database: Path, folder: Path, synthc: Synthc
) -> None:
    with hub() as server:
        env = {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN}
        done = synthc("export", "texts", "--push", "org/name", **env)
        assert done.status == 0, done.err
        assert f"pushed to {server.url}/datasets/org/name\n" in done.err
        assert "no licence: `--license ID` gives one" in done.err
        files = server.repositories["org/name"]
        assert sorted(files) == ["README.md", "data/texts.parquet"]
        assert server.public == set()
        again = synthc("export", "kinds", "--push", "org/name", **env)
        assert again.status == 1
        assert "there is a dataset org/name on the Hub already" in again.err
        forced = synthc("export", "kinds", "--push", "org/name", "--force", "--json", **env)
        assert json.loads(forced.out)["pushed"] == f"{server.url}/datasets/org/name"
        assert sorted(files) == ["README.md", "data/kinds.parquet"]
        public = synthc("export", "kinds", "--push", "org/open", "--public", **env)
        assert public.status == 0
        assert server.public == {"org/open"}
        for told in (done, again, forced, public):
            assert TOKEN not in told.out + told.err
    (folder / "pushed").mkdir()
    for path, data in files.items():
        (folder / "pushed" / path).parent.mkdir(exist_ok=True)
        (folder / "pushed" / path).write_bytes(data)
    read = datasets.load_dataset(str(folder / "pushed"), cache_dir=str(folder / "cache"))
    assert len(read["train"]) == 3


def test_a_hub_that_refuses_is_told(database: Path, folder: Path, synthc: Synthc) -> None:
    with hub() as server:
        server.refusal = 403
        cases = [
            ({"HF_TOKEN": "hf_hunter2wrong"}, "does not take the token in HF_TOKEN: Invalid"),
            ({"HF_TOKEN": TOKEN}, "the token in HF_TOKEN may not write to org/name: You may not"),
            ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "be reached: HF_HUB_OFFLINE is set"),
            ({"HF_TOKEN": "hunter2\nhunter2"}, "what HF_TOKEN holds is no token"),
        ]
        for env, told in cases:
            done = synthc("export", "texts", "--push", "org/name", HF_ENDPOINT=server.url, **env)
            assert done.status == 1
            assert told in done.err
            assert "hunter2" not in done.err
            assert "Traceback" not in done.err
    nowhere = {"HF_ENDPOINT": server.url.replace("http://", "http://me:hunter2@")}
    done = synthc("export", "texts", "--push", "org/name", HF_TOKEN=TOKEN, **nowhere)
    assert done.status == 1
    assert f"the Hub at {server.url} cannot be reached: Connection refused\n" in done.err
    assert "hunter2" not in done.err


def test_made_up_answers_are_not_pushed(spec: Path, call: Synthc) -> None:
    assert call("run", "--simulate").status == 0
    done = call("export", "titles", "--push", "org/name", HF_TOKEN=TOKEN)
    assert done.status == 2
    assert "titles.simulated.duckdb holds made-up answers" in done.err
    export(call, "titles", "--to", "set")
    card = (spec.parent / "set" / "README.md").read_text(encoding="utf-8")
    assert "**The answers are made up" in card


def test_a_database_of_somebody_else(folder: Path, call: Synthc) -> None:
    with duckdb.connect(str(folder / "x.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    export(call, "t", "t.csv")
    done = call("export", "--to", "set")
    assert done.status == 1
    assert "x.duckdb is no database of synthc's" in done.err
