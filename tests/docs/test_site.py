"""What the site is made with: the page of the commands, the contents, the colours of `.synth`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pygments.token import Error, Keyword, Name, String, Token

from docs.commands import page
from docs.lexer import SqlLexer, SynthLexer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SPECS = [*sorted((ROOT / "specs").rglob("*.synth")), *sorted(DOCS.glob("*.md")), ROOT / "README.md"]


def tokens(text: str) -> list[tuple[object, str]]:
    return list(SynthLexer().get_tokens(text))


def test_the_page_of_commands_is_the_one_that_is_made() -> None:
    there = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert there == page(), "make it anew: python docs/commands.py > docs/commands.md"


def test_the_first_page_leads_to_all_others() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    contents = "\n".join(
        re.findall(r"^:::\{toctree\}\n(.*?)^:::$", index, re.DOTALL | re.MULTILINE)
    )
    listed = sorted(line for line in contents.splitlines() if line and not line.startswith(":"))
    assert listed == sorted({path.stem for path in DOCS.glob("*.md")} - {"index"})


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_every_word_of_a_spec_has_its_colour(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```synth\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for spec in [text] if path.suffix == ".synth" else fenced:
        found = tokens(spec)
        assert "".join(word for _, word in found).strip() == spec.strip()
        assert [word for kind, word in found if kind is Error] == []


def test_sql_and_jinja_are_seen_in_strings() -> None:
    found = tokens(
        'table t = s |> where("a NOT IN (\'b\')") |> f using m\ntask f { out x: text = "{{ a }}!" }'
    )
    assert (Keyword.Declaration, "table") in found
    assert (Keyword, "NOT") in found
    assert (String.Single, "'b'") in found
    assert (Name.Function, "f") in found
    assert (Keyword.Type, "text") in found
    assert (String.Interpol, "{{ a }}") in found
    assert (String, "!") in found


def test_sql_by_itself_has_the_same_colours() -> None:
    found = list(SqlLexer().get_tokens('SELECT "column", r.rows FROM synth.rows AS r'))
    assert [word for kind, word in found if kind is Keyword] == ["SELECT", "FROM", "AS"]
    assert (Name, '"column"') in found


def test_what_cannot_stand_in_a_spec_is_an_error() -> None:
    assert (Token.Error, "~") in tokens("table t ~ rows(3)")
