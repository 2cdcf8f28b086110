"""Plans made by hand: each operation the runtime knows, whether or not a spec gives it yet."""

from __future__ import annotations

import itertools
from typing import Any

from synthc.compiler import plan, types
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

SPAN = Span("x.synth", 1, 1, 1, 2)
TEXT, INT, BOOL = types.Text(), types.Int(), types.Bool()
TEXTS = types.ListOf(TEXT)


def maybe(type_: Type) -> Type:
    return types.Maybe(type_)


def backend(name: str = "b", **settings: Any) -> plan.Backend:
    """A backend at the test's server that samples, and asks once where an answer is broken."""
    settings = {"attempts": 2, "reasks": 0, **settings}
    return plan.Backend(name=name, span=SPAN, model="m", url=plan.Env("SYNTH_URL"), **settings)


def read(*columns: Field, path: str = "topics.jsonl", key: str | None = None) -> plan.Read:
    return plan.Read(SPAN, path, columns or (Field("n", INT), Field("topic", TEXT)), key)


def rows(count: int) -> plan.Rows:
    return plan.Rows(SPAN, count)


def ask(
    prompt: str | plan.Prompt,
    write: str = "answer",
    *reads: str,
    type_: Type = TEXT,
    kind: str | None = None,
    **more: Any,
) -> plan.Ask:
    """An ask of one column. What it reads has the names of its slots."""
    template = plan.Template(prompt) if isinstance(prompt, str) else prompt
    kind = kind or ("text" if types.required(type_) == TEXT else "json")
    settings: dict[str, Any] = {"backend": "b", "system": None, "ordinal": 0}
    return plan.Ask(
        span=SPAN,
        what=write,
        prompt=template,
        reads={name: name for name in reads},
        contract=plan.Contract(kind=kind, fields=(Field(write, type_),)),
        writes=(write,),
        model_slot=f"{write}.model",
        **settings | more,
    )


def compute(sql: str, write: Field, *inputs: Field) -> plan.Compute:
    return plan.Compute(
        span=SPAN,
        what=write.name,
        sql=f"SELECT {sql} AS {types.quote(write.name)} FROM row",
        inputs=inputs,
        reads={field.name: field.name for field in inputs},
        fields=(write,),
        writes=(write.name,),
    )


def where(sql: str, *inputs: Field) -> plan.Filter:
    return plan.Filter(
        span=SPAN,
        what="where",
        sql=sql,
        inputs=inputs,
        reads={field.name: field.name for field in inputs},
    )


def render(template: str, write: str, *reads: str) -> plan.Render:
    return plan.Render(
        span=SPAN, what=write, template=template, reads={name: name for name in reads}, write=write
    )


def constant(value: Any, write: str) -> plan.Constant:
    return plan.Constant(span=SPAN, value=value, write=write)


def require(*fields: Field) -> plan.Require:
    return plan.Require(
        span=SPAN, what="input", fields=fields, reads={field.name: field.name for field in fields}
    )


def choices(*values: Any, weights: tuple[float, ...] | None = None) -> plan.Choices:
    return plan.Choices(values, weights or (1.0,) * len(values))


def sample(source: plan.Distribution, write: Field, **more: Any) -> plan.Sample:
    settings: dict[str, Any] = {"ordinal": 0}
    return plan.Sample(
        span=SPAN,
        what=write.name,
        source=source,
        field=write,
        write=write.name,
        **settings | more,
    )


def draw(table: str, count: int, *fields: Field, write: str = "examples") -> plan.Draw:
    return plan.Draw(
        span=SPAN, what=write, table=table, count=count, fields=fields, ordinal=0, write=write
    )


def repeat(
    times: int,
    variable: str,
    start: str,
    next_: str,
    *ops: plan.Op,
    write: Field,
    round_: str = "round",
    **more: Any,
) -> plan.Repeat:
    return plan.Repeat(
        span=SPAN,
        what=write.name,
        times=times,
        start=start,
        variable=variable,
        round=round_,
        ops=ops,
        next=next_,
        field=write,
        write=write.name,
        **more,
    )


def unnest(slot: str, write: str) -> plan.Unnest:
    return plan.Unnest(span=SPAN, what="unnest", reads={slot: slot}, writes=(write,))


def limit(count: int, per: str | None = None, labels: int | None = None) -> plan.Limit:
    return plan.Limit(span=SPAN, what=per or "", count=count, per=per, labels=labels)


def dedup(*slots: str, similar: float | None = None) -> plan.Dedup:
    reads = {slot: slot for slot in slots}
    return plan.Dedup(span=SPAN, what="dedup", reads=reads, similar=similar)


def one_of(*prompts: tuple[str, float, str], of: str | None = None, set_: str = "s") -> plan.OneOf:
    return plan.OneOf(set_, tuple(itertools.starmap(plan.Mutation, prompts)), 0, of)


def table(
    source: plan.Source, *ops: plan.Op, outputs: dict[str, Type], name: str = "t", **more: Any
) -> plan.Table:
    """A table that stores slots under their own names."""
    columns = tuple(plan.Output(slot, type_, slot) for slot, type_ in outputs.items())
    return plan.Table(name=name, span=SPAN, source=source, ops=ops, outputs=columns, **more)


def of(*tables: plan.Table, **more: Any) -> plan.Plan:
    """The plan of some tables and the backend `b`."""
    settings: dict[str, Any] = {
        "backends": (backend(),),
        "embedders": (),
        "exports": (),
        "seed": 42,
    }
    return plan.Plan(version=plan.VERSION, spec="x.synth", tables=tables, **settings | more)
