"""Through which change a stored table became stale: its plan compared with the one it was made by."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from synthc.compiler import plan
from synthc.runtime.ops import every, models
from synthc.runtime.planning.kept import Held, Kept
from synthc.runtime.planning.words import named
from synthc.runtime.store.fingerprint import Content, parents, without_places
from synthc.runtime.store.source import files_of


@dataclass(frozen=True, slots=True)
class Now:
    """How things are: the plan, the fingerprints of its tables, what its models are by now, where its
    files are and the digests of what they hold."""

    plan: plan.Plan
    marks: Mapping[str, str]
    models: Mapping[str, str]
    base: Path
    content: Callable[[Content], str]


def current(table: plan.Table, held: Held, now: Now, all_held: Mapping[str, Held]) -> bool:
    """Whether a run would leave a table as it is."""
    made = held.fingerprint == now.marks[table.name] and held.status == "done"
    return made and not any(_stale_parents(table, held, now, all_held))


def why_stale(
    table: plan.Table, held: Held, now: Now, all_held: Mapping[str, Held], kept: Kept
) -> tuple[str, ...]:
    """What changed since a table was made, in words; there is always a reason."""
    then = kept.plan_of(held.run_id)
    before = then and next((t for t in then.tables if t.name == table.name), None)
    if then is None or before is None:
        return ("it was made by another version of synthc",)
    found = [
        *(["rows of it are to be asked anew"] if held.status == "stale" else []),
        *changed(then, before, now.plan, table),
        *_stale_parents(table, held, now, all_held),
    ]
    # What files held then, and what a variable named, was not kept: they are what is left.
    return tuple(found or _outside(table, now, kept.began(held.run_id)))


def changed(
    then: plan.Plan, before: plan.Table, now: plan.Plan, table: plan.Table
) -> tuple[str, ...]:
    """What is different in what a table is made of by two plans, in words."""
    return (
        *_seed(then, now, table),
        *_source(before, table),
        *_chain(before, table),
        *_models(then, now, table),
    )


def _seed(then: plan.Plan, now: plan.Plan, table: plan.Table) -> Iterator[str]:
    del table
    if then.seed != now.seed:
        yield f"the seed is {now.seed}, and was {then.seed}"


def _source(before: plan.Table, now: plan.Table) -> Iterator[str]:
    if _same(before.source, now.source):
        return
    match before.source, now.source:
        case plan.Read(path=was), plan.Read(path=path) if was != path:
            yield f"it reads {path}, and read {was}"
        case plan.Read(key=was), plan.Read(key=key) if was != key:
            yield "its key changed"
        case plan.Read(), plan.Read(path=path):
            yield f"the columns of {path} changed"
        case plan.Rows(count=was), plan.Rows(count=count):
            yield f"it has {count} rows, and had {was}"
        case plan.From(table=was), plan.From(table=name):
            yield f"it reads `{name}`, and read `{was}`"
        case plan.Query(), plan.Query():
            yield "its SQL changed"
        case _:
            yield "its source changed"


def _chain(before: plan.Table, now: plan.Table) -> Iterator[str]:
    """What changed in the operations, each named as the spec names it."""
    old, new = list(every(before.ops)), list(every(now.ops))
    matcher = difflib.SequenceMatcher(
        None, [_key(op) for op in old], [_key(op) for op in new], False
    )
    removed: list[plan.Op] = []
    added: list[plan.Op] = []
    said = False
    for tag, from_, to, start, end in matcher.get_opcodes():
        if tag == "equal":
            for was, op in zip(old[from_:to], new[start:end], strict=True):
                for words in _changed(was, op):
                    said = True
                    yield words
        else:
            removed += old[from_:to]
            added += new[start:end]
    moved = {_key(op) for op in removed} & {_key(op) for op in added}
    for words, ops in (("is new", added), ("is gone", removed)):
        for op in ops:
            if _key(op) not in moved and not isinstance(op, plan.Require | plan.Constant):
                said = True
                yield f"{named(op)} {words}"
    if moved and not said:
        said = True
        yield "the order of its steps changed"
    if not said and not _same(before.ops, now.ops):
        yield "its steps changed"
    elif not said and not _same(before.outputs, now.outputs):
        yield "its columns changed"


def _key(op: plan.Op) -> tuple[str, str]:
    what = op.write if isinstance(op, plan.Constant) else getattr(op, "what", "")
    return type(op).__name__, what


_PARTS: dict[str, str] = {
    "prompt": "the prompt of {name} changed",
    "system": "the system prompt of {name} changed",
    "contract": "the form of the answer of {name} changed",
    "backend": "{name} is asked of `{now}`, and was of `{was}`",
    "embedder": "{name} is embedded by `{now}`, and was by `{was}`",
    "reads": "what {name} reads changed",
    "read": "what {name} reads changed",
    "sql": "the SQL of {name} changed",
    "template": "the template of {name} changed",
    "source": "what {name} is drawn from changed",
    "value": "the value of {name} is {now}, and was {was}",
    "similar": "what `dedup` takes for similar is {now}, and was {was}",
    "count": "the count of {name} is {now}, and was {was}",
    "times": "{name} goes {now} rounds, and went {was}",
    "where": "which rows {name} is asked for changed",
    "each": "what {name} is asked for changed",
    "per": "what {name} counts by changed",
    "until": "when {name} ends changed",
}
_QUIET = ("span", "what", "ops", "until", "writes", "write", "model_slot", "ordinal", "inputs")
"""Parts of an operation that are told elsewhere, or change only together with another."""


def _changed(was: plan.Op, now: plan.Op) -> Iterator[str]:
    if _same(was, now):
        return
    for part in now.__struct_fields__:
        old, new = getattr(was, part), getattr(now, part)
        if part in _QUIET or _same(old, new):
            continue
        words = _PARTS.get(part, "{name} changed")
        # Values that are long are not shown: one can look at the spec.
        plain = all(isinstance(value, str | int | float | bool) for value in (old, new))
        if "{now}" in words and not plain:
            words = "{name} changed"
        yield words.format(name=named(now), now=new, was=old)


def _models(then: plan.Plan, now: plan.Plan, table: plan.Table) -> Iterator[str]:
    """Settings of the backends and embedders that a table uses, if they can change an answer."""
    for name in dict.fromkeys(models(table.ops)):
        was = next((b for b in (*then.backends, *then.embedders) if b.name == name), None)
        is_ = next((b for b in (*now.backends, *now.embedders) if b.name == name), None)
        if was is None or is_ is None:
            continue
        for part in (
            "model",
            "protocol",
            "sampling",
            "pooling",
            "normalize",
            "max_tokens",
            "dimensions",
        ):
            old, new = getattr(was, part, None), getattr(is_, part, None)
            if part == "sampling" and old != new:
                yield from _sampling(name, was, is_)
            elif old != new:
                yield f"`{part}` of `{name}` changed"


def _sampling(name: str, was: Any, now: Any) -> Iterator[str]:
    for part in plan.Sampling.__struct_fields__:
        old, new = getattr(was.sampling, part), getattr(now.sampling, part)
        if old != new:
            plain = part != "extra"
            told = f" is {_said(new)}, and was {_said(old)}" if plain else " changed"
            yield f"`{part}` of `{name}`{told}"


def _said(value: Any) -> str:
    return "unset" if value is None or value == () else str(value)


def _stale_parents(
    table: plan.Table, held: Held, now: Now, all_held: Mapping[str, Held]
) -> Iterator[str]:
    for name in dict.fromkeys(parents(table)):
        parent = all_held.get(name)
        if parent is None:
            yield f"it reads `{name}`, which is not there any more"
        elif parent.fingerprint != now.marks[name] or parent.status == "stale":
            yield f"it reads `{name}`, which is stale"
        elif parent.run_id > held.run_id:
            yield f"it reads `{name}`, which was made anew since"


def _outside(table: plan.Table, now: Now, began: datetime.datetime | None) -> tuple[str, ...]:
    """What is no part of a plan: files, and models that a variable names. Files tell when they changed."""
    files: dict[str, list[Path]] = {}
    if isinstance(table.source, plan.Read | plan.Files):
        files[table.source.path] = files_of(table.source, now.base)
    for op in every(table.ops):
        if isinstance(op, plan.Sample) and isinstance(op.source, plan.Lines):
            files[op.source.path] = [now.base / op.source.path]
    later = [path for path, found in files.items() if any(_changed_since(f, began) for f in found)]
    named_ = [
        f"`model` of `{b.name}`, which {b.model.name} names,"
        for b in (*now.plan.backends, *now.plan.embedders)
        if b.name in models(table.ops) and isinstance(b.model, plan.Env)
    ]
    if later:
        return tuple(f"{path} changed" for path in later)
    maybe = [*named_, *files]
    return (f"{' or '.join(maybe)} changed",) if maybe else ("what it is made of changed",)


def _changed_since(file: Path, began: datetime.datetime | None) -> bool:
    if began is None or not file.is_file():
        return False
    changed = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
    return changed.replace(tzinfo=None) > began


def _same(one: Any, other: Any) -> bool:
    """Whether parts of plans are equal, wherever they stand in their specs."""
    return without_places(msgspec.to_builtins(one)) == without_places(msgspec.to_builtins(other))
