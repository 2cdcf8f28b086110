"""A table's chain of operations over slots, while it is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthc.compiler import plan, typed, types
from synthc.compiler.check import sql
from synthc.compiler.check.steps import THIS
from synthc.compiler.plan import Ref
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

ROW = "row"
"""What the one row is called in the SQL of a plan."""


@dataclass
class Chain:
    """A table while its operations are written down.

    `scope` says which slots a column of the table stands for at this point, `sure` which slots cannot
    be null, `counts` how often each prompt was asked and each distribution drawn from along the rows'
    way here (also in the tables they come from: a second answer to one question has another ordinal).
    `ends` are the chains of the tables before it.
    """

    spec: typed.Spec
    source: plan.Source
    scope: dict[str, Ref]
    types: dict[str, Type]
    counts: Counter[Any]
    ends: Mapping[str, Chain]
    ops: list[plan.Op] = field(default_factory=list)
    sure: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    @classmethod
    def start(cls, table: typed.Table, spec: typed.Spec, ends: Mapping[str, Chain]) -> Chain:
        """The chain of a table before its first step. `ends` are those of the tables before it."""
        counts: Counter[Any] = Counter()
        match table.source:
            case plan.From(_, parent):
                source = table.source
                counts = ends[parent].counts.copy()
            case typed.Query(bound, key, span):
                source = plan.Query(
                    span,
                    bound.text_with(spec.constants),
                    bound.tables,
                    bound.fields,
                    key,
                    bound.ordered,
                )
            case _:
                source = table.source
        return cls.over(source, table.source_columns, spec, counts, ends)

    @classmethod
    def over(
        cls,
        source: plan.Source,
        columns: tuple[Field, ...],
        spec: typed.Spec,
        counts: Counter[Any],
        ends: Mapping[str, Chain],
    ) -> Chain:
        names = [column.name for column in columns]
        return cls(
            spec,
            source,
            {name: name for name in names},
            {column.name: column.type for column in columns},
            counts,
            ends,
            names=set(names),
        )

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns at this point."""
        return tuple(Field(name, type_) for name, type_ in self.types.items())

    def ordinal(self, *key: Any) -> int:
        """How often the same was asked or drawn before; it counts from now on."""
        self.counts[key] += 1
        return self.counts[key] - 1

    def split(self, hidden: str, step: typed.Whole) -> tuple[plan.Table, Chain]:
        """The rows so far as a hidden table, and the chain that goes on with what SQL makes of them."""
        outputs = tuple(plan.Output(f.name, f.type, self.scope[f.name]) for f in self.fields)
        before = plan.Table(
            name=hidden,
            span=step.span,
            source=self.source,
            ops=tuple(self.ops),
            outputs=outputs,
            hidden=True,
        )
        bound = step.bound
        this = f"FROM synth.{types.quote(hidden)}"
        text = f"WITH this AS ({this}) SELECT * FROM ({bound.text_with(self.spec.constants)}\n)"
        tables = tuple(hidden if name == THIS else name for name in bound.tables)
        source = plan.Query(step.span, text, tables, bound.fields, step.key, bound.ordered)
        after = Chain.over(source, bound.fields, self.spec, self.counts, self.ends)
        return before, after

    def finish(self, table: typed.Table) -> plan.Table:
        """The table with its operations."""
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
        """Write down a step that works on single rows, a `Whole` is none."""
        match step:
            case typed.Where(bound, span):
                text, fields, reads = self.row_sql(bound, self.scope, self.types, {})
                self.ops.append(
                    plan.Filter(span=span, what="where", sql=text, inputs=fields, reads=reads)
                )
            case typed.Select():
                self.select(step)
            case typed.Limit():
                self.limit(step)
            case typed.Dedup(paths, span, similar):
                reads = {".".join(path): self.resolve(path, span) for path in paths}
                self.ops.append(plan.Dedup(span=span, what="dedup", reads=reads, similar=similar))
            case typed.Unnest():
                self.unnest(step)
            case typed.Draw():
                self.draw(step)
            case typed.Embed():
                self.embed(step)
            case typed.TaskStep() | typed.Whole():
                raise AssertionError("written down elsewhere")

    # SQL over the row

    def row_sql(
        self,
        bound: sql.Bound,
        scope: Mapping[str, Ref],
        types_: Mapping[str, Type],
        literals: Mapping[str, str],
    ) -> tuple[str, tuple[Field, ...], dict[str, Ref]]:
        """The SQL with its parameters put in, the columns it sees and their slots."""
        constants = self.spec.constants
        known = {n: constants[n] for n, _, _ in bound.parameters if n in constants}
        literals = {**{n: sql.literal(*value) for n, value in known.items()}, **literals}
        fields: dict[str, Field] = {}
        reads: dict[str, Ref] = {}
        for path in bound.paths:
            name = path[0]
            ref = scope[name]
            if len(path) == 1 or isinstance(ref, str):
                fields[name] = Field(name, types_[name])
                reads[name] = ref
                continue
            part = Field(path[1], _part(types_[name], path[1]))
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
        type_ = types.Chat() if step.chat else plan.EMBEDDED[step.input]
        needed: dict[str, tuple[Type, Ref]] = {name: (type_, ref)}
        what = f"embed({name})"
        spans = system = None
        if step.system is not None:
            system = self.resolve(step.system, step.span)
            what = f"embed({name}, system = {'.'.join(step.system)})"
        match step.parts:
            case "words" | "first tokens":
                how = "mean" if step.parts == "words" else "first"
                what = f'embed({name}, words = "{how}")'
            case "spans":
                assert step.spans is not None
                spans, column = self.resolve(step.spans, step.span), ".".join(step.spans)
                needed[column] = (self.type_of(step.spans), spans)
                what = f"embed({name}, spans = {column})"
            case _:
                pass
        open_ = {column: pair for column, pair in needed.items() if pair[1] not in self.sure}
        if open_:
            fields = tuple(Field(column, types.required(t)) for column, (t, _) in open_.items())
            self.require(step.span, what, fields, {c: slot for c, (_, slot) in open_.items()})
        slot = self.fresh(step.column)
        self.ops.append(
            plan.Embed(
                span=step.span,
                what=what,
                embedder=step.embedder,
                read=str(ref),
                write=slot,
                dimensions=step.dimensions,
                input=step.input,
                parts=step.parts,
                spans=None if spans is None else str(spans),
                chat=step.chat,
                system=None if system is None else str(system),
            )
        )
        self.scope[step.column] = slot
        self.types[step.column] = step.type
        self.sure.add(slot)

    def require(
        self, span: Span, what: str, fields: tuple[Field, ...], reads: dict[str, Ref]
    ) -> None:
        self.ops.append(plan.Require(span=span, what=what, fields=fields, reads=reads))
        self.sure |= {slot for ref in reads.values() for slot in plan.slots(ref)}

    def unnest(self, step: typed.Unnest) -> None:
        reads = {".".join(e.path): self.resolve(e.path, step.span) for e in step.lists}
        for one in step.lists:
            if len(one.path) == 1:  # the elements take the place of the list
                del self.scope[one.path[0]], self.types[one.path[0]]
        writes = tuple(self.fresh(one.column) for one in step.lists)
        what = f"unnest({', '.join(reads)})"
        self.ops.append(plan.Unnest(span=step.span, what=what, reads=reads, writes=writes))
        for one, slot in zip(step.lists, writes, strict=True):
            self.scope[one.column], self.types[one.column] = slot, one.type

    def draw(self, step: typed.Draw) -> None:
        fields = self.ends[step.table].fields
        slot = self.fresh(step.column)
        self.ops.append(
            plan.Draw(
                span=step.span,
                what=step.column,
                table=step.table,
                count=step.count,
                fields=fields,
                ordinal=self.ordinal("rows", step.table),
                write=slot,
            )
        )
        self.scope[step.column] = slot
        self.types[step.column] = types.ListOf(types.Record(fields))
        self.sure.add(slot)

    def limit(self, step: typed.Limit) -> None:
        if step.per is None:
            self.ops.append(plan.Limit(span=step.span, count=step.count))
            return
        slot = self.resolve(step.per, step.span)
        assert isinstance(slot, str)
        match types.required(self.type_of(step.per)):
            case types.Choice(values):
                labels = len(values)
            case types.Bool():
                labels = 2
            case _:
                labels = None
        what = ".".join(step.per)
        self.ops.append(
            plan.Limit(span=step.span, what=what, count=step.count, per=slot, labels=labels)
        )


def _part(type_: Type, name: str) -> Type:
    record = types.required(type_)
    assert isinstance(record, types.Record)
    return next(part.type for part in record.fields if part.name == name)
