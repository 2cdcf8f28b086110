"""`synthc plan`: what a run would do, and what it would cost, before anything is sent."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from synthc.cli.compiling import json_option, parameter_option, seed_option, spec_path
from synthc.cli.console import counted, failed, say, usage, visible
from synthc.cli.running import database_of, environment, planned, run_command

if TYPE_CHECKING:
    from synthc.cli.optimised import Change
    from synthc.compiler import plan
    from synthc.compiler.plan import Plan
    from synthc.runtime.planning.estimate import Calls, Cost, Estimate, Range, Step, TableEstimate

WIDTH = 100
"""Columns of a plan that goes to no terminal; on one, of lines that are to be read."""
LEFT = 46
"""Columns for what a step does, at most, beside its numbers; where there are few, half of them."""

Line = tuple[str, str]
"""A role (`heading`, `quiet`, or none) and a text."""


@click.command("plan")
@click.argument("spec", metavar="[SPEC or PLAN]", required=False, type=click.Path(path_type=Path))
@click.option("-d", "database", type=click.Path(path_type=Path), help="The database (NAME.duckdb).")
@parameter_option
@seed_option
@click.option("--every-row", is_flag=True, help="Look at every row of large tables too.")
@click.option("--dot", is_flag=True, help="A picture for Graphviz.")
@json_option
def plan_(
    spec: Path | None,
    database: Path | None,
    parameters: tuple[str, ...],
    seed: int | None,
    every_row: bool,
    dot: bool,
    as_json: bool,
) -> None:
    """What a run would do: rows, calls, tokens, cost, and what is there already. Sends nothing."""
    from synthc.cli.optimised import changes
    from synthc.cli.picture import dot as picture
    from synthc.runtime.errors import RunError
    from synthc.runtime.planning.estimate import WALKED, estimate

    if dot and as_json:
        raise usage("a plan is printed for Graphviz or as JSON, not as both")
    path = spec_path(spec)
    plan, sources, lowered = planned(path, parameters, seed, as_json)
    target = database_of(path, plan, database)
    env = environment(path.parent)
    try:
        walked = None if every_row else WALKED
        found = estimate(plan, target.absolute(), path.parent, env, walked)
    except RunError as error:
        raise failed(error, sources) from None
    done = changes(lowered) if lowered else []
    if dot:
        beside = {t.table.name: ", ".join(_brief(t)) for t in found.tables}
        click.echo(picture(plan, beside))
    elif as_json:
        click.echo(json.dumps(_document(plan, found, done, target), indent=2))
    else:
        _show(_page(plan, found, done))
        say(f"next: {run_command(path, database, parameters, seed)}")


# A page


def _page(plan: Plan, found: Estimate, done: Sequence[Change]) -> Iterator[Line]:
    making = [table for table in found.tables if table.to_make]
    there = len(found.tables) - len(making)
    tables = counted(len(making), "table")
    said = f"{plan.spec}: {tables} to make" if making else f"{plan.spec}: nothing to make"
    yield "heading", f"{said}, {there} there already" if there else said
    yield "", ""
    yield from _picture(plan, found)
    for table in found.tables:
        yield "", ""
        yield from _table(table)
    if done:
        yield "", ""
        yield "heading", "optimised"
        for change in done:
            place = f"{change.table}: " if len(plan.tables) > 1 else ""
            yield from _wrapped(f"{place}{change.words}  ({change.done_by})", 2)
    if making:
        yield "", ""
        yield from _in_all(found)


def _picture(plan: Plan, found: Estimate) -> Iterator[Line]:
    from synthc.cli.picture import tree

    brief = {table.table.name: _brief(table) for table in found.tables}
    nodes = list(tree(plan))
    width = max((len(arrow + name) for arrow, name, _ in nodes), default=0)
    for arrow, name, also in nodes:
        beside = [*brief.get(name, []), *filter(None, [also])]
        text = f"  {(arrow + name).ljust(width)}  {', '.join(beside)}".rstrip()
        yield "", text if len(text) <= _columns() else text[: _columns() - 1] + "…"


def _brief(table: TableEstimate) -> list[str]:
    """What there is to say of a table in a few words."""
    sent = _sum_of([s.calls.sent for s in table.steps if s.calls and _is_ask(s.op)])
    calls = [_range(sent, "call")] if sent and sent.most else []
    return [table.state, _range(table.kept, "row"), *calls]


def _table(table: TableEstimate) -> Iterator[Line]:
    from synthc.cli.steps import in_words, source_in_words
    from synthc.compiler import plan

    hidden = " (rows for the SQL behind)" if table.table.hidden else ""
    yield "heading", f"{table.table.name}{hidden}  {_state(table)}"
    for reason in table.why:
        yield from _wrapped(f"stale: {reason}", 2)
    if not table.to_make:
        return
    yield from _beside(source_in_words(table.table.source), _rows_in(table))
    drawn = [step.op.table for step in table.steps if isinstance(step.op, plan.Draw)]
    for name in dict.fromkeys(drawn):
        yield from _wrapped(f"waits for the whole of {name}", 2)
    before = table.rows_in
    for step in table.steps:
        if isinstance(step.op, plan.Constant | plan.Require) and step.rows in (None, before):
            continue
        yield from _beside("  " * step.depth + in_words(step.op), _numbers(step, before))
        before = step.rows or before
    yield from _beside("keeps", _range(table.kept, "row"))


def _state(table: TableEstimate) -> str:
    held = table.held
    if held is None:
        return "missing"
    ended = f"{held.kept} kept + {held.dropped} dropped + {held.failed} failed"
    if held.not_asked:
        ended += f" + {held.not_asked} not asked"
    rows = f"{counted(held.rows_in, 'row')} in = {ended}"
    match table.state:
        case "done":
            return f"done: {rows}"
        case "partial":
            return f"partial, and made anew: {counted(held.kept, 'row')} there"
        case _:
            return f"stale, and made anew: {rows}"


def _rows_in(table: TableEstimate) -> str:
    text = _range(table.rows_in, "row")
    if table.walked < table.rows_in.most:
        text += f", {table.walked:,} looked at: the others are taken to be alike"
    return text


def _numbers(step: Step, before: Range) -> str:
    """What a step comes to; rows only where there are other ones behind it."""
    from synthc.compiler import plan

    parts: list[str] = []
    calls = step.calls
    if calls and _is_ask(step.op):
        parts = [_range(calls.sent, "call")]
        if calls.stored:
            parts.append(f"{calls.stored:,} in the store")
        if calls.sent.most:
            parts += [
                f"{calls.input_tokens:,} tokens in",
                f"{calls.output_tokens:,} out",
            ]
    elif calls and isinstance(step.op, plan.Embed):
        parts = [_range(calls.sent, plan.NOUNS[step.op.input])]
    if step.rows is not None and step.rows != before:
        parts.append(f"leaves {_range(step.rows, 'row')}")
    return ", ".join(parts)


def _in_all(found: Estimate) -> Iterator[Line]:
    yield "heading", "in all"
    asked = {
        name: calls for name, calls in found.backends.items() if calls.sent.most or calls.stored
    }
    if not asked:
        yield "", "  no calls"
    width = max(map(len, (*asked, "cost"))) + 2
    for name, calls in asked.items():
        parts = [_range(calls.sent, "call") + " to send", f"{calls.stored:,} answered by the store"]
        yield from _beside(name, ", ".join(parts), width)
        if calls.sent.most:
            yield from _beside("", f"{calls.input_tokens:,} tokens in ({calls.counting})", width)
            yield from _beside("", _tokens_out(calls), width)
            if cost := found.costs.get(name):
                yield from _beside("", _dollars(cost), width)
    if found.cost and len(found.costs) > 1:
        yield from _beside("cost", _dollars(found.cost), width)
    elif asked and not found.cost:
        yield from _beside("cost", "no backend that is asked has a `price`", width)
    if any(calls.sent.most for calls in asked.values()):
        yield from _wrapped(_ASSUMED, 2, "quiet")


def _tokens_out(calls: Calls) -> str:
    text = f"{calls.output_tokens:,} tokens out ({calls.answers})"
    if calls.output_limit is None:
        return f"{text}; nothing bounds them: set `max_tokens`"
    if calls.output_limit == calls.output_tokens:
        return text
    return f"{text}, {calls.output_limit:,} at most (`max_tokens`)"


_ASSUMED = (
    "At most: as if every row passed each filter whose answer is not there yet, and loops went on to"
    " their last round. An answer that breaks its contract is asked for again, which is not counted."
)


# Numbers


def _range(count: Range, thing: str) -> str:
    """`12 rows`, `5 to 12 rows`, `up to 12 rows`, `about 12 rows`."""
    if count.guessed:
        return f"about {_things(_rough(count.most), thing)}"
    if count.exact:
        return _things(count.most, thing)
    if not count.least:
        return f"up to {_things(count.most, thing)}"
    return f"{count.least:,} to {_things(count.most, thing)}"


def _things(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _rough(count: int) -> int:
    """A count with three figures: more would say more than is known."""
    return round(count, 3 - len(str(count))) if count >= 1_000 else count


def _dollars(cost: Cost) -> str:
    if cost.highest is None:
        return f"about ${cost.likely:.4f}; no highest, since `max_tokens` is not set"
    if round(cost.likely, 4) == round(cost.highest, 4):
        return f"${cost.highest:.4f} at most"
    return f"${cost.highest:.4f} at most, ${cost.likely:.4f} if answers are as long as so far"


def _sum_of(ranges: Sequence[Range]) -> Range | None:
    from synthc.runtime.planning.estimate import Range

    if not ranges:
        return None
    guessed = any(count.guessed for count in ranges)
    return Range(sum(c.least for c in ranges), sum(c.most for c in ranges), guessed)


def _is_ask(op: plan.Op) -> bool:
    from synthc.compiler import plan

    return isinstance(op, plan.Ask)


# Layout


def _show(lines: Iterator[Line]) -> None:
    """Print lines on stdout, in colours where it is a terminal that wants them."""
    styles: dict[str, dict[str, Any]] = {"heading": {"bold": True}, "quiet": {"dim": True}}
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for role, text in lines:
        # What a spec says is shown, never obeyed: it may come from anywhere.
        shown = visible(text).rstrip()
        click.echo(click.style(shown, **styles[role]) if colours and role and shown else shown)


def _beside(left: str, right: str, width: int = LEFT) -> Iterator[Line]:
    """What something is, and its numbers beside it, or below where there is no room."""
    left = f"  {left}"
    width = min(width, _columns() // 2)
    if not right:
        yield from _hanging(left)
        return
    if len(left) > width:
        yield from _hanging(left)
        left = ""
    indent = " " * (width + 2)
    lines = textwrap.wrap(right, max(_columns() - len(indent), 20), break_on_hyphens=False)
    for line in lines:
        yield "", f"{left.ljust(width)}  {line}"
        left = ""


def _hanging(text: str) -> Iterator[Line]:
    """A line, gone on below where it is too long, further in."""
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    for line in textwrap.wrap(
        text, _columns(), subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True
    ):
        yield "", line


def _wrapped(text: str, indent: int, role: str = "") -> Iterator[Line]:
    margin = " " * indent
    for line in textwrap.wrap(text, _columns() - indent, break_on_hyphens=False):
        yield role, margin + line


def _columns() -> int:
    """The columns that there are to read in."""
    return min(get_terminal_size().columns, WIDTH + 20) if sys.stdout.isatty() else WIDTH


# A document


def _document(
    plan: Plan, found: Estimate, done: Sequence[Change], database: Path
) -> dict[str, object]:
    import dataclasses

    cost = found.cost
    return {
        "spec": plan.spec,
        "seed": plan.seed,
        "database": str(database),
        "tables": [_table_document(table) for table in found.tables],
        "backends": {name: _calls_document(calls) for name, calls in found.backends.items()},
        "cost_usd": cost and dataclasses.asdict(cost),
        "costs_usd": {name: dataclasses.asdict(c) for name, c in found.costs.items()},
        "optimised": [dataclasses.asdict(change) for change in done],
        "exports": [{"table": export.table, "path": export.path} for export in plan.exports],
    }


def _table_document(table: TableEstimate) -> dict[str, object]:
    import dataclasses

    from synthc.cli.steps import in_words, source_in_words
    from synthc.runtime.store.fingerprint import parents

    return {
        "name": table.table.name,
        "hidden": table.table.hidden,
        "place": str(table.table.span),
        "state": table.state,
        "why": list(table.why),
        "after": list(dict.fromkeys(parents(table.table))),
        "source": source_in_words(table.table.source),
        "held": table.held and dataclasses.asdict(table.held),
        "rows_in": dataclasses.asdict(table.rows_in),
        "looked_at": table.walked,
        "kept": dataclasses.asdict(table.kept),
        "steps": [
            {
                "step": in_words(step.op),
                "kind": step.op.__struct_config__.tag,
                "place": str(step.op.span),
                "depth": step.depth,
                "rows": step.rows and dataclasses.asdict(step.rows),
                "calls": step.calls and _calls_document(step.calls),
            }
            for step in table.steps
        ],
    }


def _calls_document(calls: Calls) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(calls)
