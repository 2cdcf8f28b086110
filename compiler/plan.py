"""The plan: what the compiler hands to the runtime, and the only thing the two share.

A plan is data. It holds no secret (an `env()` stays a name), no path of one machine (files are
named as the spec names them, relative to the spec), and nothing that depends on when or where it was
made: the same spec gives the same bytes.

A table is a source and a chain of operations. Operations work on *slots*: named values of one row,
each written once. `question` in the spec may be the slot `write.question` in the plan; what an
expression or a template calls a thing, and which slot that is, stands in its `reads`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
from msgspec import Struct

from synthc.compiler.span import Span
from synthc.compiler.types import (
    Audio,
    Field,
    Float,
    Image,
    ListOf,
    Text,
    Type,
    Vector,
    sql,
    vectors_of_parts,
)

VERSION = 1
LINE_LENGTH = 120
PROTOCOLS = "synthc.protocols"
"""The entry points by which other packages bring protocols for backends."""


class Env(Struct, frozen=True, tag="env"):
    """A setting read from the environment when the plan runs, and never written down."""

    name: str
    default: str | None = None


Setting = str | Env


class Price(Struct, frozen=True, kw_only=True):
    """What a backend costs, in US dollars a million tokens."""

    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0


class Sampling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model picks its words. None means: whatever the server does by itself."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: dict[str, Any] = {}


class Backend(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that answers, and how it is reached; `fallback` names the one that is asked when it is not."""

    name: str
    span: Span
    model: Setting
    protocol: str = "openai"
    url: Setting | None = None
    api_key: Setting | None = None
    headers: dict[str, Setting] = {}
    sampling: Sampling = Sampling()
    concurrency: int = 64
    attempts: int = 5
    timeout_s: float = 120.0
    reasks: int = 2
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    fallback: str | None = None
    price: Price | None = None


Input = Literal["text", "image", "audio", "vector"]
"""What a model embeds; a `vector` is a list of numbers, for a graph of the user's own."""

EMBEDDED: Mapping[Input, Type] = {
    "text": Text(),
    "image": Image(),
    "audio": Audio(),
    "vector": ListOf(Float()),
}
"""The type of a column that is embedded; a text may be a conversation too."""

NOUNS: Mapping[Input, str] = {
    "text": "text",
    "image": "picture",
    "audio": "recording",
    "vector": "list",
}
"""What people are told was embedded."""


