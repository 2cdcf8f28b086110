"""From a backend of the plan to one that answers: settings, protocol, connections, policies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from synthc.compiler import plan
from synthc.runtime.backends.breaker import Breaker, Target
from synthc.runtime.backends.budget import Budget, Budgeted
from synthc.runtime.backends.http import Http, Once
from synthc.runtime.backends.limiter import Limited, Limiter
from synthc.runtime.backends.pace import PACE, Pace
from synthc.runtime.backends.protocol import Answer, Backend, CallFailed, Request, Wire
from synthc.runtime.backends.protocols import URLS, Protocol, protocol
from synthc.runtime.backends.rates import Paced
from synthc.runtime.backends.replies import served_models
from synthc.runtime.backends.retrying import Retrying, Stats
from synthc.runtime.backends.settings import Redactor, Value, place, resolve, secrets
from synthc.runtime.errors import RunError

if TYPE_CHECKING:
    from synthc.runtime.backends.local import LocalServers


class OpenBackend:
    """A backend that is ready: `model` is the name it is asked by, `where` words for its url."""

    def __init__(
        self,
        spec: plan.Backend,
        *,
        model: str,
        where: str,
        chain: Backend,
        stats: Stats,
        limiter: Limiter,
    ) -> None:
        self.spec = spec
        self.model = model
        self.where = where
        self._chain = chain
        self._stats = stats
        self._limiter = limiter

    def complete(self, request: Request) -> Coroutine[Any, Any, Answer]:
        """The answer; raises RowFailed for this row, Stopped where the run has to end."""
        return self._chain.complete(request)

    @property
    def stats(self) -> Stats:
        """What it did so far: a copy, which changes no more."""
        return replace(self._stats, limit=self._limiter.limit)


@asynccontextmanager
async def open_backends(
    specs: Iterable[plan.Backend],
    *,
    env: Mapping[str, str],
    base: Path,
    pace: Pace = PACE,
) -> AsyncIterator[dict[str, OpenBackend]]:
    """The backends of a run, by name, for as long as the block runs.

    `env` is where `env()` looks, `base` the folder that models' paths are relative to. Raises
    RunError where a setting is missing or makes no sense, Stopped where a server that must say
    what it serves cannot be asked. Servers that need not are not asked anything yet.
    """
    from synthc.runtime.backends.local import LocalServers

    specs = tuple(specs)
    longest = max((spec.sampling.max_tokens or 0 for spec in specs), default=0)
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(
            LocalServers(partial(_fetch, base=base), max_tokens=longest)
        )
        opened: dict[str, OpenBackend] = {}
        for spec in specs:
            backend = open_backend(spec, env=env, local=local, pace=pace)
            opened[spec.name] = await stack.enter_async_context(backend)
        yield opened


@asynccontextmanager
async def open_backend(
    spec: plan.Backend,
    *,
    env: Mapping[str, str],
    local: LocalServers,
    pace: Pace = PACE,
    budget: Budget | None = None,
    kind: str = "backend",
    speaks: Protocol | None = None,
) -> AsyncIterator[OpenBackend]:
    """One backend, as `open_backends` opens it; `local` serves its model where it has no url.

    `kind` is what messages call it, `speaks` is in the place of the protocol that it names.
    A `budget` is what it may spend, together with others.
    """
    settings = _Settings(spec, env, kind)
    url, model, most = settings.url, settings.model.text, spec.concurrency
    if url is None and spec.protocol in URLS and not _is_gguf(model):
        url = Value(URLS[spec.protocol])
    where = place(url) if url else f"the server of {model} on this machine"
    if url is None:
        if not _is_gguf(model):
            raise _no_url(spec)
        served = await local.serve(model, span=spec.span)
        # What llama.cpp cannot begin it queues, and the time-out would run meanwhile.
        url, most = Value(served.url), min(most, served.slots)
        settings.api_key = Value(served.key, variable="")
    redactor = settings.redactor()
    target = Target(spec.name, where, settings.key_hint(), spec.span, kind)
    speaks = speaks or protocol(spec)
    wire = speaks(model, spec.sampling)
    async with _connect(target, spec.timeout_s, url, settings.headers(wire), redactor) as http:
        if spec.url and settings.url and _is_gguf(model):
            model = await _only_model(http, wire, target, redactor)
            wire = speaks(model, spec.sampling)
        stats = Stats()
        limiter = Limiter(most, pace)
        breaker = Breaker(target, pace)
        sender: Backend = Once(wire, http, redactor, breaker, clock=pace.clock)
        if budget:
            sender = Budgeted(sender, budget, spec)
        if spec.requests_per_minute or spec.tokens_per_minute:
            sender = Paced(sender, spec, limiter, pace)
        chain = Retrying(
            Limited(sender, limiter, pace),
            breaker,
            attempts=spec.attempts,
            pace=pace,
            stats=stats,
        )
        yield OpenBackend(spec, model=model, where=where, chain=chain, stats=stats, limiter=limiter)


class _Settings:
    """What the environment makes of a backend's settings."""

    def __init__(self, spec: plan.Backend, env: Mapping[str, str], kind: str) -> None:
        self._kind = kind
        who = f"{kind} `{spec.name}`"

        def value(setting: plan.Setting | None, what: str) -> Value | None:
            return resolve(setting, f"{what} of {who}", env=env, span=spec.span)

        model = value(spec.model, "`model`")
        if model is None:
            raise RunError(f"`model` of {who} is empty", span=spec.span)
        self.model = model
        self.url = value(spec.url, "`url`")
        if self.url is not None and not _is_url(self.url.text):
            raise RunError(f"`url` of {who} is no url", span=spec.span)
        self.api_key = value(spec.api_key, "`api_key`")
        self._extra_headers = {
            name.lower(): text
            for name, setting in spec.headers.items()
            if (text := value(setting, f"the header `{name}`")) is not None
        }

    def headers(self, wire: Wire) -> dict[str, str]:
        fixed = wire.headers(self.api_key.text if self.api_key else None)
        return fixed | {name: value.text for name, value in self._extra_headers.items()}

    def redactor(self) -> Redactor:
        hidden = [*self._extra_headers.values(), *filter(None, (self.api_key,))]
        return Redactor(secrets(hidden, self.url))

    def key_hint(self) -> str:
        if self.api_key is None:
            return f"set `api_key`, which the {self._kind} has not"
        return f"check {self.api_key.variable or '`api_key`'}"


