"""The formatter: the layout it makes, and that it changes nothing else."""

# ruff: noqa: E501 - some specs are written in lines that are too long

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from lark.grammar import NonTerminal, Symbol

from synthc.compiler.format import format as formatting
from synthc.compiler.format.concrete import Node, Part, read, words
from synthc.compiler.format.doc import Doc
from synthc.compiler.format.format import Unfaithful, Unreadable, format_text, same_tree
from synthc.compiler.parse.parse import _parser, parse

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("specs/examples/**/*.synth"))

# A messy spec and its layout, by what is in it.
LAYOUTS: dict[str, tuple[str, str]] = {}

LAYOUTS["declarations"] = (
    """

# A spec.
use   "std/evol"   as  e
use "std/score"
param   rounds :int=2 # how often
param words: text[] = [ "a","b" ]


type Level="low"|"high"
type  Score = 1|2.5 | -3
type Pair={level:Level,all:Score [ ],near:( "a"|"b" ) [ 2 ],more:{x:text?}?}
type Lonely = text

task harder=e . instruct( num_evolutions=$rounds ,mutations = mine )
table t=sql "SELECT 1 AS x" key x
table u = t
export t   to "t.parquet"
export u to "u.jsonl"
expect full:sql "FROM t WHERE x > 1"
""",
    """# A spec.
use "std/evol" as e
use "std/score"
param rounds: int = 2                     # how often
param words: text[] = ["a", "b"]

type Level  = "low" | "high"
type Score  = 1 | 2.5 | -3
type Pair   = {level: Level, all: Score[], near: ("a" | "b")[2], more: {x: text?}?}
type Lonely = text

task harder = e.instruct(num_evolutions = $rounds, mutations = mine)
table t = sql "SELECT 1 AS x" key x
table u = t
export t to "t.parquet"
export u to "u.jsonl"
expect full: sql "FROM t WHERE x > 1"
""",
)

LAYOUTS["settings"] = (
    r"""
backend small{protocol="openai" url=env( "SYNTH_URL","" )
model="m" temperature=0.5
  max_tokens = 512
  `top k` = 1e3 # many

  stop=["\n\n","END",]
  headers{ `X-Team`="a" Authorization = env("KEY") }
  extra{
  top_k=40 deep{on=true list=[1,"a",null]}
  }
}
backend large extends  small{model="l"   temperature=0}
backend empty { }
embedder minilm{model="hf:sentence-transformers/all-MiniLM-L6-v2"dimensions=384}
embedder far { url = "https://embeddings.example.com/v1" model = "a-model-with-a-long-name" dimensions = 1024 }
""",
    r"""backend small {
  protocol = "openai"
  url      = env("SYNTH_URL", "")
  model    = "m"
  temperature = 0.5
  max_tokens  = 512
  `top k`     = 1e3                       # many

  stop = [
    "\n\n",
    "END",
  ]
  headers { `X-Team` = "a"  Authorization = env("KEY") }
  extra {
    top_k = 40
    deep { on = true  list = [1, "a", null] }
  }
}
backend large extends small { model = "l"  temperature = 0 }
backend empty {}
embedder minilm { model = "hf:sentence-transformers/all-MiniLM-L6-v2"  dimensions = 384 }
embedder far {
  url   = "https://embeddings.example.com/v1"
  model = "a-model-with-a-long-name"
  dimensions = 1024
}
""",
)

