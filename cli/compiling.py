"""`synthc compile`, `check` and `explain`: from a spec to its plan, or to what is wrong with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli.console import Failure, counted, only_file, say, show_problems, style, usage

if TYPE_CHECKING:
    from synthc.compiler.compile import Compiled
    from synthc.compiler.plan import Plan

PLAN_SUFFIX = ".json"

spec_argument = click.argument("spec", required=False, type=click.Path(path_type=Path))
parameter_option = click.option(
    "-p", "parameters", multiple=True, metavar="NAME=VALUE", help="A value for a param of the spec."
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=None, help="The seed of every draw (42)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def spec_path(spec: Path | None) -> Path:
    """The spec that is meant: the one named, or the one of this folder."""
    path = spec or only_file("*.synth", ".synth file", "name one, or make one with `synthc init`")
    if path.is_dir():
        raise usage(f"{path} is a folder, not a .synth file")
    return path


def compiled(path: Path, parameters: tuple[str, ...], seed: int | None) -> Compiled:
    """The spec, compiled. Ends the command where the file or a `-p` is wrong."""
    from synthc.compiler.compile import DEFAULT_SEED, compile_spec

    given = _given(parameters)
    if path.suffix == PLAN_SUFFIX and path.is_file():
        raise usage(f"{path} is a plan or data, not a .synth file", "`synthc run` takes plans")
    try:
        result = compile_spec(path, given, DEFAULT_SEED if seed is None else seed)
    except FileNotFoundError:
        raise _missing(path) from None
    except UnicodeDecodeError:
        raise usage(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}") from None
    if result.plan is not None:  # else what the spec's parameters are may not be known
        _check_known(given, result.parameters, path)
    return result


def _missing(path: Path) -> Failure:
    from synthc.compiler.diagnostics.problem import nearest

    near = nearest(path.name, (spec.name for spec in path.parent.glob("*.synth")))
    meant = f"did you mean {path.with_name(near)}?" if near else None
    return usage(f"there is no file {path}", meant)


def _given(parameters: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in parameters:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise usage(f"`-p {text}` is not of the form `-p name=value`")
        if name in given:
            raise usage(f"`-p {name}=` is given twice")
        given[name] = value
    return given


def _check_known(given: dict[str, str], parameters: tuple[str, ...], path: Path) -> None:
    from synthc.compiler.diagnostics.problem import listed, nearest

    for name in given:
        if name not in parameters:
            near = nearest(name, parameters)
            known = f"it has: {listed(parameters)}" if parameters else "it has none"
            help_ = f"did you mean `-p {near}=…`?" if near else None
            raise usage(f"{path.name} has no parameter `{name}` ({known})", help_)


def sound(
    path: Path, parameters: tuple[str, ...], seed: int | None, as_json: bool
) -> tuple[Plan, Compiled]:
    """The spec's plan, its problems shown. Ends the command where there is none."""
    return accepted(compiled(path, parameters, seed), as_json)


def accepted(result: Compiled, as_json: bool) -> tuple[Plan, Compiled]:
    """The plan of what was compiled, likewise."""
    if result.plan is None:
        if as_json:
            print_json(_document(result))
        else:
            show_problems(result.problems, result.sources)
        raise Failure(1)
    if not as_json:
        show_problems(result.problems, result.sources)
    return result.plan, result


def print_json(document: object) -> None:
    """One JSON document on stdout; where a program reads it, on one line."""
    click.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None))


def _document(result: Compiled) -> dict[str, object]:
    from synthc.compiler.diagnostics.render import as_json

    problems = [as_json(problem, result.sources) for problem in result.problems]
    return {"ok": result.plan is not None, "problems": problems}


@click.command("compile")
@spec_argument
@click.option("-o", "output", type=click.Path(path_type=Path), help="The plan (NAME.plan.json).")
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

    path = spec_path(spec)
    target = output or path.with_suffix(".plan.json")
    if target.suffix != PLAN_SUFFIX:
        raise usage(f"a plan's name ends in {PLAN_SUFFIX}, and {target} does not")
    plan, result = sound(path, parameters, seed, as_json)
    try:
        target.write_bytes(encode(plan))
    except FileNotFoundError:
        raise usage(f"there is no folder {target.parent} to write the plan to") from None
    except OSError as error:
        raise usage(f"{target} cannot be written: {error.strerror}") from None
    if as_json:
        print_json({**_document(result), "plan": str(target)})
    else:
        say(f"{path.name}: {counted(len(plan.tables), 'table')}, plan in {target}")


@click.command()
@spec_argument
@parameter_option
@seed_option
@json_option
@click.option("--github", is_flag=True, help="Annotations for a pull request, on stdout.")
def check(
    spec: Path | None,
    parameters: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    github: bool,
) -> None:
    """Say what is wrong with a spec, and write nothing."""
    path = spec_path(spec)
    result = compiled(path, parameters, seed)
    if github:
        _annotate(path, result)
    accepted(result, as_json)
    if as_json:
        print_json(_document(result))
    elif not result.problems:
        say(f"{path.name}: no problems")


def _annotate(path: Path, result: Compiled) -> None:
    from synthc.compiler.diagnostics.render import as_annotation

    folder = "" if path.parent == Path() else path.parent.as_posix()
    for problem in result.problems:
        click.echo(as_annotation(problem, folder))


@click.command()
@click.argument("code", required=False)
@click.option(
    "--markdown", is_flag=True, help="All codes as a Markdown page, as in docs/errors.md."
)
@json_option
def explain(code: str | None, markdown: bool, as_json: bool) -> None:
    """What an error code means, why, with an example and the fix."""
    from synthc.compiler.diagnostics import render
    from synthc.compiler.diagnostics.catalogue import catalogue

    if markdown and (code or as_json):
        raise usage("`--markdown` shows all codes, and nothing else")
    if markdown:
        click.echo(render.as_markdown(), nl=False)
        return
    if code is None:
        raise click.UsageError("Missing argument 'CODE'.")
    page = render.explain(code)
    if page is None:
        raise usage(f"there is no code {code}", f"the codes are {', '.join(sorted(catalogue()))}")
    headline, _, rest = page.partition("\n")
    if as_json:
        print_json({"code": headline.split(" ", maxsplit=1)[0], "page": page})
    else:
        click.echo(f"{style('message', headline)}\n{rest}")
