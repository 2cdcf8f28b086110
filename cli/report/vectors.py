"""Vectors as a map of two dimensions, and the rows whose vectors are most alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from synthc.cli.report.asking import Query, brief, literal, rows, shown
from synthc.cli.report.columns import BINS, figure, is_number, is_text, parts
from synthc.cli.report.contents import Alike, Bar, Histogram, Labelling, Map, Point, Table
from synthc.compiler import plan, types
from synthc.runtime.store.store import POSITION, keyed

MOST = 2_000
"""Vectors that are shown and compared: more would hide each other."""
SHOWN_ALIKE = 12
LABELS = 8
"""Labels that eyes can tell apart by colour."""


def maps(query: Query, made: plan.Table, table: Table, seed: int) -> tuple[Map, ...]:
    """A map for each column of vectors of a table; none while it is being made."""
    if table.rows_in is None:
        return ()
    columns = [part for o in made.outputs for part in parts(o.name, types.quote(o.name), o.type)]
    vectors = [c for c in columns if isinstance(types.required(c[2]), types.Vector)]
    return tuple(
        found
        for name, x, _ in vectors
        if (found := _map(query, made, table, columns, (name, x), seed)) is not None
    )


def _map(
    query: Query,
    made: plan.Table,
    table: Table,
    columns: Sequence[tuple[str, str, types.Type]],
    vector: tuple[str, str],
    seed: int,
) -> Map | None:
    name, x = vector
    text = _text_of(made, columns, name)
    labels = _labellings(table, columns)
    wanted = ", ".join(
        [f"left({text[1]}, 400)" if text else "NULL"]
        + [f"CAST({expression} AS VARCHAR)" for _, expression in labels]
    )
    of = rows(query, f"SELECT count({x}) {keyed(made)}")[0][0]
    sampled = ""
    if of > MOST:
        sampled = (
            f' AND "{POSITION}" IN (SELECT position FROM synth.rows WHERE table_name = {literal(made.name)}'
            f" AND status = 'kept' ORDER BY hash(row_key, {seed}), row_key LIMIT {MOST})"
        )
    found = rows(
        query,
        f'SELECT "{POSITION}", CAST({x} AS FLOAT[]), {wanted} {keyed(made)}'
        f' WHERE {x} IS NOT NULL{sampled} ORDER BY "{POSITION}"',
    )
    if len(found) < 3:
        return None
    matrix = np.array([row[1] for row in found], np.float32)
    matrix = np.nan_to_num(matrix)
    places, explained = project(matrix)
    texts = [brief(row[2] or "") for row in found]
    known = [sorted({row[3 + at] for row in found} - {None}) for at in range(len(labels))]
    points = tuple(
        Point(
            round(float(at[0]), 4),
            round(float(at[1]), 4),
            row[0],
            text_,
            tuple(_index(known[n], row[3 + n]) for n in range(len(labels))),
        )
        for row, at, text_ in zip(found, places, texts, strict=True)
    )
    pairs, best = alike(matrix)
    return Map(
        table=shown(made.name),
        column=shown(name),
        text_column=shown(text[0]) if text else None,
        dimensions=matrix.shape[1],
        of=of,
        explained=explained,
        labellings=tuple(
            Labelling(shown(label), tuple(brief(v, 60) for v in values))
            for (label, _), values in zip(labels, known, strict=True)
        ),
        points=points,
        alike=tuple(
            Alike(similarity, points[a].row, points[a].text, points[b].row, points[b].text)
            for similarity, a, b in pairs
        ),
        nearest=_spread(best),
    )


def project(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows of float32 of shape (n, d) as places from 0 to 1 of shape (n, 2), and the share of the variance
    that they hold: the first two principal components, by a singular value decomposition.

    The sign of each component is that which makes its largest weight positive, so that equal vectors
    give equal maps.
    """
    centred = matrix.astype(np.float64) - matrix.mean(axis=0)
    # Of d x d numbers there are fewer than of n x d, and what they decompose into is the same.
    _, squares, components = np.linalg.svd(centred.T @ centred)
    axes = np.zeros((2, matrix.shape[1]))
    axes[: min(2, len(components))] = components[:2]
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.where(axes[np.arange(2), largest] < 0, -1, 1)[:, None]
    flat = centred @ axes.T
    low, span = flat.min(axis=0), np.ptp(flat, axis=0)
    total = float(squares.sum())
    return (flat - low) / np.where(span > 0, span, 1), float(
        squares[:2].sum()
    ) / total if total else 1.0


def alike(matrix: np.ndarray) -> tuple[list[tuple[float, int, int]], np.ndarray]:
    """The pairs of rows with the greatest cosine similarity, greatest first, and for each row that of the
    row nearest to it. Rows without a direction are like none."""
    norms = np.linalg.norm(matrix, axis=1)
    directions = matrix / np.where(norms > 0, norms, 1)[:, None]
    similar = directions @ directions.T
    similar[norms == 0] = similar[:, norms == 0] = -1
    np.fill_diagonal(similar, -1)
    best = similar.max(axis=1)
    first, second = np.triu_indices(len(matrix), 1)
    values = similar[first, second]
    top = np.argpartition(-values, min(SHOWN_ALIKE, len(values) - 1))[:SHOWN_ALIKE]
    top = sorted(top, key=lambda at: (-values[at], first[at], second[at]))
    return [(float(values[at]), int(first[at]), int(second[at])) for at in top], best


def _spread(best: np.ndarray) -> Histogram | None:
    low, high = float(best.min()), float(min(best.max(), 1))
    if not high - low > 1e-6:
        return None
    counts, edges = np.histogram(np.clip(best, low, high), BINS, (low, high))
    bars = tuple(
        Bar(f"{figure(float(a))} to {figure(float(b))}", int(count))
        for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
    )
    return Histogram("similarity to the nearest other row", figure(low), figure(high), bars)


def _text_of(
    made: plan.Table, columns: Sequence[tuple[str, str, types.Type]], vector: str
) -> tuple[str, str] | None:
    """The column that was embedded, where the table still has it, else its first text."""
    texts = [(name, x) for name, x, type_ in columns if types.sql(type_) == "VARCHAR"]
    slots = {o.value: o.name for o in made.outputs if isinstance(o.value, str)}
    wrote = next((o.value for o in made.outputs if o.name == vector), None)
    for op in made.ops:
        if isinstance(op, plan.Embed) and op.write == wrote and op.read in slots:
            return next(
                ((n, x) for n, x in texts if n == slots[op.read]), texts[0] if texts else None
            )
    return texts[0] if texts else None


def _labellings(
    table: Table, columns: Sequence[tuple[str, str, types.Type]]
) -> list[tuple[str, str]]:
    """Columns with a few values each: choices first, then texts and truths, then small numbers."""
    known = {column.name: column for column in table.columns}
    few = [
        (name, x, type_)
        for name, x, type_ in columns
        if (c := known[brief(name)]).distinct and 2 <= c.distinct <= min(LABELS, c.filled / 2)
    ]

    def rank(column: tuple[str, str, types.Type]) -> int:
        type_ = types.required(column[2])
        return 0 if isinstance(type_, types.Choice) else 1 if is_text(type_) else 2

    fitting = [c for c in few if is_text(c[2]) or is_number(c[2]) or types.sql(c[2]) == "BOOLEAN"]
    return [(name, x) for name, x, _ in sorted(fitting, key=rank)]


def _index(values: Sequence[Any], value: Any) -> int:
    return values.index(value) if value is not None else -1
