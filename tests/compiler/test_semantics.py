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
    around = Surroundings("the query", {}, {}, {"seeds": "seeds"})
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
    around = Surroundings("the query", {}, {}, {"seeds": "seeds"})
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


def over_lists(template: str) -> Compiled:
    """A prompt over lists, records and messages."""
    return compile_text(
        'backend b { url = "http://localhost"  model = "m" }\n'
        "task t {\n  in topic: text  in size: int  in many: text[]  in talk: chat\n"
        "  in quiz: {question: text, options: text[]}[]  in one: {title: text, pages: int?}\n"
        f'  out x: text = ask """{template}"""\n}}\n',
        "t.synth",
        FOLDER,
    )


@pytest.mark.parametrize(
    "template",
    [
        "{% for one in many %}{{ one }}{{ loop.index }}{% endfor %}",
        "{% for q in quiz %}{{ q.question }}{% for o in q.options %}{{ o }}{% endfor %}{% endfor %}",
        '{% for q in quiz | sort(attribute="question") %}{{ q["question"] }}{% endfor %}',
        "{% for m in talk %}{{ m.role }}: {{ m.content }}{% endfor %}",
        "{% for i in range(size) %}{{ i }}{% endfor %}",
        "{% for name, value in one.items() %}{{ name }}{% endfor %}",
        '{% for word in topic.split(" ") %}{{ word }}{% endfor %}',
        "{{ quiz[0].question }}{{ (quiz | first).question }}{{ quiz[:2][0].options[0] }}",
        "{{ topic.upper() }}{{ topic[0] }}{{ topic[:3] }}{{ one.title.strip() }}",
        "{% set first = quiz[0] %}{{ first.question }}",
        "{% with first = quiz[0] %}{{ first.question }}{% endwith %}",
        "{% set box = namespace(n = 0) %}{{ box.n }}{{ dict(a = 1).a }}",
        '{{ quiz | map(attribute="question") | join(", ") }}',
    ],
)
def test_parts_and_elements_that_are_there(template: str) -> None:
    errors = [p.message() for p in over_lists(template).problems if p.severity == "error"]
    assert errors == []


@pytest.mark.parametrize(
    ("template", "code", "place"),
    [
        ("{% for c in topic %}{{ c }}{% endfor %}", "S0302", "topic"),
        ("{% for i in size %}{{ i }}{% endfor %}", "S0302", "size"),
        ("{% for c in one.title %}{{ c }}{% endfor %}", "S0302", "one.title"),
        ("{% for c in quiz[0].question %}{{ c }}{% endfor %}", "S0302", "quiz[0].question"),
        ("{{ topic.name }}", "S0407", "name"),
        ('{{ topic["name"] }}', "S0407", "name"),
        ("{{ size.name }}", "S0407", "name"),
        ("{{ many.name }}", "S0407", "name"),
        ("{{ topic.upper }}", "S0407", "upper"),
        ("{{ topic.shout() }}", "S0407", "shout"),
        ("{{ one.pages.number }}", "S0403", "one.pages"),
        ("{% for one in many %}{{ one.name }}{% endfor %}", "S0407", "name"),
        ("{% for q in quiz %}{{ q.qestion }}{% endfor %}", "S0203", "qestion"),
        (
            "{% for q in quiz %}{% for o in q.options %}{{ o.x }}{% endfor %}{% endfor %}",
            "S0407",
            "x",
        ),
        ("{% for q in quiz | reverse %}{{ q.qestion }}{% endfor %}", "S0203", "qestion"),
        ("{% for m in talk %}{{ m.text }}{% endfor %}", "S0203", "text"),
        ("{% set first = quiz[0] %}{{ first.qestion }}", "S0203", "qestion"),
        ("{{ (quiz | first).qestion }}", "S0203", "qestion"),
    ],
)
def test_parts_and_elements_that_are_not_there(template: str, code: str, place: str) -> None:
    problem, *_ = (p for p in over_lists(template).problems if p.severity == "error")
    span = problem.span
    line = over_lists(template).sources["t.synth"].split("\n")[span.line - 1]
    assert (problem.code, line[span.column - 1 : span.end_column - 1]) == (code, place)


PICTURES = """
backend b { url = "http://localhost"  model = "m" }
task t {
  in photo: image  in maybe: image?  in photos: image[]  in shots: {photo: image?, label: text}[]
  out x: text = ask \"\"\"TEMPLATE\"\"\"
}
"""