LAYOUTS["tasks"] = (
    """
task one { in topic: text out reply: text = ask "{{ topic }}" }
task two(
tone:text="dry",
level: Level=sample , words: text[] = ["a"],
) extends e.one
{
"What it does."
tags "a","b"

in `in`:text
let hint:text?=ask "A hint." when not careful
out   (a:text,b:float? when deep and tone!="dry"and level == "low")=ask file( "p.jinja" )using   small


out copy: text = hint   when deep
out same: text=topic when not deep
out other: int[] = [1,2]
}
task three(language: text = "English", difficulty: Level = sample, clarity: Level = sample, number_of_words: int = 100) {}
task four(language: text = "English", size: int = 2,) {
  out x: bool = true
}
task tagged { tags "a rather long tag", "another rather long tag", "a third rather long tag", "a fourth rather long tag" out x: int = 1 }
""",
    """task one {
  in  topic: text
  out reply: text = ask "{{ topic }}"
}

task two(
  tone: text = "dry",
  level: Level = sample,
  words: text[] = ["a"],
) extends e.one {
  "What it does."
  tags "a", "b"

  in  `in`: text
  let hint: text? = ask "A hint." when not careful
  out (a: text, b: float? when deep and tone != "dry" and level == "low") = ask file("p.jinja") using small

  out copy: text = hint   when deep
  out same: text = topic  when not deep
  out other: int[] = [1, 2]
}

task three(
  language: text = "English",
  difficulty: Level = sample,
  clarity: Level = sample,
  number_of_words: int = 100
) {}

task four(
  language: text = "English",
  size: int = 2,
) {
  out x: bool = true
}

task tagged {
  tags "a rather long tag", "another rather long tag", "a third rather long tag", "a fourth rather long tag"
  out x: int = 1
}
""",
)

LAYOUTS["asks"] = (
    r'''
task asked {
  out a: text = ask "{{ x }}"
    system "You are brief."
    using $judge   as json
  out b: text[] = ask one  of $ways as after( "Prompt:" )where "x > 1" n 4
  out c: float?[] = ask talk as lines( /\[(?P<index>\d+)\]\s*#?(?P<value>\d+)/i )per instructions each y in [1,2]
  out (good: text, bad: text?) = ask """
  {{ x }}
  """ system """
      Be brief.
        Really.
  """ as sections(good="## Good" ,bad = "## Bad")
  out (user_query: text?, positive_document: text?, negative_document: text?) = ask file("recipe_search.jinja") using small
  out (user_query: text?, positive_document: text?, hard_negative_document: text?, other_document: text?, reason: text) = ask "{{ x }}" system "You are somebody who writes long prompts, for the sake of it." using small as json where "length(x) > 10"
  out a_prompt_that_is_too_long: text = ask "Once upon a time there was a prompt that did not fit on its line with all the rest."
  out d: text = ask "{{ x }}" as regex(/score: (\d+)/)
  out e: text = ask "{{ x }}" as sections(first = "## A heading that is long", second = "## Another heading", third = "## The last one")
}
''',
    r'''task asked {
  out a: text = ask "{{ x }}" system "You are brief." using $judge as json
  out b: text[] = ask one of $ways as after("Prompt:") where "x > 1" n 4
  out c: float?[] = ask talk
    as lines(/\[(?P<index>\d+)\]\s*#?(?P<value>\d+)/i) per instructions
    each y in [1, 2]
  out (good: text, bad: text?) = ask """
    {{ x }}
  """ system """
    Be brief.
      Really.
  """ as sections(good = "## Good", bad = "## Bad")
  out (user_query: text?, positive_document: text?, negative_document: text?) =
    ask file("recipe_search.jinja") using small
  out (
    user_query: text?,
    positive_document: text?,
    hard_negative_document: text?,
    other_document: text?,
    reason: text
  ) = ask "{{ x }}"
    system "You are somebody who writes long prompts, for the sake of it."
    using small
    as json
    where "length(x) > 10"
  out a_prompt_that_is_too_long: text =
    ask "Once upon a time there was a prompt that did not fit on its line with all the rest."
  out d: text = ask "{{ x }}" as regex(/score: (\d+)/)
  out e: text = ask "{{ x }}"
    as sections(first = "## A heading that is long", second = "## Another heading", third = "## The last one")
}
''',
)

