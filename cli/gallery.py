"""`synthc tasks`: the gallery of tasks, from the specs themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli.compiling import (
    compiled,
    json_option,
    parameter_option,
    print_json,
    sound,
    spec_path,
)
from synthc.cli.console import Failure, command, say, usage, visible, wrapped

if TYPE_CHECKING:
    from synthc.compiler.gallery import Page, Shelf

SUFFIX = ".synth"


@click.command()
@click.argument("name", required=False)
@click.option(
    "-s", "--spec", type=click.Path(path_type=Path), help="The tasks of this spec instead."
)
@click.option(
    "--tag", "tags", multiple=True, help="Only tasks with this tag (of several: with all)."
)
@click.option("--prompts", is_flag=True, help="With the prompts of the task.")
@click.option("--markdown", is_flag=True, help="One Markdown page, as in docs/tasks.md.")
@parameter_option
@json_option
def tasks(
    name: str | None,
    spec: Path | None,
    tags: tuple[str, ...],
    prompts: bool,
    markdown: bool,
    parameters: tuple[str, ...],
    as_json: bool,
) -> None:
    """The gallery of tasks: what each takes, gives and asks.

    NAME is a task (evol.instruct), a file of the standard library (evol) or a .synth file of yours.
    """
    from synthc.cli import markdown as documents
    from synthc.cli import pages as terminal

    if markdown and as_json:
        raise usage("a gallery is printed as Markdown or as JSON, not as both")
    if name is not None and name.endswith(SUFFIX) and spec is None:
        name, spec = None, Path(name)
    if spec is None and parameters:
        raise usage("the standard library has no parameters", "name a spec with `-s FILE`")
    shelves = [_own(spec, parameters, as_json)] if spec else _standard(name)
    if name is not None:
        shelves = _named(name, shelves, spec)
    shelves = _tagged(tags, shelves)
    pages = [page for shelf in shelves for page in shelf.pages]
    one = name is not None and [page.name for page in pages] == [name]
    if prompts and not (one or as_json or markdown):
        raise usage("the prompts are shown of one task", "name it: `synthc tasks NAME --prompts`")
    if as_json:
        print_json([_document(page) for page in pages])
    elif markdown:
        click.echo(documents.gallery(shelves), nl=False)
    elif one:
        terminal.show(terminal.page(pages[0], prompts=prompts))
        if not prompts and pages[0].asks:
            _say_next("what it asks", name, spec, "--prompts")
    else:
        terminal.show(terminal.listing(shelves))
        _hint(pages, spec, tags)


# What is shown


def _own(spec: Path, parameters: tuple[str, ...], as_json: bool) -> Shelf:
    """The tasks of a spec. Ends the command where it has errors, which are shown."""
    from synthc.compiler.gallery import browse

    path = spec_path(spec)
    if compiled(path, parameters, None).plan is None:
        sound(path, parameters, None, as_json)  # says what is wrong, and ends
    given = dict(parameter.split("=", 1) for parameter in parameters)
    shelf = browse(path, given).shelf
    assert shelf is not None, "it compiled"
    return shelf


def _standard(name: str | None) -> list[Shelf]:
    """The standard library; only the file that is meant where the name says which."""
    from synthc.compiler.gallery import namespaces, standard

    known = namespaces()
    first = name.partition(".")[0] if name else ""
    found = [standard(namespace) for namespace in ([first] if first in known else known)]
    return [browsed.shelf for browsed in found if browsed.shelf]


def _named(name: str, shelves: list[Shelf], spec: Path | None) -> list[Shelf]:
    """The task of that name, or the tasks of that namespace."""
    from dataclasses import replace

    for shelf in shelves:
        pages = tuple(page for page in shelf.pages if page.name == name)
        if pages:
            return [replace(shelf, pages=pages)]
        if spec is None and shelf.pages and shelf.pages[0].namespace == name:
            return [shelf]
    raise _unknown(name, shelves, spec)


def _unknown(name: str, shelves: Iterable[Shelf], spec: Path | None) -> Failure:
    from synthc.compiler.diagnostics.problem import listed, nearest
    from synthc.compiler.gallery import namespaces, standard

    if spec is None:  # the whole library, whichever file the name began with
        found = (standard(namespace).shelf for namespace in namespaces())
        shelves = [shelf for shelf in found if shelf]
    pages = [page for shelf in shelves for page in shelf.pages]
    last = name.rpartition(".")[2]
    meant = [p.name for p in pages if last in (p.name.rpartition(".")[2], p.reference)]
    if not meant:
        words = {page.namespace: page.namespace for page in pages if page.namespace}
        words |= {p.reference: p.name for p in pages if p.reference}
        words |= {p.name.rpartition(".")[2]: p.name for p in pages}
        words |= {p.name: p.name for p in pages}
        near = nearest(name, words) or nearest(last, words)
        meant = [words[near]] if near else []
    where = f"in {spec.name}" if spec else "in the standard library"
    if meant:
        help_ = f"did you mean {' or '.join(f'`{near}`' for near in meant)}?"
    elif spec:
        help_ = f"it has: {listed(p.name for p in pages)}" if pages else "it has none"
    else:
        help_ = "`synthc tasks` lists all of them, and `synthc tasks FILE.synth` those of a spec"
    return usage(f"there is no task `{name}` {where}", help_)


def _tagged(tags: tuple[str, ...], shelves: list[Shelf]) -> list[Shelf]:
    """The tasks that have all the tags."""
    from dataclasses import replace

    from synthc.compiler.diagnostics.problem import listed, nearest

    known = sorted({tag for shelf in shelves for page in shelf.pages for tag in page.tags})
    for tag in tags:
        if tag not in known:
            near = nearest(tag, known)
            there = f"there are: {listed(known)}" if known else "there is none"
            raise usage(
                f"no task has the tag `{tag}` ({there})",
                f"did you mean `{near}`?" if near else None,
            )
    kept = [
        replace(shelf, pages=tuple(p for p in shelf.pages if set(tags) <= set(p.tags)))
        for shelf in shelves
    ]
    return [shelf for shelf in kept if shelf.pages]


def _document(page: Page) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(page)


def _hint(pages: Sequence[Page], spec: Path | None, tags: tuple[str, ...]) -> None:
    """What to type next."""
    if not pages:
        say("no task has all of these tags" if tags else f"{visible(str(spec))} declares no task")
        return
    say()
    _say_next("more of one", pages[0].name, spec)
    known = sorted({tag for page in pages for tag in page.tags})
    if len(pages) > 1 and known:
        say("\n".join(wrapped(f"some of them: --tag {visible(', '.join(known))}")))


def _say_next(what: str, name: str | None, spec: Path | None, *more: str) -> None:
    of = ("-s", spec) if spec else ()
    say(f"{what}: {command('synthc', 'tasks', name or '', *of, *more)}")