@pytest.mark.parametrize(
    "template",
    [
        "{{ photo }}{{ photos[0] }}{{ photos | first }}{{ photos[1:] | last }}",
        "{% if maybe %}{{ maybe }}{% endif %}{{ maybe if maybe else 'none' }}{{ maybe or photo }}",
        '{{ maybe | default("none", true) }}{% if maybe is none or not maybe %}None.{% endif %}',
        "{% if maybe != none and photos %}{{ maybe }}{{ photos | length }}{% endif %}",
        "{% for p in photos | reverse if p %}{{ loop.index }}{{ p }}{% endfor %}",
        "{% for s in shots if s.photo %}{{ s.label }}{{ s.photo }}{% endfor %}{{ shots | length }}",
        "{% set p = photo %}{{ p }}{% with q = photos[0] %}{{ q }}{% endwith %}",
    ],
)
def test_pictures_that_are_printed(template: str) -> None:
    found = compile_text(PICTURES.replace("TEMPLATE", template), "t.synth", FOLDER)
    assert [p.message() for p in found.problems if p.severity == "error"] == []


@pytest.mark.parametrize(
    "template",
    [
        "{{ photo | upper }}",
        "{{ photo | string }}",
        "{{ photo | length }}",
        "{{ photo ~ photo }}",
        "{{ photo + 'x' }}",
        "{{ photo[0] }}",
        "{{ [photo] }}",
        "{{ {'a': photo} }}",
        "{{ photo == 'a.jpg' }}",
        "{% if photo in ['a.jpg'] %}x{% endif %}",
        "{{ 'x' | default(photo) }}",
        "{{ '%s' | format(photo) }}",
        "{{ photos }}",
        "{{ photos | join(', ') }}",
        "{{ photos | map('upper') | list }}",
        "{{ (photos | first) | lower }}",
        "{{ shots }}",
        "{{ shots[0] }}",
        "{% for s in shots %}{{ s }}{% endfor %}",
        "{% for p in photos %}{{ p | trim }}{% endfor %}",
        "{% set p = photo %}{{ p | upper }}",
        "{% set p %}{{ photo }}{% endset %}{{ p }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(photo) }}",
        "{% macro m() %}{{ photo }}{% endmacro %}{{ m() }}",
        "{% filter upper %}{{ photo }}{% endfilter %}",
        "{% set box = namespace(p = photo) %}{{ box.p }}",
    ],
)
def test_pictures_that_would_be_text(template: str) -> None:
    found = compile_text(PICTURES.replace("TEMPLATE", template), "t.synth", FOLDER)
    assert [p.code for p in found.problems if p.severity == "error"][:1] == ["S0408"]


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("image", types.Image()),
        ("any_value(image)", types.Image()),
        ("list(image)", types.ListOf(types.Image())),
        ("list(images)[1][1:2]", types.ListOf(types.Image())),
        ("if(path = 'a', image, NULL)", types.Image()),
        ("nullif(image, 'a.jpg')", types.Image()),
        ("{'p': image}", types.Record((types.Field("p", types.Image()),))),
        ("coalesce(image, path)", TEXT),
        ("coalesce(image, '/etc/passwd')", TEXT),
        ("CASE WHEN path = 'a' THEN '/etc/passwd' ELSE image END", TEXT),
        ("[image, path]", types.ListOf(TEXT)),
        ("image || path", TEXT),
        ("lower(image)", TEXT),
        ("replace(image, 'a', 'b')", TEXT),
        ("image::VARCHAR", TEXT),
        ("path", TEXT),
        ("encode(path)", types.BYTES),
        ("from_base64(path)", types.BYTES),
        ("map([path], [image])", types.Other("MAP(VARCHAR, VARCHAR)")),
    ],
)
def test_sql_makes_no_picture_of_text(text: str, type_: types.Type) -> None:
    found: list[Problem] = []
    made = Binder()
    columns = {"path": TEXT, "image": types.Image(), "images": types.ListOf(types.Image())}
    made.define("f", tuple(types.Field(name, type_) for name, type_ in columns.items()))
    around = Surroundings("the query", {}, {}, {"f": "f"})
    query = f"SELECT {text} AS x FROM f GROUP BY ALL UNION ALL BY NAME SELECT {text} AS x FROM f GROUP BY ALL"
    bound = made.query(string(query), around, found.append)
    assert bound, [problem.message() for problem in found]
    assert bound.fields == (types.Field("x", type_),)


