"""Rows with all that happened to them: what was drawn, asked, answered, and could not be had."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from synthc.cli.report.asking import CUT, Query, brief, listed, literal, rows, shown, texted
from synthc.cli.report.contents import Event, Message, Reading, Row, Table, Texted
from synthc.cli.report.flow import places
from synthc.compiler import plan, types
from synthc.compiler.types import Type
from synthc.runtime.store.store import POSITION, keyed

FIRST, DRAWN, LOST = 200, 300, 50
"""Rows of a table that are shown: its first, others drawn by the seed, and of those that failed and of
those that were dropped."""

BUDGET = 8_000_000
"""Characters of all rows together, about: what a browser opens in a second."""


def readings(
    query: Query,
    tables: Sequence[tuple[plan.Table, Table]],
    chains: Mapping[str, Sequence[str]],
    seed: int,
) -> tuple[Reading, ...]:
    """Rows of each table; `chains` are a table and the tables that its rows came through, by name."""
    by_name = {made.name: made for made, _ in tables}
    share = BUDGET // max(len(tables), 1)
    return tuple(
        _reading(
            query, made, table, [by_name[n] for n in chains[made.name] if n in by_name], seed, share
        )
        for made, table in tables
    )


def _reading(
    query: Query,
    made: plan.Table,
    table: Table,
    through: Sequence[plan.Table],
    seed: int,
    share: int,
) -> Reading:
    chosen = _chosen(query, made.name, seed)
    values = _values(query, made, [position for _, position, _ in chosen if position is not None])
    events = _events(query, through, [key for key, _, _ in chosen])
    taken: list[tuple[int, Row]] = []
    spent = 0
    for ordinal, (key, position, status) in enumerate(chosen):
        row = Row(
            brief(key),
            position,
            status,
            values.get(position, ()) if position is not None else (),
            tuple(events.get(key, ())),
        )
        spent += _size(row)
        if taken and spent > share:
            break
        taken.append((position if position is not None else table.rows + ordinal, row))
    found = tuple(row for _, row in sorted(taken, key=lambda one: one[0]))
    return Reading(
        table=shown(made.name),
        columns=tuple(shown(output.name) for output in made.outputs),
        types=tuple(brief(types.name(output.type), 60) for output in made.outputs),
        sample=_sample(found, table, len(found) < len(chosen)),
        rows=found,
    )


def _chosen(query: Query, name: str, seed: int) -> list[tuple[str, int | None, str]]:
    """Rows (key, position, status), those of each kind in turns: a page that is full has some of each."""
    of = f"SELECT row_key, position, status FROM synth.rows WHERE table_name = {literal(name)} AND status"
    drawn = f"ORDER BY hash(row_key, {seed}), row_key LIMIT"
    kinds = (
        rows(query, f"{of} = 'kept' AND position < {FIRST} ORDER BY position"),
        rows(query, f"{of} = 'kept' AND position >= {FIRST} {drawn} {DRAWN}"),
        rows(query, f"{of} = 'failed' {drawn} {LOST}"),
        rows(query, f"{of} = 'dropped' {drawn} {LOST}"),
    )
    return [row for row in chain.from_iterable(zip_longest(*kinds)) if row is not None]


def _sample(found: Sequence[Row], table: Table, full: bool) -> str:
    """In words, which rows of all are here."""
    kept = sum(row.status == "kept" for row in found)
    parts = []
    if kept == table.rows:
        parts.append({0: "no rows", 1: "the only row"}.get(kept, f"all {kept:,} rows"))
    else:
        parts.append(
            f"{kept:,} of {table.rows:,} rows: the first, and others drawn by the run's seed"
        )
    for status, count in (("failed", table.failed), ("dropped", table.dropped)):
        here = sum(row.status == status for row in found)
        if count:
            parts.append(
                f"{here:,} of {count:,} that {'failed' if status == 'failed' else 'were dropped'}"
            )
    if full:
        parts.append("no more fit on a page")
    return "; ".join(parts)


def _values(
    query: Query, made: plan.Table, positions: Sequence[int]
) -> dict[int, tuple[Texted, ...]]:
    if not positions:
        return {}
    columns = "".join(
        f", {trimmed(types.quote(o.name), o.type)}, {_length(types.quote(o.name), o.type)}"
        for o in made.outputs
    )
    found = rows(
        query,
        f'SELECT "{POSITION}"{columns} {keyed(made)}'
        f' WHERE "{POSITION}" IN ({", ".join(map(str, positions))})',
    )
    return {
        row[0]: tuple(
            texted(value, length) for value, length in zip(row[1::2], row[2::2], strict=True)
        )
        for row in found
    }


def trimmed(x: str, type_: Type) -> str:
    """SQL for a value without what is too long to be read: texts are cut, of vectors the start is told."""
    match types.required(type_):
        case types.Vector(size):
            more = f", … {size} in all" if size > 3 else ""
            return (
                f"CASE WHEN {x} IS NULL THEN NULL ELSE concat('[', array_to_string(list_transform("
                f"CAST({x} AS FLOAT[])[1:3], lambda n: round(n, 3)), ', '), '{more}]') END"
            )
        case types.ListOf(element) if _has_vector(element):
            return f"list_transform({x}, lambda item: {trimmed('item', element)})"
        case types.Record(fields) if _has_vector(type_):
            parts = ", ".join(
                f"{types.quote(f.name)} := {trimmed(f'{x}.{types.quote(f.name)}', f.type)}"
                for f in fields
            )
            return f"CASE WHEN {x} IS NULL THEN NULL ELSE struct_pack({parts}) END"
        case known if types.sql(known) == "VARCHAR":
            return f"left({x}, {CUT + 1})"
        case types.Json():
            return f"left(CAST({x} AS VARCHAR), {CUT + 1})"
        case types.Other():
            return f"left(CAST({x} AS VARCHAR), {CUT + 1})"
        case _:
            return x


def _length(x: str, type_: Type) -> str:
    is_long = types.sql(type_) == "VARCHAR" or isinstance(types.required(type_), types.Json)
    return f"length(CAST({x} AS VARCHAR))" if is_long else "NULL"


def _has_vector(type_: Type) -> bool:
    match types.required(type_):
        case types.Vector():
            return True
        case types.ListOf(element):
            return _has_vector(element)
        case types.Record(fields):
            return any(_has_vector(field.type) for field in fields)
        case _:
            return False


def _events(
    query: Query, through: Sequence[plan.Table], keys: Sequence[str]
) -> dict[str, list[Event]]:
    """What happened to rows, by their keys, in the order of the tables and columns that it was for."""
    forked = any(isinstance(op, plan.Unnest) for table in through for op in table.ops)
    owners: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        for owner in _lines(key) if forked else (key,):
            owners[owner].append(key)
    where = f"WHERE table_name IN ({listed([t.name for t in through])}) AND row_key IN ({listed([*owners])})"
    where_of = {table.name: places(table) for table in through}
    order = {
        (table.name, what): (-depth, at)
        for depth, table in enumerate(through)
        for at, what in enumerate(where_of[table.name])
    }
    found: dict[str, list[tuple[Any, Event]]] = defaultdict(list)
    for table, key, rank, event in chain(
        _draws(query, where),
        _mutations(query, where),
        _calls(query, where),
        _failures(query, where),
    ):
        place = event.place or where_of.get(table, {}).get(event.column)
        depth = order.get((table, event.column), (0, len(order)))
        for owner in owners[key]:
            other = table if through and table != through[0].name else None
            told = _with(
                event, place=place, table=other and shown(other), column=shown(event.column)
            )
            found[owner].append(((*depth, *rank), told))
    return {
        key: [event for _, event in sorted(events, key=lambda one: one[0])]
        for key, events in found.items()
    }


def _with(event: Event, **changed: Any) -> Event:
    from msgspec.structs import replace

    return replace(event, **changed)


Noted = Iterator[tuple[str, str, tuple[Any, ...], Event]]
"""A table's name, a row's key, what orders the events of one column, and the event."""


def _lines(key: str) -> Iterator[str]:
    """A row's key and those of the rows that it came from: `7/2/1`, `7/2`, `7`."""
    yield key
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def _numbers(rounds: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (rounds or "").split(".") if part.isdigit())


