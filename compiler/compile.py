"""The compiler as one function: parse → link → check → lower → optimise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synthc.compiler.ast import Parameter
from synthc.compiler.check.check import check
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.link import link
from synthc.compiler.lower.lower import lower, lower_test
from synthc.compiler.optimise import optimise
from synthc.compiler.parse.parse import parse
from synthc.compiler.plan import Plan, Test
from synthc.compiler.span import Span

DEFAULT_SEED = 42


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan, or None where there are errors; what there is to say; the texts that places are in.

    `parameters` names what the spec can be given, `tests` are those of its tasks, `lowered` is the plan
    before the optimiser saw it.
    """

    plan: Plan | None
    problems: tuple[Problem, ...]
    sources: Mapping[str, str]
    parameters: tuple[str, ...]
    tests: tuple[Test, ...] = ()
    lowered: Plan | None = None


def compile_spec(
    path: Path, given: Mapping[str, str] | None = None, seed: int = DEFAULT_SEED
) -> Compiled:
    """Compile the spec in a file. `given` are parameters as the command line gives them (all text).

    Raises OSError or UnicodeDecodeError where the file cannot be read as text.
    """
    return compile_text(path.read_text(encoding="utf-8"), path.name, path.parent, given, seed)


def compile_text(
    text: str,
    name: str,
    base: Path,
    given: Mapping[str, str] | None = None,
    seed: int = DEFAULT_SEED,
) -> Compiled:
    """Compile the text of a spec: `name` stands in places and in the plan, `base` is where paths start."""
    spec, unreadable = parse(text, name)
    parameters = tuple(d.name.text for d in spec.declarations if isinstance(d, Parameter))
    linked = link(spec, base, unreadable.append)
    checked, problems = check(linked.spec, given or {}, base)
    # The spec itself first, then the files it uses.
    found = sorted((*unreadable, *problems), key=lambda p: _place(p.span, name))
    sources = {**linked.texts, name: text.replace("\r\n", "\n").removeprefix("\ufeff")}
    # What is unused may be so only because of an error: warnings wait until there is none.
    errors = tuple(problem for problem in found if problem.severity == "error")
    if checked is None or errors:
        return Compiled(None, errors, sources, parameters)
    lowered = lower(checked, name, seed)
    tests = tuple(lower_test(test, checked, seed) for test in checked.tests)
    return Compiled(optimise(lowered), tuple(found), sources, parameters, tests, lowered)


def _place(span: Span, root: str) -> tuple[bool, str, int, int]:
    return span.file != root, span.file, span.line, span.column
