"""The protocols that backends speak: those built in, and those that other packages bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from synthc.compiler import plan
from synthc.runtime.backends.anthropic import Anthropic
from synthc.runtime.backends.openai import OpenAI
from synthc.runtime.backends.protocol import (
    Answer,
    CallFailed,
    Reply,
    Request,
    Verdict,
    Wire,
)
from synthc.runtime.errors import RunError

Protocol = Callable[[str, plan.Sampling], Wire]
"""The name of a model, and how it is sampled → how it is asked."""

BUILT_IN: Mapping[str, Protocol] = {"anthropic": Anthropic, "openai": OpenAI}
URLS: Mapping[str, str] = {"anthropic": "https://api.anthropic.com/v1"}
"""Where a backend without a `url` is asked."""

T = TypeVar("T")


def protocol(spec: plan.Backend) -> Protocol:
    """What a backend speaks. Raises RunError where no such protocol is installed, or it is broken."""
    if spec.protocol in BUILT_IN:
        return BUILT_IN[spec.protocol]
    installed = entry_points(group=plan.PROTOCOLS)
    found = [point for point in installed if point.name == spec.protocol]
    what = f"backend `{spec.name}` speaks the protocol `{spec.protocol}`"
    if not found:
        raise RunError(
            f"{what}, which is not known here",
            hint="known: " + ", ".join(sorted({*BUILT_IN, *installed.names})),
            span=spec.span,
        )
    if len(found) > 1:
        packages = ", ".join(sorted(point.dist.name for point in found if point.dist))
        raise RunError(
            f"{what}, which several packages bring: {packages}",
            hint="uninstall all but one of them",
            span=spec.span,
        )
    try:
        made = found[0].load()
    except Exception as error:  # the package is not ours: anything may go wrong in it
        raise RunError(
            f"{what}, which cannot be loaded from `{found[0].value}`: {_words(error)}",
            span=spec.span,
        ) from error

    def guarded(model: str, sampling: plan.Sampling) -> Wire:
        try:
            return _Guarded(spec, made(model, sampling))
        except Exception as error:
            raise RunError(
                f"{what}, which cannot be used: {_words(error)}", span=spec.span
            ) from error

    return guarded


class _Guarded:
    """A protocol that is not ours: what it raises by mistake becomes a failed call, and says so."""

    def __init__(self, spec: plan.Backend, wire: Wire) -> None:
        self._spec = spec
        self._wire = wire

    def headers(self, api_key: str | None) -> dict[str, str]:
        try:
            return self._wire.headers(api_key)
        except Exception as error:  # noqa: BLE001 - its words are left out: they may hold the key
            raise RunError(
                f"backend `{self._spec.name}` speaks the protocol `{self._spec.protocol}`, "
                f"which cannot make its headers: {type(error).__name__}",
                span=self._spec.span,
            ) from None

    def build(self, request: Request) -> tuple[str, bytes]:
        return self._safely(self._wire.build, request, Verdict.STOP)

    def read(self, reply: Reply) -> Answer:
        return self._safely(self._wire.read, reply, Verdict.RETRY)

    def classify(self, reply: Reply) -> CallFailed:
        return self._safely(self._wire.classify, reply, Verdict.RETRY)

    def _safely(self, function: Callable[..., T], argument: object, verdict: Verdict) -> T:
        try:
            return function(argument)
        except CallFailed:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            said = f"is not understood by the protocol `{self._spec.protocol}`: {_words(error)}"
            raise CallFailed(verdict, "bad_answer", said, hint="mend the protocol") from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