class Embedder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that turns its `input` into vectors of `dimensions` floats; a server's, where `url` is set.

    `prompt` stands before each text; `prompt_name` is one of the model's own. `truncate` keeps the
    first `dimensions` of a model that has more. `input_name` and `output_name` are those of a graph
    that has several. The `layer` `input` is the table of the vectors that tokens have before any other
    layer saw them. What is None is as the model's files say.
    """

    name: str
    span: Span
    model: Setting
    dimensions: int
    input: Input = "text"
    input_name: str | None = None
    output_name: str | None = None
    url: Setting | None = None
    api_key: Setting | None = None
    pooling: str | None = None
    layer: str | None = None
    normalize: bool | None = None
    max_tokens: int | None = None
    precision: str = "fp32"
    prompt: str | None = None
    prompt_name: str | None = None
    truncate: bool = False


class Read(Struct, frozen=True, tag="read"):
    """Rows of files: `path` as the spec writes it, `key` the column that names a row.

    The path of a dataset of the Hub is `hf:datasets/org/name[@revision]#[configuration/]split`.
    """

    span: Span
    path: str
    columns: tuple[Field, ...]
    key: str | None


STANDARD = "std/"
"""How the path of a file of the standard library starts; a folder of that name is `./std/`."""


def located(path: str, base: Path) -> Path | Traversable:
    """Where the file of a path lies: in the package for the standard library, else in the folder `base`."""
    return resources.files("synthc.specs") / path if path.startswith(STANDARD) else base / path


DATASET = "hf:datasets/"
"""How the path of a dataset of the Hugging Face Hub starts."""


def cache_folder() -> Path:
    """`$SYNTHC_CACHE`, else the folder `synthc` where this platform keeps caches."""
    import platformdirs

    return Path(os.environ.get("SYNTHC_CACHE") or platformdirs.user_cache_dir("synthc"))


def dataset_file(path: str) -> Path:
    """Where the rows of a dataset lie once they were fetched."""
    name = hashlib.blake2b(path.encode(), digest_size=16).hexdigest()
    return cache_folder() / "datasets" / f"{name}.parquet"


def fetching(path: str) -> str:
    """The command that fetches a dataset."""
    name, _, part = path.partition("#")
    configuration, _, split = part.rpartition("/")
    more = f" --config {shlex.quote(configuration)}" if configuration else ""
    return f"synthc data fetch {shlex.quote(name)} --split {shlex.quote(split)}{more}"


FORMATS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
"""How a file is read, by its ending (`.gz` after it is read through)."""


def file_format(path: str) -> str | None:
    """`json`, `csv`, `parquet`, or None where the ending says nothing."""
    if path.startswith(DATASET):
        return "parquet"
    return FORMATS.get(PurePosixPath(path.lower().removesuffix(".gz")).suffix)


def reading(path: str, files: Sequence[str], columns: tuple[Field, ...] = ()) -> str:
    """The SQL that reads the files of `path`, as rows with the columns that were found when compiling.

    Without `columns` DuckDB looks at the files to find out.
    """
    listed = "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
    pairs = ", ".join(f"'{f.name.replace(chr(39), chr(39) * 2)}': '{sql(f.type)}'" for f in columns)
    match file_format(path):
        case "csv":
            types_ = f", types = {{{pairs}}}" if columns else ""
            return f"read_csv({listed}, union_by_name = true{types_})"
        case "parquet":
            return f"read_parquet({listed}, union_by_name = true)"
        case _:
            lines = path.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
            form = "newline_delimited" if lines else "auto"
            columns_ = f", columns = {{{pairs}}}" if columns else ""
            return f"read_json({listed}, format = '{form}'{columns_})"


def broken_line(file: Path) -> str | None:
    """Where JSON lines are broken, in words: DuckDB names the line it noticed it in."""
    if file.suffix.lower() not in (".jsonl", ".ndjson"):
        return None
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                msgspec.json.decode(line.strip() or b"null", type=msgspec.Raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                return f"line {number} of {file.name} is no JSON: {error}"
    return None


class Rows(Struct, frozen=True, tag="rows"):
    """`count` rows without columns, keyed by their number."""

    span: Span
    count: int


class Query(Struct, frozen=True, tag="query"):
    """A SQL query over whole tables: a barrier."""

    span: Span
    sql: str
    tables: tuple[str, ...]
    columns: tuple[Field, ...]
    key: str | None
    ordered: bool


class From(Struct, frozen=True, tag="from"):
    """The rows of another table of the plan, with their keys."""

    span: Span
    table: str


class Files(Struct, frozen=True, tag="files"):
    """A row for each file of `path`, keyed by its path: `columns` are `path`, and what it holds."""

    span: Span
    path: str
    columns: tuple[Field, ...]


Source = Read | Rows | Query | From | Files


class Contract(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an answer becomes columns: `fields` are named as the spec names them.

    - `text` fills its one field with the answer as it is
    - `json` reads an object with the fields' names, or a bare array where the one field is a list
    - `after` fills its one field with what follows `marks[0]`, or with the whole answer
    - `tag` fills its one field with what stands between `<marks[0]>` and its end
    - `sections` fills each field with what stands under its heading, in `marks` at the same place
    - `regex` fills each field with the group of its name in the first match of `pattern` (RE2)
    - `lines` makes each field a list, of the groups in every match of `pattern`: as many as `per`, the
      name of a list among what is read, has elements; the group `index` says which one it belongs to

    A pattern that has one group besides `index` fills the only field with it, whatever it is called.
    """

    kind: str
    fields: tuple[Field, ...]
    pattern: str | None = None
    marks: tuple[str, ...] = ()
    per: str | None = None


Ref = str | dict[str, str]
"""A slot, or a struct put together from slots: its parts' names → their slots."""


