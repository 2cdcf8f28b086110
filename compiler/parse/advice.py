"""What to do where a spec cannot be read: most stumbles are habits of other languages."""

from __future__ import annotations

import re
import unicodedata

from synthc.compiler.diagnostics.problem import listed, nearest
from synthc.compiler.parse.place import CLOSING, Place
from synthc.compiler.parse.words import DECLARATIONS, FORMS, PRODUCERS, RESERVED

TEMPLATES = "templates stand inside strings; a parameter of the spec is written `$name`"
_COMMENT = "a comment starts with `#`"
_TASK = "a task is written `task name { … }`"
_PARAMETER = "a parameter is written `param name: type = value`"
_MODEL = "a model is declared with `backend name { … }`"
_TYPE = "a type is written `type Name = {title: text, pages: int}`"
_TABLE = "a table is written `table name = source |> step`"
_EXPORT = 'an export is written `export table to "file.parquet"`'
_USE = 'declarations of other files come with `use "file"`'
_STEP = "a step starts with `|>`"

_SIGNS = {
    "/": _COMMENT,
    "//": _COMMENT,
    "/*": _COMMENT,
    "--": _COMMENT,
    ";": "no `;` is needed: a declaration ends where the next one starts",
    "==": "one `=` is enough",
    **dict.fromkeys((":=", "=>", "<-", "+="), "one `=` is enough"),
    **dict.fromkeys(
        ("<" * 7, "=" * 7, ">" * 7), "this is a mark of a merge: choose one side of it"
    ),
    "<<": 'text over several lines stands in `"""`',
}
_AT_TOP = {
    **dict.fromkeys(("def", "function", "fn", "prompt", "step"), _TASK),
    **dict.fromkeys(("class", "interface", "struct", "enum", "schema", "record"), _TYPE),
    **dict.fromkeys(("const", "var", "variable", "let", "set", "locals"), _PARAMETER),
    **dict.fromkeys(("provider", "model", "llm"), _MODEL),
    **dict.fromkeys(("import", "include"), _USE),
    **dict.fromkeys(("pipeline", "dataset", "source", "data", "resource"), _TABLE),
    **dict.fromkeys(("save", "write", "output"), _EXPORT),
    "assert": 'an expectation is written `expect name: sql "SELECT …"`',
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
    **dict.fromkeys(("input", "inputs"), ("in", "given")),
    **dict.fromkeys(("output", "outputs", "return", "yield"), ("out", "next")),
    "if": ("when",),
    "for": ("per", "each"),
    "foreach": ("each",),
    "filter": ("where",),
    "inherits": ("extends",),
    **dict.fromkeys(("var", "const", "local", "set"), ("let",)),
    "while": ("until",),
    **dict.fromkeys(("with", "model", "via", "backend"), ("using",)),
}
"""Words of other languages, and ours for them."""

_SETTINGS = ("temperature", "max_tokens", "top_p", "stop", "seed", "timeout", "timeout_s")
_RETRIES = ("retry", "retries", "max_retries", "attempts", "reasks")
_SIZED = {
    **dict.fromkeys(("varchar", "char", "string", "text"), "text"),
    **dict.fromkeys(("decimal", "numeric", "float"), "float"),
    "int": "int",
}
_LISTS = ("list", "array", "sequence", "set", "repeated")

_IN_A_LOOP = "in a loop stand `let`s, and at its end `next …`: the value for the next round"
_LOOP = "a loop is written `repeat 3 times x: text = start { … next … }`"
_AFTER_ASK = (
    "after a prompt may stand `system`, `using`, `as`, `where`, `each … in`, `n` and `when`"
)


_GUARD = 'a guard says `p`, `not p`, `p == "value"` or `p != "value"`'
_CHOICE = 'a choice is of values: `"low" | "high"`'
_DRAW = 'a draw is written `sample "a" weight 3 | "b"`, several `sample 1..3 of "a" | "b"`'
_EXPECT = 'an expectation is written `expect name: sql "SELECT …"`'
_SET = 'a prompt of a set has a name and a text: `shorter "…"`'
_LIST = "a list is written `text[]`"
_TEST = 'a test is written `test "its title" of task { given … reply … expect … }`'
_COLUMN = "a column of a task starts with `in`, `let` or `out`"


