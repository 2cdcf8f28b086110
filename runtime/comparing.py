"""Two databases compared: what they were made of, their rows by their keys, their numbers, what they cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from synthc.compiler import plan, types
from synthc.compiler.types import Field, Record, Type
from synthc.runtime.errors import RunError
from synthc.runtime.planning.changes import changed
from synthc.runtime.store import history
from synthc.runtime.store.history import Asked, Made, Prompt
from synthc.runtime.store.store import check_format, connect, unusable

EXAMPLES = 3
"""Values of a column that are shown, of those that are different."""
LONGEST = 2_000
"""Characters of such a value."""
FEW = 10
"""Different values of a column of numbers up to which each of them is counted."""

_BEFORE, _AFTER = '"·before"', '"·after"'


@dataclass(frozen=True, slots=True)
class Side:
    """One of the databases: what was run last in it, and what it cost in US dollars, if prices are known."""

    path: str
    spec: str | None
    seed: int | None
    simulated: bool
    asked: tuple[Asked, ...]
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class PromptChange:
    """A prompt that is another one now; one side is None where it has none."""

    column: str
    before: Prompt | None
    after: Prompt | None


@dataclass(frozen=True, slots=True)
class Example:
    """A value that is different in two rows of one key."""

    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column, or a part of one that is a record: in how many rows of both sides it is different.

    A type is None where the column is not there.
    """

    name: str
    before: str | None
    after: str | None
    changed: int = 0
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Numbers:
    """How the numbers of a column are spread. `missing` are null, or no finite number.

    `quartiles` are at 25, 50 and 75 per cent; `values` counts each where they are FEW at most.
    """

    count: int
    missing: int
    mean: float | None
    deviation: float | None
    least: float | None
    quartiles: tuple[float, float, float] | None
    most: float | None
    values: tuple[tuple[float, int], ...] | None


@dataclass(frozen=True, slots=True)
class NumbersChange:
    """The numbers of a column in all rows of each side, and in how many rows of both they went up or down."""

    name: str
    before: Numbers
    after: Numbers
    higher: int
    lower: int
    equal: int
    mean_change: float | None


@dataclass(frozen=True, slots=True)
class TableChange:
    """A table of one side or of both.

    `made_of` says in words what it is made of differently. Rows are matched by their keys: `outcomes`
    are (what became of them in one, and in the other, how many), and `failures` (reason, how many in one,
    and in the other).
    """

    name: str
    before: Made | None
    after: Made | None
    made_of: tuple[str, ...] = ()
    prompts: tuple[PromptChange, ...] = ()
    both: int = 0
    only_before: int = 0
    only_after: int = 0
    outcomes: tuple[tuple[str | None, str | None, int], ...] = ()
    columns: tuple[ColumnChange, ...] = ()
    numbers: tuple[NumbersChange, ...] = ()
    failures: tuple[tuple[str, int, int], ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything of it is different."""
        counts = [made and made.counts for made in (self.before, self.after)]
        rows = self.only_before or self.only_after or any(column_differs(c) for c in self.columns)
        return bool(self.made_of or self.prompts or rows or counts[0] != counts[1])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two databases, table by table."""

    before: Side
    after: Side
    tables: tuple[TableChange, ...]

    @property
    def differs(self) -> bool:
        """Whether the tables are different, or what they are made of; time and money do not count."""
        return any(table.differs for table in self.tables)


def column_differs(column: ColumnChange) -> bool:
    """Whether a column is different in some row, or in its type."""
    return bool(column.changed) or column.before != column.after


def compare(before: Path, after: Path, table: str | None = None) -> Comparison:
    """Compare two databases, or one table of them. Raises RunError where one of them cannot be used."""
    if before.samefile(after):
        raise RunError(f"{before} and {after} are one database")
    with _opened(before) as first, _opened(after) as second:
        made = [{m.name: m for m in history.made(side)} for side in (first, second)]
        plans = [
            _plans(side, there.values()) for side, there in zip((first, second), made, strict=True)
        ]
        sides = _side(before, first), _side(after, second)
        orders = [_order(side) for side in (second, first)]
    names = dict.fromkeys((*orders[0], *orders[1], *made[1], *made[0]))
    names = [name for name in names if name in made[0] or name in made[1]]
    if table is not None:
        if table not in names:
            there = ", ".join(names) or "none"
            raise RunError(f"neither database has a table `{table}`", hint=f"there are: {there}")
        names = [table]
    with _both(before, after) as connection:
        tables = tuple(
            _table(connection, name, made[0].get(name), made[1].get(name), plans) for name in names
        )
    return Comparison(*sides, tables)


# The databases


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(path, read_only=True) as connection:
        check_format(connection, path)
        yield connection


@contextlib.contextmanager
def _both(before: Path, after: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"python_enable_replacements": False}) as connection:
        for path, name in ((before, _BEFORE), (after, _AFTER)):
            quoted = str(path).replace("'", "''")
            try:
                connection.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY)")
            except duckdb.Error as error:
                raise unusable(path, error) from None
        yield connection


