"""What is known at one point of a task: its parameters, and the columns that were made before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from synthc.compiler import ast, typed, types
from synthc.compiler.check.files import Reader
from synthc.compiler.check.guards import Cases, written
from synthc.compiler.check.sql import Binder
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.values import assignable, described, resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span
from synthc.compiler.typed import Guard
from synthc.compiler.types import Type

Report = Callable[[Problem], None]


@dataclass(frozen=True, slots=True)
class Known:
    """What a task may refer to outside of itself. A set that did not hold stands as None."""

    backends: tuple[str, ...]
    constants: Mapping[str, tuple[Any, Type]]
    mutations: Mapping[str, typed.Mutations | None]
    files: Reader


@dataclass
class Uses:
    """What a task does with its parameters and columns, gathered while it is checked."""

    names: set[str] = field(default_factory=set)
    constants: set[str] = field(default_factory=set)
    counts: set[str] = field(default_factory=set)
    seen: dict[str, dict[str, Type]] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)
    """What is made in loops, and known only there."""


_SPELT = {
    "None": "null",
    "none": "null",
    "NULL": "null",
    "nil": "null",
    "True": "true",
    "False": "false",
}


def spelt(name: str) -> str | None:
    """What is meant by a literal as Python has it, or another language."""
    return f"did you mean `{_SPELT[name]}`?" if name in _SPELT else None


class TaskScope:
    """The names that a producer sees. A loop has a scope of its own, made of the one around it."""

    def __init__(
        self,
        owner: str,
        known: Known,
        parameters: Mapping[str, typed.Parameter],
        binder: Binder,
        report: Report,
        later: frozenset[str],
    ) -> None:
        self.owner = owner
        self.known = known
        self.parameters = parameters
        self.binder = binder
        self.later = later
        self.making: frozenset[str] = frozenset()
        self.uses = Uses()
        self.cases = Cases(parameters)
        self.columns: list[typed.Column] = []
        self._report = report

    def inside(self, columns: Iterable[typed.Column]) -> TaskScope:
        """The scope of a loop: what is here, and these columns."""
        made = TaskScope(
            self.owner, self.known, self.parameters, self.binder, self._report, self.later
        )
        new = tuple(columns)
        names = {column.name for column in new}
        made.columns = [*(c for c in self.columns if c.name not in names), *new]
        made.uses = self.uses
        return made

    # Columns

    def visible(self, guard: Guard) -> dict[str, Type]:
        """The columns that are there whenever the guard holds."""
        by_name: dict[str, list[typed.Column]] = {}
        for column in self.columns:
            by_name.setdefault(column.name, []).append(column)
        return {
            name: columns[0].type
            for name, columns in by_name.items()
            if self.cases.covered(guard, (column.guard for column in columns))
        }

    def first(self, name: str, guard: Guard) -> typed.Column | None:
        """A column of the name that is there in some case in which the guard holds."""
        for column in self.columns:
            same = column.name.lower() == name.lower()
            if same and not self.cases.exclude(column.guard, guard):
                return column
        return None

    @property
    def values(self) -> dict[str, Type]:
        """The parameters that have values: the spec's, hidden by the task's."""
        own = {name: p.type for name, p in self.parameters.items() if p.kind == "value"}
        hidden = {name for name, p in self.parameters.items() if p.kind != "value"}
        outer = {name: type_ for name, (_, type_) in self.known.constants.items()}
        return {name: t for name, t in {**outer, **own}.items() if name not in hidden}

    def names(self, guard: Guard) -> dict[str, Type]:
        """What a template sees: parameters and columns."""
        return {**self.values, **self.visible(guard)}

    def around(self, guard: Guard) -> Surroundings:
        """What SQL sees."""
        return Surroundings(self.owner, self.visible(guard), self.values)

    # Reporting

    def report(self, problem: Problem) -> None:
        """Report a problem, in better words where a name is made later, or not in every case."""
        match problem:
            case problems.SqlDoesNotFit() if any(
                column.type == types.NULL for column in self.columns
            ):
                return  # a type that could not be read was reported
            case problems.UnknownColumn(owner=owner) if owner != self.owner:
                pass  # a part of a record
            case problems.UnknownColumn(name=name) | problems.UnknownTemplateName(name=name):
                guards = tuple(written(c.guard) for c in self.columns if c.name == name)
                if guards:
                    problem = problems.GuardedOff(span=problem.span, name=name, guards=guards)
                elif isinstance(problem, problems.UnknownTemplateName) and self._no_value(name):
                    problem = msgspec.structs.replace(problem, advice=self._no_value(name))
                elif name in self.making:
                    advice = f"`{name}` is what is made here: it cannot read itself"
                    problem = msgspec.structs.replace(problem, advice=advice)
                elif name in self.uses.inside:
                    advice = f"`{name}` is known only inside of its loop"
                    problem = msgspec.structs.replace(problem, advice=advice)
                elif isinstance(problem, problems.UnknownColumn) and name in self.later:
                    advice = (
                        f"`{name}` is made further down: move its `out` or `let` above this one"
                    )
                    problem = msgspec.structs.replace(problem, advice=advice)
            case _:
                pass
        self._report(problem)

    # Lookups

    def column(self, path: ast.Path, guard: Guard) -> str | None:
        """The name of a column that is there; None where a problem was reported."""
        name = path.names[0].text
        if len(path.names) > 1:
            form = f'sql "{path}"'
            self.report(problems.WrongCall(span=path.span, callee=str(path), form=form))
            return None
        visible = self.visible(guard)
        if name not in visible:
            advice = (
                f"a parameter is written with a `$`: `${name}`" if name in self.values else None
            )
            if name in self.known.mutations:
                advice = f"a prompt of a set is drawn with `ask one of {name}`"
            elif name in ("random", "sampled", "choice"):
                advice = 'a value is drawn with `sample`, or `sample "a" | "b"`'
            elif spelt(name):
                advice = spelt(name)
            elif not name.isidentifier():
                advice = 'text stands in double quotes: `"…"`'
            self.report(
                problems.UnknownColumn(
                    span=path.span,
                    owner=self.owner,
                    name=name,
                    known=tuple(visible),
                    advice=advice,
                )
            )
            return None
        self.uses.names.add(name)
        return name

    def parameter(self, name: str, span: Span, guard: Guard) -> str | None:
        """The name of a parameter that has a value; None where a problem was reported."""
        if name not in self.values:
            self.report(
                problems.UnknownParameter(
                    span=span,
                    name=name,
                    known=tuple(self.values),
                    columns=tuple(self.visible(guard)),
                    advice=self._no_value(name),
                )
            )
            return None
        self.uses.names.add(name)
        return name

    def _no_value(self, name: str) -> str | None:
        """Where a parameter stands that names a declaration and has no value."""
        parameter = self.parameters.get(name)
        match parameter.kind if parameter else None:
            case "mutations":
                return f"`{name}` names a set of mutations: `ask one of ${name}`"
            case "backend":
                return f'`{name}` names a backend: `ask "…" using ${name}`'
            case _:
                return None

    def constant(
        self, value: ast.Value, what: str, type_: Type
    ) -> typed.FromParameter | tuple[object] | None:
        """A literal of the type, in a tuple of one, or a parameter whose value must be known."""
        if isinstance(value, ast.Path):
            self.report(problems.NotConstant(span=value.span, what=what, advice=self._give(value)))
            return None
        if not isinstance(value, ast.ParameterValue):
            return resolve_value(value, type_, what, self.report)
        name = self.parameter(value.name, value.span, ())
        if name is None:
            return None
        if not assignable(self.values[name], type_):
            self.report(
                problems.WrongType(
                    span=value.span,
                    what=what,
                    expected=types.name(type_),
                    found=types.name(self.values[name]),
                )
            )
            return None
        self.uses.constants.add(name)
        return typed.FromParameter(name)

    def _give(self, value: ast.Path) -> str:
        if str(value) in self.values:
            return f"a parameter is written with a `$`: `${value}`"
        return "give a literal, or a parameter: `$name`"

    def count(self, value: ast.Value, what: str, *, least: int = 0) -> typed.Count | None:
        """A whole number from `least`, or the parameter that is one."""
        found = self.constant(value, what, types.Int())
        if isinstance(found, typed.FromParameter):
            self.uses.counts.add(found.name)
            given = self.known.constants.get(found.name)
            if found.name in self.parameters or given is None or given[0] is None:
                return found
            number = given[0]
        elif found is None:
            return None
        else:
            number = found[0]
        if isinstance(number, int) and number >= least:
            return found if isinstance(found, typed.FromParameter) else number
        wanted = f"a whole number from {least}"
        shown = str(number) if isinstance(found, typed.FromParameter) else described(value)
        self.report(problems.BadValue(span=value.span, what=what, wanted=wanted, found=shown))
        return None

    def reference(
        self, node: ast.Reference, kind: str, known: Iterable[str]
    ) -> typed.Reference | None:
        """What names a declaration of the kind; None where a problem was reported."""
        if isinstance(node, ast.Path):
            if str(node) in known:
                return str(node)
            advice = None
            if (own := self.parameters.get(str(node))) and own.kind == kind:
                advice = f"a parameter is written with a `$`: `${node}`"
            self.report(
                problems.UnknownDeclaration(
                    span=node.span, kind=kind, name=str(node), known=tuple(known), advice=advice
                )
            )
            return None
        parameter = self.parameters.get(node.name)
        if parameter is None or parameter.kind != kind:
            options = tuple(name for name, p in self.parameters.items() if p.kind == kind)
            wanted = "set of mutations" if kind == "mutations" else kind
            advice = f"`{node.name}` names no {wanted}: its type would be `{kind}`"
            self.report(
                problems.UnknownParameter(
                    span=node.span,
                    name=node.name,
                    known=options,
                    advice=advice if node.name in self.values else None,
                )
            )
            return None
        self.uses.names.add(node.name)
        self.uses.constants.add(node.name)
        return typed.FromParameter(node.name)
