"""What specs mean, where a mistake would be silent: types, nulls, SQL's reads, and what SQL may reach."""

import time
from pathlib import Path

import pytest

from synthc.compiler import ast, types
from synthc.compiler.check.sql import Binder, Bound
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.values import from_text
from synthc.compiler.compile import Compiled, compile_text
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse import strings
from synthc.compiler.span import Span

FOLDER = Path(__file__).parents[1] / "golden" / "diagnostics"
TEXT, INT, FLOAT = types.Text(), types.Int(), types.Float()
STRUCT = types.Record((types.Field("answer", TEXT), types.Field("Score", INT)))
SCOPE = {"id": INT, "Topic": TEXT, "the key": TEXT, "a": STRUCT, "hint": types.Maybe(TEXT)}


@pytest.fixture(scope="module")
def binder() -> Binder:
    made = Binder()
    made.define("seeds", (types.Field("id", INT), types.Field("topic", TEXT)))
    return made


def string(text: str) -> ast.String:
    literal = f'"""{text}"""'
    decoded, offsets = strings.decode(literal)
    return ast.String(decoded, Span("t", 1, 1, 1, 1 + len(literal)), literal, offsets)


def select(binder: Binder, text: str) -> Bound:
    found: list[Problem] = []
    around = Surroundings("the table `t`", SCOPE, {"n": INT, "größe": TEXT})
    bound = binder.columns(string(text), around, found.append)
    assert bound, [problem.message() for problem in found]
    return bound


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("topic AS t", (("Topic",),)),
        ('TOPIC AS t, "the key" AS k', (("Topic",), ("the key",))),
        ("a.answer AS x", (("a", "answer"),)),
        ("a.ANSWER AS x, a.score AS y", (("a", "Score"), ("a", "answer"))),
        ("a.answer AS x, a AS y", (("a",),)),
        ("1 AS one", ()),
        ("*", tuple((name,) for name in SCOPE)),
        ("list_transform([1], lambda x: x + id) AS l", (("id",),)),
        ("struct_extract(a, 'answer') AS x", (("a",),)),
        ("CASE WHEN id > 3 THEN topic ELSE hint END AS x", (("id",), ("Topic",), ("hint",))),
    ],
)
def test_which_columns_sql_reads(
    binder: Binder, text: str, paths: tuple[tuple[str, ...], ...]
) -> None:
    assert select(binder, text).paths == paths


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("topic, ID AS number", {"Topic": ("Topic",), "number": ("id",)}),
        ("a.answer, upper(topic) AS loud", {"answer": ("a", "answer")}),
        ("a.answer AS b, a", {"b": ("a", "answer"), "a": ("a",)}),
        (
            "* EXCLUDE (A, hint), id AS n",
            {n: (n,) for n in ("id", "Topic", "the key")} | {"n": ("id",)},
        ),
        ("* REPLACE (upper(topic) AS topic)", {}),
        ("* RENAME (topic AS t)", {}),
        ("COLUMNS('i.*')", {}),
        ("upper(topic) AS loud, *", {name: (name,) for name in SCOPE}),
    ],
)
def test_which_columns_only_pass_through(
    binder: Binder, text: str, plain: dict[str, tuple[str, ...]]
) -> None:
    assert select(binder, text).plain == plain


def test_parameters_are_put_in_by_their_place(binder: Binder) -> None:
    bound = select(binder, "'ü$n' AS a, $n + $n AS b, $größe || topic AS c")
    made = bound.with_parameters({"n": "1", "größe": "'x'"})
    assert made == "'ü$n' AS a, 1 + 1 AS b, 'x' || topic AS c"


@pytest.mark.parametrize(
    "column", ["topic AS t", "topic,", "*", "COLUMNS(*)", "topic; ", "id, topic", ""]
)
def test_one_value_is_one_value(binder: Binder, column: str) -> None:
    found: list[Problem] = []
    around = Surroundings("the task `t`", SCOPE, {})
    assert (binder.expression(string(column), around, found.append) is None) == bool(found)
    assert (column == "topic; ") or found


