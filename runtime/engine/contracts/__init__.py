"""Contracts: how an answer becomes columns. What a model says is data: it is read, never evaluated."""

from __future__ import annotations

from synthc.compiler.plan import Contract
from synthc.runtime.engine.contracts.as_json import read_json
from synthc.runtime.engine.contracts.as_marked import read_after, read_sections, read_tag, read_text
from synthc.runtime.engine.contracts.as_pattern import INDEX, read_lines, read_regex
from synthc.runtime.engine.contracts.reading import Reading
from synthc.runtime.engine.contracts.wanted import output_format, schema

__all__ = ["INDEX", "Reading", "correction", "output_format", "read", "schema"]


def read(contract: Contract, answer: str, count: int | None = None) -> Reading:
    """The columns in an answer. Never raises, whatever the answer holds.

    `count` is how many elements the list has that the contract names by `per`.
    """
    match contract.kind:
        case "text":
            return read_text(contract, answer)
        case "json":
            return read_json(contract, answer)
        case "after":
            return read_after(contract, answer)
        case "tag":
            return read_tag(contract, answer)
        case "sections":
            return read_sections(contract, answer)
        case "regex":
            return read_regex(contract, answer)
        case "lines":
            return read_lines(contract, answer, count)
        case kind:
            raise NotImplementedError(kind)


def correction(reading: Reading) -> str:
    """What a model is told when its answer broke the contract."""
    faults = "\n".join(f"- {problem}" for problem in reading.problems)
    return (
        f"That answer could not be used:\n{faults}\nAnswer again, in the form that was asked for."
    )
