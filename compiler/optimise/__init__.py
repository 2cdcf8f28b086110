"""The passes that make a plan cheaper and leave its rows as they are.

Cheaper is what a run sends: a pass is here if it spares calls or embeddings. What is not a pass:

- Every table of a spec is stored, so that none is needless; of the rows that SQL over all of them
  reads, `prune` drops what the SQL does not.
- Equal calls of a backend that does not sample are one call by their identity
  (`runtime/engine/identity.py`), in flight and in the store, whatever asks them. Where it samples, a
  second ask is meant to be another answer.
- Asks of a row that do not need each other run at once (`runtime/engine/segments.py`, `ahead`).
- A model of this machine embeds equal texts of a batch once (`runtime/embedding/pipeline.py`); a server
  is sent a text once, ever (`runtime/embedding/remote.py`).
- Prompts go in the order of the rows, one template after the other: those of an ask begin alike as they
  are, and those of a list, of `n` answers or of an answer that is asked for again go together.
- SQL steps next to each other stay apart, so that a failure names its own line. One query instead of
  five spares a fifth of a run's CPU and none of its time, where answers take half a second.
"""

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
