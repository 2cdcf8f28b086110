"""Answers and vectors without any model: they hold what was asked for, and mean nothing.

Each is a function of the call's identity (of the text, for a vector) and the seed, so that a simulated
run can be repeated like a real one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from synthc.compiler import plan
from synthc.runtime.backends.protocol import Answer, Backend, Request

MODEL = "simulated"
"""What `model_name` and `synth.calls` say of a simulated answer."""

_WORDS = ("amber", "basin", "cedar", "delta", "ember", "fable", "grove", "haven", "inlet", "knoll")
_NULLS = 0.1  # how often what may be null is


class Simulated:
    """Stands in for every backend and embedder of a run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def backend(self, spec: plan.Backend) -> Backend:
        """One that answers at once, the same for each backend of the plan."""
        del spec
        return _SimulatedBackend(self._seed)

    def vectors(self, texts: Sequence[str], dimensions: int) -> list[np.ndarray]:
        """Unit vectors of shape (dimensions,), float32, one a text."""
        return [_vector(f"{self._seed} {text}", dimensions) for text in texts]


def _vector(name: str, dimensions: int) -> np.ndarray:
    drawn = np.random.default_rng(random.Random(name).getrandbits(64)).standard_normal(dimensions)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


class _SimulatedBackend:
    def __init__(self, seed: int) -> None:
        self._seed = seed

    async def complete(self, request: Request) -> Answer:
        rng = random.Random(f"{self._seed} {request.key.hex()}")
        text = _text(rng) if request.schema is None else json.dumps(_value(request.schema, rng))
        return Answer(text, MODEL, "stop", 0, 0)


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
    words = rng.choices(_WORDS, k=rng.randint(5, 15))
    return "Simulated: " + " ".join(words) + "."
