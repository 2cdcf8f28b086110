"""What `import synthc` gives: `compile`, `run` and `results`, and what these return and raise."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from synthc import notebook
from synthc.compiler import plan as compiled_plan
from synthc.compiler import types
from synthc.compiler.compile import DEFAULT_SEED, compile_spec
from synthc.compiler.diagnostics.problem import nearest
from synthc.compiler.diagnostics.render import plain, render
from synthc.runtime.environment import environment
from synthc.runtime.errors import RunError, Stopped

if TYPE_CHECKING:
    import duckdb

__all__ = ["CompileError", "Plan", "Results", "RunError", "compile", "results", "run"]

AnyPath = str | PathLike[str]


class CompileError(Exception):
    """A spec with errors. The text is what `synthc compile` says of it; `codes` are those of the errors."""

    def __init__(self, text: str, codes: Sequence[str]) -> None:
        super().__init__(text)
        self.codes = tuple(codes)


@dataclass(frozen=True, slots=True)
class Plan:
    """A spec that was compiled, ready to be run. `warnings` are what `synthc compile` says of it."""

    path: Path
    compiled: compiled_plan.Plan = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, dict[str, str]]:
        """The tables that a run makes, and the types of their columns as SQL names them."""
        return {
            table.name: {output.name: types.sql(output.type) for output in table.outputs}
            for table in self.compiled.tables
            if not table.hidden
        }

    def save(self, path: AnyPath) -> None:
        """Write the plan to a file, which `synthc run` takes too."""
        Path(path).write_bytes(compiled_plan.encode(self.compiled))

    def _repr_html_(self) -> str:
        from synthc.runtime.planning.picture import svg

        columns = {
            table.name: "rows for SQL" if table.hidden else _counted(len(table.outputs), "column")
            for table in self.compiled.tables
        }
        rows = [
            (name, ", ".join(f"{column} {type_}" for column, type_ in columns.items()))
            for name, columns in self.tables.items()
        ]
        picture = f'<div style="overflow-x: auto">{svg(self.compiled, columns)}</div>'
        return picture + notebook.table(("table", "columns"), rows)


class Results:
    """The tables of a database, to be read. A run of the same database closes what is open here.

    `failures` counts the rows of each table that failed; `sql` of `synth.failures` says why.
    """

    def __init__(self, database: AnyPath) -> None:
        """Open a database that a run made. Raises RunError where there is none."""
        self.database = Path(database).absolute()
        if not self.database.is_file():
            raise RunError(f"there is no database {self.database}", hint="`synthc.run` makes one")
        self._connection: duckdb.DuckDBPyConnection | None = None
        _open.add(self)

    def sql(self, query: str, parameters: Sequence[Any] | None = None) -> duckdb.DuckDBPyRelation:
        """The rows of a query: `.df()`, `.arrow()`, `.fetchall()` of it are what they are in DuckDB.

        Raises duckdb.Error where the SQL is wrong, RunError where the database cannot be opened.
        """
        return self._opened().sql(query, params=parameters)

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """The rows of a table. Raises RunError where there is none of that name."""
        if name not in self.tables:
            near = nearest(name, self.tables)
            raise RunError(
                f"{self.database.name} has no table `{name}`",
                hint=f"did you mean `{near}`?" if near else f"it has {', '.join(self.tables)}",
            )
        return self._opened().table(f"main.{types.quote(name)}")

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables, in their order in the alphabet."""
        found = self._opened().sql(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
        )
        return tuple(name for (name,) in found.fetchall())

    @property
    def failures(self) -> dict[str, int]:
        """How many rows of each table failed."""
        found = self._opened().sql("SELECT table_name, failed FROM synth.tables ORDER BY 1")
        return dict(found.fetchall())

    def close(self) -> None:
        """Let go of the database, so that others can write it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Results({str(self.database)!r}: {', '.join(self.tables)})"

    def _repr_html_(self) -> str:
        counts = self._opened().sql(
            "SELECT table_name, kept, dropped, failed FROM synth.tables ORDER BY 1"
        )
        return notebook.table(("table", "kept", "dropped", "failed"), counts.fetchall())

    def _opened(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            from synthc.runtime.store.store import connect

            self._connection = connect(self.database, read_only=True)
            notebook.show_relations()
        return self._connection


_open: weakref.WeakSet[Results] = weakref.WeakSet()
"""DuckDB lets no one write a file that is open to be read: a cell that is run again must."""


def compile(spec: AnyPath, *, seed: int = DEFAULT_SEED, **parameters: Any) -> Plan:  # noqa: A001
    """The plan of a spec, whose `param`s are given by name.

    Raises CompileError where the spec has errors, or no parameter of that name; OSError and
    UnicodeDecodeError where the file cannot be read.
    """
    path = Path(spec)
    given = {name: _written(value) for name, value in parameters.items()}
    found = compile_spec(path, given, seed)
    said = [render(problem, found.sources, plain) for problem in found.problems]
    if found.plan is None:
        codes = [problem.code for problem in found.problems]
        raise CompileError("\n\n".join(said), codes)
    unknown = [name for name in given if name not in found.parameters]
    if unknown:
        known = ", ".join(f"`{name}`" for name in found.parameters) or "none"
        raise CompileError(
            f"{path.name} has no parameter `{unknown[0]}`; its parameters: {known}", ()
        )
    return Plan(path, found.plan, tuple(said))


def run(
    plan: Plan | AnyPath,
    *,
    database: AnyPath | None = None,
    simulate: bool = False,
    limit: int | None = None,
    retry_failed: bool = False,
    max_tokens: int | None = None,
    max_usd: float | None = None,
    env: Mapping[str, str] | None = None,
) -> Results:
    """Run a plan (or a spec, which is compiled first) into a database, and open the results.

    The database is the one beside the spec, where none is named; run again, it goes on where it was.
    The other arguments are the options of `synthc run`; `env` is read in the place of the environment
    and a `.env` file. In a notebook it runs beside the event loop that is there.

    Raises CompileError; RunError where the run cannot go on, with what was answered kept (`Stopped`
    where running again continues it).
    """
    ready = plan if isinstance(plan, Plan) else compile(plan)
    from synthc.runtime.run import Options, Report
    from synthc.runtime.simulate import Simulated

    marked = ".simulated" if simulate else ""
    target = Path(database or ready.path.with_suffix(f"{marked}.duckdb")).absolute()
    if not target.parent.is_dir():
        raise RunError(f"there is no folder {target.parent} for the database")
    for held in _open:
        if held.database == target:
            held.close()
    options = Options(
        target,
        ready.path.parent.absolute(),
        environment(ready.path.parent) if env is None else env,
        limit,
        Simulated(ready.compiled.seed) if simulate else None,
        retry_failed=retry_failed,
        max_tokens=max_tokens,
        max_usd=max_usd,
    )
    _to_its_end(ready.compiled, options, Report())
    return Results(target)


def results(database: AnyPath) -> Results:
    """The tables of a database that a run made. Raises RunError where there is none."""
    return Results(database)


def _to_its_end(plan: compiled_plan.Plan, options: Any, report: Any) -> None:
    from synthc.runtime.run import run as run_plan

    def whole() -> None:
        run_plan(plan, options, report, lambda _said: None)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        whole()
        return
    # One thread has one event loop, and a notebook's is taken.
    with concurrent.futures.ThreadPoolExecutor(1, "synthc") as thread:
        running = thread.submit(whole)
        try:
            running.result()
        except KeyboardInterrupt:
            report.stop()
            concurrent.futures.wait([running])
            raise Stopped("interrupted; what was answered is kept", hint="run again") from None


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _written(value: Any) -> str:
    """A value as the command line would give it."""
    return value if isinstance(value, str) else json.dumps(value)