LAYOUTS["draws and loops"] = (
    '''
mutations ways extends e.deita { in current:text shorter weight 2 "Shorten {{ current }}" longer file("longer.jinja") }
mutations more {
in current: text
  odder   """
    Odder: {{ current }}
    """

  `wider`  weight 0.5
  "Wider {{ current }}"
}
task loops(level: Level = sample) {
  in topic: text
  out mood: text = sample "calm" weight 3|"wild"
  out some: text[] = sample 1 .. $most of lines( "nouns.txt" )
  out two: text[] = sample 2 of "x"|"y"
  out task: text = sample "Given what is left in the fridge, find a dish." | "Given a dish, find a recipe without the allergen." weight 2
  out last: text = repeat 2 times outer: text = topic { let inside: text[] = repeat $n times x: text = outer until "round = 2" { next ask "{{ x }}" }
  next sql "inside[-1]" }
  out instruction: text = repeat $max_rounds times current: text = "" until "current <> '' AND length(current) > 5" {
    next ask one of $ways as after("Prompt:")
  }
}
''',
    '''mutations ways extends e.deita {
  in current: text
  shorter weight 2 "Shorten {{ current }}"
  longer file("longer.jinja")
}

mutations more {
  in current: text
  odder """
    Odder: {{ current }}
  """

  `wider` weight 0.5 "Wider {{ current }}"
}

task loops(level: Level = sample) {
  in  topic: text
  out mood: text = sample "calm" weight 3 | "wild"
  out some: text[] = sample 1..$most of lines("nouns.txt")
  out two: text[] = sample 2 of "x" | "y"
  out task: text = sample
      "Given what is left in the fridge, find a dish."
    | "Given a dish, find a recipe without the allergen." weight 2
  out last: text = repeat 2 times outer: text = topic {
    let inside: text[] = repeat $n times x: text = outer until "round = 2" {
      next ask "{{ x }}"
    }
    next sql "inside[-1]"
  }
  out instruction: text = repeat $max_rounds times current: text = ""
      until "current <> '' AND length(current) > 5" {
    next ask one of $ways as after("Prompt:")
  }
}
''',
)

LAYOUTS["tables"] = (
    '''
table a = read("a.jsonl",key=id , types={day:text})|>where("x > 1")|>answer
|> e.refine( draft=a . answer )using large as b   # a comment
  |> select("""
      id,
      x AS y
    """)
     # |> limit(10)
  # no more
# The next one.
table b=rows(3) |> unnest(xs as x,ys as y) |> sql "FROM this" key id |> dedup( a.b )

  |> draw(3,from=gold) as shots
table c = files("*.jpg") |> evol.complexity(num_evolutions = 3, store_evolutions = true, include_original = true, generate_answers = true) using local
  |> text_retrieval(language = "German", query_type = "common", query_length = "5 to 15 words",
       difficulty = "PhD", clarity = "ambiguous", num_words = 200)
  |> f(
    a = 1, b = 2)
  |> g(a = 1,)
  |> h()
  |> where("a string that is longer than any line may be is left where it is, as to break the line in front of it helps nobody")
table d = a
''',
    '''table a = read("a.jsonl", key = id, types = {day: text})
  |> where("x > 1")
  |> answer
  |> e.refine(draft = a.answer) using large as b  # a comment
  |> select("""
    id,
    x AS y
  """)
  # |> limit(10)
  # no more

# The next one.
table b = rows(3)
  |> unnest(xs as x, ys as y)
  |> sql "FROM this" key id
  |> dedup(a.b)

  |> draw(3, from = gold) as shots

table c = files("*.jpg")
  |> evol.complexity(
    num_evolutions = 3, store_evolutions = true, include_original = true, generate_answers = true
  ) using local
  |> text_retrieval(
    language = "German", query_type = "common", query_length = "5 to 15 words",
    difficulty = "PhD", clarity = "ambiguous", num_words = 200
  )
  |> f(a = 1, b = 2)
  |> g(
    a = 1,
  )
  |> h()
  |> where("a string that is longer than any line may be is left where it is, as to break the line in front of it helps nobody")

table d = a
''',
)

