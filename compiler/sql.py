"""SQL checked by DuckDB itself: bound against empty tables of the inferred types, in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
from synthc.compiler import ast, types
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

Report = Callable[[Problem], None]

# No spec can name this table by accident; messages never show it.
_ROW = '"·row"'


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


def literal(value: Any, type_: Type) -> str:  # noqa: ANN401 - a literal of any type of the language
    """A value as a typed SQL literal."""
    return f"CAST({_constant(value)} AS {types.sql(type_)})"


def _constant(value: Any) -> str:  # noqa: ANN401
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


class Binder:
    """An in-memory DuckDB that knows the spec's tables by their columns, and holds no rows."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:", config={"python_enable_replacements": False})
        self._connection.execute("SET errors_as_json = true")
        self._connection.execute("SET enable_external_access = false")
        rows = self._connection.execute(
            "SELECT lower(function_name), bool_or(stability != 'CONSISTENT'),"
            " bool_or(function_type = 'aggregate') FROM duckdb_functions()"
            " WHERE function_type IN ('scalar', 'aggregate') GROUP BY 1"
        ).fetchall()
        self._volatile = {name for name, volatile, _ in rows if volatile}
        self._aggregates = {name for name, _, aggregate in rows if aggregate}

    def define(self, table: str, fields: tuple[Field, ...]) -> None:
        """Make a spec's table known. Raises nothing: names were checked to differ."""
        columns = ", ".join(f"{types.quote(f.name)} {types.sql(f.type)}" for f in fields)
        if columns:
            self._connection.execute(f"CREATE OR REPLACE TABLE {types.quote(table)} ({columns})")
        else:  # DuckDB has no table without columns: one that no spec can name stands in
            self._connection.execute(f'CREATE OR REPLACE TABLE {types.quote(table)} ("·" INTEGER)')

    def expression(
        self,
        text: ast.String,
        scope: Mapping[str, Type],
        parameters: Mapping[str, Type],
        owner: str,
        report: Report,
        *,
        wanted: str = "expression",
    ) -> Bound | None:
        """One value of one row. None where a problem was reported."""
        bound = self._row_wise(text, scope, parameters, owner, report, wanted)
        if bound is None:
            return None
        if len(bound.fields) != 1:
            reason = f"one value is wanted, and these are {len(bound.fields)}"
            report(problems.SqlSyntax(span=text.span, reason=reason, wanted=wanted))
            return None
        return bound

    def condition(
        self,
        text: ast.String,
        scope: Mapping[str, Type],
        parameters: Mapping[str, Type],
        owner: str,
        report: Report,
    ) -> Bound | None:
        """True or false of one row. None where a problem was reported."""
        bound = self.expression(text, scope, parameters, owner, report, wanted="condition")
        if bound and not isinstance(bound.fields[0].type, types.Bool):
            found = types.name(bound.fields[0].type)
            report(
                problems.WrongType(span=text.span, what="a condition", expected="bool", found=found)
            )
            return None
        return bound

    def columns(
        self,
        text: ast.String,
        scope: Mapping[str, Type],
        parameters: Mapping[str, Type],
        owner: str,
        report: Report,
    ) -> Bound | None:
        """A list of columns of one row. None where a problem was reported."""
        return self._row_wise(text, scope, parameters, owner, report, "list of columns")

    def query_tables(self, text: ast.String) -> tuple[str, ...]:
        """The tables a query names, whether or not they exist; () where it cannot be read."""
        tree = self._serialise(text.text)
        if tree.get("error"):
            return ()
        return _tables(tree["statements"])

    def query(
        self,
        text: ast.String,
        parameters: Mapping[str, Type],
        known: tuple[str, ...],
        report: Report,
    ) -> Bound | None:
        """A whole SELECT over the spec's tables. None where a problem was reported."""
        tree = self._read(text, text.text, 0, "query", report)
        if tree is None:
            return None
        places = _Places(text, 0)
        nodes = list(_nodes(tree))
        sound = self._check_functions(nodes, places, report)
        for node in nodes:
            if node.get("type") == "TABLE_FUNCTION":
                name = node.get("function", {}).get("function_name", "")
                if name not in ("range", "generate_series", "unnest"):
                    what = f"read `{name}(…)`"
                    report(problems.ForbiddenSql(span=places.of(node), what=what))
                    sound = False
            elif node.get("type") == "BASE_TABLE" and node.get("schema_name"):
                what = f"reach for the schema `{node['schema_name']}`"
                report(problems.ForbiddenSql(span=places.of(node), what=what))
                sound = False
        bound = self._bind(text.text, places, parameters, "the query", known, {}, report, nodes)
        if bound is None or not sound:
            return None
        if not self._named(bound, text, tree, report):
            return None
        modifiers = tree["modifiers"]
        return Bound(
            text=text.text,
            fields=bound,
            parameters=_parameters(nodes, places),
            tables=_tables(tree),
            ordered=any(m["type"] == "ORDER_MODIFIER" for m in modifiers),
        )

    def _row_wise(
        self,
        text: ast.String,
        scope: Mapping[str, Type],
        parameters: Mapping[str, Type],
        owner: str,
        report: Report,
        wanted: str,
    ) -> Bound | None:
        self.define("·row", tuple(Field(name, type_) for name, type_ in scope.items()))
        before = "SELECT "
        query = f"{before}{text.text}\nFROM {_ROW}"
        places = _Places(text, len(before))
        tree = self._read(text, query, len(before), wanted, report)
        if tree is None:
            return None
        nodes = list(_nodes(tree))
        if not _only_a_list(tree):
            report(
                problems.SqlSyntax(span=text.span, reason="it holds more than that", wanted=wanted)
            )
            return None
        sound = self._check_functions(nodes, places, report)
        for node in nodes:
            what = self._many_rows(node)
            if what:
                report(problems.NotRowWise(span=places.of(node), what=what))
                sound = False
        if not sound:
            return None
        fields = self._bind(query, places, parameters, owner, (), scope, report, nodes)
        if fields is None:
            return None
        if wanted == "list of columns" and not self._named(fields, text, tree, report):
            return None
        return Bound(
            text=text.text,
            fields=fields,
            paths=_paths(nodes, scope),
            parameters=_parameters(nodes, places),
            plain=_plain(tree, fields, scope),
        )

    def _many_rows(self, node: dict[str, Any]) -> str | None:
        if node.get("class") == "SUBQUERY":
            return "a subquery"
        if node.get("class") == "WINDOW":
            return f"the window function `{node.get('function_name', '')}`"
        if node.get("class") == "FUNCTION" and node["function_name"].lower() in self._aggregates:
            name = node["function_name"].removesuffix("_star")
            return f"the aggregate `{name}`"
        return None

    def _serialise(self, query: str) -> dict[str, Any]:
        row = self._connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
        return json.loads(row[0]) if row else {"error": True}

    def _read(
        self, text: ast.String, query: str, before: int, wanted: str, report: Report
    ) -> dict[str, Any] | None:
        """The one SELECT in `query` as DuckDB's own tree."""
        tree = self._serialise(query)
        places = _Places(text, before)
        if tree.get("error"):
            if tree.get("error_type") == "not implemented":
                report(problems.ForbiddenSql(span=text.span, what="do anything but SELECT"))
                return None
            reason = tree.get("error_message", "it cannot be read").replace('"', "`")
            if "end of input" in reason or int(tree.get("position", 0)) >= before + places.size:
                reason, span = "it ends too early", text.at(len(text.text) - 1)
            else:
                span = places.at(int(tree.get("position", 0)), 1)
            report(problems.SqlSyntax(span=span, reason=reason, wanted=wanted))
            return None
        if len(tree["statements"]) != 1:
            report(problems.ForbiddenSql(span=text.span, what="hold several statements"))
            return None
        return tree["statements"][0]["node"]

    def _check_functions(
        self, nodes: list[dict[str, Any]], places: _Places, report: Report
    ) -> bool:
        sound = True
        for node in nodes:
            name = node.get("function_name", "").lower()
            if node.get("class") == "FUNCTION" and name in self._volatile:
                report(problems.VolatileSql(span=places.of(node), name=name))
                sound = False
            elif node.get("class") == "COLUMN_REF" and node["column_names"][-1].lower() in (
                "current_date",
                "current_timestamp",
                "current_time",
                "localtime",
                "localtimestamp",
            ):
                name = node["column_names"][-1]
                report(problems.VolatileSql(span=places.of(node), name=name))
                sound = False
        return sound

    def _bind(
        self,
        query: str,
        places: _Places,
        parameters: Mapping[str, Type],
        owner: str,
        tables: tuple[str, ...],
        scope: Mapping[str, Type],
        report: Report,
        nodes: list[dict[str, Any]],
    ) -> tuple[Field, ...] | None:
        used = {node["identifier"]: node for node in nodes if node.get("class") == "PARAMETER"}
        unknown = [name for name in used if name not in parameters]
        for name in unknown:
            report(
                problems.UnknownParameter(
                    span=places.of(used[name]),
                    name=name,
                    known=tuple(parameters),
                    columns=tuple(scope),
                )
            )
        if unknown:
            return None
        values = {name: _sample(parameters[name]) for name in used}
        try:
            self._connection.execute(f"DESCRIBE {query}", values)
            relation = self._connection.sql(query, params=values or None)
        except duckdb.Error as error:
            report(_bind_problem(str(error), places, owner, tables, scope))
            return None
        return tuple(
            Field(name, types.from_duckdb(type_))
            for name, type_ in zip(relation.columns, relation.types, strict=True)
        )

    def _named(
        self, fields: tuple[Field, ...], text: ast.String, tree: dict[str, Any], report: Report
    ) -> bool:
        """Whether every column has a name of its own, each once."""
        items = tree.get("select_list", [])
        before = 0
        seen: set[str] = set()
        for field in fields:
            if field.name.lower() in seen:
                report(
                    problems.ColumnTwice(
                        span=text.span, name=field.name, owner="this list of columns"
                    )
                )
                return False
            seen.add(field.name.lower())
        for item in items:
            if (
                item["alias"]
                or item["class"] in ("COLUMN_REF", "STAR")
                or len(items) != len(fields)
            ):
                continue
            if item["type"] == "STRUCT_EXTRACT":
                continue
            name = fields[before + items.index(item)].name
            report(problems.UnnamedColumn(span=text.span, expression=name))
            return False
        return True