_Plans = Mapping[int, plan.Plan]
"""The plans of runs, by their numbers."""


def _plans(connection: duckdb.DuckDBPyConnection, made: Any) -> _Plans:
    runs = {table.run_id for table in made}
    return {run: found for run in runs if (found := history.plan_of(connection, run))}


def _order(connection: duckdb.DuckDBPyConnection) -> list[str]:
    run = history.last_run(connection)
    last = None if run is None else history.plan_of(connection, run)
    return [table.name for table in last.tables] if last else []


def _side(path: Path, connection: duckdb.DuckDBPyConnection) -> Side:
    run = history.last_run(connection)
    last = None if run is None else history.plan_of(connection, run)
    return Side(
        str(path),
        last.spec if last else None,
        last.seed if last else None,
        history.is_simulated(connection),
        history.asked(connection),
        history.cost(connection),
    )


# A table


def _table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    before: Made | None,
    after: Made | None,
    plans: Sequence[_Plans],
) -> TableChange:
    if before is None or after is None:
        return TableChange(name, before, after)
    then, now = plans[0].get(before.run_id), plans[1].get(after.run_id)
    was, is_ = _named(then, name), _named(now, name)
    made_of: tuple[str, ...] = ("one of them was made by another version of synthc",)
    prompts: tuple[PromptChange, ...] = ()
    if then and now and was and is_:
        made_of = changed(then, was, now, is_)
        prompts = tuple(_prompts(was, is_))
    outcomes = _outcomes(connection, name)
    rows = _Rows(connection, name)
    kept = [(outcome[0] == "kept", outcome[1] == "kept", outcome[2]) for outcome in outcomes]
    return TableChange(
        name,
        before,
        after,
        made_of,
        prompts,
        both=sum(count for was_kept, is_kept, count in kept if was_kept and is_kept),
        only_before=sum(count for was_kept, is_kept, count in kept if was_kept and not is_kept),
        only_after=sum(count for was_kept, is_kept, count in kept if is_kept and not was_kept),
        outcomes=tuple(o for o in outcomes if o[0] != o[1]),
        columns=rows.columns(),
        numbers=rows.numbers(),
        failures=_failures(connection, name),
    )


def _named(plan_: plan.Plan | None, name: str) -> plan.Table | None:
    return next((t for t in plan_.tables if t.name == name), None) if plan_ else None


def _prompts(was: plan.Table, is_: plan.Table) -> Iterator[PromptChange]:
    before = {prompt.column: prompt for prompt in history.prompts(was)}
    after = {prompt.column: prompt for prompt in history.prompts(is_)}
    for column in dict.fromkeys((*after, *before)):
        old, new = before.get(column), after.get(column)
        if old is None or new is None or old.digest != new.digest:
            yield PromptChange(column, old, new)


def _outcomes(
    connection: duckdb.DuckDBPyConnection, table: str
) -> tuple[tuple[str | None, str | None, int], ...]:
    """What became of the rows of both sides, matched by their keys: None where one side has no such row."""
    of_table = "FROM {}.synth.rows WHERE table_name = $table"
    rows = connection.execute(
        "SELECT a.status, b.status, count(*)"
        f" FROM (SELECT row_key, status {of_table.format(_BEFORE)}) AS a"
        f" FULL JOIN (SELECT row_key, status {of_table.format(_AFTER)}) AS b USING (row_key)"
        " GROUP BY ALL ORDER BY ALL",
        {"table": table},
    ).fetchall()
    return tuple((was, is_, count) for was, is_, count in rows)