LAYOUTS["tests"] = (
    '''
test "one" of answer { given x="a" y=[1,null]
  reply z = "r" reply w=[fail,"b"]
  expect z="r" }
test "two" of answer(deep=true) { expect fail }
test "three" of an_answer(with_a_long_parameter = "and a long value", another_parameter = 12345, deep = true) {
  given messages = [{role: "user", content: "Hi"}, {role: "assistant", content: "Hello! How can I help you?"}]
  expect user_query = "why do bees dance" positive_document = "Bees tell others where food is." negative = "Bees make honey."
  expect a = "x"
    b = """
  long
  """
  expect a = 1
     b = 2
}
''',
    '''test "one" of answer {
  given  x = "a"  y = [1, null]
  reply  z = "r"
  reply  w = [fail, "b"]
  expect z = "r"
}

test "two" of answer(deep = true) {
  expect fail
}

test "three" of an_answer(
  with_a_long_parameter = "and a long value", another_parameter = 12345, deep = true
) {
  given  messages = [
    {role: "user", content: "Hi"}, {role: "assistant", content: "Hello! How can I help you?"}
  ]
  expect user_query = "why do bees dance"
         positive_document = "Bees tell others where food is."
         negative = "Bees make honey."
  expect a = "x"
         b = """
           long
         """
  expect a = 1  b = 2
}
''',
)

LAYOUTS["comments"] = (
    """# At the top.

# Of the backend.
backend small { # its model
# before
model = "m" # the model
# at the end

# really
}
# After it.
task t( # parameters
  # first
  a: int, # second

  b: int # third
  # last
) {
  # nothing but this
}
task u # moved
{
  in x: text # short
  in a_longer_name: text # aligned with the one above
  out the_longest_of_all_names_in_this_spec: text = ask "{{ x }}, {{ a_longer_name }}" # beside it
  let # odd
    y: int = # places
    1
}
table a = t # the source

  # the first step
  |> u # a step
  |> f(x, # of x
    y
    # all
  ) as b
#tight

# At the end.""",
    """# At the top.

# Of the backend.
backend small {                           # its model
  # before
  model = "m"                             # the model
  # at the end

  # really
}

# After it.
task t(                                   # parameters
  # first
  a: int,                                 # second

  b: int                                  # third
  # last
) {
  # nothing but this
}

task u {                                  # moved
  in  x: text                             # short
  in  a_longer_name: text                 # aligned with the one above
  out the_longest_of_all_names_in_this_spec: text = ask "{{ x }}, {{ a_longer_name }}"  # beside it
  let                                     # odd
    y: int =                              # places
    1
}

table a = t                               # the source

  # the first step
  |> u                                    # a step
  |> f(
    x,                                    # of x
    y
    # all
  ) as b
#tight

# At the end.
""",
)

LAYOUTS["strings"] = (
    r'''
task strings {
  """
      A description.

        More of it.
      """
  out a: text = """{{ x }}"""
  out b: text = ask """
Not indented.
  Indented.
"""
  out c: text = sql """SELECT a
      FROM b
      """
  out d: text = ask """

    {% if x %}
    \d+ "quoted" # no comment
    {% endif %}"""
  out e: text[] = ["a \"b\" # no comment", """
  x
"""]
}
''',
    r'''task strings {
  """
  A description.

    More of it.
  """
  out a: text = """{{ x }}"""
  out b: text = ask """
    Not indented.
      Indented.
  """
  out c: text = sql """SELECT a
    FROM b
  """
  out d: text = ask """

    {% if x %}
    \d+ "quoted" # no comment
    {% endif %}"""
  out e: text[] = ["a \"b\" # no comment", """
    x
  """]
}
''',
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str) -> None:
    messy, layout = LAYOUTS[name]
    assert format_text(messy) == layout
    assert format_text(layout) == layout