class _Places:
    """Byte offsets of DuckDB's in a query → places in the spec."""

    def __init__(self, text: ast.String, before: int) -> None:
        self._text = text
        self._before = before
        self._bytes = text.text.encode()
        self.size = len(self._bytes)

    def characters(self, offset: int, length: int) -> tuple[int, int]:
        start = offset - self._before
        first = len(self._bytes[: max(0, start)].decode(errors="ignore"))
        last = len(self._bytes[: max(0, start + length)].decode(errors="ignore"))
        return first, last - first

    def at(self, offset: int, length: int) -> Span:
        start, count = self.characters(offset, length)
        return self._text.at(start, max(1, count))

    @property
    def whole(self) -> Span:
        return self._text.span

    def find(self, name: str) -> Span:
        """Where the name stands for the first time, whatever its case."""
        at = self._text.text.lower().find(name.lower())
        return self._text.at(at, len(name)) if at >= 0 else self._text.span

    def of(self, node: dict[str, Any]) -> Span:
        offset = node.get("query_location", 0)
        if offset >= 2**63:  # DuckDB's word for "nowhere"
            return self._text.span
        return self.at(offset, node.get("query_location_length", 1))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any JSON
    if isinstance(tree, dict):
        yield tree
        for child in tree.values():
            yield from _nodes(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _nodes(child)


def _only_a_list(tree: dict[str, Any]) -> bool:
    return (
        tree.get("type") == "SELECT_NODE"
        and not tree["modifiers"]
        and not tree["cte_map"]["map"]
        and tree["where_clause"] is None
        and not tree["group_expressions"]
        and tree["having"] is None
        and tree["sample"] is None
        and tree["qualify"] is None
        and tree["from_table"].get("type") == "BASE_TABLE"
        and types.quote(tree["from_table"].get("table_name", "")) == _ROW
    )


def _tables(tree: Any) -> tuple[str, ...]:  # noqa: ANN401
    nodes = list(_nodes(tree))
    local = {entry["key"] for node in nodes for entry in node.get("cte_map", {}).get("map", [])}
    names = [
        n["table_name"] for n in nodes if n.get("type") == "BASE_TABLE" and n.get("table_name")
    ]
    return tuple(dict.fromkeys(name for name in names if name not in local))


def _parameters(nodes: list[dict[str, Any]], places: _Places) -> tuple[tuple[str, int, int], ...]:
    return tuple(
        (
            node["identifier"],
            *places.characters(node["query_location"], len(node["identifier"]) + 1),
        )
        for node in nodes
        if node.get("class") == "PARAMETER"
    )


def _paths(nodes: list[dict[str, Any]], scope: Mapping[str, Type]) -> tuple[tuple[str, ...], ...]:
    """Which columns are read: a part of a struct alone where only that is named."""
    names = {name.lower(): name for name in scope}
    found: set[tuple[str, ...]] = set()
    for node in nodes:
        if node.get("class") == "STAR":
            found.update((name,) for name in scope)
        if node.get("class") != "COLUMN_REF":
            continue
        first, *rest = node["column_names"]
        name = names.get(first.lower())
        if name is None:
            continue
        type_ = types.required(scope[name])
        parts = (
            {f.name.lower(): f.name for f in type_.fields}
            if isinstance(type_, types.Record)
            else {}
        )
        part = parts.get(rest[0].lower()) if rest else None
        found.add((name, part) if part else (name,))
    whole = {path for path in found if len(path) == 1}
    kept = whole | {path for path in found if (path[0],) not in whole}
    order = list(scope)
    return tuple(sorted(kept, key=lambda path: (order.index(path[0]), path)))


def _plain(
    tree: dict[str, Any], fields: tuple[Field, ...], scope: Mapping[str, Type]
) -> dict[str, tuple[str, ...]]:
    """Which columns of the result only repeat one of the scope, where that can be told."""
    names = {name.lower(): name for name in scope}
    found: dict[str, tuple[str, ...]] = {}
    position = 0
    for item in tree["select_list"]:
        if item["class"] == "STAR":
            simple = not (item["columns"] or item["replace_list"] or item["rename_list"])
            if not simple:
                return {}
            left_out = {
                (name if isinstance(name, str) else str(name)).lower()
                for name in item["exclude_list"]
            }
            for name in scope:
                if name.lower() not in left_out:
                    found[fields[position].name] = (name,)
                    position += 1
            continue
        if item["class"] == "COLUMN_REF":
            path = item["column_names"]
            if len(path) == 1 and path[0].lower() in names:
                found[fields[position].name] = (names[path[0].lower()],)
            elif len(path) == 2 and path[0].lower() in names:
                type_ = types.required(scope[names[path[0].lower()]])
                if isinstance(type_, types.Record):
                    parts = {f.name.lower(): f.name for f in type_.fields}
                    found[fields[position].name] = (names[path[0].lower()], parts[path[1].lower()])
        position += 1
    return found


def _sample(type_: Type) -> Any:  # noqa: ANN401
    """A value of the type, for the binder to see a parameter by."""
    match types.required(type_):
        case types.Int():
            return duckdb.Value(1, duckdb.sqltypes.BIGINT)
        case types.Float():
            return duckdb.Value(1.0, duckdb.sqltypes.DOUBLE)
        case types.Bool():
            return duckdb.Value(True, duckdb.sqltypes.BOOLEAN)
        case types.Choice(values):
            return values[0]
        case types.ListOf(element):
            inner = types.required(element)
            return [_sample(inner) if not isinstance(inner, types.Int | types.Float) else 1]
        case types.Record(fields):
            return {field.name: "" for field in fields}
        case _:
            return ""


def _bind_problem(
    message: str,
    places: _Places,
    owner: str,
    tables: tuple[str, ...],
    scope: Mapping[str, Type],
) -> Problem:
    try:
        facts = json.loads(message[message.index("{") :])
    except ValueError:
        facts = {"exception_message": message.split(": ", 1)[-1]}
    text: str = facts.get("exception_message", message)
    reason = text.split("\n", maxsplit=1)[0].rstrip(".!").replace('"', "`")
    name = facts.get("name", "")
    # The binder saw "DESCRIBE " before the query.
    offset = int(facts["position"]) - len("DESCRIBE ") if "position" in facts else None
    subtype = facts.get("error_subtype", "")
    if (
        subtype == "COLUMN_NOT_FOUND"
        or "EXCLUDE list not found" in text
        or "not found in FROM" in text
    ):
        quoted = text.split('"')
        name = name or (quoted[1] if len(quoted) > 1 else "?")
        span = places.at(offset, len(name.encode())) if offset is not None else places.find(name)
        known = tuple(scope) or _candidates(facts)
        return problems.UnknownColumn(span=span, owner=owner, name=name, known=known)
    if "Could not find key" in text:
        key = text.split('"')[1]
        known = tuple(part for part in text.rpartition("Entries:")[2].replace('"', "").split(", "))
        known = tuple(part.strip() for part in known)
        return problems.UnknownColumn(
            span=places.find(key), owner="the struct", name=key, known=known
        )
    span = places.at(offset, max(1, len(name.encode()))) if offset is not None else places.whole
    if facts.get("type") == "Table" or "Table with name" in text:
        return problems.UnknownDeclaration(span=span, kind="table", name=name, known=tables)
    if "Function" in facts.get("type", ""):
        near = facts.get("candidates", "").split(",")[0] or None
        return problems.UnknownFunction(span=span, name=name, near=near)
    if "ermission" in message[:12] or "disabled" in text:
        return problems.ForbiddenSql(span=span, what="read or write files")
    call = facts.get("call")
    if call and subtype == "NO_MATCHING_FUNCTION":
        reason = (
            f"`{call.replace('_LITERAL', '')}` makes no sense (cast one side, as in `x::INTEGER`)"
        )
    return problems.SqlDoesNotFit(span=span, reason=reason)


def _candidates(facts: dict[str, Any]) -> tuple[str, ...]:
    return tuple(part.strip() for part in facts.get("candidates", "").split(",") if part.strip())