def test_a_picture_cannot_be_told_from_text_in_messages_of_sql() -> None:
    spec = PICTURES.replace("TEMPLATE", "{{ photo }}").replace(
        "out x", 'out y: bool = sql "photo > 3"  out x'
    )
    (problem,) = (
        p for p in compile_text(spec, "t.synth", FOLDER).problems if p.severity == "error"
    )
    assert problem.code == "S0503"
    assert "ENUM" not in problem.message()


@pytest.mark.parametrize("order", [1, -1])
def test_tables_may_stand_before_those_they_read(order: int) -> None:
    tables = [
        'table a = rows(3) |> select("1 AS x")',
        'table b = a |> select("x + 1 AS y")',
        'table c = sql "SELECT y FROM b"',
    ]
    found = compile_text("\n".join(tables[::order]), "t.synth", FOLDER)
    assert found.problems == ()
    assert found.plan
    assert [table.name for table in found.plan.tables] == ["a", "b", "c"]


LISTED = """
    backend b { url = "http://localhost"  model = "m" }
    task t {
      in topic: text  in sources: text[]?
      FILL
      out c: text = "{{ topic }}"
    }"""


@pytest.mark.parametrize(
    ("fill", "sound"),
    [
        ('out a: text[] = ask "{{ s }}" each s in sources', False),
        ('out a: text[]? = ask "{{ s }}" each s in sources', False),
        ('out a: text[]? = ask "{{ s }}" each s in sources where "topic <> \'\'"', False),
        ('out a: text[]? = ask "{{ s }}" each s in sources where "sources IS NOT NULL"', True),
        (
            'let some_sources: text[] = sql "coalesce(sources, [])"'
            '  out a: text[] = ask "{{ s }}" each s in some_sources',
            True,
        ),
        ('out a: text?[] = ask "{{ topic }}" as lines(/(.+)/) per sources', False),
    ],
)
def test_a_list_that_may_be_null_is_asked_about(fill: str, sound: bool) -> None:
    found = compile_text(LISTED.replace("FILL", fill), "t.synth", FOLDER).problems
    assert [p.code for p in found if p.severity == "error"] == ([] if sound else ["S0321"])


def test_a_column_of_nulls_alone_fits_where_null_does() -> None:
    spec = (
        SEEDS
        + """
        task t { in topic: text  in hint: text?
          out x: text = "{{ topic }}{% if hint %}{{ hint }}{% endif %}" }
        table a = seeds |> select("topic, NULL AS hint") |> t"""
    )
    found = compile_text(spec, "t.synth", FOLDER).problems
    assert [p.message() for p in found if p.severity == "error"] == []


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ('expect answer = "Yeast."', ["S0323"]),
        ('reply answer = "Yeast."  expect answer = "Yeast."', []),
        ("expect fail", []),
        ("expect doubts = []  doubt = null", []),
        ('expect doubts = ["Is it?"]', ["S0323"]),
        ('expect doubt = "Hm."', ["S0323"]),
    ],
)
def test_what_a_test_expects_of_a_model_has_a_reply(lines: str, codes: list[str]) -> None:
    spec = f"""
        backend b {{ url = "http://localhost"  model = "m" }}
        task t {{
          in topic: text  in sources: text[]
          out answer: text = ask "{{{{ topic }}}}"
          out doubt: text? = ask "{{{{ topic }}}}" where "length(topic) > 99"
          out doubts: text[] = ask "{{{{ s }}}}" each s in sources
        }}
        test "it" of t {{ given topic = "bread" sources = [] {lines} }}"""
    found = compile_text(spec, "t.synth", FOLDER).problems
    assert [p.code for p in found if p.severity == "error"] == codes


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


SEEDS = """
backend small { model = "llama" }
backend large extends small { model = "llama-70b" }
mutations ways { in current: text  deeper "Deepen {{ current }}"  wider weight 2 "Widen {{ current }}" }
mutations more extends ways { odder "Odder {{ current }}" }
task answer(tone: text = "calm", size: int = 2) {
  in  topic: text
  out reply: text = ask "{{ topic }} {{ tone }} {{ size }}" using small
}
table seeds = sql "SELECT 'rivers' AS topic, ['a', 'b'] AS list, 3 AS size, NULL::VARCHAR AS hint"
"""

