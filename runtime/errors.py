"""What can stop a run, or one row of it: said to a person, never as a traceback."""

from __future__ import annotations

from synthc.compiler.span import Span


class RunError(Exception):
    """The run cannot go on as things are (exit status 1).

    `message` says what went wrong, `hint` what to do next, `span` which place of the spec is meant.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, span: Span | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.span = span
        if hint:  # for those who see it raised, from Python
            self.add_note(f"help: {hint}")


class Stopped(RunError):
    """The run ended before its end and continues when it is run again (exit status 3)."""

    exit_code = 3


class RowFailed(Exception):
    """One row cannot have a value: it is recorded with its reason and the others go on.

    `reason` is one word that groups failures (`null`, `contract`, `http_500`, `sql`, …). The engine
    adds `what` failed (a column) and its `place` in the spec; `model` answered, if one did, and of
    an ask that failed `calls` are the digests of the answers that could not be used.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.what = ""
        self.place = ""
        self.model: str | None = None
        self.calls: tuple[bytes, ...] | None = None


def reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group that says why: what can be told to a person before anything else."""
    told, rest = group.split(RunError)
    found: BaseException = told or rest or group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
