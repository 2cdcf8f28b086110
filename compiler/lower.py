"""Typed spec → plan: each table becomes a source and a flat chain of operations over slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from synthc.compiler import plan, typed, types
from synthc.compiler.check import sql
from synthc.compiler.check.tasks import MODEL_NAME
from synthc.compiler.plan import Ref
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

ROW = "row"
"""What the one row is called in the SQL of a plan."""

_AskKey = tuple[str, str, str | None]


def lower(spec: typed.Spec, name: str, seed: int) -> plan.Plan:
    """The plan of a spec that holds. `name` is the file that the plan is of, `seed` the run's."""
    ends: dict[str, _Chain] = {}
    tables: list[plan.Table] = []
    for table in spec.tables:
        chain = _Chain.start(table, spec.constants, ends)
        for step in table.steps:
            chain.step(step)
        ends[table.name] = chain
        tables.append(chain.finish(table))
    return plan.Plan(
        version=plan.VERSION,
        spec=name,
        seed=seed,
        backends=spec.backends,
        embedders=spec.embedders,
        tables=tuple(tables),
        exports=tuple(plan.Export(e.span, e.table.text, e.path.text) for e in spec.exports),
    )


def lower_test(test: typed.Test, spec: typed.Spec, seed: int) -> plan.Test:
    """A test as a plan of one table with one row, where each ask has a backend of its own."""
    name = test.step.task.name
    table = typed.Table(name, test.span, plan.Rows(test.span, 1), (), (test.step,), ())
    chain = _Chain.start(table, spec.constants, {})
    chain.step(test.step)
    ops = tuple(_answered_by_itself(op) for op in chain.ops)
    outputs = tuple(
        plan.Output(column.name, column.type, chain.scope[column.name])
        for column in test.step.task.outputs
    )
    made = plan.Table(
        name=name, span=test.span, source=plan.Rows(test.span, 1), ops=ops, outputs=outputs
    )
    asks = [op.backend for op in ops if isinstance(op, plan.Ask)]
    return plan.Test(
        title=test.title,
        span=test.span,
        plan=plan.Plan(
            version=plan.VERSION,
            spec=spec.file,
            seed=seed,
            backends=tuple(plan.Backend(name=ask, span=test.span, model="test") for ask in asks),
            embedders=(),
            tables=(made,),
            exports=(),
        ),
        replies=dict(test.replies),
        repeats=test.repeats,
        expected=dict(test.expected),
        fails=test.fails,
    )


def _answered_by_itself(op: plan.Op) -> plan.Op:
    if not isinstance(op, plan.Ask):
        return op
    return msgspec.structs.replace(op, backend=op.contract.fields[0].name)


