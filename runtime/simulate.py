"""Answers and vectors without any model: they hold what was asked for, and mean nothing.

Each is a function of the call's identity (of the text, for a vector) and the seed, so that a simulated
run can be repeated like a real one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from synthc.compiler import plan, types
from synthc.compiler.plan import Contract
from synthc.compiler.types import Field, Type
from synthc.runtime import matching
from synthc.runtime.backends.protocol import Answer, Backend, Request
from synthc.runtime.embedding.passages import Passage
from synthc.runtime.engine import contracts

MODEL = "simulated"
"""What `model_name` and `synth.calls` say of a simulated answer."""

_WORDS = ("amber", "basin", "cedar", "delta", "ember", "fable", "grove", "haven", "inlet", "knoll")
_LENGTHS = (5, 5, 50)  # in words: now and then a text is as long as one that a spec waits for
_WORD = re.compile(r"\w+|[^\w\s]")
_NULLS = 0.1  # how often what may be null is
_TRIES = 20  # how often text is made up that a pattern may match


class Simulated:
    """Stands in for every backend and embedder of a run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def backend(self, spec: plan.Backend) -> Backend:
        """One that answers at once, the same for each backend of the plan."""
        del spec
        return _SimulatedBackend(self._seed)

    def vectors(self, texts: Sequence[str | Passage], dimensions: int) -> list[Any]:
        """Unit vectors of shape (dimensions,), float32, one a text; of a passage its parts with theirs.

        A passage's words stand for its tokens too: no tokenizer is there.
        """
        return [
            self._parts(text, dimensions)
            if isinstance(text, Passage)
            else _vector(f"{self._seed} {text}", dimensions)
            for text in texts
        ]

    def _parts(self, passage: Passage, dimensions: int) -> list[dict[str, Any]]:
        text = passage.text
        found = [(*word.span(), {}) for word in _WORD.finditer(text)]
        if passage.parts == "spans":
            found = [(span.start, span.end, {"label": span.label}) for span in passage.spans]
        return [
            {
                "text": text[start:end],
                "start": start,
                "end": end,
                **label,
                "embedding": _vector(f"{self._seed} {text[start:end]}", dimensions),
            }
            for start, end, label in found
        ]


def _vector(name: str, dimensions: int) -> np.ndarray:
    drawn = np.random.default_rng(random.Random(name).getrandbits(64)).standard_normal(dimensions)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


class _SimulatedBackend:
    def __init__(self, seed: int) -> None:
        self._seed = seed

    async def complete(self, request: Request) -> Answer:
        rng = random.Random(f"{self._seed} {request.key.hex()}")
        return Answer(_answer(request, rng), MODEL, "stop", 0, 0)


def _answer(request: Request, rng: random.Random) -> str:
    """An answer that holds what is asked for."""
    if request.schema is not None:
        return json.dumps(_value(request.schema, rng))
    if request.contract is None:
        return _text(rng)
    contract = request.contract
    match contract.kind:
        case "after":
            return f"{contract.marks[0]} {_piece(contract.fields[0].type, rng)}"
        case "tag":
            (tag,) = contract.marks
            return f"<{tag}>{_piece(contract.fields[0].type, rng)}</{tag}>"
        case "sections":
            sections = zip(contract.marks, contract.fields, strict=True)
            return "\n\n".join(f"{mark}\n{_piece(field.type, rng)}" for mark, field in sections)
        case "regex" | "lines":
            return _matching(contract, request.count, rng)
        case _:
            return _text(rng)


def _matching(contract: Contract, count: int | None, rng: random.Random) -> str:
    """Text with the matches of a contract's pattern, or words that say that there is none.

    What is made up is likely to match, and read to be sure.
    """
    for _ in range(_TRIES):
        shape = rng.getrandbits(64)
        if contract.kind == "regex":
            numbers = [1]
        else:
            numbers = list(range(1, (rng.randint(1, 5) if count is None else count) + 1))
        lines = [_match(contract, number, rng, shape) for number in numbers]
        answer = "\n".join(line for line in lines if line is not None)
        if not contracts.read(contract, answer, count).problems:
            return answer
    return "Simulated: nothing was found that the pattern matches."


def _match(contract: Contract, number: int, rng: random.Random, shape: int) -> str | None:
    """Text that is likely to match a contract's pattern, for the element of that number."""
    assert contract.pattern is not None
    wanted = {field.name: _element(field.type) for field in contract.fields}

    def pieces(group: matching.Group) -> Iterator[str]:
        if group.name == contracts.INDEX and contract.kind == "lines":
            yield str(number)
            return
        type_ = wanted.get(group.name or "", _element(contract.fields[0].type))
        for _ in range(_TRIES):
            yield _piece(type_, rng)
        yield rng.choice(_WORDS)

    return matching.match(contract.pattern, pieces, rng, shape)


def _element(type_: Type) -> Type:
    inner = types.required(type_)
    return types.required(inner.element) if isinstance(inner, types.ListOf) else inner


def _piece(type_: Type, rng: random.Random) -> str:
    """A value of a type, as a piece of text."""
    schema = contracts.schema(Contract(kind="json", fields=(Field("x", types.required(type_)),)))
    assert schema is not None
    value = _value(schema["properties"]["x"], rng)
    return value if isinstance(value, str) else json.dumps(value)


def _value(schema: dict[str, Any], rng: random.Random) -> Any:
    """A value that satisfies a schema of the kind `contracts.schema` makes."""
    if "anyOf" in schema:
        wanted, null = schema["anyOf"]
        return _value(null if rng.random() < _NULLS else wanted, rng)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            return {name: _value(part, rng) for name, part in schema["properties"].items()}
        case "array":
            return [_value(schema["items"], rng) for _ in range(rng.randint(1, 5))]
        case "integer":
            return rng.randint(1, 10)
        case "number":
            return round(rng.uniform(1, 10), 1)
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
        case _:
            return _text(rng)


def _text(rng: random.Random) -> str:
    length = rng.choice(_LENGTHS)
    words = rng.choices(_WORDS, k=rng.randint(length, 3 * length))
    return "Simulated: " + " ".join(words) + "."
