"""Which model a backend or an embedder of a plan means, where the environment has a say in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from synthc.compiler import plan
from synthc.runtime.backends.settings import resolve
from synthc.runtime.errors import RunError


@dataclass(frozen=True, slots=True)
class Named:
    """A model, and the server that has it; without `url`, this machine."""

    model: str
    url: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a GGUF file."""
        from synthc.runtime.models import is_gguf

        return is_gguf(self.model)

    @property
    def identity(self) -> str:
        """What tells it from others: the name of a file at a server says nothing without the server."""
        return f"{self.model} at {self.url}" if self.url and self.is_file else self.model


STAND_IN = Named("stand-in")


def named(spec: plan.Backend | plan.Embedder, env: Mapping[str, str]) -> Named:
    """The model of a backend or an embedder. Raises RunError where it is empty or not set."""
    kind = "backend" if isinstance(spec, plan.Backend) else "embedder"
    of = f"of {kind} `{spec.name}`"
    model = resolve(spec.model, f"`model` {of}", env=env, span=spec.span)
    if model is None:
        raise RunError(f"`model` {of} is empty", span=spec.span)
    url = resolve(spec.url, f"`url` {of}", env=env, span=spec.span)
    return Named(model.text, url.text if url else None)