def _draws(query: Query, where: str) -> Noted:
    for table, key, column, round_, value in rows(
        query,
        f'SELECT table_name, row_key, "column", round, left(value, {CUT}) FROM synth.draws {where}',
    ):
        number = str(round_) if round_ is not None else None
        event = Event(kind="draw", column=column, round=number, value=texted(value))
        yield table, key, (_numbers(number), -2, 0, 0), event


def _mutations(query: Query, where: str) -> Noted:
    for table, key, column, round_, set_, name in rows(
        query,
        f'SELECT table_name, row_key, "column", round, set, mutation FROM synth.mutations {where}',
    ):
        number = str(round_) if round_ is not None else None
        event = Event(
            kind="mutation", column=column, round=number, name=shown(name), value=shown(set_)
        )
        yield table, key, (_numbers(number), -1, 0, 0), event


def _failures(query: Query, where: str) -> Noted:
    for table, key, column, reason, detail, stops, place in rows(
        query,
        'SELECT table_name, row_key, "column", reason, left(detail, 2000), stops_row, place'
        f" FROM synth.failures {where}",
    ):
        event = Event(
            kind="failure",
            column=column,
            name=shown(reason),
            value=texted(detail),
            stops=stops,
            place=_short(place),
        )
        yield table, key, ((1 << 30,), 0, 0, 0), event