@dataclass
class _Chain:
    """A table while its operations are written down.

    `scope` says which slots a column of the table stands for at this point, `sure` which slots cannot
    be null, `asked` how often each prompt was asked along the rows' way here (also in the tables they
    come from: a second answer to one question has another ordinal).
    """

    constants: Mapping[str, tuple[Any, Type]]
    source: plan.Source
    scope: dict[str, Ref]
    types: dict[str, Type]
    asked: dict[_AskKey, int]
    ops: list[plan.Op] = field(default_factory=list)
    sure: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    @classmethod
    def start(
        cls,
        table: typed.Table,
        constants: Mapping[str, tuple[Any, Type]],
        ends: Mapping[str, _Chain],
    ) -> _Chain:
        names = [column.name for column in table.source_columns]
        asked: dict[_AskKey, int] = {}
        match table.source:
            case plan.From(_, parent):
                source = table.source
                asked = dict(ends[parent].asked)
            case typed.Query(bound, key, span):
                literals = {name: sql.literal(*constants[name]) for name, _, _ in bound.parameters}
                text = bound.with_parameters(literals)
                source = plan.Query(span, text, bound.tables, bound.fields, key, bound.ordered)
            case _:
                source = table.source
        return cls(
            constants,
            source,
            {name: name for name in names},
            {column.name: column.type for column in table.source_columns},
            asked,
            names=set(names),
        )

    def finish(self, table: typed.Table) -> plan.Table:
        outputs = tuple(
            plan.Output(column.name, column.type, self.scope[column.name])
            for column in table.columns
        )
        return plan.Table(
            name=table.name,
            span=table.span,
            source=self.source,
            ops=tuple(self.ops),
            outputs=outputs,
        )

    def fresh(self, name: str) -> str:
        """A slot that nothing else is called."""
        slot, number = name, 1
        while slot in self.names:
            number += 1
            slot = f"{name}#{number}"
        self.names.add(slot)
        return slot

    def step(self, step: typed.Step) -> None:
        match step:
            case typed.Where(bound, span):
                text, fields, reads = self.row_sql(bound, self.scope, self.types, {})
                self.ops.append(
                    plan.Filter(span=span, what="where", sql=text, inputs=fields, reads=reads)
                )
            case typed.Select():
                self.select(step)
            case typed.Limit(count, span):
                self.ops.append(plan.Limit(span=span, count=count))
            case typed.Embed():
                self.embed(step)
            case typed.TaskStep():
                self.task(step)

    # SQL over the row

    def row_sql(
        self,
        bound: sql.Bound,
        scope: Mapping[str, Ref],
        known: Mapping[str, Type],
        literals: Mapping[str, str],
    ) -> tuple[str, tuple[Field, ...], dict[str, Ref]]:
        """The SQL with its parameters put in, the columns it sees and their slots."""
        literals = {
            **{
                n: sql.literal(*self.constants[n])
                for n, _, _ in bound.parameters
                if n in self.constants
            },
            **literals,
        }
        fields: dict[str, Field] = {}
        reads: dict[str, Ref] = {}
        for path in bound.paths:
            name = path[0]
            ref = scope[name]
            if len(path) == 1 or isinstance(ref, str):
                fields[name] = Field(name, known[name])
                reads[name] = ref
                continue
            part = Field(path[1], _part(known[name], path[1]))
            before = fields[name].type if name in fields else types.Record(())
            assert isinstance(before, types.Record)
            fields[name] = Field(name, types.Record((*before.fields, part)))
            slots = reads.get(name, {})
            assert isinstance(slots, dict)
            reads[name] = {**slots, path[1]: ref[path[1]]}
        return bound.with_parameters(literals), tuple(fields.values()), reads

    def select(self, step: typed.Select) -> None:
        bound = step.bound
        plain = {
            name: ref
            for name, path in (bound.plain or {}).items()
            if (ref := self.direct(path)) is not None
        }
        scope: dict[str, Ref] = {}
        known: dict[str, Type] = {}
        made: list[Field] = []
        for column in bound.fields:
            if column.name in plain:
                scope[column.name] = plain[column.name]
                known[column.name] = self.type_of((bound.plain or {})[column.name])
            else:
                scope[column.name] = self.fresh(column.name)
                known[column.name] = column.type
                made.append(Field(column.name, types.maybe(column.type)))
        if made:
            text, fields, reads = self.row_sql(bound, self.scope, self.types, {})
            wanted = ", ".join(
                f"CAST({types.quote(f.name)} AS {types.sql(f.type)}) AS {types.quote(f.name)}"
                for f in made
            )
            self.ops.append(
                plan.Compute(
                    span=step.span,
                    what="select",
                    sql=f"SELECT {wanted} FROM (SELECT {text}\nFROM {ROW})",
                    inputs=fields,
                    reads=reads,
                    fields=tuple(made),
                    writes=tuple(str(scope[f.name]) for f in made),
                )
            )
        self.scope, self.types = scope, known

    def type_of(self, path: typed.Path) -> Type:
        type_ = self.types[path[0]]
        for part in path[1:]:
            type_ = _part(type_, part)
        return type_

    def direct(self, path: typed.Path) -> Ref | None:
        """What a column or a part of one stands for, where no computing is needed."""
        ref = self.scope[path[0]]
        if len(path) == 1:
            return ref
        return ref[path[1]] if len(path) == 2 and isinstance(ref, dict) else None

    def resolve(self, path: typed.Path, span: Span) -> Ref:
        """What a path stands for; a part deep inside a value is taken out by SQL."""
        ref = self.direct(path)
        if ref is not None:
            return ref
        slot = self.fresh(".".join(path))
        type_ = types.maybe(self.type_of(path))
        expression = ".".join(types.quote(name) for name in path)
        self.ops.append(
            plan.Compute(
                span=span,
                what=".".join(path),
                sql=f"SELECT CAST({expression} AS {types.sql(type_)}) AS value FROM {ROW}",
                inputs=(Field(path[0], self.types[path[0]]),),
                reads={path[0]: self.scope[path[0]]},
                fields=(Field("value", type_),),
                writes=(slot,),
            )
        )
        return slot

    def embed(self, step: typed.Embed) -> None:
        ref = self.resolve(step.path, step.span)
        name = ".".join(step.path)
        what = f"embed({name})"
        if ref not in self.sure:
            self.require(step.span, what, (Field(name, types.Text()),), {name: ref})
        slot = self.fresh(step.column)
        self.ops.append(
            plan.Embed(
                span=step.span,
                what=what,
                embedder=step.embedder,
                read=str(ref),
                write=slot,
                dimensions=step.dimensions,
            )
        )
        self.scope[step.column] = slot
        self.types[step.column] = types.Vector(step.dimensions)
        self.sure.add(slot)

    def require(
        self, span: Span, what: str, fields: tuple[Field, ...], reads: dict[str, Ref]
    ) -> None:
        self.ops.append(plan.Require(span=span, what=what, fields=fields, reads=reads))
        self.sure |= {slot for ref in reads.values() for slot in plan.slots(ref)}

    # Tasks

    def task(self, step: typed.TaskStep) -> None:
        made = _TaskChain(self, step)
        made.inputs()
        for produce in step.task.produces:
            made.produce(produce)
        made.publish()


