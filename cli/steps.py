"""The steps of a plan in words, as `synthc plan` and `synthc report` tell them."""

from __future__ import annotations

import json

from synthc.cli.console import counted
from synthc.compiler import plan


def source_in_words(source: plan.Source) -> str:
    """Where rows come from: `reads topics.jsonl`."""
    match source:
        case plan.Read() | plan.Files():
            return f"reads {source.path}"
        case plan.Rows():
            return "new rows"
        case plan.From():
            return f"reads {source.table}"
        case plan.Query(tables=tables):
            return f"waits for all of {', '.join(tables)}: SQL" if tables else "SQL"


def in_words(op: plan.Op) -> str:
    """What an operation does: `asks judge for grade.score (3 times)`."""
    match op:
        case plan.Ask():
            return f"asks {op.backend} for {op.what}{_manner(op)}"
        case plan.Compute(what="select"):
            return "select"
        case plan.Compute():
            return f"{op.what} = SQL"
        case plan.Filter():
            return f"{op.what} {' '.join(op.sql.split())}"
        case plan.Render():
            return f"{op.what} = a template"
        case plan.Constant():
            return f"{op.write} = {json.dumps(op.value, ensure_ascii=False)}"
        case plan.Require():
            return f"checks what {op.what} needs"
        case plan.Sample():
            return f"draws {op.what}"
        case plan.Draw():
            return f"draws {counted(op.count, 'row')} of {op.table} as {op.what}"
        case plan.Embed():
            return f"{op.what} with {op.embedder}"
        case plan.Repeat():
            most = " at most" if op.until else ""
            return f"{op.what}: {counted(op.times, 'round')}{most} of"
        case plan.Unnest():
            return f"{op.what}: a row for each element"
        case plan.Dedup():
            if op.similar is None:
                return f"dedup({', '.join(op.reads)}): the first of equal rows"
            said = f"dedup({', '.join(op.reads)}, similar = {op.similar:g})"
            return f"{said}: the first of rows that are alike"
        case plan.Limit():
            per = f", per = {op.what or op.per}" if op.per else ""
            return f"limit({op.count}{per})"


def _manner(op: plan.Ask) -> str:
    parts: list[str] = []
    if isinstance(op.prompt, plan.OneOf):
        parts.append(f"one of {op.prompt.set}")
    if op.count is not None:
        parts.append(f"{op.count} times")
    if op.each:
        parts.append(f"each of {op.each.list}")
    if op.where:
        parts.append("where its condition holds")
    return f" ({', '.join(parts)})" if parts else ""
