"""`synthc diff`: what is different between two databases, for a person or a program."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from synthc.cli.compiling import json_option, print_json
from synthc.cli.console import Failure, failed, usage, visible
from synthc.cli.databases import check, mistakes_told

if TYPE_CHECKING:
    from synthc.runtime.comparing import (
        ColumnChange,
        Comparison,
        Example,
        Numbers,
        NumbersChange,
        PromptChange,
        Side,
        TableChange,
    )
    from synthc.runtime.store.history import Prompt

WIDTH = 100
"""Columns of what goes to no terminal."""
PROMPT_LINES = 20
"""Lines of what is different in a prompt that are shown."""
DIFFERENT, NOT_COMPARED = 1, 2
"""The exit status with `--exit-code` where tables are different, and where none can be compared."""

_STYLES: dict[str, dict[str, Any]] = {
    "heading": {"bold": True},
    "-": {"fg": "red"},
    "+": {"fg": "green"},
}

Line = tuple[str, str]
"""A role (of _STYLES, or none) and a text."""


@click.command()
@click.argument("before", metavar="A.duckdb", type=click.Path(path_type=Path))
@click.argument("after", metavar="B.duckdb", type=click.Path(path_type=Path))
@click.option("--table", help="Only this table.")
@click.option("--exit-code", is_flag=True, help="Exit status 1 where tables are different.")
@json_option
def diff(before: Path, after: Path, table: str | None, exit_code: bool, as_json: bool) -> None:
    """What is different from A to B: specs, prompts, rows, numbers, cost. Rows are matched by their keys."""
    from synthc.runtime.comparing import compare
    from synthc.runtime.errors import RunError

    for path in (before, after):
        if not path.exists():
            raise usage(f"there is no database {path}")
        check(path)
    with mistakes_told():
        try:
            found = compare(before, after, table)
        except RunError as error:
            failure = failed(error)
            failure.exit_code = NOT_COMPARED
            raise failure from None
    if as_json:
        print_json(_document(found))
    else:
        _show(_page(found))
    if exit_code and found.differs:
        raise Failure(DIFFERENT)


def _document(found: Comparison) -> dict[str, Any]:
    import dataclasses

    document = dataclasses.asdict(found)
    for told, table in zip(document["tables"], found.tables, strict=True):
        told["differs"] = table.differs
        for prompt, change in zip(told["prompts"], table.prompts, strict=True):
            for side, is_ in (("before", change.before), ("after", change.after)):
                if is_ is not None:
                    prompt[side]["digest"] = is_.digest
    return {"differs": found.differs, **document}


# A page


def _page(found: Comparison) -> Iterator[Line]:
    yield "-", f"A  {_said(found.before)}"
    yield "+", f"B  {_said(found.after)}"
    for table in found.tables:
        yield "", ""
        yield from _table(table)
    yield "", ""
    yield from _spent(found)
    if not found.differs:
        yield "", ""
        yield "", "the tables are equal, and what they are made of is the same"


def _said(side: Side) -> str:
    made = f": {side.spec}, seed {side.seed}" if side.spec else ""
    return f"{side.path}{made}{' (simulated)' if side.simulated else ''}"


def _table(table: TableChange) -> Iterator[Line]:
    if table.before is None or table.after is None:
        side, made = ("B", table.after) if table.before is None else ("A", table.before)
        assert made
        yield "heading", f"{table.name}  only in {side}: {_rows(made.counts.kept)}"
        return
    yield "heading", f"{table.name}  {'' if table.differs else 'equal: '}{_keys(table)}"
    for side, made in (("A", table.before), ("B", table.after)):
        if made.status != "done":
            yield "", f"  in {side} it is {made.status}"
    for words in table.made_of:
        yield from _wrapped(words, 2)
    for prompt in table.prompts:
        yield from _prompt(prompt)
    for name in ("rows_in", "kept", "dropped", "failed", "not_asked"):
        was, is_ = getattr(table.before.counts, name), getattr(table.after.counts, name)
        if was != is_:
            yield "", f"  {name.replace('_', ' ')} {was:,} → {is_:,}"
    for was, is_, count in table.outcomes:
        if was is not None and is_ is not None:
            words = {"not_asked": "not asked"}
            yield "", f"  {_rows(count)}: {words.get(was, was)} → {words.get(is_, is_)}"
    for reason, was, is_ in table.failures:
        if was != is_:
            yield "", f"  failures for {reason}: {was:,} → {is_:,}"
    numbers = {change.name: change for change in table.numbers}
    for column in table.columns:
        if column.name in numbers:
            yield from _numbers(numbers[column.name])
        else:
            yield from _column(column, table.both)


def _keys(table: TableChange) -> str:
    parts = [f"{_rows(table.both)} in both"]
    if table.only_before:
        parts.append(f"{table.only_before:,} only in A")
    if table.only_after:
        parts.append(f"{table.only_after:,} only in B")
    if not table.both and table.only_before and table.only_after:
        parts.append("no key is in both")
    return ", ".join(parts)


def _prompt(change: PromptChange) -> Iterator[Line]:
    if change.before is None or change.after is None:
        side = "B" if change.before is None else "A"
        yield "", f"  the prompt of {change.column} is only in {side}"
        return
    lines = [
        line
        for line in difflib.unified_diff(
            _lines(change.before), _lines(change.after), lineterm="", n=1
        )
        if not line.startswith(("---", "+++", "@@"))
    ]
    for line in lines[:PROMPT_LINES]:
        yield line[0], f"    {line[0]} {line[1:]}"
    if len(lines) > PROMPT_LINES:
        yield "", f"    … {len(lines) - PROMPT_LINES} lines more: --json shows everything"


def _lines(prompt: Prompt) -> list[str]:
    texts = [prompt.system, *prompt.texts] if prompt.system else [*prompt.texts]
    return [line for text in texts for line in text.splitlines()]


def _column(column: ColumnChange, both: int) -> Iterator[Line]:
    if column.before is None or column.after is None:
        side = "B" if column.before is None else "A"
        yield "", f"  {column.name}: only in {side}"
    elif column.before != column.after:
        yield "", f"  {column.name}: its type is {column.after}, and was {column.before}"
    elif column.changed:
        yield "", f"  {column.name}: different in {column.changed:,} of {_rows(both)}"
        for example in column.examples:
            yield from _example(example)


def _example(example: Example) -> Iterator[Line]:
    room = _columns() - 6
    was, is_ = example.before, example.after
    # What both begin with says nothing: it is left out where it would fill the line.
    pairs = enumerate(zip(was or "", is_ or "", strict=False))
    same = next((at for at, (one, other) in pairs if one != other), 0)
    start = max(0, same - room // 3) if same > room // 2 else 0
    for role, text in (("-", was), ("+", is_)):
        if text is None:
            yield role, f"    {role} null"
            continue
        line = ("…" if start else "") + " ".join(text[start:].split())
        yield role, f"    {role} {line if len(line) <= room else line[: room - 1] + '…'}"


def _numbers(change: NumbersChange) -> Iterator[Line]:
    was, is_ = change.before, change.after
    if was == is_ and not (change.higher or change.lower):
        return
    quartiles = (was.quartiles or (None,) * 3, is_.quartiles or (None,) * 3)
    parts = [
        f"mean {_moved(was.mean, is_.mean)}",
        f"deviation {_moved(was.deviation, is_.deviation)}",
        f"median {_moved(quartiles[0][1], quartiles[1][1])}",
        f"range {_range(was)} → {_range(is_)}",
    ]
    if was.missing or is_.missing:
        parts.append(f"missing {was.missing:,} → {is_.missing:,}")
    yield from _wrapped(f"{change.name}: {', '.join(parts)}", 2)
    if change.higher or change.lower:
        by = "" if change.mean_change is None else f", {change.mean_change:+.4g} on average"
        moved = f"of rows in both {change.higher:,} higher, {change.lower:,} lower"
        yield "", f"    {moved}, {change.equal:,} equal{by}"
    if was.values is not None and is_.values is not None:
        counts = dict(was.values), dict(is_.values)
        values = sorted({*counts[0], *counts[1]})
        told = (f"{v:g}: {counts[0].get(v, 0):,} → {counts[1].get(v, 0):,}" for v in values)
        yield from _wrapped("; ".join(told), 4)


def _moved(was: float | None, is_: float | None) -> str:
    return f"{_number(was)} → {_number(is_)}"


def _range(numbers: Numbers) -> str:
    if numbers.least is None:
        return "none"
    return f"{_number(numbers.least)} to {_number(numbers.most)}"


def _number(number: float | None) -> str:
    return "none" if number is None else f"{number:.4g}"


def _spent(found: Comparison) -> Iterator[Line]:
    sides = found.before, found.after
    yield "heading", "asked"
    totals = [{(a.backend, a.model): a for a in side.asked} for side in sides]
    for who in dict.fromkeys((*totals[1], *totals[0])):
        was, is_ = totals[0].get(who), totals[1].get(who)
        calls, into, out = (
            f"{getattr(was, name, None) or 0:,} → {getattr(is_, name, None) or 0:,}"
            for name in ("calls", "input_tokens", "output_tokens")
        )
        told = f"{' '.join(who)}: calls {calls}, tokens in {into}, tokens out {out}"
        yield from _wrapped(told, 2)
    if not any(totals):
        yield "", "  no model, on either side"
    costs = ["no price" if s.cost_usd is None else f"${s.cost_usd:,.4f}" for s in sides]
    if any(side.cost_usd is not None for side in sides):
        yield "", f"  cost {costs[0]} → {costs[1]}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


# Layout


def _wrapped(text: str, indent: int) -> Iterator[Line]:
    import textwrap

    margin = " " * indent
    lines: Sequence[str] = textwrap.wrap(
        text, _columns() - indent, subsequent_indent="  ", break_on_hyphens=False
    )
    for line in lines:
        yield "", margin + line


def _columns() -> int:
    return max(get_terminal_size().columns, 40) if sys.stdout.isatty() else WIDTH


def _show(lines: Iterator[Line]) -> None:
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for role, text in lines:
        # What models wrote is shown, never obeyed.
        shown = visible(text).rstrip()
        click.echo(click.style(shown, **_STYLES[role]) if colours and role in _STYLES else shown)