class Choices(Struct, frozen=True, tag="choices"):
    """Some values and how often each is drawn, relative to the others."""

    values: tuple[Any, ...]
    weights: tuple[float, ...]


class Uniform(Struct, frozen=True, tag="uniform"):
    """A number from `low` to `high`, each as likely as the others; of whole numbers, both are among them."""

    low: float
    high: float


class Normal(Struct, frozen=True, tag="normal"):
    """A number of the normal distribution."""

    mean: float
    deviation: float


class Poisson(Struct, frozen=True, tag="poisson"):
    """A count of the Poisson distribution."""

    mean: float


class Lines(Struct, frozen=True, tag="lines"):
    """The lines of a text file that are not empty. Files of the standard library start with `std/`."""

    path: str


Distribution = Choices | Uniform | Normal | Poisson | Lines


class Template(Struct, frozen=True, tag="template"):
    """A prompt: a Jinja template."""

    text: str


class Mutation(Struct, frozen=True):
    """One prompt of a set, and how often it is drawn, relative to the others."""

    name: str
    weight: float
    template: str


class OneOf(Struct, frozen=True, tag="one_of"):
    """A prompt that is drawn from a set. `of` names, among what is read, the value that it changes.

    `ordinal` counts the draws from an equal set before it in its chain.
    """

    set: str
    prompts: tuple[Mutation, ...]
    ordinal: int
    of: str | None = None


class Conversation(Struct, frozen=True, tag="conversation"):
    """Messages to be continued: the column of that name among what is read."""

    name: str


Prompt = Template | OneOf | Conversation


class Each(Struct, frozen=True):
    """Ask for each element of a list: templates see it by `name`. `list` is that of a value read."""

    name: str
    list: str


class Ask(Struct, frozen=True, kw_only=True, tag="ask", omit_defaults=True):
    """Ask a backend: `writes` has a slot for each field of the contract, `model_slot` the model's name.

    `ordinal` counts the asks of the same prompt and backend before it in its chain: it keeps two
    answers to one question apart without naming them.

    With `each` or `count` it asks several times: what is written are lists, and the contract is that
    of one answer. With `where`, a slot that holds a truth, it asks only where that is true, and
    writes nulls elsewhere (`model_slot` too). `images` are what the prompt sees that is a picture, or
    holds some.
    """

    span: Span
    what: str
    backend: str
    prompt: Prompt
    system: str | None
    reads: dict[str, Ref]
    contract: Contract
    writes: tuple[str, ...]
    model_slot: str
    ordinal: int
    where: str | None = None
    each: Each | None = None
    count: int | None = None
    images: tuple[Field, ...] = ()


class Sample(Struct, frozen=True, kw_only=True, tag="sample", omit_defaults=True):
    """Draw a value for `field`; with `least` and `most` a list of so many different ones.

    What is drawn is a function of the seed, the row's key, the round, the distribution and `ordinal`,
    which counts the draws from an equal distribution before it in its chain.
    """

    span: Span
    what: str
    source: Distribution
    field: Field
    ordinal: int
    write: str
    least: int | None = None
    most: int | None = None


class Draw(Struct, frozen=True, kw_only=True, tag="draw"):
    """Draw `count` different rows of a table, as a list of structs with its columns (`fields`)."""

    span: Span
    what: str
    table: str
    count: int
    fields: tuple[Field, ...]
    ordinal: int
    write: str


class Compute(Struct, frozen=True, kw_only=True, tag="compute"):
    """A SELECT over one row, `row`: `inputs` are its columns, `reads` their slots, `fields` the result."""

    span: Span
    what: str
    sql: str
    inputs: tuple[Field, ...]
    reads: dict[str, Ref]
    fields: tuple[Field, ...]
    writes: tuple[str, ...]


class Filter(Struct, frozen=True, kw_only=True, tag="filter"):
    """Keep the row, `row`, where the condition is true (as in `Compute`)."""

    span: Span
    what: str
    sql: str
    inputs: tuple[Field, ...]
    reads: dict[str, Ref]


class Render(Struct, frozen=True, kw_only=True, tag="render"):
    """A template, rendered into a slot: no model."""

    span: Span
    what: str
    template: str
    reads: dict[str, Ref]
    write: str