def _no_url(spec: plan.Backend) -> RunError:
    setting = spec.url
    return RunError(
        f"backend `{spec.name}` has no `url`, and its model is no .gguf file to serve here",
        hint=f"`export {setting.name}=…`, or set `url`"
        if isinstance(setting, plan.Env)
        else 'set `url`, like "http://localhost:8000/v1", or `model` to a .gguf file',
        span=spec.span,
    )


def _is_url(text: str) -> bool:
    try:
        urlsplit(text)
    except ValueError:  # it quotes what may be a secret
        return False
    return True


def _connect(
    target: Target, timeout_s: float, url: Value, headers: dict[str, str], redactor: Redactor
) -> Http:
    try:
        return Http(url.text, headers, timeout_s=timeout_s)
    except ValueError as error:
        # `from None`: the library quotes the header that it refuses.
        said = redactor.clean(str(error))
        raise RunError(
            f"{target.kind} `{target.name}`: {target.where} or a header cannot be used: {said}",
            span=target.span,
        ) from None


async def _only_model(http: Http, wire: Wire, target: Target, redactor: Redactor) -> str:
    """The id of the one model a server has: a server knows nothing of GGUF references."""
    try:
        reply = await http.get("/models")
    except CallFailed as failed:
        failed.detail = redactor.clean(failed.detail)
        raise target.stopped(failed, f"cannot be reached: {failed.detail}") from None
    if not 200 <= reply.status <= 299:
        failed = wire.classify(reply)
        failed.detail = redactor.clean(failed.detail)
        raise target.stopped(failed)
    names = served_models(reply.body)
    if len(names) == 1:
        return names[0]
    listed = redactor.clean(", ".join(names[:10])) or "no model that it names"
    raise RunError(
        f"{target.kind} `{target.name}`: its model is a .gguf file, but {target.where} serves {listed}",
        hint="set `model` to the name of the one to ask",
        span=target.span,
    )


def _fetch(reference: str, *, base: Path) -> Path:
    from synthc.runtime.models import fetch

    return fetch(reference, base=base)


def _is_gguf(reference: str) -> bool:
    from synthc.runtime.models import is_gguf

    return is_gguf(reference)
