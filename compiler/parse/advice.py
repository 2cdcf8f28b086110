"""What to do where a spec cannot be read: most stumbles are habits of other languages."""

from __future__ import annotations

from synthc.compiler.diagnostics.problem import listed, nearest
from synthc.compiler.parse.place import CLOSING, Place
from synthc.compiler.parse.words import DECLARATIONS, FORMS, PRODUCERS, RESERVED

TEMPLATES = "templates stand inside strings; a parameter of the spec is written `$name`"
_COMMENT = "a comment starts with `#`"
_TASK = "a task is written `task name { … }`"
_PARAMETER = "a parameter is written `param name: type = value`"
_MODEL = "a model is declared with `backend name { … }`"
_USE = 'declarations of other files come with `use "file"`'

_SIGNS = {
    "/": _COMMENT,
    "//": _COMMENT,
    "/*": _COMMENT,
    "--": _COMMENT,
    ";": "no `;` is needed: a declaration ends where the next one starts",
    "==": "one `=` is enough",
}
_AT_TOP = {
    "def": _TASK,
    "class": _TASK,
    "const": _PARAMETER,
    "var": _PARAMETER,
    "variable": _PARAMETER,
    "provider": _MODEL,
    "model": _MODEL,
    "resource": _MODEL,
    "import": _USE,
    "include": _USE,
    "tags": 'tags stand in a task, after its description: `task name { tags "a", "b" … }`',
    **{
        word: f'SQL stands in quotes, as a table: `table name = sql "{start} …"`'
        for word, start in (
            ("create", "SELECT"),
            ("with", "WITH"),
            ("select", "SELECT"),
            ("from", "FROM"),
        )
    },
}
"""Words where declarations start."""

_MEANT = {
    **dict.fromkeys(("input", "inputs"), ("in",)),
    **dict.fromkeys(("output", "outputs", "return", "yield"), ("out", "next")),
    "if": ("when",),
    "for": ("per", "each"),
    "foreach": ("each",),
    "filter": ("where",),
    "inherits": ("extends",),
    "while": ("until",),
    **dict.fromkeys(("with", "model", "via", "backend"), ("using",)),
}
"""Words of other languages, and ours for them."""

_IN_A_LOOP = "in a loop stand `let`s, and at its end `next …`: the value for the next round"
_AFTER_ASK = (
    "after a prompt may stand `system`, `using`, `as`, `where`, `each … in`, `n` and `when`"
)


_GUARD = 'a guard says `p`, `not p`, `p == "value"` or `p != "value"`'
_CHOICE = 'a choice is of values: `"low" | "high"`'
_DRAW = 'a draw is written `sample "a" weight 3 | "b"`, several `sample 1..3 of "a" | "b"`'
_EXPECT = 'an expectation is written `expect name: sql "SELECT …"`'
_SET = 'a prompt of a set has a name and a text: `shorter "…"`'


def advice(place: Place, expected: tuple[str, ...]) -> str | None:
    """What to do about what stands at the place."""
    for look in (
        _of_a_string,
        _of_a_declaration,
        _of_a_loop,
        _of_a_guard,
        _of_a_draw,
        _of_a_sign,
        _of_what_is_missing,
        _of_a_word,
    ):
        if found := look(place, expected):
            return found
    starts = place.declares and (place.on_new_line or not place.before)
    return f"declarations start with {listed(DECLARATIONS)}" if starts else None


def _of_a_string(place: Place, expected: tuple[str, ...]) -> str | None:
    found, last = place.found, place.last()
    if found.startswith("'") and len(found) > 1:
        quoted = found.strip("'").replace('"', '\\"')
        return f'text stands in double quotes: `"{quoted}"`' if len(found) < 60 else None
    if not found.startswith('"'):
        return None
    if last in ("f", "r"):
        return 'no letter stands before a string: templates print with `"{{ name }}"`'
    word = found.strip('"')
    if "a name" in expected and word.isidentifier() and (last in DECLARATIONS or last in RESERVED):
        return f"names stand without quotes: `{last} {word}`"
    return None


def _of_a_declaration(place: Place, expected: tuple[str, ...]) -> str | None:
    found, last, kind = place.found, place.last(), place.kind
    if kind == "expect" and expected != ("a string",):
        return _EXPECT
    if kind == "use" and expected == ("a string",):
        return 'what is used stands in quotes: `use "std/evol"`'
    if kind == "type" and found in ("|", ",", "{"):
        return _CHOICE
    if kind == "type" and expected == ("`=`",):
        return f"a type is written `type {last} = …`"
    if kind == "mutations" and found in (":", "=") and expected == ("a template",):
        rest = place.text[place.at + 1 :].lstrip()
        return _SET if rest.startswith('"') else f"a column starts with `in`: `in {last}: text`"
    if kind == "mutations" and found.startswith('"'):
        return _SET
    if kind == "task" and found == "(" and place.last(2) == "extends":
        return "what is given for good is the default of a parameter: `task name(p: int = 3) extends …`"
    return None


def _of_a_loop(place: Place, expected: tuple[str, ...]) -> str | None:
    if (
        expected == ("a value",)
        and place.found in PRODUCERS
        and "times" in [sign.text for sign in place.before[-7:]]
    ):
        return "what a loop starts with is made in a `let` before it"
    if "NEXT" in place.accepted and "NAME" not in place.accepted:
        return _IN_A_LOOP
    if expected == ("`}`",) and place.found in ("let", "next"):
        return "`next` is said once, and last: what it needs stands above it"
    return None