def test_the_layouts_show_the_whole_grammar() -> None:
    shown = {rule for messy, _ in LAYOUTS.values() for rule in _rules(messy)}
    there = {
        str(rule.alias or rule.origin.name)
        for rule in _parser().rules
        if not rule.origin.name.startswith("_") and (rule.alias or not rule.options.expand1)
    }
    assert there - {"start"} <= shown


def _rules(text: str) -> Iterator[str]:
    work: list[Part] = [*read(text).declarations]
    while work:
        part = work.pop()
        if isinstance(part, Node):
            yield part.rule
            work += part.parts


# Where lines end


@pytest.mark.parametrize(
    ("width", "written_on_lines", "broken"),
    [(100, True, False), (101, True, True), (110, False, False), (111, False, True)],
)
def test_lines_are_joined_up_to_100_columns_and_broken_after_110(
    width: int, written_on_lines: bool, broken: bool
) -> None:
    line = "task calm = answer(first = 1, second = _)"
    line = line.replace("_", "x" * (width - len(line) + 1))
    written = line.replace("(", "(\n").replace(")", "\n)") if written_on_lines else line
    inside = line[len("task calm = answer(") : -1]
    lines = f"task calm = answer(\n  {inside}\n)"
    assert format_text(written) == (lines if broken else line) + "\n"


def test_rows_that_somebody_made_are_kept_where_the_list_does_not_fit_on_a_line() -> None:
    word = '"' + "x" * 30 + '"'
    rows = f"task a = b(\n  {word}, {word},\n  {word}\n)\n"
    assert format_text(rows) == rows
    assert format_text(rows.replace("x" * 30, "x")) == 'task a = b("x", "x", "x")\n'


def test_rows_that_are_too_long_become_an_item_a_line() -> None:
    word = '"' + "x" * 50 + '"'
    assert format_text(f"task a = b({word}, {word}, {word})") == (
        f"task a = b(\n  {word},\n  {word},\n  {word}\n)\n"
    )


def test_a_comma_at_the_end_of_a_list_keeps_it_broken() -> None:
    assert format_text("task a = b(1, 2,)") == "task a = b(\n  1,\n  2,\n)\n"


def test_a_string_that_is_too_long_is_left_where_it_is() -> None:
    text = f'table a = b\n  |> where("{"x" * 200}")\n'
    assert format_text(text) == text


def test_a_block_that_starts_on_its_line_stays_there() -> None:
    assert format_text('backend b{model="m"\n}') == 'backend b { model = "m" }\n'
    assert format_text('backend b{\nmodel="m"}') == 'backend b {\n  model = "m"\n}\n'


# The text as a file


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("", ""),
        (" \n\t\n\f\n", ""),
        ("# only this", "# only this\n"),
        ("\n\n  # a\n\n\n#b  \n\n", "# a\n\n#b\n"),
        ("\ufeffuse 'x'".replace("'", '"'), 'use "x"\n'),
        (
            'use "x"\r\n\r\n\r\nuse "y" # z\r\n',
            'use "x"\n\nuse "y"                                   # z\n',
        ),
        ('use "x"\n\n\n', 'use "x"\n'),
    ],
)
def test_the_start_and_the_end_of_a_file(text: str, layout: str) -> None:
    assert format_text(text) == layout


@pytest.mark.parametrize("text", ["table a = ", 'use "\\q"', "table a = b }", "🙂"])
def test_what_cannot_be_read_is_said_and_not_formatted(text: str) -> None:
    with pytest.raises(Unreadable) as unreadable:
        format_text(text, "a.synth")
    assert unreadable.value.problems == tuple(parse(text, "a.synth")[1])
    assert unreadable.value.problems


# Strings