GOOD = {
    "columns of one name that exclude each other": """
        task t(p: bool = false) {
          in  topic: text
          let a: text = ask "{{ topic }}" when p
          let a: text = "none" when not p
          out b: text = ask "{{ a }}"
        }
        table x = seeds |> t using small""",
    "a guard that covers a column's guard": """
        task t(p: bool = false, q: bool = true) {
          in  topic: text
          let a: text = ask "{{ topic }}" when p
          out b: text = ask "{{ a }}" when q and p
        }
        table x = seeds |> t(p = true) using small |> where("b <> ''")""",
    "choices that are gone through": """
        task t(level: "low" | "middle" | "high" = "low") {
          in  topic: text
          let a: text = "l" when level == "low"
          let a: text = "m" when level == "middle"
          let a: text = "h" when level == "high"
          out b: text = sql "a || topic"
          out c: text = a when level != "low"
        }
        table x = seeds |> t(level = "high") |> select("b, c")""",
    "a text that has one value or another": """
        task t(tone: text = "calm") {
          in  topic: text
          let a: text = "c" when tone == "calm"
          let a: text = "o" when tone != "calm"
          out b: text = "{{ topic }} {{ a }}"
        }
        table x = seeds |> t""",
    "a guard inside of a tuple": """
        task t(p: bool = false) {
          in  topic: text
          out (a: text, b: int when p) = ask "{{ topic }} {{ output_format }}"
          out c: int = sql "b + 1" when p
        }
        table x = seeds |> t(p = true) using small |> where("b + c > 1")
        table y = seeds |> t using small""",
    "guards on what a loop makes": """
        task t(p: bool = false) {
          in  topic: text
          out a: text = repeat 3 times x: text = topic {
            let y: text = ask "{{ x }}" when p
            let y: text = "none" when not p
            next y
          }
          out a2: text[] = repeat 3 times x: text = a { next "{{ x }}!" } when p
        }
        table x = seeds |> t using small""",
    "another name of another name": """
        task calm = answer(tone = "calm")
        task short = calm(size = 1)
        task plain = short
        table x = seeds |> plain""",
    "names before what they stand for": """
        task b = c(size = 1)
        task c = answer(tone = "wild")
        table x = seeds |> b""",
    "a task that extends one that extends another": """
        task one extends answer { out words: int = sql "length(reply)" }
        task two extends one { out twice: int = sql "words * 2" }
        table x = seeds |> two(size = 1) |> where("twice > 2")""",
    "loops in loops in loops": """
        task t(rounds: int = 2) {
          in  topic: text
          out all: text[] = repeat $rounds times a: text = topic {
            let inside: text = repeat 2 times b: text = a until "length(b) > 9 AND round > 1" {
              let deepest: text[] = repeat $rounds times c: text = b { next ask "{{ a }}{{ b }}{{ c }}" }
              next sql "deepest[-1]"
            }
            next inside
          }
        }
        table x = seeds |> t using small""",
    "a loop over a list": """
        task t {
          in  topic: text
          out talk: text[] = repeat 3 times turns: text[] = [] {
            let said: text = ask "{{ turns }} {{ topic }}"
            next sql "list_append(turns, said)"
          }
        }
        table x = seeds |> t using small""",
    "two loops that call their variable alike": """
        task t {
          in  topic: text
          out a: text = repeat 2 times x: text = topic { next ask "{{ x }}" }
          out b: text = repeat 2 times x: text = a { next ask "{{ x }}" }
        }
        table x = seeds |> t using small""",
    "sets and backends as values": """
        task t(ways: mutations = ways, judge: backend = large) {
          in  topic: text
          out last: text = repeat 2 times current: text = topic { next ask one of $ways using $judge }
        }
        task u = t(ways = more)
        table x = seeds |> t(judge = small)
        table y = seeds |> u""",
    "a set that sees what it does not need": """
        task t {
          in  topic: text
          in  current: text
          out last: text = ask one of more system "About {{ topic }}."
        }
        table x = seeds |> t(current = topic) using small""",
    "asks for each, several times, for some": """
        task t(number: int = 3) {
          in  topic: text
          in  list: text[]
          in  hint: text?
          out a: text[] = ask "{{ one }} of {{ topic }}" each one in list
          out b: int?[] = ask "{{ topic }}" n $number
          out c: text? = ask "{{ topic }}" where "hint IS NULL"
          out d: text = ask "{% if c %}{{ c }}{% endif %}"
        }
        table x = seeds |> t using small""",
    "draws": """
        task t(level: 1 | 2.5 | 3 = sample, words: text[] = ["a", "b"], deep: bool = sample) {
          out mood: "glad" | "sad" = sample
          out word: text = sample $words
          out some: text[] = sample 0..2 of $words
          out size: int = sample uniform(1, 6)
          out told: text = "{{ level }} {{ deep }}"
        }
        table x = rows(3) |> t(level = 3)
        table y = seeds |> t(level = size) as drawn""",
    "a chat out of SQL, and one that is read": """
        task t {
          in  topic: text
          let talk: chat = sql "[{role: 'user', content: topic}]"
          out said: text = ask talk system "Be brief."
        }
        table x = seeds |> t using small""",
    "columns called like the words of the language": """
        task t {
          in  times: text
          in  `each`: text
          out n: text = ask "{{ times }} {{ each }}"
          out until: text[] = ask "{{ n }}" n 2
          out weight: text = sql "until[1] || n"
        }
        table x = sql "SELECT 'a' AS times, 'b' AS each" |> t using small |> limit(3, per = n)""",
    "a table called like a source": """
        table files = seeds |> where("size > 1")
        table rows = files |> dedup(topic)
        table more = rows |> draw(1, from = files) as shots |> unnest(shots as shot)""",
    "SQL over the rows so far": """
        table x = seeds
          |> sql "SELECT topic, count(*) AS n FROM THIS GROUP BY topic" key topic
          |> answer""",
}


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_what_is_meant_compiles(spec: str) -> None:
    compiled = compile_text(SEEDS + spec, "t.synth", FOLDER)
    assert [p.message() for p in compiled.problems if p.severity == "error"] == []


