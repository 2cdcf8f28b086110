"""The passes that make a plan cheaper and leave its rows as they are."""

from __future__ import annotations

from synthc.compiler.optimise.move_filters import move_filters
from synthc.compiler.optimise.prune import prune
from synthc.compiler.plan import Plan

# What nothing needs goes first, so that no filter is moved for its sake.
PASSES = (prune, move_filters)


def optimise(plan: Plan) -> Plan:
    """The plan after every pass, in order; the same object where nothing was to be done."""
    for improve in PASSES:
        plan = improve(plan)
    return plan