@pytest.mark.parametrize(
    "literal",
    [
        '"""\n   a\n     b\n  """',
        '"""a\n    b\n  c"""',
        '"""  \n\n   \n\ta\n\t\tb\n   """',
        '"""\n  a  \n        \n  b"""',
        '"""\n\ta\n  b\n"""',
        '"""\n"""',
        '""" \n \n \n """',
        '"""\n\u00a0\n  a\n\u00a0  """',
        '"""\n  ""a"" #\n  """',
    ],
)
def test_long_strings_keep_their_text_at_every_indent(literal: str) -> None:
    text = f"task t {{\n{literal}\nout a: text = {literal}\nlet b: text[] = [1, {literal}]\n}}"
    assert same_tree(parse(text, "a")[0], parse(format_text(text), "a")[0])


# Nothing else changes


def checked(text: str) -> str:
    """The layout of a text, after a check of what it promises that does not rely on its own."""
    layout = format_text(text, "t")
    before, after = read(text), read(layout)
    assert list(before.comments()) == list(after.comments())
    assert _words(text) == _words(layout)
    assert same_tree(parse(text, "t")[0], parse(layout, "t")[0])
    assert format_text(layout) == layout
    outside = re.sub(r'"""("{0,2}[^"])*"""', '""', layout)
    assert not re.search(r"[ \t\r\f]\n|\n\n\n|\A\n|\n\n\Z|[^\n]\Z", outside)
    return layout


def _words(text: str) -> list[str]:
    every = [word.text for node in read(text).declarations for word in words(node)]
    return ['"""' if word.startswith('"""') else word for word in every if word]


@functools.cache
def specs() -> dict[str, str]:
    """The specs of this repository that can be read."""
    paths = [*ROOT.glob("specs/**/*.synth"), *ROOT.glob("tests/golden/**/*.synth")]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    return {name: text for name, text in sorted(texts.items()) if not parse(text, name)[1]}


def short_specs() -> list[str]:
    return [text for text in specs().values() if len(text) < 2500]


def test_every_spec_here_keeps_its_tree_and_its_comments() -> None:
    for name, text in specs().items():
        if name.startswith("specs/"):
            checked(text)
        else:
            format_text(text)  # which looks for itself; there are many of them


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_in_the_layout(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format_text(text) == text


def _gaps(text: str) -> Iterator[tuple[str, str]]:
    """What stands before each word, and the word; at the end what stands behind the last."""
    reading = _parser().parse_interactive(text)
    at = 0
    for token in reading.iter_parse():
        yield text[at : token.start_pos], str(token)
        at = token.end_pos or 0
    yield text[at:], ""


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
GAPS = ["\n", "\n\n\n    ", "  ", "\t ", "\r\n", " # {}\n", "\n# {}\n", "\n   #{}\n\n\n # {}\n \n"]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A spec with comments, line ends and spaces put between its words, some of them taken out."""
    gaps = list(_gaps(draw(st.sampled_from(short_specs()))))
    count = draw(st.integers(1, 25))
    for number in range(count):
        at = draw(st.integers(0, len(gaps) - 1))
        gap, word = gaps[at]
        new = draw(st.sampled_from(GAPS)).replace("{}", f"comment {number}")
        joined = gap.isspace() and draw(st.booleans())
        gaps[at] = (" " if joined else gap + new, word)
    return "".join(gap + word for gap, word in gaps)


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(mutated())
def test_comments_and_line_ends_may_stand_anywhere(text: str) -> None:
    assume(not parse(text, "t")[1])
    checked(text)


@st.composite
def respaced(draw: st.DrawFn) -> tuple[str, str]:
    """A spec, and the same with other spaces within its lines."""
    text = draw(st.sampled_from(short_specs()))
    spaces = st.sampled_from(["", " ", "  ", "     ", "\t"])
    parts: list[str] = []
    for gap, word in _gaps(text):
        new = gap
        if "#" not in gap and gap:  # where a comment starts its line says what it belongs to
            lines = [draw(spaces) for _ in gap.split("\n")]
            new = "\n".join(lines) if len(lines) > 1 else lines[0] or " "
        parts += [new, word]
    return text, "".join(parts)


@settings(max_examples=50, deadline=None, suppress_health_check=SLOW)
@given(respaced())
def test_spaces_within_lines_mean_nothing(texts: tuple[str, str]) -> None:
    assert format_text(texts[0]) == format_text(texts[1])


# Specs that follow the grammar and nothing else

TEXTS = {
    "NAME": ["a", "name", "a_name_that_is_longer_than_others"],
    "QUOTED_NAME": ["`in`", "`a name`"],
    "DOLLAR_NAME": ["$p"],
    "NUMBER": ["1", "-2.50", "1e6"],
    "STRING": ['""', '"a \\" # b"', '"' + "words " * 9 + '"'],
    "LONG_STRING": ['"""x"""', '"""\n  a\n    b\n  """', '""" \n\n\tc # d\n   e"""', '"""a\n b"""'],
    "REGEX": [r"/a#\/(b)/i"],
}


