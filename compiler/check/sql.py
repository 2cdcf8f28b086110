"""SQL checked by DuckDB itself: bound against empty tables of the inferred types, in memory."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import msgspec
from duckdb import sqltypes
from msgspec import Struct

from synthc.compiler import ast, types
from synthc.compiler.cache import kept
from synthc.compiler.check import sql_problems
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.sql_tree import (
    Node,
    Places,
    base_tables,
    is_list_over,
    nodes,
    parameters,
    paths,
    plain,
)
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.types import Field, Type

Report = Callable[[Problem], None]

# No spec can name this table by accident; messages never show it.
_ROW = "·row"
_SELECT = "SELECT "
# What DuckDB itself does not call volatile, or takes for a column.
_CLOCK = ("current_localtime", "current_localtimestamp", "current_query_id")
_CLOCK_WORDS = ("current_date", "current_timestamp", "current_time", "localtime", "localtimestamp")
_ABOUT_FILES = problems.DECLARE_THE_FILE
_ABOUT_TABLES = "SQL reads the tables of the spec, and nothing else"
_TABLE_FUNCTIONS = ("range", "generate_series", "unnest")


@dataclass(frozen=True, slots=True)
class Bound:
    """SQL that holds: what it gives, which columns it reads, where its parameters stand.

    `fields` are the result's columns. `paths` are the columns read, in order of the scope; a struct's
    part stands as `(name, part)`. `parameters` are (name, start, length) in characters of the text.
    `plain` maps a result column to the column it merely repeats. `tables` are those a query reads,
    `ordered` says whether it has an ORDER BY of its own.
    """

    text: str
    fields: tuple[Field, ...]
    paths: tuple[tuple[str, ...], ...] = ()
    parameters: tuple[tuple[str, int, int], ...] = ()
    plain: Mapping[str, tuple[str, ...]] | None = None
    tables: tuple[str, ...] = ()
    ordered: bool = False

    def with_parameters(self, literals: Mapping[str, str]) -> str:
        """The text with each `$name` replaced by its SQL literal (or by a column's quoted name)."""
        text = self.text
        for name, start, length in sorted(self.parameters, key=lambda p: -p[1]):
            text = text[:start] + literals[name] + text[start + length :]
        return text

    def text_with(self, constants: Mapping[str, tuple[Any, Type]]) -> str:
        """The text with each `$name` replaced by what the spec's parameter of that name is."""
        return self.with_parameters({n: literal(*constants[n]) for n, _, _ in self.parameters})


def literal(value: Any, type_: Type) -> str:
    """A value as a typed SQL literal."""
    return f"CAST({_constant(value)} AS {types.sql(type_)})"


def _constant(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return "'" + value.replace("'", "''") + "'"
        case list() | tuple():
            return "[" + ", ".join(_constant(item) for item in value) + "]"
        case _:
            return "'" + json.dumps(value).replace("'", "''") + "'"


class _Functions(Struct, frozen=True):
    """DuckDB's functions that are volatile, that sum up rows, and that make several of one."""

    volatile: frozenset[str]
    aggregates: frozenset[str]
    unnests: frozenset[str]


@functools.cache
def _functions() -> _Functions:
    """DuckDB takes longer to list its functions than for all else here: each version's are kept."""
    file = kept(f"functions-{duckdb.__version__}.json")
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        if file:
            return msgspec.json.decode(file.read_bytes(), type=_Functions)
    found = _listed()
    with contextlib.suppress(OSError):
        if file:
            written = file.with_suffix(f".{os.getpid()}")
            written.write_bytes(msgspec.json.encode(found))
            written.replace(file)  # whole, or not at all
    return found


def _listed() -> _Functions:
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(
            "SELECT lower(function_name), function_type, bool_or(stability != 'CONSISTENT'),"
            " string_agg(macro_definition, ' ') FROM duckdb_functions()"
            " WHERE function_type IN ('scalar', 'aggregate', 'macro') GROUP BY ALL"
        ).fetchall()
    volatile = {name for name, _, is_volatile, _ in rows if is_volatile} - {"error"}
    volatile |= {*_CLOCK, *_CLOCK_WORDS}
    aggregates = {name for name, kind, _, _ in rows if kind == "aggregate"}
    unnests = {"unnest"}
    for name, _, _, macro in rows:
        called = set(re.findall(r"(\w+)\"?\(", macro or "")) | {*_CLOCK_WORDS} & set(
            re.findall(r"\w+", macro or "")
        )
        for kind in (volatile, aggregates, unnests):
            if called & kind:
                kind.add(name)
    return _Functions(frozenset(volatile), frozenset(aggregates), frozenset(unnests))


class Binder:
    """An in-memory DuckDB that knows the spec's tables by their columns, and holds no rows."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:", config={"python_enable_replacements": False})
        self._connection.execute("SET errors_as_json = true")
        self._connection.execute("SET enable_external_access = false")
        self._rows: dict[str, str] = {}
        self._columns: dict[str, tuple[str, ...]] = {}
        self._unmade: dict[str, tuple[str, tuple[Field, ...]]] = {}
        self._read_ahead: dict[str, str] = {}
        self._named_tables: dict[str, tuple[str, ...]] = {}
        self._functions = _functions()

    def define(self, table: str, fields: tuple[Field, ...]) -> None:
        """Make a spec's table known: DuckDB has it as soon as a query names it."""
        self._columns[table.lower()] = tuple(field.name for field in fields)
        self._unmade[table.lower()] = table, fields

    def _make(self, name: str) -> None:
        """Have DuckDB make a table that is known. Raises nothing: names were checked to differ."""
        if name.lower() not in self._unmade:
            return
        table, fields = self._unmade.pop(name.lower())
        columns = ", ".join(
            f"{types.quote(f.name)} {types.sql(f.type, types.IMAGE_TAG)}" for f in fields
        )
        # DuckDB has no table without columns: one that no spec can name stands in.
        columns = columns or '"·" INTEGER'
        self._connection.execute(f"CREATE OR REPLACE TABLE {types.quote(table)} ({columns})")

    def expression(
        self,
        text: ast.String,
        around: Surroundings,
        report: Report,
        *,
        wanted: str = "expression",
    ) -> Bound | None:
        """One value of one row. None where a problem was reported."""
        return self._row_wise(text, around, report, wanted)

    def condition(self, text: ast.String, around: Surroundings, report: Report) -> Bound | None:
        """True or false of one row. None where a problem was reported."""
        bound = self.expression(text, around, report, wanted="condition")
        if bound and not isinstance(bound.fields[0].type, types.Bool):
            found = types.name(bound.fields[0].type)
            report(
                problems.WrongType(
                    span=text.inner,
                    what="a condition",
                    expected="bool",
                    found=found,
                    advice="compare it with something, as in `size > 10`",
                )
            )
            return None
        return bound

    def columns(self, text: ast.String, around: Surroundings, report: Report) -> Bound | None:
        """A list of columns of one row. None where a problem was reported."""
        return self._row_wise(text, around, report, "list of columns")

    def query_tables(self, text: ast.String) -> tuple[str, ...]:
        """The tables a query names, whether or not they exist; () where it cannot be read."""
        if text.text not in self._named_tables:
            statements = self._serialise(text.text).get("statements", ())
            named = dict.fromkeys(node["table_name"] for node in base_tables(statements))
            self._named_tables[text.text] = tuple(named)
        return self._named_tables[text.text]

    def query(self, text: ast.String, around: Surroundings, report: Report) -> Bound | None:
        """A whole SELECT over the spec's tables. None where a problem was reported."""
        places = Places(text, 0)
        tree = self._read(text.text, places, "query", report)
        if tree is None:
            return None
        found = list(nodes(tree))
        sound = self._check_functions(found, places, report)
        bases = list(base_tables(tree))
        sound = self._check_sources(bases, found, places, around, report) and sound
        if not sound:
            return None
        for base in bases:
            self._make(base["table_name"])
        fields = self._bind(text.text, places, around, report, found)
        if fields is None or not self._named(fields, tree, places, report):
            return None
        tables = (around.tables[node["table_name"].lower()] for node in bases)
        return Bound(
            text=text.text,
            fields=fields,
            parameters=parameters(found, places),
            tables=tuple(dict.fromkeys(tables)),
            ordered=any(m["type"] == "ORDER_MODIFIER" for m in tree["modifiers"]),
        )

    def _check_sources(
        self,
        bases: list[Node],
        found: list[Node],
        places: Places,
        around: Surroundings,
        report: Report,
    ) -> bool:
        """Whether a query reads nothing but tables of the spec; `bases` are those that it names."""
        before: list[Problem] = []
        for node in found:
            if node.get("type") == "TABLE_FUNCTION":
                name = node.get("function", {}).get("function_name", "")
                if name not in _TABLE_FUNCTIONS:
                    before.append(
                        problems.ForbiddenSql(
                            span=places.of(node),
                            what=f"read `{name}(…)`",
                            advice=_ABOUT_FILES
                            if "read" in name or "scan" in name
                            else _ABOUT_TABLES,
                        )
                    )
            elif node.get("type") == "SHOW_REF":
                before.append(problems.ForbiddenSql(span=places.of(node), what="describe tables"))
        for node in bases:
            name, schema = node["table_name"], node["schema_name"] or node["catalog_name"]
            span = places.of(node)
            if schema:
                what = f"reach for the schema `{schema}`"
                advice = "tables of the spec are named alone, without a schema"
                before.append(problems.ForbiddenSql(span=span, what=what, advice=advice))
            elif name.lower() not in around.tables and re.search(r"[./\\:*]", name):
                before.append(problems.ForbiddenSql(span=span, what=f"read the file `{name}`"))
            elif name.lower() not in around.tables:
                size = len(name.encode())
                if node["query_location"] < 2**63:
                    span = places.at(node["query_location"], size)
                before.append(
                    problems.UnknownDeclaration(
                        span=span,
                        kind="table",
                        name=name,
                        known=tuple(around.tables.values()),
                        advice='`this` is what a step reads: `|> sql "SELECT … FROM this"`'
                        if name == "this"
                        else None,
                    )
                )
        for problem in before:
            report(problem)
        return not before

    def _row_wise(
        self, text: ast.String, around: Surroundings, report: Report, wanted: str
    ) -> Bound | None:
        query = _over_row(text.text)
        places = Places(text, len(_SELECT))
        tree = self._read_list(text, query, places, wanted, report)
        if tree is None:
            return None
        found = list(nodes(tree, into_subqueries=False))
        sound = self._check_functions(found, places, report)
        for node in found:
            if problem := self._many_rows(node, places):
                report(problem)
                sound = False
        if not around.columns and any(node.get("class") == "STAR" for node in found):
            reason = "there are no columns that `*` could stand for"
            report(problems.SqlDoesNotFit(span=places.find("*"), reason=reason))
            sound = False
        if not sound:
            return None
        over = _over_row(text.text, self._row_of(around.columns))
        fields = self._bind(over, places, around, report, found)
        if fields is None:
            return None
        if wanted == "list of columns":
            if not fields:
                report(problems.SqlSyntax(span=text.inner, reason="it gives none", wanted=wanted))
                return None
            if not self._named(fields, tree, places, report):
                return None
        return Bound(
            text=text.text,
            fields=fields,
            paths=paths(found, around.columns),
            parameters=parameters(found, places),
            plain=plain(tree, fields, around.columns),
        )

    def _row_of(self, scope: Mapping[str, Type]) -> str:
        """A table with the columns of a scope; tasks that are alike share it."""
        fields = tuple(Field(name, type_) for name, type_ in scope.items())
        shape = repr(fields)
        if shape not in self._rows:
            self._rows[shape] = f"{_ROW}{len(self._rows)}"
            self.define(self._rows[shape], fields)
            self._make(self._rows[shape])
        return self._rows[shape]

    def _read_list(
        self, text: ast.String, query: str, places: Places, wanted: str, report: Report
    ) -> Node | None:
        """The tree of a list of expressions, or of the one that is wanted."""
        tree = self._serialise(query)
        if tree.get("error"):
            alone = self._serialise(_SELECT + text.text)
            more = not alone.get("error") or alone.get("error_type") == "not implemented"
            if more and (alone.get("error") or len(alone["statements"]) > 1):
                report(_several(text))
            elif more:
                report(sql_problems.clause(text.text, Places(text, 0), wanted))
            else:
                report(sql_problems.reading(tree, places, wanted))
            return None
        if len(tree["statements"]) != 1:
            report(_several(text))
            return None
        node = tree["statements"][0]["node"]
        if not is_list_over(node, _ROW):
            report(sql_problems.clause(text.text, Places(text, 0), wanted))
            return None
        if wanted != "list of columns" and (reason := self._not_one(text, node)):
            report(problems.SqlSyntax(span=text.inner, reason=reason, wanted=wanted))
            return None
        return node

    def _not_one(self, text: ast.String, tree: Node) -> str | None:
        """Why a list of expressions is not one value."""
        items = tree["select_list"]
        if len(items) != 1:
            return f"one value is wanted, and these are {len(items)}"
        if items[0]["class"] == "STAR":
            return "one value is wanted, and `*` stands for all columns"
        if items[0]["alias"]:
            return f"a value needs no name here: leave out `AS {items[0]['alias']}`"
        if "," not in text.text and ";" not in text.text:
            return None
        alone = self._serialise(f"{_SELECT}(\n{text.text}\n)")
        if alone.get("error"):
            return "it is no value"
        # A comma at the end is read over in a list, and makes a row of one in brackets.
        inner = alone["statements"][0]["node"]["select_list"][0]
        return None if inner["type"] == items[0]["type"] else "there is a comma too many"

    def _many_rows(self, node: Node, places: Places) -> Problem | None:
        name = str(node.get("function_name", "")).lower()
        what = None
        if node.get("class") == "SUBQUERY":
            what = "a subquery"
        elif node.get("class") == "WINDOW":
            what = f"the window function `{name}`"
        elif node.get("class") == "FUNCTION" and name in self._functions.unnests:
            return problems.NotRowWise(span=places.of(node), what=f"`{name}`", makes=True)
        elif node.get("class") == "FUNCTION" and name in self._functions.aggregates:
            what = f"the aggregate `{name.removesuffix('_star')}`"
        return problems.NotRowWise(span=places.of(node), what=what) if what else None

    def read_ahead(self, expressions: Iterable[str], queries: Iterable[str]) -> None:
        """Have DuckDB read all the SQL of a spec at once, which takes it a quarter of the time."""
        texts = [*map(_over_row, expressions), *queries]
        rows = self._connection.execute(
            "SELECT json_serialize_sql(query) FROM (SELECT unnest($1::VARCHAR[]) AS query)", [texts]
        ).fetchall()
        self._read_ahead = dict(zip(texts, (tree for (tree,) in rows), strict=True))

    def _serialise(self, query: str) -> dict[str, Any]:
        """DuckDB's tree of a query."""
        tree = self._read_ahead.get(query)
        if tree is None:
            row = self._connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
            tree = self._read_ahead[query] = row[0] if row else '{"error": true}'
        return msgspec.json.decode(tree)

    def _read(self, query: str, places: Places, wanted: str, report: Report) -> Node | None:
        """The one SELECT in `query` as DuckDB's own tree."""
        tree = self._serialise(query)
        if tree.get("error_type") == "not implemented":
            what, advice = "do anything but SELECT", "write one SELECT"
            report(problems.ForbiddenSql(span=places.whole, what=what, advice=advice))
        elif tree.get("error"):
            report(sql_problems.reading(tree, places, wanted))
        elif not tree["statements"]:
            report(problems.SqlSyntax(span=places.whole, reason="it is empty", wanted=wanted))
        elif len(tree["statements"]) > 1:
            what, advice = "hold several statements", "make a table of each"
            report(problems.ForbiddenSql(span=places.whole, what=what, advice=advice))
        else:
            return tree["statements"][0]["node"]
        return None

    def _check_functions(self, found: list[Node], places: Places, report: Report) -> bool:
        sound = True
        for node in found:
            name = node.get("function_name", "").lower()
            if node.get("class") == "FUNCTION" and name in self._functions.volatile:
                report(problems.VolatileSql(span=places.of(node), name=name))
                sound = False
            elif node.get("class") == "COLUMN_REF" and (
                node["column_names"][-1].lower() in _CLOCK_WORDS
            ):
                name = node["column_names"][-1]
                report(problems.VolatileSql(span=places.of(node), name=name))
                sound = False
            elif node.get("sample"):
                report(problems.VolatileSql(span=places.find("sample"), name="SAMPLE"))
                sound = False
        return sound

    def _bind(
        self,
        query: str,
        places: Places,
        around: Surroundings,
        report: Report,
        found: list[Node],
    ) -> tuple[Field, ...] | None:
        used = {node["identifier"]: node for node in found if node.get("class") == "PARAMETER"}
        unknown = [name for name in used if name not in around.parameters]
        for name in unknown:
            report(
                problems.UnknownParameter(
                    span=places.of(used[name]),
                    name=name,
                    known=tuple(around.parameters),
                    columns=tuple(around.columns),
                )
            )
        if unknown:
            return None
        values = {name: _sample(around.parameters[name]) for name in used}
        try:
            described = self._described(query, values)
        except duckdb.Error as error:
            report(sql_problems.binding(str(error), found, places, around, self._columns))
            return None
        fields = tuple(Field(name, types.from_duckdb(type_)) for name, type_ in described)
        nameless = [field.name for field in fields if _is_nameless(field.type)]
        if nameless:
            reason = f"`{nameless[0]}` holds rows whose parts have no names"
            advice = "name them: `{a: x, b: y}`; of `list_zip`: `[{a: p[1], b: p[2]} for p in …]`"
            report(problems.SqlDoesNotFit(span=places.whole, reason=reason, advice=advice))
            return None
        for field in fields:
            if found_type := _unheld(field.type):
                reason = f"`{field.name}` holds a {found_type}, which the rows of a run cannot hold"
                report(problems.SqlDoesNotFit(span=places.whole, reason=reason, advice=_AS_TEXT))
                return None
        return fields

    def _described(
        self, query: str, values: Mapping[str, Any]
    ) -> list[tuple[str, sqltypes.DuckDBPyType]]:
        """Names and types of what a query gives."""
        if not values:
            # A third of the time of DESCRIBE, which alone says where an error is.
            with contextlib.suppress(duckdb.Error):
                bound = self._connection.sql(query)
                return list(zip(bound.columns, bound.types, strict=True))
        rows = self._connection.execute(f"DESCRIBE {query}", values).fetchall()
        return [(name, sqltypes.DuckDBPyType(type_)) for name, type_, *_ in rows]

    def _named(self, fields: tuple[Field, ...], tree: Node, places: Places, report: Report) -> bool:
        """Whether every column has a name of its own, each once."""
        items = tree.get("select_list", [])
        spans = [places.of(item) for item in items]
        if len(items) != len(fields):  # a star stands for several
            spans = [places.whole] * len(fields)
        seen: set[str] = set()
        for field, span in zip(fields, spans, strict=True):
            if field.name.lower() in seen:
                owner, advice = "this list of columns", f"name it: `… AS {field.name}2`"
                report(problems.ColumnTwice(span=span, name=field.name, owner=owner, advice=advice))
                return False
            seen.add(field.name.lower())
        for item in items:
            named = item["alias"] or item["class"] in ("COLUMN_REF", "STAR")
            if not named and item["type"] != "STRUCT_EXTRACT" and len(items) == len(fields):
                shown = places.shown(item["query_location"], item["query_location_length"])
                name = shown if shown and "\n" not in shown else fields[items.index(item)].name
                report(problems.UnnamedColumn(span=places.of(item), expression=name))
                return False
        return True


def _over_row(text: str, table: str = _ROW) -> str:
    """A list of expressions as a query."""
    return f"{_SELECT}{text}\nFROM {types.quote(table)}"


_AS_TEXT = "convert it to text, `CAST(… AS VARCHAR)`, or take out what is wanted"
_UNHELD = re.compile(r"\b(UNION(?=\()|BIT\b|TIME WITH TIME ZONE|TIME_NS\b)")
_QUOTED = re.compile(r"""'(''|[^'])*'|"(""|[^"])*\"""")


def _unheld(type_: Type) -> str | None:
    """The type somewhere in a value that Arrow and Python cannot hold, or only with a loss."""
    match type_:
        case types.Maybe(inner) | types.ListOf(inner):
            return _unheld(inner)
        case types.Record(parts):
            return next(filter(None, (_unheld(part.type) for part in parts)), None)
        case types.Other(name):
            found = _UNHELD.search(_QUOTED.sub("", name))
            return found[0] if found else None
        case _:
            return None


def _is_nameless(type_: Type) -> bool:
    """Whether a value holds a tuple somewhere: DuckDB has them, and no plan, table or file does."""
    match type_:
        case types.Maybe(inner) | types.ListOf(inner):
            return _is_nameless(inner)
        case types.Record(parts):
            return any(_is_nameless(part.type) for part in parts)
        case types.Other(name):
            return name.startswith("TUPLE(")
        case _:
            return False


def _several(text: ast.String) -> Problem:
    what, advice = "hold several statements", "keep the first, without `;`"
    return problems.ForbiddenSql(span=text.inner, what=what, advice=advice)


def _sample(type_: Type) -> Any:
    """A value of the type, for the binder to see a parameter by."""
    match types.required(type_):
        case types.Int():
            return 2**40  # what is smaller is taken for an INTEGER
        case types.Float():
            return 1.0
        case types.Bool():
            return True
        case types.Choice(values):
            return values[0]
        case types.ListOf(element):
            inner = types.required(element)
            return [_sample(inner) if not isinstance(inner, types.Int | types.Float) else 1]
        case types.Record(fields):
            return {field.name: "" for field in fields}
        case types.Other():
            return None
        case _:
            return ""
