"""The columns of a table at one point of its chain, and how names are looked up there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from synthc.compiler import ast, plan, typed, types
from synthc.compiler.check import guards, task_scope
from synthc.compiler.check.files import Reader
from synthc.compiler.check.sql import Binder
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.values import IMAGES, assignable, described
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.graphs import Fit
from synthc.compiler.parse.words import FORMS
from synthc.compiler.span import Span
from synthc.compiler.types import Type

Report = Callable[[Problem], None]


@dataclass(frozen=True, slots=True)
class Known:
    """What a table may refer to: everything that was declared and checked before it.

    What did not hold stands as None, so that nothing is reported because of it. `fits` says how embedders
    use their graphs, where these are known; `folded` are the tables' names by those in lower case, as
    SQL takes them.
    """

    outside: task_scope.Known
    embedders: Mapping[str, plan.Embedder | None]
    fits: Mapping[str, Fit]
    tasks: Mapping[str, typed.Task | None]
    tables: Mapping[str, typed.Table | None]
    folded: Mapping[str, str]

    @property
    def files(self) -> Reader:
        """What looks into files."""
        return self.outside.files

    @property
    def constants(self) -> Mapping[str, tuple[Any, Type]]:
        """The spec's parameters: values and types."""
        return self.outside.constants

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends by name."""
        return self.outside.backends

    @property
    def parameters(self) -> dict[str, Type]:
        """The spec's parameters by type."""
        return {name: type_ for name, (_, type_) in self.constants.items()}

    def unsound(self, tables: Iterable[str]) -> bool:
        """Whether one of the tables that SQL names is declared, and did not hold."""
        named = (self.folded.get(name.lower()) for name in tables)
        return any(name is not None and self.tables[name] is None for name in named)