@functools.cache
def _grammar() -> tuple[dict[str, list[list[Symbol]]], dict[str, int], dict[str, str]]:
    """The expansions of each rule, how deep each must go, and the text of each keyword."""
    rules: dict[str, list[list[Symbol]]] = defaultdict(list)
    for rule in _parser().rules:
        rules[rule.origin.name].append(list(rule.expansion))
    depths: dict[str, int] = {}
    for _ in range(len(rules)):
        for name, expansions in rules.items():
            depths[name] = 1 + min(_depth(symbols, depths) for symbols in expansions)
    texts = {terminal.name: str(terminal.pattern.value) for terminal in _parser().terminals}
    return rules, depths, texts


def _depth(symbols: list[Symbol], depths: dict[str, int]) -> int:
    inner = [depths.get(s.name, 1000) for s in symbols if isinstance(s, NonTerminal)]
    return max(inner, default=0)


@st.composite
def generated(draw: st.DrawFn) -> str:
    rules, depths, texts = _grammar()
    parts: list[str] = []

    def grow(name: str, depth: int) -> None:
        shallow = [e for e in rules[name] if _depth(e, depths) < max(depth, depths[name])]
        for symbol in draw(st.sampled_from(shallow)):
            if isinstance(symbol, NonTerminal):
                grow(symbol.name, depth - 1)
            else:
                parts.append(draw(st.sampled_from(TEXTS.get(symbol.name) or [texts[symbol.name]])))

    for _ in range(draw(st.integers(1, 3))):
        grow("declaration", draw(st.integers(6, 14)))
    ends = st.sampled_from([" ", " ", " ", " ", "\n", "\n\n", " # c\n", "\n  # c\n"])
    return "".join(part + draw(ends) for part in parts)


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(generated())
def test_whatever_the_grammar_allows_has_a_layout(text: str) -> None:
    assume(not parse(text, "t")[1])
    checked(text)


# What holds if the formatter is wrong


def test_another_tree_is_never_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> Doc:
        return ()

    monkeypatch.setattr(formatting, "layout", wrong)
    with pytest.raises(Unfaithful, match=r"a\.synth: the layout would have another tree"):
        format_text("table a = b", "a.synth")
    with pytest.raises(Unfaithful, match=r"a\.synth: the layout would have other comments"):
        format_text("# a", "a.synth")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("table a = b", "table a = c"),
        ("table a = b(1)", "table a = b(true)"),
        ("table a = b(1)", "table a = b(1.0)"),
        ("table a = b()", "table a = b"),
        ('table a = b("x")', 'table a = b("y")'),
        ("table a = b(x)", "table a = b(`x` as y)"),
    ],
)
def test_trees_that_differ(one: str, other: str) -> None:
    assert not same_tree(parse(one, "a")[0], parse(other, "a")[0])


def test_trees_that_do_not_differ_but_for_places() -> None:
    one = 'task a { out b: text = """\n  c\n    d\n  """ }'
    other = 'task a {\n out `b` : text="c\\n  d" # e\n}'
    assert same_tree(parse(one, "a")[0], parse(other, "a")[0])
