"""What can go wrong with an answer of the loopback server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one answer.

    `status` other than 200 sends an error; `retry_after_s` adds the header, in seconds or as a
    date; `body` replaces the body, `edit` changes the completion; `wire` breaks the connection
    before, in the middle of, or (a byte now and then, for ever) instead of the answer.
    """

    status: int = 200
    retry_after_s: float | None = None
    as_date: bool = False
    location: str | None = None
    body: str | None = None
    edit: Callable[[Json], object] | None = None
    wire: Literal["", "drop", "half", "drip"] = ""


def _edit_choice(**change: object) -> Callable[[Json], object]:
    return lambda completion: completion["choices"][0].update(change)


FAULTS = {
    **{str(status): Fault(status) for status in (400, 401, 403, 404, 408, 422, 429, 500, 502, 503)},
    "429-seconds": Fault(429, retry_after_s=1),
    "429-date": Fault(429, retry_after_s=1, as_date=True),
    "drop": Fault(wire="drop"),
    "half": Fault(wire="half"),
    "drip": Fault(wire="drip"),
    "wrong_json": Fault(body='{"choices": ['),
    "html": Fault(body="<html><body><h1>Welcome</h1></body></html>"),
    "empty_choices": Fault(edit=lambda completion: completion["choices"].clear()),
    "null_content": Fault(edit=_edit_choice(message={"role": "assistant", "content": None})),
    "no_usage": Fault(edit=lambda completion: completion.pop("usage")),
    "length": Fault(edit=_edit_choice(finish_reason="length")),
    "other_model": Fault(edit=lambda completion: completion.update(model="another-model")),
}