class Constant(Struct, frozen=True, kw_only=True, tag="constant"):
    """A literal, in a slot."""

    span: Span
    value: Any
    write: str


class Require(Struct, frozen=True, kw_only=True, tag="require"):
    """Stop the row where a value is null or none of its choice: what a task's inputs promise."""

    span: Span
    what: str
    fields: tuple[Field, ...]
    reads: dict[str, Ref]


Parts = Literal["tokens", "words", "first tokens", "spans"]


class Embed(Struct, frozen=True, kw_only=True, tag="embed", omit_defaults=True):
    """The vector of an `input`, or with `parts` a list with the vectors of the parts of a text.

    With `chat` it is that of a conversation; where there is a `system`, the slot of another text or
    null, that of the conversation of a system's turn and the text as the user's.

    These are the text's tokens; its words, each the mean of its tokens or the first of them (`first
    tokens`); or the labelled spans that stand in the slot `spans`, each the mean of its tokens.
    """

    span: Span
    what: str
    embedder: str
    read: str
    write: str
    dimensions: int
    input: Input = "text"
    parts: Parts | None = None
    spans: str | None = None
    chat: bool = False
    system: str | None = None


def embedding(dimensions: int, parts: Parts | None) -> Type:
    """The type of what an embedding writes."""
    if parts is None:
        return Vector(dimensions)
    return vectors_of_parts(dimensions, labelled=parts == "spans")


class Repeat(Struct, frozen=True, kw_only=True, tag="repeat", omit_defaults=True):
    """Do `ops` again and again, `times` at most: each round sees `variable` and its number, `round`.

    After a round, `variable` is what `next` holds, or what it was where that is null; then the loop
    ends if `until` is true. Where there is an `until` and it is never true, nothing is written but null.
    `write` gets the last value, or with `collect` the list of the values after each round; `field` is
    what it promises. Slots that `ops` write are those of one round, seen by it alone, but for the
    `model_slot` of an ask: it keeps what the last round that asked wrote.
    """

    span: Span
    what: str
    times: int
    start: Ref
    variable: str
    round: str
    ops: tuple[Op, ...]
    next: Ref
    until: Filter | None = None
    collect: bool = False
    field: Field
    write: str


class Unnest(Struct, frozen=True, kw_only=True, tag="unnest"):
    """A row for each element of a list: none for a null or an empty one (the row is dropped).

    Of several lists, which are equally long, each row gets the elements at one place. `reads` are
    named as the spec names them, `writes` the slots of their elements, in the same order.
    """

    span: Span
    what: str
    reads: dict[str, Ref]
    writes: tuple[str, ...]


class Dedup(Struct, frozen=True, kw_only=True, tag="dedup", omit_defaults=True):
    """Keep the first row, in row order, of those with equal values.

    With `similar`, above 0 and up to 1, keep each row whose vector, the one value read, has a lower
    cosine similarity than that to the vector of every row kept before it. A vector that is null, or has
    no direction, is similar to none.
    """

    span: Span
    what: str
    reads: dict[str, Ref]
    similar: float | None = None


class Limit(Struct, frozen=True, kw_only=True, tag="limit", omit_defaults=True):
    """Keep the first `count` rows, in row order, and ask nothing for the rest.

    With `per` the first `count` of each value of that slot, which has `labels` different values where
    that is known; a row where it is null fails. `what` is what the spec calls it.
    """

    span: Span
    what: str = ""
    count: int
    per: str | None = None
    labels: int | None = None


Op = (
    Ask
    | Compute
    | Filter
    | Render
    | Constant
    | Require
    | Embed
    | Sample
    | Draw
    | Repeat
    | Unnest
    | Dedup
    | Limit
)


class Output(Struct, frozen=True):
    """A column of a stored table."""

    name: str
    type: Type
    value: Ref


