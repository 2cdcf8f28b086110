"""What DuckDB said of a piece of SQL → a problem of the spec, in words of the language."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthc.compiler import types
from synthc.compiler.check.sql_tree import Node, Places
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.span import Span
from synthc.compiler.types import Type

_EXPLAIN = "DESCRIBE "
"""What stands before a query when it is bound: offsets count from there."""

_OPERATORS = {"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE", "~~~": "GLOB"}
_TYPES = {"VARCHAR": "text", "STRING_LITERAL": "text", "BOOLEAN": "bool", "DOUBLE": "float"}
_TYPES |= dict.fromkeys(("BIGINT", "INTEGER", "INTEGER_LITERAL", "HUGEINT"), "int")
_CONVERT = "convert one side, as in `x::INTEGER` or `x::VARCHAR`"


_OF_OTHERS = {
    "iif": "if",
    **dict.fromkeys(("isnull", "nvl"), "coalesce"),
    **dict.fromkeys(("charindex", "locate"), "instr"),
    **dict.fromkeys(("regexp_like", "rlike"), "regexp_matches"),
    **dict.fromkeys(("size", "array_size", "arraylength", "str_len"), "len"),
    "collect_list": "list",
    **dict.fromkeys(("explode", "explode_outer"), "unnest"),
    **dict.fromkeys(("join", "array_join", "string_join"), "array_to_string"),
    "startswith": "starts_with",
    "endswith": "ends_with",
    "strip": "trim",
    "replace_all": "replace",
    "to_char": "strftime",
    "cosine_similarity": "array_cosine_similarity",
    "cosine_distance": "array_cosine_distance",
}
"""Functions as other databases and Python call them, and DuckDB's names."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What SQL may name where it stands: columns of one row, or the tables of the spec.

    `tables` are the names of tables as they were declared, by their names in lower case.
    """

    owner: str
    columns: Mapping[str, Type]
    parameters: Mapping[str, Type]
    tables: Mapping[str, str] = field(default_factory=dict)

    def meant(self, name: str, *, quoted: bool) -> str | None:
        """What somebody probably meant who wrote a name that is no column."""
        if nearest(name, self.columns):
            return None
        for column, type_ in self.columns.items():
            inner = types.required(type_)
            fields = inner.fields if isinstance(inner, types.Record) else ()
            if any(field.name.lower() == name.lower() for field in fields):
                return f"did you mean `{column}.{name}`?"
        if name in self.parameters:
            return f"a parameter is written with a `$`: `${name}`"
        return f"text stands in single quotes in SQL: `'{name}'`" if quoted else None


def binding(
    message: str,
    tree: list[Node],
    places: Places,
    around: Surroundings,
    columns: Mapping[str, tuple[str, ...]],
) -> Problem:
    """Why a query that could be read cannot be bound.

    `columns` are those of each table, by its name in lower case.
    """
    facts = _facts(message)
    text: str = facts["exception_message"]
    offset, length = _where(facts)
    span = places.whole if offset is None else places.at(offset, length)
    name = facts.get("name", "")
    read = {
        (node["alias"] or node["table_name"]): node["table_name"]
        for node in tree
        if node.get("type") == "BASE_TABLE"
    }
    there = {shown: columns.get(table.lower(), ()) for shown, table in read.items()}
    if found := _column(facts, text, offset, places, around, there, tree):
        return found
    if found := re.match(r'Table "(.+?)" does not have a column named "(.+?)"', text):
        named = [table for table in there if table.lower() == found[1].lower()]
        known = tuple(re.findall(r'"(.+?)"', text.partition("Candidate bindings")[2]))
        known = (there[named[0]] if named else ()) or known
        size = len(found[2].encode())
        if offset is not None:
            span = places.at(offset + max(0, length - size), size)
        return problems.UnknownColumn(
            span=span, owner=f"the table `{found[1]}`", name=found[2], known=known
        )
    if found := re.match(r"Referenced column (\w+)\.(\w+) not found", text):
        known = there.get(found[1], ())
        size = len(found[2].encode())
        if offset is not None:
            span = places.at(offset + max(0, length - size), size)
        owner = f"the table `{found[1]}`"
        return problems.UnknownColumn(span=span, owner=owner, name=found[2], known=known)
    if found := re.match(r'column "(.+?)" must appear in the GROUP BY', text):
        return _not_grouped(found[1], span, there, around)
    if found := re.match(r'Ambiguous reference to column name "(.+?)" \(use: (.+)\)', text):
        bare = re.sub("[\"']", "", found[2])
        ways = " or ".join(f"`{way}`" for way in bare.split(" or "))
        reason = f"`{found[1]}` is a column of several tables"
        return problems.SqlDoesNotFit(span=span, reason=reason, advice=f"say which: {ways}")
    if "Could not find key" in text:
        return _struct_part(text, tree, places, around)
    if found := re.match(r'Referenced table "(.+?)" not found', text):
        if around.columns:
            known, name = tuple(around.columns), found[1]
            advice = "columns of the row stand by their own names, without a table before them"
            return problems.UnknownColumn(
                span=span, owner=around.owner, name=name, known=known, advice=advice
            )
        known = tuple(re.findall(r'"(.+?)"', text.partition("Candidate tables")[2]))
        return problems.UnknownDeclaration(
            span=span,
            kind="table",
            name=found[1],
            known=known,
            advice=_not_read(found[1], read, around),
        )
    if facts.get("type") == "Table" or "Table with name" in text:
        return problems.UnknownDeclaration(
            span=span, kind="table", name=name, known=tuple(around.tables.values())
        )
    if "Function" in facts.get("type", ""):
        candidates = facts.get("candidates", "").split(",")
        near = _OF_OTHERS.get(name.lower()) or nearest(
            name, [word.strip().removeprefix("main.") for word in candidates]
        )
        span = places.at(offset or 0, len(name.encode()))
        if places.shown(offset or 0, len(name.encode())).lower() != name.lower():
            span = places.find(name)  # `column.function()`
        return problems.UnknownFunction(span=span, name=name, near=near)
    if "ermission" in message[:12] or "disabled" in text:
        return problems.ForbiddenSql(span=span, what="read or write files")
    return _misfit(text, span)


def _not_grouped(
    name: str, span: Span, there: Mapping[str, tuple[str, ...]], around: Surroundings
) -> Problem:
    """A name beside an aggregate that no `GROUP BY` has."""
    known = tuple(dict.fromkeys(column for table in there.values() for column in table))
    if name in around.parameters and name.lower() not in (column.lower() for column in known):
        advice = f"a parameter is written with a `$`: `${name}`"
        return problems.UnknownColumn(
            span=span, owner=around.owner, name=name, known=known, advice=advice
        )
    reason = f"`{name}` differs within a group of rows"
    advice = f"add it to the `GROUP BY`, or take one of its values: `any_value({name})`"
    return problems.SqlDoesNotFit(span=span, reason=reason, advice=advice)


def _not_read(name: str, read: Mapping[str, str], around: Surroundings) -> str | None:
    """What is meant by a table of the spec that a query names, and does not read under that name."""
    for shown, table in read.items():
        if table.lower() == name.lower() and shown.lower() != name.lower():
            return f"in this query it is called `{shown}`"
    if name.lower() in around.tables:
        return f"the query does not read it: it must stand after `FROM` or `JOIN`, `JOIN {name} …`"
    return None


def _facts(message: str) -> dict[str, Any]:
    try:
        facts = json.loads(message[message.index("{") :])
    except ValueError:
        facts = {}
    return {"exception_message": message.split(": ", 1)[-1], **facts}


def _where(facts: dict[str, Any]) -> tuple[int | None, int]:
    if "position" not in facts:
        return None, 1
    length = facts.get("location", "[0,1]").strip("[]").split(",")[-1]
    return int(facts["position"]) - len(_EXPLAIN), max(1, int(length))


def _column(
    facts: dict[str, Any],
    text: str,
    offset: int | None,
    places: Places,
    around: Surroundings,
    there: Mapping[str, tuple[str, ...]],
    tree: list[Node],
) -> Problem | None:
    """A column that is not there; `there` are those of the tables that a query reads."""
    listed = re.match(r'Column "(.+?)" in (?:EXCLUDE|REPLACE|RENAME) list not found', text)
    referenced = re.match(r'Referenced column "(.+?)"', text)
    if facts.get("error_subtype") != "COLUMN_NOT_FOUND" and not listed and not referenced:
        return None
    quoted = listed or referenced or re.search(r'"(.+?)"', text)
    name = str(facts.get("name") or (quoted[1] if quoted else "?"))
    span = places.find(name)
    in_quotes = False
    if offset is not None:
        in_quotes = places.shown(offset, 1) == '"'
        span = places.at(offset + in_quotes, len(name.encode()))
        if not in_quotes and places.shown(offset, len(name.encode())).lower() != name.lower():
            span = places.at(offset, _where(facts)[1])
    advice = around.meant(name, quoted=in_quotes)
    compared = offset is not None and re.search(
        r"(=|<>|\blike|\(')\s*$", places.shown(0, offset), re.IGNORECASE
    )
    if advice is None and compared and not nearest(name, around.columns):
        advice = f"text stands in single quotes in SQL: `'{name}'`"
    # DuckDB names only the columns that are near; it alone knows what the query itself makes.
    near = (part.strip() for part in facts.get("candidates", "").split(",") if part.strip())
    of_tables = [column for table in there.values() for column in table]
    made = [node["alias"] for node in tree if node.get("class") and node.get("alias")]
    ours = [*of_tables, "·"]  # the last stands in where there is no column
    near = [word for word in near if word.rpartition(".")[2] not in ours]
    known = tuple(around.columns) or tuple(dict.fromkeys((*of_tables, *made, *near)))
    return problems.UnknownColumn(
        span=span,
        owner=around.owner,
        name=name,
        known=known,
        advice=advice,
    )


def _struct_part(text: str, tree: list[Node], places: Places, around: Surroundings) -> Problem:
    # DuckDB names only the parts that are near; the columns at hand tell all of them.
    key, *known = re.findall(r'"(.+?)"', text)
    owner, span = "the struct", places.find(key)
    for node in tree:
        names = node.get("column_names", ())
        if len(names) > 1 and names[-1].lower() == key.lower():
            owner = f"`{'.'.join(names[:-1])}`"
            record = types.required(around.columns.get(names[0], types.Text()))
            if len(names) == 2 and isinstance(record, types.Record):
                known = [field.name for field in record.fields]
            end = node["query_location"] + node["query_location_length"]
            span = places.at(end - len(key.encode()), len(key.encode()))
    return problems.UnknownColumn(span=span, owner=owner, name=key, known=tuple(known))


def _misfit(text: str, span: Span) -> Problem:
    text = text.replace(types.IMAGE_TAG, "image")
    if found := re.match(r"Cannot compare values of type (.+?) and type (.+?) - an explicit", text):
        reason = f"`{_type(found[1])}` and `{_type(found[2])}` cannot be compared"
        return problems.SqlDoesNotFit(span=span, reason=reason, advice=_CONVERT)
    if found := re.match(r"No function matches .*? '(.+?)\((.*)\)'\.", text):
        taken = [f"`{_type(part)}`" for part in found[2].split(", ") if part]
        function = _OPERATORS.get(found[1], found[1])
        reason = f"`{function}` takes no {' and '.join(taken) if taken else 'empty brackets'}"
        return problems.SqlDoesNotFit(span=span, reason=reason, advice=_CONVERT if taken else None)
    if found := re.match(r"Type with name (\w+) does not exist", text):
        near = re.search(r'Did you mean "(.+?)"', text)
        advice = f"did you mean `{near[1]}`?" if near else None
        reason = f"SQL has no type `{found[1]}`"
        return problems.SqlDoesNotFit(span=span, reason=reason, advice=advice)
    reason = text.split("\n", maxsplit=1)[0].rstrip(".! ")
    reason = re.sub(r'"([^"]*)" ?\. ?"?([^" )]*)"?', r"\1.\2", reason)  # no quotes within quotes
    reason = re.sub(r"[\"']+", "`", reason)
    return problems.SqlDoesNotFit(span=span, reason=reason[:1].lower() + reason[1:])


def _type(name: str) -> str:
    return _TYPES.get(name, name.removesuffix("_LITERAL"))


_CLAUSES = ("FROM", "WHERE", "GROUP", "HAVING", "QUALIFY", "WINDOW", "ORDER", "LIMIT", "OFFSET")
_CLAUSES += ("UNION", "EXCEPT", "INTERSECT", "DISTINCT", "SELECT", "WITH", "USING")
_REASONS = (
    (r'syntax error at or near "(.+)"', r"`\1` cannot stand here"),
    (r"unterminated string literal", "text in single quotes is not closed"),
    (r"unterminated quoted identifier", "a name in double quotes is not closed"),
    (r"SELECT clause without selection list", "it is empty"),
    (r"Chained comparisons are not supported.*", "comparisons are joined by `AND` or `OR`"),
)


def reading(facts: dict[str, Any], places: Places, wanted: str) -> Problem:
    """Why a query cannot be read."""
    message: str = facts.get("error_message", "it cannot be read")
    offset = int(facts.get("position", 0))
    length = int(str(facts.get("location", "[0,1]")).strip("[]").split(",")[-1])
    if places.size == 0 or "selection list" in message:
        return problems.SqlSyntax(span=places.whole, reason="it is empty", wanted=wanted)
    text = places.shown(0, places.size)
    if wanted != "query" and "&&" in text:
        reason, advice = "`&&` is no word of SQL", "write `AND`"
        span = places.find("&&")
        return problems.SqlSyntax(span=span, reason=reason, wanted=wanted, advice=advice)
    if wanted != "query" and (word := re.match(r"\s*(SELECT|WHERE)\b", text, re.IGNORECASE)):
        first = word[1]
        span = places.find(first)
        rest = re.split(r"(?i)\sFROM\s", text[word.end() :])[0].strip()
        advice = f"leave `{first}` out: `{rest}`"
        reason = f"`{first}` has no place in it"
        return problems.SqlSyntax(span=span, reason=reason, wanted=wanted, advice=advice)
    if "end of input" in message or offset >= places.size:
        span = places.at(places.size - 1, 1)
        bare = re.sub(r"'[^']*'", "", text)
        advice = "a `)` is missing" if bare.count("(") > bare.count(")") else None
        return problems.SqlSyntax(
            span=span, reason="it ends too early", wanted=wanted, advice=advice
        )
    reason = message.replace("\n", " ").rstrip(".! ")
    advice = None
    for pattern, shown in _REASONS:
        if found := re.match(pattern, reason):
            reason = found.expand(shown)
            break
    else:
        reason = reason[:1].lower() + reason[1:].replace('"', "`")
    if "single quotes" in reason:
        advice = "a quote inside of text is written twice: `'it''s'`"
    shown, before = places.shown(offset, 5), places.shown(0, offset)
    advice = advice or _habit(shown, before)
    if advice is None and wanted == "list of columns" and re.match(r"\w", shown) and before.strip():
        advice = "is a `,` missing before it?"
    span = places.at(offset, max(1, length))
    return problems.SqlSyntax(span=span, reason=reason, wanted=wanted, advice=advice)


def _habit(found: str, before: str) -> str | None:
    """What is written otherwise in other languages."""
    if found.startswith("${"):
        return "a parameter is written without braces: `$name`"
    if called := re.search(
        r"(\w+)\s+(contains|starts_?with|ends_?with)\s*$", before, re.IGNORECASE
    ):
        function = {"startswith": "starts_with", "endswith": "ends_with"}.get(
            called[2].lower(), called[2].lower()
        )
        return f"write `{function}({called[1]}, …)`"
    if found.startswith("?"):
        return "a choice is written `if(condition, this, that)`"
    if found.startswith("{"):
        return "SQL is no template: columns and tables stand by their names, parameters as `$name`"
    if found.lower().startswith("none"):
        return "SQL's word is `NULL`"
    if re.search(r"\bTOP\s*$", before, re.IGNORECASE):
        return "how many rows are wanted stands at the end: `LIMIT 10`"
    if re.search(r"\bJOIN\s+\w+(\s+(AS\s+)?\w+)?\s*$", before, re.IGNORECASE):
        return "a `JOIN` says which rows belong together: `JOIN t ON a.x = t.x`"
    if last := re.search(r"(\w+)\s*$", before):
        # Misspelt, a word of SQL is taken for a name, and only what follows it cannot be read.
        word = last[1].upper()
        for clause_ in _CLAUSES:
            if word != clause_ and sorted(word) == sorted(clause_):
                return f"did you mean `{clause_}` by `{last[1]}`?"
    return None


def clause(query: str, places: Places, wanted: str) -> Problem:
    """SQL that is more than a list of expressions: which clause is one too many."""
    depth = 0
    # Strings, names in quotes and comments are skipped whole.
    for match in re.finditer(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|\w+|[()]", query, re.S):
        word = match.group().upper()
        depth += (word == "(") - (word == ")")
        if depth == 0 and word in _CLAUSES:
            offset = len(query[: match.start()].encode())
            reason = f"`{word}` has no place in it"
            advice = 'a whole query is a table: `table t = sql "SELECT …"`'
            if word == "LIMIT":
                advice = "the first rows are taken by a step: `|> limit(10)`"
            return problems.SqlSyntax(
                span=places.at(offset, len(word)), reason=reason, wanted=wanted, advice=advice
            )
    return problems.SqlSyntax(span=places.whole, reason="it holds more than that", wanted=wanted)
