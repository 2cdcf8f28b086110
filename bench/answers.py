"""What the loopback server answers: always the same to the same prompt."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from bench.faults import Json

MODEL = "bench-model"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came: `digest` names its messages and schema, `occurrence` counts from 0."""

    number: int
    occurrence: int
    digest: str
    headers: dict[str, str]
    body: Json

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return self.body["messages"][-1]["content"]


def default_answer(seen: Seen) -> str:
    """JSON that satisfies the schema wanted, or a line of text: a function of the prompt."""
    wanted = seen.body.get("response_format") or {}
    if "json_schema" not in wanted:
        return f"answer {seen.digest}"
    return json.dumps(satisfy(wanted["json_schema"]["schema"], random.Random(seen.digest)))


def satisfy(schema: Json, rng: random.Random, defs: Json | None = None) -> object:
    """A value that the JSON schema accepts, drawn from `rng`."""
    known: Json = schema.get("$defs") or defs or {}
    if "$ref" in schema:
        return satisfy(known[schema["$ref"].rpartition("/")[2]], rng, known)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return satisfy(rng.choice(schema[either]), rng, known)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    low = schema.get("minimum", min(1, schema.get("maximum", 1)))
    high = schema.get("maximum", low + 9)
    match rng.choice(kind) if isinstance(kind, list) else kind:
        case "object":
            return {n: satisfy(s, rng, known) for n, s in schema.get("properties", {}).items()}
        case "array":
            least = schema.get("minItems", 1)
            size = rng.randint(least, schema.get("maxItems", least + 2))
            return [satisfy(schema.get("items", {}), rng, known) for _ in range(size)]
        case "integer":
            return rng.randint(low, high)
        case "number":
            return round(rng.uniform(low, high), 3)
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
        case _:
            word = f"text {rng.getrandbits(32):08x} "
            least = schema.get("minLength", 0)
            return (word * (1 + least // len(word))).strip()[: schema.get("maxLength")]


def completion(seen: Seen, text: str) -> Json:
    """A chat completion: a token is a word."""
    read = sum(len(str(m.get("content")).split()) for m in seen.body["messages"])
    written = len(text.split())
    return {
        "id": f"chatcmpl-{seen.digest}",
        "object": "chat.completion",
        "model": seen.body.get("model") or MODEL,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        },
    }
