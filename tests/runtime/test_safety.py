"""A spec is not trusted with the machine, and nobody with a secret: also where a plan was edited by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import serving
from synthc.compiler import plan as plans
from synthc.compiler.plan import Ask, Compute, Plan, Query, Render
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.errors import RowFailed, RunError, Stopped
from tests.runtime.helpers import column, compiled, finished, made, rows, started, topics

SPEC = """
backend b { url = env("SYNTH_URL")  model = "m"  reasks = 0 }
task shout { in topic: text  out loud: text = sql "upper(topic)" }
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
table t = read("topics.jsonl") |> shout |> where("n >= 0") |> limit(1)
table q = sql "SELECT 'x' AS a"
"""


def edited(plan: Plan, **changes: str) -> Plan:
    """A plan whose SQL was changed by hand: of the query, of what is computed, or of the condition."""
    tree: dict[str, Any] = json.loads(plans.encode(plan))
    for table in tree["tables"]:
        if table["source"]["type"] == "query" and "query" in changes:
            table["source"]["sql"] = changes["query"]
        for op in table["ops"]:
            if op["type"] in changes:
                op["sql"] = changes[op["type"]]
    return plans.decode(msgspec.json.encode(tree))


def hostile(folder: Path) -> list[str]:
    secret = folder / "secret.csv"
    secret.write_text("a\nhunter2\n")
    return [
        "SELECT content AS a FROM read_text('/etc/passwd')",
        f"SELECT a FROM read_csv('{secret}')",
        f"SELECT a FROM '{secret}'",
        f"SELECT a FROM read_csv('{folder}/*.csv')",
        f"COPY (SELECT 1 AS a) TO '{folder}/out.csv'",
        f"ATTACH '{folder}/other.duckdb' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET lock_configuration = false",
        "SELECT getenv('HOME') AS a",
        "SELECT file AS a FROM glob('/etc/*')",
        "SELECT 'x' AS a; DROP TABLE synth.calls",
        "SELECT 'x' AS a); DROP TABLE synth.calls; SELECT ('x' AS a",
        "DELETE FROM synth.calls",
        "FROM plan",
        "PRAGMA database_list",
        f"EXPORT DATABASE '{folder}/out'",
    ]


@pytest.mark.parametrize("number", range(17))
@pytest.mark.parametrize("where", ["query", "compute", "filter"])
def test_sql_reaches_nothing_of_the_machine(tmp_path: Path, where: str, number: int) -> None:
    topics(tmp_path, 1)
    sql = hostile(tmp_path)[number]
    before = sorted(tmp_path.iterdir())
    plan = edited(compiled(SPEC, tmp_path), **{where: sql if where == "query" else f"({sql})"})
    said = ""
    try:
        report = made(plan, tmp_path, "")
        assert report.tables["t"].failed == 1
    except RunError as error:
        said = error.message
    left = [*column(tmp_path, "SELECT detail FROM synth.failures"), said]
    assert not any("hunter2" in text or "root:" in text for text in left)
    assert any(left)
    assert {p.name for p in tmp_path.iterdir()} - {p.name for p in before} == {"x.duckdb"}
    assert column(tmp_path, "SELECT count(*) FROM synth.calls") == [0]


def test_a_plan_edited_by_hand_is_what_the_test_makes(tmp_path: Path) -> None:
    topics(tmp_path, 1)
    plan = edited(compiled(SPEC, tmp_path), query="SELECT 'y' AS a")
    kinds = [type(op) for table in plan.tables for op in table.ops]
    assert Compute in kinds
    assert any(isinstance(table.source, Query) for table in plan.tables)
    assert not any(isinstance(op, Ask | Render) for table in plan.tables for op in table.ops)
    made(plan, tmp_path, "")
    assert rows(tmp_path, "FROM q") == [("y",)]


TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.getcwd() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ x.__class__ }}",
    "{{ ().__class__.__base__ }}",
    "{{ x | attr('__class__') }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ range.__self__ }}",
    "{{ namespace.__init__ }}",
    "{{ lipsum() }}",
    "{{ joiner() }}",
    "{{ x.append(1) }}",
    "{{ d.update(a=2) }}",
    "{{ x | random }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as p %}",
    "{% for i in range(100000000) %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ open('/etc/passwd').read() }}",
    "{{ 1 / 0 }}",
    "{{ d.nothing.more }}",
    "{{ none }}",
    "{% broken",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_reach_no_python(template: str) -> None:
    with pytest.raises(RowFailed) as failed:
        Prompts().render(template, {"x": [1], "d": {"a": 1}})
    assert failed.value.reason == "template"


# Secrets

KEY, HEADER, PASSWORD = "key-0123456789", "header-0123456789", "password-0123456789"
SECRET = """
backend b {
  url = env("SECRET_URL")  model = "m"  api_key = env("SECRET_KEY")  attempts = 2  concurrency = 8
  headers { `x-team` = env("SECRET_HEADER") }
}
task write { in topic: text  out answer: text? = ask "About {{ topic }}" }
table t = read("topics.jsonl") |> write
export t to "t.jsonl"
"""


def echoing(seen: Seen) -> str | Fault:
    """An answer, or an error that says all it was sent."""
    said = json.dumps({"error": {"message": f"you sent {seen.headers}"}})
    status = {0: 422, 1: 500, 2: 429, 3: 400}.get(seen.number % 8)
    return Fault(status, body=said) if status else default_answer(seen)


def secret_env(url: str) -> dict[str, str]:
    with_password = url.replace("http://", f"http://user:{PASSWORD}@")
    return {"SECRET_URL": with_password, "SECRET_KEY": KEY, "SECRET_HEADER": HEADER}


def assert_nothing_secret(folder: Path, said: str) -> None:
    for name, text in [("output", said.encode())] + [
        (str(file), file.read_bytes()) for file in folder.rglob("*") if file.is_file()
    ]:
        for secret in (KEY, HEADER, PASSWORD):
            assert secret.encode() not in text, f"{secret} in {name}"


@pytest.mark.parametrize("killed", [False, True])
def test_no_secret_is_left_by_a_run_with_faults(tmp_path: Path, killed: bool) -> None:
    topics(tmp_path, 60)
    (tmp_path / "x.synth").write_text(SECRET)
    with serving(echoing) as server:
        env = secret_env(server.url)
        assert finished(started(tmp_path, "compile", **env))[0] == 0
        process = started(tmp_path, "run", **env)
        if killed:
            server.wait_for(30)
            process.kill()
        status, said = finished(process)
        assert any(KEY in str(seen.headers) for seen in server.requests)
    if not killed:
        assert status == 0, said
        assert "***" in str(column(tmp_path, "SELECT detail FROM synth.failures"))
    assert_nothing_secret(tmp_path, said)


def test_no_secret_is_in_what_stops_a_run(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    (tmp_path / "x.synth").write_text(SECRET)
    said = json.dumps(
        {"error": {"message": f"{KEY} {HEADER} http://user:{PASSWORD}@host is wrong"}}
    )
    with serving(lambda _: Fault(401, body=said)) as server:
        env = secret_env(server.url)
        status, text = finished(started(tmp_path, "run", **env))
        assert status == 3
        with pytest.raises(Stopped) as stopped:
            made(SECRET, tmp_path, server, env=env)
    assert_nothing_secret(tmp_path, f"{text} {stopped.value.message} {stopped.value.hint}")


def test_no_secret_is_in_what_a_wrong_url_says(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    for url in (
        f"http://user:{PASSWORD}@127.0.0.1:1/v1",
        f"ftp://{PASSWORD}/",
        f"http://[{PASSWORD}",
    ):
        with pytest.raises(RunError) as caught:
            made(SECRET, tmp_path, "", env=secret_env("") | {"SECRET_URL": url})
        assert_nothing_secret(tmp_path, f"{caught.value.message} {caught.value.hint}")


def test_no_secret_is_in_what_a_run_answers_while_it_writes_or_asks_again(tmp_path: Path) -> None:
    topics(tmp_path, 60)
    (tmp_path / "x.synth").write_text(SECRET)
    said: list[str] = []

    def asked(*arguments: str, **env: str) -> int:
        status, text = finished(started(tmp_path, *arguments, **env))
        said.append(text)
        return status

    def slow(seen: Seen) -> str | Fault:
        return FAULTS["drip"] if seen.number > 40 else echoing(seen)

    with serving(slow) as server:
        env = secret_env(server.url)
        process = started(tmp_path, "run", **env)
        server.wait_for(41)
        assert asked("run", **env) == 1
        for query in ("synth.runs", "synth.calls", "synth.failures", "synth.prices", "t"):
            assert asked("sql", f"FROM {query}", "--json") == 0
        for query in ("duckdb_settings()", "duckdb_variables()"):
            assert asked("sql", f"FROM {query}", "--json") == 0
        for query in ("FROM duckdb_secrets()", "SELECT getenv('SECRET_KEY')"):
            assert asked("sql", query) == 2
        process.kill()
        said.append(finished(process)[1])
        server.answer = echoing
        assert asked("run", **env) == 0
        assert asked("run", "--retry-failed", **env) == 0
        assert asked("run", "--again", "answer IS NOT NULL", **env) == 0
        assert any("--again: " in text for text in said)
    assert_nothing_secret(tmp_path, "\n".join(said))