def _of_a_guard(place: Place, _expected: tuple[str, ...]) -> str | None:
    found = place.found
    near = [sign.text for sign in place.before[-4:]]
    if "when" not in near or (place.on_new_line and place.last() != "when"):
        return "a guard stands last: `out … when p`" if found == "when" and place.opened else None
    if found == "=":
        return f'a guard compares with `==`: `when {place.last()} == "…"`'
    if found in ("or", "||", "|"):
        return "a guard joins with `and` only: write one `out` for each case"
    if found in ("&", "&&"):
        return "a guard joins with `and`"
    if found in ("true", "false") and place.last() in ("=", "=="):
        return "a truth is not compared: `when p`, `when not p`"
    if found.startswith("$"):
        return f"a guard names a parameter without the `$`: `when {found[1:]}`"
    if place.last() == "=" and found.isidentifier():
        return f'text stands in quotes: `"{found}"`'
    return None if found in RESERVED or found in CLOSING.values() else _GUARD


def _of_a_draw(place: Place, expected: tuple[str, ...]) -> str | None:
    line = place.text[: place.at].rsplit("\n", 1)[-1]
    words = line.rpartition("=")[2].split()
    if words[:1] != ["sample"] or "a value" in expected or place.found in CLOSING.values():
        return None
    return _DRAW if place.found not in RESERVED else None


_NO_SIGN = ("system", "using", "as", "where", "n", "key", "until")
"""Words that are followed by what they mean, without a sign."""


def _of_a_sign(place: Place, expected: tuple[str, ...]) -> str | None:
    found, last = place.found, place.last()
    if found.startswith("/") and "REGEX" in place.accepted:
        return r"a pattern ends with `/` on the same line; a `/` inside is written `\/`"
    if found in ("=", ":") and last in _NO_SIGN and "`=`" not in expected and place.opened:
        return f"no `{found}` is needed: `{last} …`"
    if found in _SIGNS and (found != "==" or "`=`" in expected):
        return _SIGNS[found]
    if found in ("|", "."):
        return _of_a_bar(place)
    if found == "(" and last in (*PRODUCERS, "where"):
        return f'no brackets are needed: `{last} "…"`'
    if found == "{" and place.text[place.at : place.at + 2] in ("{{", "{%"):
        return TEMPLATES
    if found == "-" and place.opened:
        return "lists of YAML are not known here: a setting is written `name = value`"
    if found in CLOSING.values() and found not in [CLOSING[s.text] for s in place.opened]:
        return f"nothing is open that this `{found}` could close"
    if found == "," and "COMMA" not in place.accepted:
        return "no comma is needed here"
    return None


def _of_a_bar(place: Place) -> str | None:
    """A `|` that draws, that is of a choice, or that was meant as `|>`."""
    if not place.opened:
        return "a step starts with `|>`"
    if place.found == ".":
        return None
    literal = place.last()[:1] in ('"', "-") or place.last()[:1].isdigit()
    return 'one of several values is drawn with `sample "a" | "b"`' if literal else _CHOICE


def _of_what_is_missing(place: Place, expected: tuple[str, ...]) -> str | None:
    found, last = place.found, place.last()
    if last.lower() in ("select", "from", "with", "create") and place.last(2) in ("=", ""):
        return _AT_TOP[last.lower()]
    if "`,`" in expected and place.callee in FORMS:
        return f"write `{FORMS[place.callee]}`"
    if "`,`" in expected and last.startswith('"') and place.on_new_line:
        return _FIRST
    if "`,`" in expected and place.opened:
        return f"a `,` is missing before `{found}`"
    if found == ":" and "`=`" in expected and place.opened and place.opened[-1].text == "(":
        return f"a value is given with `=`: `{last} = …`"
    if found in (":", "=") and expected and expected[0] == "`=`":
        return "a setting is written `name = value`"
    if found == ":" and expected == ("`=`", "`{`"):
        return "a setting is written `name = value`"
    if expected == ("`:`",):
        return f"every column and parameter has a type: `{last}: text`"
    if expected == ("a string",) and last in ("where", "until", "sql"):
        return f'SQL stands in quotes: `{last} "…"`'
    if expected == ("a template",) and last == "ask" and place.on_new_line:
        return 'a prompt is written `ask "…"`'
    if expected == ("`=`",) and "out" in (place.last(4), place.last(5), place.last(6)):
        return 'say what makes the column: `= ask "…"`, `= sql "…"` or another column'
    if found in ("as", "using") and "`key`" in expected:
        return f"SQL names its columns itself, and asks nobody: leave `{found}` out"
    return None


_FIRST = "a description stands first in a task, tags after it, then its columns"


def _of_a_word(place: Place, expected: tuple[str, ...]) -> str | None:
    found, words = place.found, set(place.words)
    if meant := [word for word in _MEANT.get(found, ()) if word in words]:
        return f"did you mean `{meant[0]}`?"
    if place.declares and found.lower() in _AT_TOP:
        return _AT_TOP[found.lower()]
    if found == "per":
        return "`per` follows the brackets of a contract: `as lines(/…/) per questions`"
    if found == "of" and place.last(2) == "ask":
        return "a prompt of a set is drawn with `ask one of name`"
    if {"in", "let", "out"} <= words and (found == "tags" or found.startswith('"')):
        return _FIRST if "system" not in words else _AFTER_ASK
    if found.isidentifier() and found not in RESERVED and (near := nearest(found, words)):
        return f"did you mean `{near}`?"
    if {"system", "using", "as"} <= words:
        return _AFTER_ASK
    if {"in", "let", "out"} <= words:
        return "a column of a task starts with `in`, `let` or `out`"
    if "`|>`" in expected and found.isidentifier() and place.on_new_line:
        return "a step starts with `|>`"
    return None
