"""What a report shows, gathered and ready to be written down: no markup but that of a picture, and no text
that is not `shown`.
"""

from __future__ import annotations

from msgspec import Struct


class Bar(Struct, frozen=True):
    """How often something is there."""

    label: str
    count: int


class Histogram(Struct, frozen=True):
    """Counts of numbers by size: `bars` from the least to the greatest, which `low` and `high` are."""

    of: str
    low: str
    high: str
    bars: tuple[Bar, ...]


class Column(Struct, frozen=True, kw_only=True):
    """What a column of a table holds. `distinct` is None where it was not counted.

    `facts` are a name and a value each, `values` the most frequent ones or, of few numbers, all in order.
    """

    name: str
    type: str
    filled: int
    rows: int
    distinct: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    histogram: Histogram | None = None
    values: tuple[Bar, ...] = ()
    others: int = 0


class Round(Struct, frozen=True):
    """The answers of one round of a loop, and their lengths in characters."""

    round: str
    answers: int
    low: float
    mean: float
    high: float


class Loop(Struct, frozen=True):
    """How answers grew round by round."""

    column: str
    rounds: tuple[Round, ...]


class MutationsDrawn(Struct, frozen=True):
    """How often each prompt of a set was drawn for a column."""

    column: str
    set: str
    bars: tuple[Bar, ...]


class Alike(Struct, frozen=True):
    """Two rows (their positions) whose vectors are alike: the cosine of the angle between them."""

    similarity: float
    row: int
    text: str
    other_row: int
    other_text: str


class Point(Struct, frozen=True, array_like=True):
    """A row on a map: where it is, from 0 to 1, its position, its text, its label in each labelling."""

    x: float
    y: float
    row: int
    text: str
    labels: tuple[int, ...]


class Labelling(Struct, frozen=True):
    """A column by which points are coloured, and its values; a point has the number of one, or -1."""

    name: str
    values: tuple[str, ...]


class Map(Struct, frozen=True, kw_only=True):
    """Vectors of a column in two dimensions, which hold `explained` of their variance (0 to 1).

    `of` says how many vectors there are; fewer `points` are a sample.
    """

    table: str
    column: str
    text_column: str | None
    dimensions: int
    of: int
    explained: float
    labellings: tuple[Labelling, ...]
    points: tuple[Point, ...]
    alike: tuple[Alike, ...]
    nearest: Histogram | None


class Step(Struct, frozen=True):
    """A step of a table: how deep in loops, what it does, where in the spec, how many calls it took."""

    depth: int
    words: str
    place: str
    calls: int


class Table(Struct, frozen=True, kw_only=True):
    """A table of the spec, or a hidden one: rows that SQL over all of them reads.

    `status` is `done`, `partial`, `stale`, or `being made`.
    """

    name: str
    hidden: bool
    place: str
    status: str
    rows: int
    rows_in: int | None = None
    dropped: int = 0
    failed: int = 0
    not_asked: int = 0
    steps: tuple[Step, ...] = ()
    columns: tuple[Column, ...] = ()
    mutations: tuple[MutationsDrawn, ...] = ()
    loops: tuple[Loop, ...] = ()


Texted = str | tuple[str, int] | None
"""A value as text; where it was cut, with the number of characters that it had."""


class Message(Struct, frozen=True, array_like=True):
    """A message of a prompt as sent: who says it, and what."""

    role: str
    content: Texted


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Something that happened to a row: a `call`, a `draw`, a `mutation` or a `failure`.

    `table` is another table that the row came through. `value` is what was drawn; of a failure, `name` is
    the reason and `value` the details. `set_aside` is the run that set an answer aside.
    """

    kind: str
    column: str
    table: str | None = None
    place: str | None = None
    round: str | None = None
    name: str | None = None
    value: Texted = None
    stops: bool = False
    index: int | None = None
    reask: int = 0
    backend: str = ""
    model: str = ""
    prompt: tuple[Message, ...] = ()
    answer: Texted = None
    reasoning: Texted = None
    finish: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    attempts: int = 1
    at: str = ""
    set_aside: int | None = None


class Row(Struct, frozen=True):
    """A row: its key, its position in the table, what became of it, its values, and what happened to it."""

    key: str
    position: int | None
    status: str
    values: tuple[Texted, ...]
    events: tuple[Event, ...]


class Reading(Struct, frozen=True, kw_only=True):
    """The rows of a table that can be read, and in words which of all they are."""

    table: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    sample: str
    rows: tuple[Row, ...]


class Example(Struct, frozen=True):
    """A row that failed so."""

    key: str
    detail: str
    answers: tuple[str, ...]


class Failures(Struct, frozen=True, kw_only=True):
    """Rows that could not have a column, for one reason."""

    table: str
    column: str
    reason: str
    place: str
    stopped: int
    went_on: int
    examples: tuple[Example, ...]


class Expectation(Struct, frozen=True):
    """What the spec expects, and what the last check found; `sql` where the plan is known."""

    name: str
    holds: bool
    violations: int
    run: int
    sql: str


class Run(Struct, frozen=True, kw_only=True):
    """A run. `seconds` is None while it goes on, `cost_usd` without a price."""

    number: int
    spec: str
    seed: int
    started: str
    seconds: float | None
    status: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class Cost(Struct, frozen=True, kw_only=True):
    """What was paid to one backend for one column."""

    table: str
    column: str
    backend: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


class Served(Struct, frozen=True, kw_only=True):
    """How one backend answered with one model: seconds that half and 95 % of its answers took at most."""

    backend: str
    model: str
    calls: int
    median_s: float
    slow_s: float
    retried: int
    reasked: int
    cut_off: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


class Contents(Struct, frozen=True, kw_only=True):
    """All of a report. `running` says who writes the database, where somebody does.

    `picture` is that of the plan, as SVG: the only markup.
    """

    database: str
    made_at: str
    version: str
    spec: str
    seed: int
    simulated: bool
    running: str | None
    runs: tuple[Run, ...]
    tables: tuple[Table, ...]
    picture: str | None
    maps: tuple[Map, ...]
    readings: tuple[Reading, ...]
    failures: tuple[Failures, ...]
    expectations: tuple[Expectation, ...]
    costs: tuple[Cost, ...]
    served: tuple[Served, ...]
    notes: tuple[str, ...] = ()
