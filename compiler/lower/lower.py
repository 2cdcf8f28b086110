"""Typed spec → plan: each table becomes a source and a flat chain of operations over slots."""

from __future__ import annotations

import msgspec

from synthc.compiler import plan, typed
from synthc.compiler.lower.chain import Chain
from synthc.compiler.lower.tasks import lower_task


def lower(spec: typed.Spec, name: str, seed: int) -> plan.Plan:
    """The plan of a spec that holds. `name` is the file that the plan is of, `seed` the run's."""
    ends: dict[str, Chain] = {}
    tables: list[plan.Table] = []
    for table in spec.tables:
        chain = Chain.start(table, spec, ends)
        for number, step in enumerate(table.steps, 1):
            match step:
                case typed.Whole():
                    before, chain = chain.split(f"{table.name}.{number}", step)
                    tables.append(before)
                case typed.TaskStep():
                    lower_task(chain, step)
                case _:
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
        expects=tuple(
            plan.Expect(e.span, e.name, e.bound.text_with(spec.constants), e.bound.tables)
            for e in spec.expects
        ),
    )


def lower_test(test: typed.Test, spec: typed.Spec, seed: int) -> plan.Test:
    """A test as a plan of one table with one row, where each ask has a backend of its own."""
    name = test.step.task.name
    table = typed.Table(name, test.span, plan.Rows(test.span, 1), (), (test.step,), ())
    chain = Chain.start(table, spec, {})
    lower_task(chain, test.step)
    ops = tuple(_answered_by_itself(op) for op in chain.ops)
    outputs = tuple(
        plan.Output(column.name, column.type, chain.scope[column.name])
        for column in test.step.task.outputs
    )
    made = plan.Table(
        name=name, span=test.span, source=plan.Rows(test.span, 1), ops=ops, outputs=outputs
    )
    asks = dict.fromkeys(ask.backend for ask in plan.asks(ops))
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
    match op:
        case plan.Ask():
            return msgspec.structs.replace(op, backend=op.contract.fields[0].name)
        case plan.Repeat():
            inner = tuple(_answered_by_itself(part) for part in op.ops)
            return msgspec.structs.replace(op, ops=inner)
        case _:
            return op
