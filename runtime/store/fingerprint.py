"""What a table is made of, as a digest: equal fingerprints mean that it need not be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from synthc.compiler import plan

_encoder = msgspec.json.Encoder(order="deterministic")


def fingerprints(
    plan_: plan.Plan, content: Callable[[plan.Read], str], models: dict[str, str]
) -> dict[str, str]:
    """The fingerprint of each table, in hexadecimal.

    `content` gives the digest of a source's files, `models` what each backend and embedder is by now.
    Where things stand in the spec is no part of it: a new comment makes nothing stale.
    """
    found: dict[str, str] = {}
    for table in plan_.tables:
        parents: tuple[str, ...] = ()
        match table.source:
            case plan.From(_, parent):
                parents = (found[parent],)
            case plan.Query(tables=tables):
                parents = tuple(found[name] for name in tables)
            case plan.Read():
                parents = (content(table.source),)
            case plan.Rows():
                pass
        used = [
            models[op.backend if isinstance(op, plan.Ask) else op.embedder]
            for op in table.ops
            if isinstance(op, plan.Ask | plan.Embed)
        ]
        parts = (plan_.seed, parents, used, _without_places(msgspec.to_builtins(table)))
        found[table.name] = hashlib.blake2b(_encoder.encode(parts), digest_size=16).hexdigest()
    return found


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(part) for key, part in value.items() if key != "span"}
    if isinstance(value, list | tuple):
        return [_without_places(part) for part in value]
    return value