class _TaskChain:
    """One use of a task: its own names, written into its table's chain."""

    def __init__(self, chain: _Chain, step: typed.TaskStep) -> None:
        self.chain = chain
        self.at = step
        self.prefix = step.alias or step.task.name
        self.scope: dict[str, Ref] = {}
        self.types: dict[str, Type] = {}
        self.values: dict[str, tuple[Any, Type]] = dict(chain.constants)
        self.model_slot: str | None = None

    def inputs(self) -> None:
        """Bind what is given, and stop rows whose columns are not what the task was promised."""
        task = self.at.task
        wanted = [(p.name, p.type) for p in task.parameters]
        wanted += [(column.name, column.type) for column in task.inputs]
        unsure: list[Field] = []
        for name, type_ in wanted:
            given = self.at.given[name]
            if given.path is None:
                self.values[name] = (given.value, type_)
                continue
            ref = self.chain.resolve(given.path, self.at.span)
            found = types.required(self.chain.type_of(given.path))
            self.scope[name] = ref
            self.types[name] = type_
            self.values.pop(name, None)
            choice = isinstance(types.required(type_), types.Choice) and found != types.required(
                type_
            )
            if choice or (not types.nullable(type_) and not self.is_sure(ref)):
                unsure.append(Field(name, type_))
        if unsure:
            reads = {f.name: self.scope[f.name] for f in unsure}
            self.chain.require(self.at.span, self.prefix, tuple(unsure), reads)

    def is_sure(self, ref: Ref) -> bool:
        return isinstance(ref, dict) or ref in self.chain.sure

    def reads(self, names: tuple[str, ...], span: Span) -> dict[str, Ref]:
        """The slots of names that a template uses; a known value gets a slot of its own."""
        for name in names:
            if name in self.scope:
                continue
            value, type_ = self.values[name]
            slot = self.chain.fresh(f"{self.prefix}.${name}")
            self.chain.ops.append(plan.Constant(span=span, value=value, write=slot))
            if value is not None:
                self.chain.sure.add(slot)
            self.scope[name] = slot
            self.types[name] = type_
        return {name: self.scope[name] for name in names}

    def produce(self, produce: typed.Produce) -> None:
        span = produce.span
        slots = tuple(self.chain.fresh(f"{self.prefix}.{c.name}") for c in produce.columns)
        what = f"{self.prefix}.{produce.columns[0].name}"
        first = produce.columns[0]
        match produce.producer:
            case typed.Ask():
                self.ask(produce, produce.producer, slots, what)
            case typed.Sql(bound):
                self.sql(bound, first, slots[0], what, span)
            case typed.Copy(name):
                ref = self.reads((name,), span)[name]
                if not types.nullable(first.type) and not self.is_sure(ref):
                    field_ = Field(first.name, first.type)
                    self.chain.require(span, what, (field_,), {first.name: ref})
                self.define(first, ref)
                return
            case typed.Constant(value):
                self.chain.ops.append(plan.Constant(span=span, value=value, write=slots[0]))
            case typed.Template(template, reads):
                self.chain.ops.append(
                    plan.Render(
                        span=span,
                        what=what,
                        template=template,
                        reads=self.reads(reads, span),
                        write=slots[0],
                    )
                )
        for column, slot in zip(produce.columns, slots, strict=True):
            self.define(column, slot)
            if not types.nullable(column.type):
                self.chain.sure.add(slot)

    def define(self, column: typed.Column, ref: Ref) -> None:
        self.scope[column.name] = ref
        self.types[column.name] = column.type

    def ask(
        self, produce: typed.Produce, ask: typed.Ask, slots: tuple[str, ...], what: str
    ) -> None:
        backend = ask.backend or self.at.backend or ""
        key = (backend, ask.template, ask.system)
        ordinal = self.chain.asked.get(key, 0)
        self.chain.asked[key] = ordinal + 1
        model_slot = self.chain.fresh(f"{self.prefix}.{MODEL_NAME}")
        self.chain.sure.add(model_slot)
        if produce.public or self.model_slot is None:
            self.model_slot = model_slot
        fields = tuple(Field(column.name, column.type) for column in produce.columns)
        self.chain.ops.append(
            plan.Ask(
                span=produce.span,
                what=what,
                backend=backend,
                prompt=plan.Template(ask.template),
                system=ask.system,
                reads=self.reads(ask.reads, produce.span),
                contract=plan.Contract(kind=ask.contract, fields=fields),
                writes=slots,
                model_slot=model_slot,
                ordinal=ordinal,
            )
        )

    def sql(self, bound: sql.Bound, column: typed.Column, slot: str, what: str, span: Span) -> None:
        literals: dict[str, str] = {}
        columns = {path[0] for path in bound.paths}
        for name, _, _ in bound.parameters:
            if name in self.scope and name not in self.values:
                literals[name] = types.quote(name)  # a parameter that was given a column
                columns.add(name)
            else:
                literals[name] = sql.literal(*self.values[name])
        text, fields, reads = self.chain.row_sql(bound, self.scope, self.types, literals)
        for name in sorted(columns - set(reads)):
            fields = (*fields, Field(name, self.types[name]))
            reads[name] = self.scope[name]
        self.chain.ops.append(
            plan.Compute(
                span=span,
                what=what,
                sql=f"SELECT CAST(({text}\n) AS {types.sql(column.type)}) AS value FROM {ROW}",
                inputs=fields,
                reads=reads,
                fields=(Field("value", column.type),),
                writes=(slot,),
            )
        )

    def publish(self) -> None:
        """Add the task's columns to the table: flat, or as one struct."""
        outputs = {c.name: (self.scope[c.name], c.type) for c in self.at.task.outputs}
        if self.model_slot and MODEL_NAME not in outputs:
            outputs[MODEL_NAME] = (self.model_slot, types.Text())
        if self.at.alias is None:
            for name, (ref, type_) in outputs.items():
                self.chain.scope.pop(name, None)
                self.chain.types.pop(name, None)
                self.chain.scope[name] = ref
                self.chain.types[name] = type_
            return
        parts: dict[str, str] = {}
        for name, (ref, type_) in outputs.items():
            parts[name] = ref if isinstance(ref, str) else self.pack(name, ref, type_)
        self.chain.scope[self.at.alias] = parts
        fields = tuple(Field(name, type_) for name, (_, type_) in outputs.items())
        self.chain.types[self.at.alias] = types.Record(fields)

    def pack(self, name: str, ref: dict[str, str], type_: Type) -> str:
        """One slot for a struct that was put together from several."""
        slot = self.chain.fresh(f"{self.prefix}.{name}")
        self.chain.ops.append(
            plan.Compute(
                span=self.at.span,
                what=f"{self.prefix}.{name}",
                sql=f"SELECT {types.quote(name)} AS value FROM {ROW}",
                inputs=(Field(name, types.required(type_)),),
                reads={name: ref},
                fields=(Field("value", type_),),
                writes=(slot,),
            )
        )
        return slot


def _part(type_: Type, name: str) -> Type:
    record = types.required(type_)
    assert isinstance(record, types.Record)
    return next(part.type for part in record.fields if part.name == name)
