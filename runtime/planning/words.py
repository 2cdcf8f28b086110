"""Operations of a plan, called as the spec calls them."""

from __future__ import annotations

from synthc.compiler import plan


def named(op: plan.Op) -> str:
    """What an operation is called: `answer.answer`, the `where` of line 31."""
    match op:
        case plan.Ask():
            return f"`{op.what}`"
        case plan.Compute(what="select") | plan.Filter():
            return f"the `{op.what}` of line {op.span.line}"
        case plan.Constant():
            return f"`{op.write}`"
        case plan.Limit():
            return f"the `limit` of line {op.span.line}"
        case plan.Dedup() | plan.Unnest():
            return f"the `{op.what}` of line {op.span.line}"
        case plan.Require():
            return f"the check of what `{op.what}` needs"
        case _:
            return f"`{op.what}`"
