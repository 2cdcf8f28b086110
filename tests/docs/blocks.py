"""The specs in a document, and what each of them goes on from.

A comment on the line before a fenced block says what the block is:

- `<!-- block: NAME -->` names a spec, so that others can go on from it;
- `<!-- after: A B -->`: the spec goes on from those, which then stand before it;
- `<!-- block: NAME; after: A B -->` says both;
- `<!-- file: PATH -->`: the block is a file that lies beside the specs.

`<!-- hidden: NAME` and the lines up to `-->` are a spec that readers do not see, and those after
`<!-- picture: PATH` a file, in base64.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r"^<!-- picture: (\S+)\n(.*?)^-->$", re.DOTALL | re.MULTILINE)
_HIDDEN = re.compile(r"^<!-- hidden: (\S+)\n(.*?)^-->$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A spec of a document, whole: with what it goes on from. `line` is where it stands."""

    line: int
    text: str


def blocks(document: Path) -> list[Block]:
    """The specs of a document, in its order."""
    text = document.read_text(encoding="utf-8")
    named: dict[str, tuple[tuple[str, ...], str]] = {
        name: ((), spec) for name, spec in _HIDDEN.findall(text)
    }
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        if match[2] != "synth":
            continue
        said = _said(match[1])
        after = tuple(said.get("after", "").split())
        if "block" in said:
            named[said["block"]] = (after, match[3])
        before = [named[name][1] for name in _chain(after, named)]
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(line, "\n".join([*before, match[3]])))
    return found


def files(document: Path) -> dict[str, str]:
    """The files that a document shows."""
    text = document.read_text(encoding="utf-8")
    shown = ((_said(match[1]).get("file"), match[3]) for match in _BLOCK.finditer(text))
    return {name: content for name, content in shown if name}


def pictures(document: Path) -> dict[str, bytes]:
    """The files of a document that readers do not see."""
    text = document.read_text(encoding="utf-8")
    return {name: b64decode(data) for name, data in _PICTURE.findall(text)}


def _said(comment: str | None) -> dict[str, str]:
    parts = (part.partition(": ") for part in (comment or "").split("; "))
    return {name: value for name, _, value in parts}


def _chain(names: tuple[str, ...], named: Mapping[str, tuple[tuple[str, ...], str]]) -> list[str]:
    """The blocks and all that they go on from, each once, the first first."""
    order: dict[str, None] = {}
    for name in names:
        order |= dict.fromkeys(_chain(named[name][0], named))
        order[name] = None
    return list(order)