def advice(place: Place, expected: tuple[str, ...]) -> str | None:
    """What to do about what stands at the place."""
    for look in (
        _of_signs_together,
        _of_a_string,
        _of_a_type,
        _of_a_column,
        _of_an_ask,
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


def _line(place: Place) -> list[str]:
    """The words of the line before the place."""
    return place.text[: place.at].rsplit("\n", 1)[-1].split()


def _rest(place: Place) -> str:
    """What stands on the line from the place on."""
    return place.text[place.at :].split("\n", 1)[0]


def _around(signs: str, place: Place) -> str:
    """The run of such signs around the place."""
    before = re.search(f"{signs}*$", place.text[: place.at])
    after = re.match(f"{signs}*", place.text[place.at :])
    return (before[0] if before else "") + (after[0] if after else "")


def _of_signs_together(place: Place, _expected: tuple[str, ...]) -> str | None:
    """What was meant as one word, and is written with signs that end a name or a number."""
    found, last, rest = place.found, place.last(), _rest(place)
    touched = place.text[place.at - 1 : place.at] if place.at else ""
    in_block = place.kind in ("backend", "embedder")
    if held := re.match(r"\$\{(\w+)\}", rest):
        return f"write `{_environment(held[1]) if in_block else '$' + held[1]}`"
    if found == "[" and in_block and last in ("environ", "env"):
        name = re.match(r"\[\s*[\"']?(\w*)", rest)
        return f"the environment is read with `{_environment(name[1] if name else '')}`"
    if found[:1] in ("-", "/", ":", ".") and re.fullmatch(r"\w", touched):
        valued = place.last(2) == "="
        if valued and in_block and not touched.isdigit():
            whole = _around(r"[^\s,()]", place)
            return f'text stands in quotes: `"{whole}"`'
        if re.match(r"-\w", rest) and not valued and not touched.isdigit():
            name = _around(r"[\w-]", place).replace("-", "_")
            return f"no `-` stands in a name: `{name}`"
    if found and not found[0].isprintable() and not found[0].isascii():
        return "a blank of another kind stands here: write a plain one"
    return None


def _environment(name: str) -> str:
    return f'env("{name or "NAME"}")'


def _of_a_string(place: Place, expected: tuple[str, ...]) -> str | None:
    found, last = place.found, place.last()
    if unicodedata.category(found[:1] or "a") in ("Pi", "Pf") or found[:1] == "„":
        return 'text stands in straight double quotes: `"…"`'
    if found.startswith("''"):
        return 'text over several lines stands in `"""`'
    if found.startswith("'") and len(found) > 1:
        quoted = found.strip("'").replace('"', '\\"')
        return f'text stands in double quotes: `"{quoted}"`' if len(found) < 60 else None
    if found.isidentifier() and last.startswith('"') and place.before[-1].end == place.at:
        if place.callee in ("where", "select") or place.last(2) in ("sql", "where", "until"):
            return f"text within SQL stands in single quotes: `'{found}'`"
        return r'a `"` inside of text is written `\"`, or the text stands in `"""`'
    if not found.startswith('"'):
        return None
    if last in ("f", "r", "b") and place.before[-1].end == place.at:
        if place.last(3) in ("regex", "lines"):
            return f"a pattern stands between slashes: `{place.last(3)}(/…/)`"
        return 'no letter stands before a string: templates print with `"{{ name }}"`'
    word = found.strip('"')
    if "a name" in expected and word.isidentifier() and (last in DECLARATIONS or last in RESERVED):
        return f"names stand without quotes: `{last} {word}`"
    if "a name" in expected and re.match(r"\s*[=:]", place.text[place.at + len(found) :]):
        if word.isidentifier():
            return f"names stand without quotes: `{word}`"
        return f"a name of such signs stands in backquotes: `` `{word}` ``"
    if place.kind == "table" and last == "=":
        sql = re.match(r"(?i)\s*(select|from|with)\b", word)
        if re.search(r"\.\w{1,7}$", word):
            return f'a file is read with `read("{word}")`'
        return 'SQL is written `sql "…"`' if sql else f"a table stands without quotes: `{word}`"
    if last == "using":
        return "`using` is followed by the name of a backend: `using small`"
    if expected == ("`=`", "`{`") and place.opened:
        return f"a setting is written `{last} = …`"
    return None


def _of_a_type(place: Place, expected: tuple[str, ...]) -> str | None:
    """Types as other languages write them."""
    found, last, rest = place.found, place.last(), _rest(place)
    word = (place.last(2) if last == "[" else last).lower()
    typed = ":" in [sign.text for sign in place.before[-4:]] or place.kind == "type"
    if expected == ("a type",):
        if found == "[":
            return _CHOICE if re.match(r"\[\s*[\"']", rest) else _LIST
        return "the `?` follows the type: `text?`" if found == "?" else None
    if expected == ("`:`",) and found == "?":
        return f"the `?` follows the type: `{last}: text?`"
    if not typed:
        return None
    if found == "{" and place.kind == "type":
        return f"a type is written `type {last} = {{ … }}`"
    if found in ("<", "(", "[") or last == "[":
        if word in _LISTS:
            return _LIST
        if word in ("literal", "enum", "choice", "union"):
            return _CHOICE
        if word in ("optional", "maybe", "nullable"):
            return "what may be null is written `text?`"
        if found == "(" and word in _SIZED:
            return f"a type has no size: `{_SIZED[word]}`"
        return None
    if found.startswith("..") or (found == "." and rest.startswith("..")):
        return "a choice names each of its values: `1 | 2 | 3`; any whole number is an `int`"
    near = [sign.text.lower() for sign in place.before[-6:]]
    if found == "," and "[" in near and {"literal", "enum", "choice", "union"} & {*near}:
        return _CHOICE
    if found in ("|", "or", "not", "null"):
        if found == "|" and re.match(r"\|{1,2}\s*(null|none|undefined)\b", rest, re.IGNORECASE):
            return f"what may be null is written `{last}?`"
        if re.match(r"(not\s+)?null\b", rest, re.IGNORECASE):
            return "a column holds no null, unless its type ends with `?`"
    if found in ("|", "or", ",") and (last.startswith('"') or found != ",") and "=" not in expected:
        if place.kind == "type" and last.isidentifier() and found == "|":
            return f'text stands in quotes: `"{last}" | …`'
        if place.kind == "type" or expected == ("`=`",):
            return _CHOICE
    if found == ";" and place.opened and place.opened[-1].text == "{" and "`,`" in expected:
        return "the parts of a record are separated by `,`"
    return None


_TYPES = ("text", "int", "float", "bool", "json", "chat", "string", "str", "number")


def _of_a_column(place: Place, expected: tuple[str, ...]) -> str | None:
    """The lines of a task."""
    found, last, rest, line = place.found, place.last(), _rest(place), _line(place)
    if place.kind != "task" or not place.opened:
        return None
    starts = line[0] if line else ""
    if place.opened[-1].text == "(" and found == ":" and "`=`" in expected and last in _TYPES:
        return "a default follows a `=`"
    if found == ":=" and expected == ("`=`",):
        return "one `=` is enough"
    if found == ":" and expected == ("`=`",):
        return None
    if expected == ("`:`",) and found == ",":
        word = "" if place.opened[-1].text == "(" else f"{starts} "
        return f"each column has a type of its own: `{word}{last}: text`"
    if found in (",", ";") and expected == ("`=`",) and starts in ("out", "let"):
        return f"several columns of one answer stand in brackets: `{starts} (a: text, b: text) = ask …`"
    if expected == ("`:`",) and found == "=" and (value := _type_of(rest[1:])):
        return f"every column and parameter has a type: `{last}: {value}`"
    if expected == ("`:`",) and found.isidentifier():
        turned = last in _TYPES and found not in _TYPES
        name, type_ = (found, last) if turned else (last, found if found in _TYPES else "text")
        return f"every column and parameter has a type: `{name}: {type_}`"
    if found == "=" and starts == "in" and place.opened[-1].text == "{":
        return f"what has a default is a parameter: `task name({' '.join(line[1:])} = …) {{ … }}`"
    if found == "{" and last in ("out", "let"):
        return (
            f"several columns of one answer stand in brackets: `{last} (a: text, b: text) = ask …`"
        )
    if found == "?" and last == ")" and expected == ("`=`",):
        return "each column has a `?` of its own: `(a: text?, b: text?)`"
    if found == "for" and not line:
        return _LOOP
    if found in ("prompt", "template", "instruction", "user_prompt") and not line:
        return 'a prompt stands where its column is made: `out answer: text = ask "…"`'
    if found in ("system", "system_prompt") and not line:
        return 'a system message follows its prompt: `ask "…" system "…"`'
    if "`out`" in expected and not line and re.match(r"\w+\s*=[^=]", rest):
        return f"{_COLUMN}, and has a type: `let {found}: text = …`"
    if found in _OPERATORS and ("=" in line[-3:] or "sample" not in line) and "ask" not in line:
        value = re.search(r"=\s*([^=]*)$", " ".join(line))
        if "`out`" in expected and value and '"' not in value[1]:
            if "?" in rest:
                return 'an expression is SQL: `= sql "CASE WHEN … THEN … ELSE … END"`'
            whole = f"{value[1]} {rest}".strip()
            return f'an expression is SQL: `= sql "{whole}"`' if '"' not in whole else _SQL
    return None


_SQL = 'an expression is SQL: `= sql "…"`'
_OPERATORS = (">", "<", "+", "*", "/", "%", "?", "&", "!", ">=", "<=", "==", "||", "-")
_OPERATORS += ("and", "or", "is", "not", "[")


def _type_of(value: str) -> str | None:
    """The type that a value suggests."""
    value = value.strip()
    if value.startswith(("[", '"')):
        return "text[]" if value.startswith("[") else "text"
    if number := re.match(r"-?\d+(\.\d+)?", value):
        return "float" if number[1] else "int"
    return "bool" if re.match(r"(?i)(true|false)\b", value) else None


def _of_an_ask(place: Place, expected: tuple[str, ...]) -> str | None:
    """What stands around a prompt."""
    found, last, rest, line = place.found, place.last(), _rest(place), _line(place)
    if found[:1] == "[" and last == "ask":
        return 'a system message is written `ask "…" system "…"`; a column of type `chat` is asked as it is'
    if found.startswith('"') and last == "system" and place.last(2) == "ask":
        return 'the prompt stands first: `ask "…" system "…"`'
    if expected == ("a string",) and place.callee == "file":
        return 'a path stands in quotes: `file("…")`'
    if expected == ("`in`",) and place.last(2) == "each":
        return f"an element is named `each {last} in …`"
    if re.match(r"(ask|sample|sql|repeat)\b", rest) and last.isidentifier():
        word = re.match(r"\w+", rest)
        if place.last(2) == "=" and word:
            return f"leave `{last}` out: `= {word[0]} …`"
    if "ask" not in line or not line or found not in _AFTER_A_PROMPT:
        return None
    name = re.match(r",\s*(\w+)\s*=", rest)
    word = name[1] if name else found
    if word in _SETTINGS:
        return f"`{word}` is a setting of the backend"
    if found in _RETRIES:
        return "how often it is tried is a setting of the backend: `attempts`, `reasks`"
    if found == "for" and (names := re.match(r"for (\w+) in (\w+)", rest)):
        return f"write `each {names[1]} in {names[2]}`"
    if found == "if":
        return 'a parameter decides by `when p`, SQL over the row by `where "…"`'
    if found == "." and last == ")":
        return 'a prompt of a file is written `ask file("…")`'
    if found == "|":
        return "filters stand in the template: `{{ name | trim }}`"
    if last.startswith('"') and found in ("+", "%", "."):
        return 'a template prints values itself: `"… {{ name }} …"`'
    return None


_AFTER_A_PROMPT = (*_SETTINGS, *_RETRIES, "for", "if", ".", "|", "+", "%", ",")


def _of_a_declaration(place: Place, expected: tuple[str, ...]) -> str | None:
    found, last, kind, rest = place.found, place.last(), place.kind, _rest(place)
    head = not place.opened
    if kind == "expect" and expected != ("a string",):
        return _EXPECT
    if kind == last and kind in DECLARATIONS and expected == ("a name",):
        if found in (":", "{"):
            return f"`{kind}` is followed by a name: `{kind} name …`"
        if found.startswith("$"):
            return f"no `$` stands where it is declared: `{kind} {found[1:]}`"
    if kind == "export":
        return _EXPORT
    if kind == "test" and (head or (found.isidentifier() and "`}`" in expected)):
        meant = nearest(found, place.words) or _MEANT.get(found)
        return _TEST if head or not meant else None
    if kind == "use" and expected == ("a string",):
        return 'what is used stands in quotes: `use "std/evol"`'
    if kind == "use" and found in ("(", "{"):
        return "all of a file comes, with its name before it: `evol.instruct`"
    if kind == "type" and found in ("|", ",", "{"):
        return _CHOICE
    if kind == "type" and expected == ("`=`",):
        return f"a type is written `type {last} = …`"
    if kind == "param" and head and found == ",":
        return "each parameter of a spec has a `param` of its own"
    if kind == "param" and last in _TYPES and found.isidentifier() and expected == ("`:`",):
        return f"the type follows the name: `param {found}: {last}`"
    if kind == "param" and found == "=" and expected == ("`:`",):
        type_ = _type_of(rest[1:]) or "text"
        return f"every column and parameter has a type: `{last}: {type_}`"
    if kind == "mutations" and found in (":", "=") and expected == ("a template",):
        text = place.text[place.at + 1 :].lstrip()
        return _SET if text.startswith('"') else f"a column starts with `in`: `in {last}: text`"
    if kind == "mutations" and found.startswith('"'):
        return _SET
    if kind == "task" and found == "(" and place.last(2) == "extends":
        return "what is given for good is the default of a parameter: `task name(p: int = 3) extends …`"
    return _of_a_head(place, expected) if head else None


def _of_a_head(place: Place, expected: tuple[str, ...]) -> str | None:
    """What stands before the block of a declaration, or before the source of a table."""
    found, last, kind, rest = place.found, place.last(), place.kind, _rest(place)
    if rest.startswith(":="):
        return "`=` is enough, without a `:`"
    if "`extends`" in expected and re.match(r":\s*[a-z]", rest):
        return f"did you mean `extends{rest[1:].split('{')[0].rstrip()}`?"
    if kind in DECLARATIONS and found == ":" and "`{`" in expected:
        return f"what belongs to it stands in braces: `{kind} {last} {{ … }}`"
    if kind == "mutations" and "`extends`" in expected and found in ("=", "(", "<"):
        other = re.match(r"\W\s*([\w.]+)", rest)
        whole = f"mutations {last} extends {other[1] if other else 'other'} {{ … }}"
        return f"prompts of another set are taken over so: `{whole}`"
    if kind == "backend" and "`extends`" in expected and found in ("=", "(", "<"):
        other = re.match(r"\W\s*(\w+)", rest)
        known = other[1] if other and other[1] not in ("", "backend") else "small"
        return (
            f"settings of another one are taken over so: `backend {last} extends {known} {{ … }}`"
        )
    if kind == "task" and rest.startswith(("->", "=>")):
        return "what a task makes stands inside of it: `out answer: text = …`"
    if kind == "task" and found == "{" and last == "=":
        return f"no `=` stands before the columns of a task: `task {place.last(2)} {{ … }}`"
    if "`{`" in expected and found.isidentifier() and last.isidentifier() and last != kind:
        meant = nearest(found, ("extends",)) or found in _MEANT
        words = re.match(r"[\w ]*", rest)
        whole = f"{last} {words[0] if words else ''}".strip().replace(" ", "_")
        return None if meant else f"a name is one word: `{whole}`"
    if kind != "table":
        return None
    if "`|>`" in expected and found in FORMS and re.match(r"\w+\(", rest):
        return _STEP
    if last == "=" and found.isdigit():
        return f"so many rows without columns are `rows({found})`"
    if found in ("=", ":") and place.last(2) == "|>":
        return f"a step gets its name at its end: `|> task as {last}`"
    if last == "=" and found in ("[", "{"):
        return (
            'a table is a source and its steps: `read("file.jsonl") |> task`, or `sql "SELECT …"`'
        )
    if found in (*_SETTINGS, *_RETRIES) and "`|>`" in expected:
        return f"`{found}` is a setting of the backend"
    if last == "|>" and not found:
        return "a step follows, or the `|>` is one too many"
    if expected == ("`=`",):
        if found == "(":
            return (
                "the columns of a table come from its source and its steps: they are not declared"
            )
        sql = re.match(r"(?i)as\s+(select|with|from)\b", rest)
        return f'write `table {last} = sql "…"`' if sql else _TABLE.replace("name", last)
    if rest.startswith(("->", ">>", "=>", "|", ".")) and "`|>`" in expected:
        return "a name is written without a dot" if place.last(2) == "as" else _STEP
    return None


def _of_a_loop(place: Place, expected: tuple[str, ...]) -> str | None:
    near = [sign.text for sign in place.before[-7:]]
    if expected == ("a value",) and place.found in PRODUCERS and "times" in near:
        return "what a loop starts with is made in a `let` before it"
    if place.last() in ("for", "while", "foreach", "loop") and place.last(2) == "=":
        return _LOOP
    if place.last() == "next" and place.found == "=":
        return "no `=` is needed: `next …`"
    if expected == ("`times`",) or (expected == ("a name",) and place.last() == "times"):
        return _LOOP
    if "NEXT" in place.accepted and "NAME" not in place.accepted:
        return _IN_A_LOOP
    if expected == ("`}`",) and place.found in ("let", "next"):
        return "`next` is said once, and last: what it needs stands above it"
    return None


def _of_a_guard(place: Place, _expected: tuple[str, ...]) -> str | None:
    found = place.found
    near = [sign.text for sign in place.before[-5:]]
    if place.kind != "task":
        return None
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
    words = re.split(r"[\s(]+", line.rpartition("=")[2].strip())
    if expected == ("`of`",) and place.last(2) == "." and not place.found.startswith('"'):
        return "a number out of a range is drawn with `sample uniform(1900, 1999)`"
    if words[:1] != ["sample"] or "a value" in expected or place.found in CLOSING.values():
        return None
    if "`,`" in expected and place.callee:
        return None
    return _DRAW if place.found not in RESERVED else None


_NO_SIGN = ("system", "using", "as", "where", "n", "key", "until", "weight")
"""Words that are followed by what they mean, without a sign."""


def _of_a_sign(place: Place, expected: tuple[str, ...]) -> str | None:
    found, last = place.found, place.last()
    if found.startswith("/*"):
        return _COMMENT
    if found.startswith("/") and "REGEX" in place.accepted:
        return r"a pattern ends with `/` on the same line; a `/` inside is written `\/`"
    if found in ("=", ":") and last in _NO_SIGN and "`=`" not in expected:
        return f"no `{found}` is needed: `{last} …`"
    if found == "=" and last == "=":
        return _SIGNS["=="]
    if found == "---" and place.declares:
        return "a spec is no YAML, and starts with its declarations"
    if found.startswith("---"):
        return _COMMENT
    if found in _SIGNS and (found != "==" or "`=`" in expected):
        return _SIGNS[found]
    if found == ")" and expected == ("`=`",) and place.callee:
        return f'text stands in quotes: `{place.callee}("{last}")`'
    digits = re.match(r"\.(\d+)", _rest(place))
    if digits and "a value" in expected and last in ("=", "(", "[", ","):
        return f"a digit stands before the point: `0.{digits[1]}`"
    if found == "@" and place.declares:
        return _TASK
    if found in ("|", "."):
        return _of_a_bar(place)
    if found == "(" and last in (*PRODUCERS, "where"):
        return f'no brackets are needed: `{last} "…"`'
    if found == "{" and place.text[place.at : place.at + 2] == "{#":
        return _COMMENT
    if found == "{" and place.text[place.at : place.at + 2] in ("{{", "{%"):
        return TEMPLATES
    if found == "-" and place.opened:
        return "lists of YAML are not known here: a setting is written `name = value`"
    if found in CLOSING.values() and found not in [CLOSING[s.text] for s in place.opened]:
        return f"nothing is open that this `{found}` could close"
    if found == "," and "COMMA" not in place.accepted:
        if last.isdigit() and (digits := re.match(r",(\d+)", _rest(place))):
            return f"a number has a point: `{last}.{digits[1]}`"
        return "no comma is needed here"
    return None


def _of_a_bar(place: Place) -> str | None:
    """A `|` that draws, that is of a choice, or that was meant as `|>`."""
    if not place.opened:
        return _STEP
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
    if found == ":" and "`=`" in expected and place.opened and place.opened[-1].text == "(":
        value = re.match(r":\s*(\$?[\w.]+|\"[^\"\n]{0,30}\")\s*[,)]", _rest(place))
        return f"a value is given with `=`: `{last} = {value[1] if value else '…'}`"
    if found == "=" and "`)`" in expected and place.kind == "task":
        return "a `)` is missing before `=`"
    if "`,`" in expected and place.opened:
        return f"a `,` is missing before `{found}`"
    if found in (":", "=") and expected and expected[0] == "`=`":
        return f"a value is given with `=`: `{last} = …`" if place.kind == "test" else _SETTING
    if found == ":" and expected == ("`=`", "`{`"):
        return _SETTING
    if expected == ("`:`",):
        return f"every column and parameter has a type: `{last}: text`"
    if expected == ("a string",) and last in ("where", "until", "sql"):
        written = _rest(place).split("#")[0].strip()
        if re.fullmatch(r"[\w\s.,()$<>=!*+/-]{3,60}", written):
            return f'SQL stands in quotes: `{last} "{written}"`'
        return f'SQL stands in quotes: `{last} "…"`'
    if expected == ("a template",) and last == "ask" and place.on_new_line:
        return 'a prompt is written `ask "…"`'
    if expected == ("`=`",) and "out" in (place.last(4), place.last(5), place.last(6)):
        return 'say what makes the column: `= ask "…"`, `= sql "…"` or another column'
    if found in ("as", "using") and "`key`" in expected:
        return f"SQL names its columns itself, and asks nobody: leave `{found}` out"
    return None


_SETTING = "a setting is written `name = value`"
_FIRST = "a description stands first in a task, tags after it, then its columns"


def _of_a_word(place: Place, expected: tuple[str, ...]) -> str | None:
    found, words = place.found, set(place.words)
    if meant := [word for word in _MEANT.get(found, ()) if word in words]:
        return f"did you mean `{meant[0]}`?"
    if place.declares and found == "from" and re.match(r"from\s+\S+\s+import\b", _rest(place)):
        return _USE
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
        return _COLUMN
    if place.declares and (unnamed := _unnamed(place)):
        return unnamed
    return _STEP if "`|>`" in expected and found.isidentifier() and place.on_new_line else None


def _unnamed(place: Place) -> str | None:
    """`answers = …` and `version: 1` where a declaration starts."""
    at_start = place.at == 0 or place.text[place.at - 1] == "\n"
    if not at_start or not place.found.isidentifier():
        return None
    after = place.text[place.at + len(place.found) :].lstrip(" ")
    if after.startswith("="):
        return f"say what it is: `table {place.found} = …`, `param {place.found}: type = …`"
    return "a spec is no YAML, and starts with its declarations" if after.startswith(":") else None
