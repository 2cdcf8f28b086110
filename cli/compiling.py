"""`synthc compile`, `check` and `explain`: from a spec to its plan, or to what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli.console import Failure, only_file, say, show_problems, style, usage

if TYPE_CHECKING:
    from synthc.compiler.compile import Compiled

spec_argument = click.argument("spec", required=False, type=click.Path(path_type=Path))
parameter_option = click.option(
    "-p", "parameters", multiple=True, metavar="NAME=VALUE", help="A value for a param of the spec."
)
seed_option = click.option("--seed", type=int, default=None, help="The seed of every draw (42).")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def compiled(spec: Path | None, parameters: tuple[str, ...], seed: int | None) -> Compiled:
    """The spec, compiled. Ends the command where the file or a `-p` is wrong."""
    from synthc.compiler.compile import DEFAULT_SEED, compile_spec
    from synthc.compiler.diagnostics.problem import listed, nearest

    path = spec or only_file("*.synth", ".synth file")
    given: dict[str, str] = {}
    for text in parameters:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise usage(f"`-p {text}` is not of the form `-p name=value`")
        given[name] = value
    try:
        result = compile_spec(path, given, DEFAULT_SEED if seed is None else seed)
    except FileNotFoundError:
        raise usage(f"there is no file {path}") from None
    except IsADirectoryError:
        raise usage(f"{path} is a folder, not a .synth file") from None
    except UnicodeDecodeError:
        raise usage(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}") from None
    unknown = [name for name in given if name not in result.parameters]
    if unknown:
        near = nearest(unknown[0], result.parameters)
        known = f"it has: {listed(result.parameters)}" if result.parameters else "it has none"
        meant = f"; did you mean `{near}`?" if near else ""
        raise usage(f"{path.name} has no parameter `{unknown[0]}` ({known}{meant})")
    return result


def sound(spec: Path | None, parameters: tuple[str, ...], seed: int | None) -> Compiled:
    """The spec, compiled, its problems shown. Ends the command where it has errors."""
    result = compiled(spec, parameters, seed)
    show_problems(result)
    if result.plan is None:
        raise Failure(1)
    return result


def plan_path(spec: Path) -> Path:
    """Where the plan of a spec stands."""
    return spec.with_suffix(".plan.json")


@click.command("compile")
@spec_argument
@click.option("-o", "output", type=click.Path(path_type=Path), help="Where to write the plan.")
@parameter_option
@seed_option
@json_option
def compile_(
    spec: Path | None,
    output: Path | None,
    parameters: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Check a spec and write its plan beside it. Sends nothing."""
    from synthc.compiler.plan import encode

    path = spec or only_file("*.synth", ".synth file")
    if as_json:
        _print_json(compiled(path, parameters, seed))
    result = compiled(path, parameters, seed) if as_json else sound(path, parameters, seed)
    assert result.plan is not None
    target = output or plan_path(path)
    try:
        target.write_bytes(encode(result.plan))
    except OSError as error:
        raise usage(f"{target} cannot be written: {error.strerror}") from None
    tables = len(result.plan.tables)
    say(f"{path.name}: {tables} table{'s' if tables != 1 else ''}, plan in {target}")


@click.command()
@spec_argument
@parameter_option
@seed_option
@json_option
def check(spec: Path | None, parameters: tuple[str, ...], seed: int | None, as_json: bool) -> None:
    """Say what is wrong with a spec, and write nothing."""
    path = spec or only_file("*.synth", ".synth file")
    if as_json:
        _print_json(compiled(path, parameters, seed))
        return
    result = sound(path, parameters, seed)
    if not result.problems:
        say(f"{path.name}: no problems")


def _print_json(result: Compiled) -> None:
    """Every problem as JSON on stdout. Ends the command where there are errors."""
    from synthc.compiler.diagnostics.render import as_json

    problems = [as_json(problem) for problem in result.problems]
    click.echo(json.dumps({"problems": problems, "ok": result.plan is not None}, indent=2))
    if result.plan is None:
        raise Failure(1)


@click.command()
@click.argument("code")
def explain(code: str) -> None:
    """What an error code means, why, with an example and the fix."""
    from synthc.compiler.diagnostics import render
    from synthc.compiler.diagnostics.catalogue import catalogue

    page = render.explain(code)
    if page is None:
        known = ", ".join(sorted(catalogue()))
        raise usage(f"there is no code {code}; there are {known}")
    headline, _, rest = page.partition("\n")
    click.echo(f"{style('message', headline)}\n{rest}")