BAD_QUERIES = [
    "SELECT * FROM 'days.csv'",
    "FROM 'topics.jsonl'",
    'FROM "days.csv"',
    "FROM read_csv('days.csv')",
    "FROM read_parquet(['x.parquet'])",
    "SELECT * FROM seeds, glob('*')",
    "SELECT (SELECT content FROM read_text('/etc/passwd')) AS x FROM seeds",
    "WITH x AS (FROM read_blob('/etc/passwd')) FROM x",
    "FROM duckdb_settings()",
    "FROM duckdb_tables",
    "FROM sqlite_master",
    "FROM information_schema.tables",
    "FROM pg_catalog.pg_tables",
    "FROM main.seeds",
    "FROM query('SELECT 1')",
    "FROM query_table('seeds')",
    "FROM (DESCRIBE seeds)",
    "FROM (SHOW TABLES)",
    "FROM pragma_version()",
    "FROM unknown_variable",
    "COPY seeds TO '/tmp/x.csv'",
    "ATTACH '/tmp/x.duckdb'",
    "INSTALL httpfs",
    "INSERT INTO seeds VALUES (1, 'a')",
    "SELECT 1 AS a; DROP TABLE seeds",
    "SELECT getenv('HOME') AS home",
    "SELECT current_setting('home_directory') AS home",
    "SELECT geomean(random()) AS x FROM seeds",
    "SELECT * FROM seeds TABLESAMPLE 10%",
    "SELECT ago(INTERVAL 1 DAY) AS x",
    "SELECT Current_Timestamp AS x",
]


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_sql_reaches_nothing_but_the_tables_of_the_spec(binder: Binder, query: str) -> None:
    found: list[Problem] = []
    unknown_variable = [1]  # a replacement scan would find it
    around = Surroundings("the query", {}, {}, ("seeds",))
    assert binder.query(string(query), around, found.append) is None, unknown_variable
    assert found


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("FROM SEEDS", ("seeds",)),
        ("WITH x AS (FROM seeds) SELECT * FROM x", ("seeds",)),
        ("WITH seeds AS (SELECT * FROM seeds) SELECT * FROM seeds", ("seeds",)),
        ("WITH seeds AS (SELECT 1 AS a) SELECT * FROM seeds", ()),
        ("SELECT range AS n FROM range(3)", ()),
        ("SELECT s.* FROM seeds AS s WHERE id IN (SELECT id FROM Seeds)", ("seeds",)),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
            (),
        ),
    ],
)
def test_which_tables_a_query_reads(binder: Binder, query: str, tables: tuple[str, ...]) -> None:
    found: list[Problem] = []
    around = Surroundings("the query", {}, {}, ("seeds",))
    bound = binder.query(string(query), around, found.append)
    assert bound, [problem.message() for problem in found]
    assert bound.tables == tables


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("3", INT, (3,)),
        ("3.0", INT, None),
        ("3", FLOAT, (3.0,)),
        ("true", types.Bool(), (True,)),
        ("True", types.Bool(), None),
        ("true", INT, None),
        ("3", TEXT, ("3",)),
        ("", TEXT, ("",)),
        ("null", types.Maybe(INT), (None,)),
        ("null", INT, None),
        ("b", types.Choice(("a", "b")), ("b",)),
        ("c", types.Choice(("a", "b")), None),
        ("4", types.Choice((4, 4.5)), (4,)),
        ('["a", "b"]', types.ListOf(TEXT), (["a", "b"],)),
        ("[1]", types.ListOf(TEXT), None),
        ('{"a": 1}', types.Json(), ({"a": 1},)),
        ("NaN", FLOAT, None),
        ("Infinity", FLOAT, None),
        ("1e999", FLOAT, None),
        ("9223372036854775808", INT, None),
    ],
)
def test_values_of_the_command_line(
    text: str, type_: types.Type, value: tuple[object] | None
) -> None:
    assert from_text(text, type_) == value


def prompt(template: str) -> Compiled:
    return compile_text(
        'backend b { model = "m" }\n'
        "task t { in topic: text  in hint: text?  in size: int?  in all: (text?)[]\n"
        "  in e: {a: text?, b: text}  in f: {a: text}?\n"
        f'  out x: text = ask """{{{{ topic }}}}{template}"""\n}}\n',
        "t.synth",
        FOLDER,
    )


