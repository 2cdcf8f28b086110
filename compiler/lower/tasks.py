"""One use of a task, written down as operations: its own names stand for slots of its table's chain."""

from __future__ import annotations

from typing import Any

from synthc.compiler import plan, typed, types
from synthc.compiler.check import sql
from synthc.compiler.check.tasks import MODEL_NAME, ROUND
from synthc.compiler.lower.chain import ROW, Chain
from synthc.compiler.needed import needed
from synthc.compiler.plan import Ref
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type


def lower_task(chain: Chain, step: typed.TaskStep) -> None:
    """Write down a task's step, and add its columns to the chain's."""
    made = _Use(chain, step)
    made.inputs()
    for produce in step.task.produces:
        made.produce(produce)
    made.publish()


class _Use:
    """The names of one use of a task. `loop` is the variable of the loop that is being written down."""

    def __init__(self, chain: Chain, step: typed.TaskStep) -> None:
        self.chain = chain
        self.at = step
        self.prefix = step.alias or step.task.name
        self.scope: dict[str, Ref] = {}
        self.types: dict[str, Type] = {}
        self.values: dict[str, tuple[Any, Type]] = dict(chain.spec.constants)
        self.model_slot: str | None = None
        self.loop: str | None = None
        self.top = chain.ops

    def inputs(self) -> None:
        """Bind what is given, and stop rows whose columns are not what the task was promised."""
        task = self.at.task
        wanted = [(p.name, p.type) for p in task.parameters]
        wanted += [(column.name, column.type) for column in task.inputs]
        unsure: list[Field] = []
        for name, type_ in wanted:
            given = self.at.given[name]
            if given.sample is not None:
                slot = self.chain.fresh(f"{self.prefix}.${name}")
                self.sample(given.sample, slot, f"{self.prefix}.{name}")
                self.values.pop(name, None)
                self.define(name, type_, slot)
                self.chain.sure.add(slot)
                continue
            if given.path is None:
                self.values[name] = (given.value, type_)
                if given.value is None and not types.nullable(type_):  # a test may give that
                    self.reads((name,), self.at.span)
                    unsure.append(Field(name, type_))
                continue
            ref = self.chain.resolve(given.path, self.at.span)
            found = types.required(self.chain.type_of(given.path))
            self.define(name, type_, ref)
            self.values.pop(name, None)
            looked_at = isinstance(types.required(type_), types.Choice | types.Chat)
            differs = looked_at and found != types.required(type_)
            if differs or (not types.nullable(type_) and not self.is_sure(ref)):
                unsure.append(Field(name, type_))
        if unsure:
            reads = {f.name: self.scope[f.name] for f in unsure}
            self.chain.require(self.at.span, self.prefix, tuple(unsure), reads)

    def is_sure(self, ref: Ref) -> bool:
        return isinstance(ref, dict) or ref in self.chain.sure

    def define(self, name: str, type_: Type, ref: Ref) -> None:
        self.scope[name] = ref
        self.types[name] = type_

    def reads(self, names: tuple[str, ...], span: Span) -> dict[str, Ref]:
        """The slots of names that a template uses; a known value gets a slot of its own."""
        for name in names:
            if name in self.scope:
                continue
            value, type_ = self.values[name]
            slot = self.chain.fresh(f"{self.prefix}.${name}")
            # Before all loops, also where a loop is the first to read it.
            self.top.append(plan.Constant(span=span, value=value, write=slot))
            if value is not None:
                self.chain.sure.add(slot)
            self.define(name, type_, slot)
        return {name: self.scope[name] for name in names}

    def number(self, count: typed.Count) -> int:
        """A count, where it is a parameter what that is given."""
        return count if isinstance(count, int) else self.values[count.name][0]

    def name(self, reference: typed.Reference) -> str:
        """The name of a declaration, where it is a parameter what that is given."""
        return reference if isinstance(reference, str) else self.values[reference.name][0]

    # What makes columns

    def produce(self, produce: typed.Produce) -> None:
        """Write down what makes some columns, and make them known."""
        for column, ref in zip(produce.columns, self.made(produce), strict=True):
            self.define(column.name, column.type, ref)

    def made(self, produce: typed.Produce) -> tuple[Ref, ...]:
        """Write down what makes some columns: what each stands for."""
        span = produce.span
        first = produce.columns[0]
        what = f"{self.prefix}.{first.name}"
        if isinstance(produce.producer, typed.Copy):
            return (self.copied(produce.producer.name, first, what, span),)
        slots = tuple(self.chain.fresh(f"{self.prefix}.{c.name}") for c in produce.columns)
        match produce.producer:
            case typed.Ask() as ask:
                self.ask(produce, ask, slots, what)
            case typed.Sql(bound):
                self.sql(bound, first, slots[0], what, span)
            case typed.Sample() as sample:
                self.sample(sample, slots[0], what)
            case typed.Repeat() as loop:
                self.repeat(produce, loop, slots[0], what)
            case typed.Constant(value):
                self.top.append(plan.Constant(span=span, value=value, write=slots[0]))
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
            if not types.nullable(column.type):
                self.chain.sure.add(slot)
        return slots

    def copied(self, name: str, column: typed.Column, what: str, span: Span) -> Ref:
        """What a column stands for that is another; a row stops where it may not be null and is."""
        ref = self.reads((name,), span)[name]
        chat = isinstance(types.required(column.type), types.Chat)
        looked_at = chat and types.required(self.types[name]) != types.required(column.type)
        if looked_at or (not types.nullable(column.type) and not self.is_sure(ref)):
            field = Field(column.name, column.type)
            self.chain.require(span, what, (field,), {column.name: ref})
        return ref

    def ask(
        self, produce: typed.Produce, ask: typed.Ask, slots: tuple[str, ...], what: str
    ) -> None:
        backend = self.name(ask.backend) if ask.backend else self.at.backend or ""
        prompt, reads = self.prompt(ask)
        match prompt:
            case plan.OneOf(prompts=prompts):
                asked: object = prompts
            case plan.Conversation():
                asked = "conversation"  # what its column is called makes no other call
            case _:
                asked = prompt
        ordinal = self.chain.ordinal("ask", backend, asked, ask.system)
        where = self.condition(ask.where, what, produce.span) if ask.where else None
        model_slot = self.chain.fresh(f"{self.prefix}.{MODEL_NAME}")
        self.chain.sure.add(model_slot)
        if produce.public or self.model_slot is None:
            self.model_slot = model_slot
        several = ask.each is not None or ask.count is not None
        fields = tuple(
            Field(c.name, _element(c.type) if several else c.type) for c in produce.columns
        )
        contract = plan.Contract(
            kind=ask.contract.kind,
            fields=fields,
            pattern=ask.contract.pattern,
            marks=ask.contract.marks,
            per=ask.contract.per,
        )
        slots_read = self.reads(reads, produce.span)
        self.chain.ops.append(
            plan.Ask(
                span=produce.span,
                what=what,
                backend=backend,
                prompt=prompt,
                system=ask.system,
                reads=slots_read,
                contract=contract,
                writes=slots,
                model_slot=model_slot,
                ordinal=ordinal,
                where=where,
                each=plan.Each(*ask.each) if ask.each else None,
                count=None if ask.count is None else self.number(ask.count),
                images=self.images(ask, reads),
            )
        )

    def images(self, ask: typed.Ask, reads: tuple[str, ...]) -> tuple[Field, ...]:
        """What an ask reads that is a picture, or holds some."""
        read = {name: self.types[name] for name in reads}
        if ask.each:
            name, listed = ask.each
            element = types.element(read[listed])
            read |= {name: element} if element else {}
        return tuple(Field(name, type_) for name, type_ in read.items() if types.has_image(type_))

    def prompt(self, ask: typed.Ask) -> tuple[plan.Prompt, tuple[str, ...]]:
        """The prompt, and all that the ask reads."""
        match ask.prompt:
            case str() as template:
                return plan.Template(template), ask.reads
            case typed.Conversation(column):
                return plan.Conversation(column), ask.reads
            case typed.OneOf(reference):
                mutations = self.chain.spec.mutations[self.name(reference)]
                prompts = tuple(
                    plan.Mutation(p.name, p.weight, p.template) for p in mutations.prompts
                )
                names = tuple(column.name for column in mutations.inputs)
                reads = tuple(dict.fromkeys((*ask.reads, *names)))
                of = self.loop if self.loop in reads else None
                ordinal = self.chain.ordinal("set", prompts)
                return plan.OneOf(mutations.name, prompts, ordinal, of), reads

    def condition(self, bound: sql.Bound, what: str, span: Span) -> str:
        """The slot of a truth."""
        slot = self.chain.fresh(f"{what}.where")
        column = typed.Column("where", types.Maybe(types.Bool()), span)
        self.sql(bound, column, slot, f"{what} where", span)
        return slot

    def sample(self, sample: typed.Sample, slot: str, what: str) -> None:
        match sample.source:
            case typed.FromParameter(name):
                values = tuple(self.values[name][0] or ())
                source = plan.Choices(values, tuple(1.0 for _ in values))
            case distribution:
                source = distribution
        least, most = (
            None if count is None else self.number(count) for count in (sample.least, sample.most)
        )
        self.chain.ops.append(
            plan.Sample(
                span=sample.span,
                what=what,
                source=source,
                field=sample.field,
                ordinal=self.chain.ordinal("sample", source, least, most),
                write=slot,
                least=least,
                most=most,
            )
        )

    def sql(self, bound: sql.Bound, column: typed.Column, slot: str, what: str, span: Span) -> None:
        text, fields, reads = self.bound(bound)
        found = bound.fields[0].type
        # The bytes of a picture stay bytes: as text they would be something else.
        made = found if types.has_image(column.type) and found != types.NULL else column.type
        self.chain.ops.append(
            plan.Compute(
                span=span,
                what=what,
                sql=f"SELECT CAST(({text}\n) AS {types.sql(made)}) AS value FROM {ROW}",
                inputs=fields,
                reads=reads,
                fields=(Field("value", column.type),),
                writes=(slot,),
            )
        )

    def bound(self, bound: sql.Bound) -> tuple[str, tuple[Field, ...], dict[str, Ref]]:
        """SQL with its parameters put in, the columns it sees and their slots."""
        literals: dict[str, str] = {}
        columns = {path[0] for path in bound.paths}
        for name, _, _ in bound.parameters:
            if name in self.scope and name not in self.values:
                literals[name] = types.quote(name)  # it differs from row to row
                columns.add(name)
            else:
                literals[name] = sql.literal(*self.values[name])
        text, fields, reads = self.chain.row_sql(bound, self.scope, self.types, literals)
        for name in sorted(columns - set(reads)):
            fields = (*fields, Field(name, self.types[name]))
            reads[name] = self.scope[name]
        return text, fields, reads

    # Loops

    def repeat(self, produce: typed.Produce, loop: typed.Repeat, slot: str, what: str) -> None:
        variable = self.chain.fresh(f"{self.prefix}.{loop.variable.name}")
        round_ = self.chain.fresh(f"{self.prefix}.{ROUND}")
        start = self.start(loop, what, produce.span)
        outside = dict(self.scope), dict(self.types), self.chain.ops, self.loop
        self.define(loop.variable.name, loop.variable.type, variable)
        self.define(ROUND, types.Int(), round_)
        self.chain.sure.add(round_)
        if not types.nullable(loop.variable.type):
            self.chain.sure.add(variable)
        self.loop = loop.variable.name
        self.chain.ops = []
        for part in loop.produces:
            self.produce(part)
        (following,) = self.made(loop.next)
        until = None
        if loop.until is not None:
            text, fields, reads = self.bound(loop.until)
            until = plan.Filter(
                span=produce.span, what=f"{what} until", sql=text, inputs=fields, reads=reads
            )
        ops = tuple(self.chain.ops)
        constants = {n: ref for n, ref in self.scope.items() if n in self.values}
        self.scope, self.types, self.chain.ops, self.loop = outside
        for name, ref in constants.items():  # theirs are the slots of the whole chain
            self.define(name, self.values[name][1], ref)
        ends = plan.reads(until) if until else frozenset[str]()
        # Not that of what the loop can do without, if it asks anything else.
        asks = plan.asks(needed(ops, {*plan.slots(following), *ends})) or plan.asks(ops)
        column = produce.columns[0]
        self.chain.ops.append(
            plan.Repeat(
                span=produce.span,
                what=what,
                times=self.number(loop.times),
                start=start,
                variable=variable,
                round=round_,
                ops=ops,
                next=following,
                until=until,
                collect=loop.collect,
                field=Field(column.name, column.type),
                write=slot,
            )
        )
        if produce.public and asks:
            self.model_slot = self.model_of(asks, what, produce.span)

    def model_of(self, asks: tuple[plan.Ask, ...], what: str, span: Span) -> str:
        """The model of what a loop made: in a round, one of several asks of a backend may be made."""
        last = asks[-1]
        slots = [ask.model_slot for ask in reversed(asks) if ask.backend == last.backend]
        if len(slots) == 1:
            return last.model_slot
        slot = self.chain.fresh(f"{self.prefix}.{MODEL_NAME}")
        names = [f"m{number}" for number in range(len(slots))]
        self.chain.ops.append(
            plan.Compute(
                span=span,
                what=f"{what} {MODEL_NAME}",
                sql=f"SELECT coalesce({', '.join(names)}) AS value FROM {ROW}",
                inputs=tuple(Field(name, types.Text()) for name in names),
                reads=dict(zip(names, slots, strict=True)),
                fields=(Field("value", types.Maybe(types.Text())),),
                writes=(slot,),
            )
        )
        return slot

    def start(self, loop: typed.Repeat, what: str, span: Span) -> Ref:
        """What the variable is before the first round."""
        match loop.start:
            case typed.Copy(name):
                return self.copied(name, loop.variable, what, span)
            case typed.Constant(value):
                slot = self.chain.fresh(f"{self.prefix}.{loop.variable.name}")
                self.top.append(plan.Constant(span=span, value=value, write=slot))
                return slot

    # What others see

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


def _element(type_: Type) -> Type:
    listed = types.required(type_)
    assert isinstance(listed, types.ListOf)
    return listed.element