class Scope:
    """What a step finds: `columns` by name, in order. It changes from step to step.

    `absent` are columns, by their owner and name, that guards left out, with those guards.
    `columns_known` is false once a step did not hold that would have changed them.
    """

    def __init__(self, table: str, known: Known, binder: Binder, report: Report) -> None:
        self.table = table
        self.known = known
        self.binder = binder
        self.columns: dict[str, Type] = {}
        self.absent: dict[tuple[str, str], tuple[typed.Guard, ...]] = {}
        self.columns_known = True
        self._report = report

    def report(self, problem: Problem) -> None:
        """Report a problem, in better words where a column is left out by a guard."""
        match problem:
            case problems.UnknownColumn(span=span, owner=owner, name=name) if (
                owner,
                name,
            ) in self.absent and self.columns_known:
                self._report(guards.absent(span, name, self.absent[owner, name]))
            case _:
                self._report(problem)

    @property
    def around(self) -> Surroundings:
        """What SQL of a step sees."""
        return Surroundings(self.owner, self.columns, self.known.parameters)

    @property
    def owner(self) -> str:
        """How messages call the table."""
        return f"the table `{self.table}`"

    def has(self, name: ast.Name, columns: Mapping[str, Type]) -> bool:
        """Whether there is a column of the name; reports where there is none."""
        if name.text in columns:
            return True
        self.unknown_column(name, self.owner, columns)
        return False

    def unknown_column(self, name: ast.Name, owner: str, columns: Mapping[str, Type]) -> None:
        """Report that `owner` has no such column."""
        around = Surroundings(owner, columns, self.known.parameters)
        self.report(
            problems.UnknownColumn(
                span=name.span,
                owner=owner,
                name=name.text,
                known=tuple(columns),
                advice=task_scope.spelt(name.text) or around.meant(name.text, quoted=False),
            )
        )

    def wrong(self, callee: str, span: Span, form: str | None = None) -> None:
        """Report a source or step that is not called as it must be."""
        form = form or FORMS[callee]
        self.report(problems.WrongCall(span=span, callee=callee, form=form))

    def count(self, node: ast.Call, callee: str, allowed: tuple[str, ...] = ()) -> int | None:
        """The whole number from 0 that comes first; `allowed` are the names that may follow it."""
        rest = [argument.name.text if argument.name else "" for argument in node.arguments[1:]]
        if sorted(rest) != sorted({*rest} & {*allowed}):
            self.wrong(callee, node.span, _named(node, callee, allowed))
            return None
        match node.arguments[:1]:
            case (ast.Argument(None, ast.Literal(int() as number)),) if not isinstance(
                number, bool
            ):
                span, shown = node.arguments[0].span, str(number)
            case (ast.Argument(None, ast.ParameterValue(name, span)),):
                constant = self.constant(name, span)
                if constant is None:
                    return None
                number, shown = constant[0], f"`${name}` = {constant[0]}"
            case (ast.Argument(_, value),) if callee != "draw":
                counted = self._counted(value)
                said = [f"{a.name.text} = {a.value}" for a in node.arguments[1:] if a.name]
                form = f"{callee}({', '.join([counted, *said])})" if counted else None
                self.wrong(callee, node.span, form)
                return None
            case _:
                self.wrong(callee, node.span)
                return None
        if number is None:
            return None  # the parameter's value was reported
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            self.report(
                problems.BadValue(
                    span=span,
                    what=f"`{callee}`",
                    wanted="a whole number from 0",
                    found=shown,
                )
            )
            return None
        return number

    def _counted(self, value: ast.Value) -> str | None:
        """How a count is written that was given in quotes, or as a parameter without its sign."""
        match value:
            case ast.String(text) if text.isdecimal():
                return text
            case ast.Path((*_, ast.Name(name))) if name in self.known.constants:
                return f"${name}"
            case _:
                return None

    def constant(self, name: str, span: Span) -> tuple[Any, Type] | None:
        """The value and type of a parameter of the spec; None where there is none."""
        if name not in self.known.constants:
            self.report(
                problems.UnknownParameter(
                    span=span,
                    name=name,
                    known=tuple(self.known.constants),
                    columns=tuple(self.columns),
                )
            )
            return None
        return self.known.constants[name]

    def type_of(self, path: typed.Path) -> Type:
        """The type of a column or of a part of one, which is there."""
        type_ = self.columns[path[0]]
        for part in path[1:]:
            record = types.required(type_)
            fields = record.fields if isinstance(record, types.Record) else ()
            type_ = next(field.type for field in fields if field.name == part)
        return type_

    def path(self, value: ast.Path) -> typed.Path | None:
        """A column of the table, or a part of one; None where there is none of that name."""
        columns: Mapping[str, Type] = self.columns
        owner = self.owner
        for name in value.names:
            if name.text not in columns:
                self.unknown_column(name, owner, columns)
                return None
            inner = types.required(columns[name.text])
            owner = f"`{name.text}`"
            fields = inner.fields if isinstance(inner, types.Record) else ()
            columns = {field.name: field.type for field in fields}
        return tuple(name.text for name in value.names)

    def using(self, node: ast.Step, kind: str, known: tuple[str, ...]) -> str | None:
        """The backend or embedder that a step uses: the one it names, or the only one."""
        if node.usings:
            name = node.usings[0]
            if isinstance(name, ast.Path) and str(name) in known:
                return str(name)
            shown = str(name) if isinstance(name, ast.Path) else f"${name.name}"
            advice = None if isinstance(name, ast.Path) else f"a step names its {kind} itself"
            self.report(
                problems.UnknownDeclaration(
                    span=name.span, kind=kind, name=shown, known=known, advice=advice
                )
            )
            return None
        own = [name for name in known if "." not in name] or known  # theirs have a dot
        if len(own) == 1:
            return own[0]
        self.report(problems.UsingMissing(span=node.call.span, kind=kind, known=known))
        return None

    def taken(self, name: str, span: Span, advice: str | None = None) -> bool:
        """Whether a new column's name is one already; reports where it is."""
        if name.lower() not in (column.lower() for column in self.columns):
            return False
        advice = advice or "choose another name"
        self.report(problems.ColumnTwice(span=span, name=name, owner=self.owner, advice=advice))
        return True

    def fits(self, found: Type, wanted: Type, what: str, node: ast.Step | ast.Value) -> bool:
        """Whether a column can be taken for what a task wants; reports where it cannot."""
        if assignable(found, wanted):
            return True
        span = node.call.callee.span if isinstance(node, ast.Step) else node.span
        known = types.required(found)
        advice = "convert it before, in a `select`"
        scalar = not isinstance(known, types.Record) and types.element(known) is None
        if types.has_image(wanted) and not types.has_image(found):
            advice = IMAGES
        elif isinstance(types.required(wanted), types.Text) and scalar:
            advice += ', as in `select("*, size::VARCHAR AS size_text")`'
        elif not isinstance(known, types.Other):
            advice = f"declare it as `{types.name(known)}`, or {advice}"
        self.report(
            problems.WrongType(
                span=span,
                what=what,
                expected=types.name(wanted),
                found=types.name(found),
                advice=advice,
            )
        )
        return False


def _named(node: ast.Call, callee: str, allowed: tuple[str, ...]) -> str | None:
    """A call whose second argument was given another name than the one that may follow, or none."""
    match node.arguments:
        case (
            ast.Argument(None, (ast.Literal() | ast.ParameterValue()) as count, _, None),
            ast.Argument(_, ast.Path() as value, _, None),
        ) if allowed:
            return f"{callee}({described(count).strip('`')}, {allowed[0]} = {value})"
        case _:
            return None