@pytest.mark.parametrize(
    "template",
    [
        "{% if hint %}{{ hint }}{% endif %}",
        "{% if not hint %}none{% else %}{{ hint }}{% endif %}",
        "{% if hint is none %}none{% else %}{{ hint }}{% endif %}",
        "{% if hint is none %}none{% elif size %}{{ hint }}{{ size }}{% endif %}",
        "{% if hint is not none and size %}{{ hint }}{{ size }}{% endif %}",
        '{% if hint == "a" %}{{ hint }}{% endif %}',
        '{% if hint in ["a", "b"] %}{{ hint }}{% endif %}',
        "{% if hint != none %}{{ hint }}{% endif %}",
        "{% if hint is string %}{{ hint }}{% endif %}",
        '{{ hint or "none" }}',
        '{{ hint | default("none") }}{{ hint | d("none", true) | upper }}',
        '{{ hint if hint else "none" }}',
        "{{ hint if hint is not none }}",
        '{{ "none" if hint is none else hint }}',
        "{{ hint == topic }}",
        "{% if e.a %}{{ e.a }}{% endif %}{{ e.b }}",
        "{% if f %}{{ f.a }}{% endif %}",
        "{% if f.a %}{{ f.a }}{% endif %}",
        "{% for one in all if one %}{{ one }}{% endfor %}",
        '{% set shown = hint or "none" %}{{ shown }}',
    ],
)
def test_nullables_that_are_asked_about(template: str) -> None:
    errors = [p.message() for p in prompt(template).problems if p.severity == "error"]
    assert errors == []


@pytest.mark.parametrize(
    "template",
    [
        "{{ hint }}",
        "{{ hint | upper }}",
        "{{ hint ~ topic }}",
        '{{ hint and "x" }}',
        "{{ topic or hint }}",
        "{{ size + 1 }}",
        "{{ topic | default(hint) }}",
        '{{ "%s" | format(hint) }}',
        "{{ [hint] | join }}",
        "{% set shown = hint %}{{ shown }}",
        "{% with shown = hint %}{{ shown }}{% endwith %}",
        "{% for one in all %}{{ one }}{% endfor %}",
        "{% for one in hint %}{{ one }}{% endfor %}",
        "{% if hint %}x{% endif %}{{ hint }}",
        "{% if hint %}x{% else %}{{ hint }}{% endif %}",
        "{% if hint == none %}{{ hint }}{% endif %}",
        '{% if hint != "a" %}{{ hint }}{% endif %}',
        '{% if hint not in ["a"] %}{{ hint }}{% endif %}',
        "{% if hint or size %}{{ hint }}{% endif %}",
        "{% if hint is defined %}{{ hint }}{% endif %}",
        "{{ e.a }}",
        "{{ f.a }}",
        '{{ e["a"] }}',
        '{{ "x" if topic else hint }}',
    ],
)
def test_nullables_printed_bare(template: str) -> None:
    assert [p.code for p in prompt(template).problems if p.severity == "error"][:1] == ["S0403"]


def test_a_long_spec_is_checked_in_time() -> None:
    task = (
        "task t{0} {{ in topic: text  in size: int\n"
        '  let d: text = ask """\n    About {{{{ topic }}}}.\n  """\n'
        '  out (q: text, a: text) = ask "{{{{ d }}}} {{{{ output_format }}}}"\n'
        '  out n: int = sql "length(q) + size"\n}}\n'
        'table x{0} = read("topics.jsonl")\n  |> where("size > {0}")\n  |> t{0} as z\n'
        '  |> select("topic, z.q AS q{0}")\n'
    )
    spec = 'backend b { model = "m" }\n' + "".join(task.format(number) for number in range(200))
    assert spec.count("\n") > 2000
    started = time.process_time()
    assert compile_text(spec, "t.synth", FOLDER).plan
    assert time.process_time() - started < 20  # quadratic would be minutes; 3 s here