def _calls(query: Query, where: str) -> Noted:
    found = rows(
        query,
        f"""SELECT table_name, row_key, "column", rounds, index, reask, backend, model,
            left(request, {8 * CUT}), length(request), left(answer, {CUT + 1}), length(answer),
            left(reasoning, {CUT + 1}), length(reasoning), finish_reason, input_tokens, output_tokens,
            latency_s, attempts, strftime(answered_at, '%Y-%m-%d %H:%M:%S'), superseded_by,
            (coalesce(input_tokens, 0) * input_usd_per_mtok
                + coalesce(output_tokens, 0) * output_usd_per_mtok) / 1e6
        FROM (FROM synth.calls {where}) LEFT JOIN synth.prices USING (run_id, backend)""",
    )
    for (
        table, key, column, rounds, index, reask, backend, model, request, request_length, answer,
        answer_length, reasoning, reasoning_length, finish, tokens_in, tokens_out, latency, attempts, at,
        set_aside, cost,
    ) in found:  # fmt: skip
        event = Event(
            kind="call",
            column=column,
            round=rounds,
            index=index,
            reask=reask,
            backend=shown(backend),
            model=shown(model),
            prompt=messages(request, request_length),
            answer=texted(answer, answer_length),
            reasoning=texted(reasoning, reasoning_length),
            finish=shown(finish or ""),
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cost_usd=cost,
            seconds=latency,
            attempts=attempts,
            at=at or "",
            set_aside=set_aside,
        )
        yield table, key, (_numbers(rounds), index or 0, reask, set_aside is None), event


def messages(request: str, length: int) -> tuple[Message, ...]:
    """The messages of a request as sent; where it is none of ours, or was cut, one message with it."""
    try:
        said = json.loads(request) if len(request) == length else None
    except ValueError:
        said = None
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        return (Message("request", texted(request, length)),)
    return tuple(Message(shown(str(m.get("role", ""))), _content(m.get("content"))) for m in said)


def _content(content: Any) -> Texted:
    """A message's content: a text, or parts of which some are texts and others pictures."""
    if not isinstance(content, list):
        return texted(content)
    said = [part.get("text") if isinstance(part, dict) else None for part in content]
    return texted(
        "\n".join(
            text if isinstance(text, str) else brief(json.dumps(part, ensure_ascii=False), 120)
            for text, part in zip(said, content, strict=True)
        )
    )


def _short(place: str | None) -> str | None:
    """`file:line` of a place with a column."""
    parts = (place or "").split(":")
    return shown(":".join(parts[:2])) or None


def _size(row: Row) -> int:
    """Characters of a row, about."""
    return sum(map(_long, row.values)) + sum(
        200
        + _long(event.value)
        + _long(event.answer)
        + _long(event.reasoning)
        + sum(_long(message.content) for message in event.prompt)
        for event in row.events
    )


def _long(text: Texted) -> int:
    if text is None:
        return 4
    return len(text) if isinstance(text, str) else len(text[0])