class Table(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A table: where its rows come from, what happens to each, and which columns are stored.

    A hidden one holds the rows that a step with SQL over all of them reads: it has a name that no
    table of a spec can have, and stands in the schema `synth`.
    """

    name: str
    span: Span
    source: Source
    ops: tuple[Op, ...]
    outputs: tuple[Output, ...]
    hidden: bool = False


class Test(Struct, frozen=True, kw_only=True):
    """A task tried on one row with canned replies: no part of a plan, but run like one.

    Each ask of `plan` has a backend of its own, named after its first column. `replies` holds what it
    is answered in turn (None: the call fails), `repeats` those whose one reply answers every time.
    """

    title: str
    span: Span
    plan: Plan
    replies: dict[str, tuple[str | None, ...]]
    repeats: frozenset[str]
    expected: dict[str, Any]
    fails: bool


class Expect(Struct, frozen=True):
    """A query over whole tables that must give no row: each row it gives is a violation."""

    span: Span
    name: str
    sql: str
    tables: tuple[str, ...]


class Export(Struct, frozen=True):
    """A table written to a file when all tables are done."""

    span: Span
    table: str
    path: str


class Plan(Struct, frozen=True, kw_only=True):
    """Everything a run needs to know: tables stand after the tables they read."""

    version: int
    spec: str
    seed: int
    backends: tuple[Backend, ...]
    embedders: tuple[Embedder, ...]
    tables: tuple[Table, ...]
    exports: tuple[Export, ...]
    expects: tuple[Expect, ...] = ()


def encode(plan: Plan) -> bytes:
    """The plan as JSON in one fixed layout, made to be read: what fits on a line stands on one."""
    return (_layout(msgspec.to_builtins(plan), "") + "\n").encode()


def decode(text: bytes) -> Plan:
    """The plan in a file's bytes.

    Raises msgspec.DecodeError (msgspec.ValidationError among them) where the bytes are no plan.
    """
    return msgspec.json.decode(text, type=Plan)


def _layout(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if (
        len(indent) + len(line) <= LINE_LENGTH
        or not value
        or not isinstance(value, dict | list | tuple)
    ):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_layout(part, inner)}" for key, part in value.items()]
        opening, closing = "{", "}"
    else:
        parts = [_layout(part, inner) for part in value]
        opening, closing = "[", "]"
    return opening + "".join(f"\n{inner}{part}," for part in parts)[:-1] + f"\n{indent}{closing}"


def slots(ref: Ref) -> tuple[str, ...]:
    """The slots that a reference names."""
    return (ref,) if isinstance(ref, str) else tuple(ref.values())


def reads(op: Op) -> frozenset[str]:
    """The slots that an operation needs."""
    match op:
        case Embed():
            return frozenset(slot for slot in (op.read, op.spans, op.system) if slot)
        case Constant() | Sample() | Draw():
            return frozenset()
        case Limit():
            return frozenset((op.per,) if op.per else ())
        case Repeat():
            inner = {slot for part in op.ops for slot in reads(part)} | set(slots(op.next))
            inner |= reads(op.until) if op.until else set()
            own = {op.variable, op.round, *(slot for part in op.ops for slot in writes(part))}
            return frozenset((inner - own) | set(slots(op.start)))
        case Ask(where=str() as where):
            return _named(op.reads) | {where}
        case _:
            return _named(op.reads)


def _named(reads: dict[str, Ref]) -> frozenset[str]:
    return frozenset(slot for ref in reads.values() for slot in slots(ref))


def writes(op: Op) -> frozenset[str]:
    """The slots that an operation fills, as others see them."""
    match op:
        case Ask():
            return frozenset((*op.writes, op.model_slot))
        case Compute() | Unnest():
            return frozenset(op.writes)
        case Repeat():
            inner = {op.model_slot for op in asks(op.ops)}
            return frozenset((op.write, *inner))
        case Render() | Constant() | Embed() | Sample() | Draw():
            return frozenset((op.write,))
        case Filter() | Require() | Limit() | Dedup():
            return frozenset()


def asks(ops: Sequence[Op]) -> tuple[Ask, ...]:
    """All asks among operations, those in loops too."""
    found: list[Ask] = []
    for op in ops:
        match op:
            case Ask():
                found.append(op)
            case Repeat():
                found += asks(op.ops)
            case _:
                pass
    return tuple(found)