def _failures(
    connection: duckdb.DuckDBPyConnection, table: str
) -> tuple[tuple[str, int, int], ...]:
    counted = (
        "SELECT reason, count(*) AS n FROM {}.synth.failures WHERE table_name = $table GROUP BY ALL"
    )
    rows = connection.execute(
        f"SELECT reason, coalesce(a.n, 0), coalesce(b.n, 0) FROM ({counted.format(_BEFORE)}) AS a"
        f" FULL JOIN ({counted.format(_AFTER)}) AS b USING (reason) ORDER BY 1",
        {"table": table},
    ).fetchall()
    return tuple((reason, was, is_) for reason, was, is_ in rows)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column, or a part of one that is a record."""

    name: str
    sql: str
    type: Type
    declared: str

    @property
    def number(self) -> str | None:
        """It as a DOUBLE in SQL, null where it is no finite number; None where it is none at all."""
        match self.type:
            case types.Int() | types.Float() | types.Bool():
                double = f"CAST({self.sql} AS DOUBLE)"
                return f"if(isfinite({double}), {double}, NULL)"
            case _:
                return None


class _Rows:
    """The rows of a table on both sides."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        self._connection = connection
        self._table = table
        self._before = self._leaves(_BEFORE)
        self._after = self._leaves(_AFTER)
        self._shared = [name for name in self._after if name in self._before]

    def _leaves(self, side: str) -> dict[str, _Leaf]:
        found = self._connection.execute(
            f"SELECT column_name, column_type FROM (DESCRIBE {side}.main.{types.quote(self._table)})"
        ).fetchall()
        leaves = [
            leaf
            for name, type_ in found
            for leaf in _leaves(
                _Leaf(
                    name,
                    types.quote(name),
                    types.from_duckdb(duckdb.sqltype(type_)),
                    type_,
                )
            )
        ]
        return {leaf.name: leaf for leaf in leaves}

    def _side(self, side: str, columns: Sequence[str]) -> str:
        """The rows of a side with their keys, the columns called c0, c1, …"""
        chosen = "".join(f", {sql} AS c{number}" for number, sql in enumerate(columns))
        keys = (
            f"SELECT row_key, position FROM {side}.synth.rows"
            " WHERE table_name = $table AND status = 'kept' ORDER BY position"
        )
        return (
            f"(SELECT row_key, position{chosen} FROM {side}.main.{types.quote(self._table)}"
            f" POSITIONAL JOIN ({keys}))"
        )

    def _joined(self, before: Sequence[str], after: Sequence[str]) -> str:
        return f"{self._side(_BEFORE, before)} AS a JOIN {self._side(_AFTER, after)} AS b USING (row_key)"

    def _first(self, query: str) -> tuple[Any, ...]:
        return self._connection.execute(query, {"table": self._table}).fetchall()[0]

    def columns(self) -> tuple[ColumnChange, ...]:
        """The columns, in the order of the second side; those that only the first has at the end."""
        same = [n for n in self._shared if self._before[n].declared == self._after[n].declared]
        differ = ", ".join(
            f"count(*) FILTER (a.c{at} IS DISTINCT FROM b.c{at})" for at, _ in enumerate(same)
        )
        sqls = [[side[name].sql for name in same] for side in (self._before, self._after)]
        counts = dict(
            zip(same, self._first(f"SELECT {differ} FROM {self._joined(*sqls)}"), strict=True)
            if same
            else ()
        )
        return tuple(
            ColumnChange(
                name,
                self._before[name].declared if name in self._before else None,
                self._after[name].declared if name in self._after else None,
                counts.get(name, 0),
                self._examples(name) if counts.get(name) else (),
            )
            for name in dict.fromkeys((*self._after, *self._before))
        )

    def _examples(self, name: str) -> tuple[Example, ...]:
        shown = ", ".join(f"left(CAST({side}.c0 AS VARCHAR), {LONGEST})" for side in "ab")
        found = self._connection.execute(
            f"SELECT {shown} FROM {self._joined([self._before[name].sql], [self._after[name].sql])}"
            f" WHERE a.c0 IS DISTINCT FROM b.c0 ORDER BY b.position LIMIT {EXAMPLES}",
            {"table": self._table},
        ).fetchall()
        return tuple(Example(was, is_) for was, is_ in found)

    def numbers(self) -> tuple[NumbersChange, ...]:
        """The columns that hold numbers on both sides."""
        found: list[NumbersChange] = []
        for name in self._shared:
            was, is_ = self._before[name].number, self._after[name].number
            if was is None or is_ is None:
                continue
            moved = self._first(
                "SELECT count(*) FILTER (b.c0 > a.c0), count(*) FILTER (b.c0 < a.c0),"
                " count(*) FILTER (b.c0 = a.c0), avg(b.c0 - a.c0)"
                f" FROM {self._joined([was], [is_])}"
            )
            spread = self._numbers(_BEFORE, was), self._numbers(_AFTER, is_)
            found.append(NumbersChange(name, *spread, *moved))
        return tuple(found)

    def _numbers(self, side: str, number: str) -> Numbers:
        rows = f"(SELECT {number} AS c FROM {side}.main.{types.quote(self._table)})"
        count, missing, mean, deviation, least, quartiles, most, different = (
            self._connection.execute(
                "SELECT count(c), count(*) - count(c), avg(c), stddev_samp(c), min(c),"
                " quantile_cont(c, [0.25, 0.5, 0.75]), max(c), count(DISTINCT c)"
                f" FROM {rows}"
            ).fetchall()[0]
        )
        values = None
        if different <= FEW:
            values = tuple(
                self._connection.execute(
                    f"SELECT c, count(*) FROM {rows} WHERE c IS NOT NULL GROUP BY c ORDER BY c"
                ).fetchall()
            )
        return Numbers(
            count, missing, mean, deviation, least, quartiles and tuple(quartiles), most, values
        )


def _leaves(leaf: _Leaf) -> Iterator[_Leaf]:
    """A column as it is, or the parts of one that is a record."""
    if not isinstance(leaf.type, Record):
        yield leaf
        return
    for field in leaf.type.fields:
        yield from _leaves(_part(leaf, field))


def _part(leaf: _Leaf, field: Field) -> _Leaf:
    literal = field.name.replace("'", "''")
    return _Leaf(
        f"{leaf.name}.{field.name}",
        f"struct_extract({leaf.sql}, '{literal}')",
        field.type,
        types.sql(field.type),
    )