def columns(spec: str, table: str) -> list[str]:
    """The columns of a table of the spec, without the model's name."""
    compiled = compile_text(SEEDS + spec, "t.synth", FOLDER)
    assert compiled.plan, [problem.message() for problem in compiled.problems]
    (found,) = (t for t in compiled.plan.tables if t.name == table)
    return [output.name for output in found.outputs if output.name != "model_name"]


GUARDED = """
task t(p: bool = false, level: "low" | "high" = "low") {
  in  topic: text
  out a: text = "a" when p
  out b: text = "b" when not p
  out c: text = "c" when level == "high" and not p
  out d: text = "d" when level != "high"
}
"""


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("", "bd"),
        ("(p = true)", "ad"),
        ('(level = "high")', "bc"),
        ('(p = true, level = "high")', "a"),
        ('(level = "low", p = false)', "bd"),
    ],
)
def test_which_columns_guards_leave(given: str, made: str) -> None:
    spec = f'{GUARDED} table x = seeds |> select("topic") |> t{given}'
    assert columns(spec, "x") == ["topic", *made]


@pytest.mark.parametrize(
    ("guard", "reads"),
    [
        ("p", True),
        ("p and q", True),
        ("not p", False),
        ("q", False),
        ("not p and q", False),
        ("p and not p", True),
    ],
)
def test_a_column_is_read_where_its_guard_holds(guard: str, reads: bool) -> None:
    spec = f"""
      task t(p: bool = false, q: bool = false) {{
        in  topic: text
        let a: text = ask "{{{{ topic }}}}" when p
        out b: text = ask "{{{{ a }}}}" when {guard}
        out c: text = "c"
      }}
      table x = seeds |> t using small"""
    codes = [p.code for p in compile_text(SEEDS + spec, "t.synth", FOLDER).problems]
    assert ("S0315" not in codes) == reads


@pytest.mark.parametrize(
    ("one", "other", "exclude"),
    [
        ("p", "not p", True),
        ("p", "q", False),
        ("p and q", "not q", True),
        ("p and q", "not p and not q", True),
        ('level == "low"', 'level == "high"', True),
        ('level != "low"', 'level == "low"', True),
        ('level != "low"', 'level != "high"', True),
        ('tone == "a"', 'tone == "b"', True),
        ('tone != "a"', 'tone != "b"', False),
        ("size == 1", "size == 2", True),
        ("size == 1", "size != 2", False),
    ],
)
def test_which_guards_exclude_each_other(one: str, other: str, exclude: bool) -> None:
    spec = f"""
      task t(p: bool = false, q: bool = false, level: "low" | "high" = "low",
             tone: text = "x", size: int = 3) {{
        out a: text = "a" when {one}
        out a: text = "b" when {other}
        out c: text = "{{{{ p }}}}{{{{ q }}}}{{{{ level }}}}{{{{ tone }}}}{{{{ size }}}}"
      }}
      table x = rows(1) |> t"""
    codes = [p.code for p in compile_text(SEEDS + spec, "t.synth", FOLDER).problems]
    assert ("S0303" not in codes) == exclude
