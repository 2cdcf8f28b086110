"""HTTP, as far as backends need it: what reaches a server, and what its statuses mean."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self
from urllib.parse import SplitResult, quote, urlsplit

import msgspec
from msgspec.structs import replace

from synthc.runtime.backends.breaker import Breaker
from synthc.runtime.backends.direct import Direct
from synthc.runtime.backends.protocol import (
    Answer,
    CallFailed,
    Reply,
    Request,
    SchemaRefused,
    Verdict,
    Wire,
)
from synthc.runtime.backends.replies import without_thoughts
from synthc.runtime.backends.settings import Redactor

_IN_URLS = "/?:@!$&'()*+,;=%~"
CONNECT_S = 15.0  # a server that takes longer to say hello is not there


class Http:
    """What reaches one server. Use it as an async context manager.

    Redirects are not followed: the key would travel with them. A proxy of the environment applies
    to all addresses but this machine's own. Raises ValueError (which may quote a secret) where the
    url or a header cannot be used.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout_s: float) -> None:
        parts = _checked(url)
        self._before = quote(parts.path.rstrip("/"), safe=_IN_URLS)
        self._after = "?" + quote(parts.query, safe=_IN_URLS) if parts.query else ""
        headers = {"content-type": "application/json", **headers}
        connect_s = min(timeout_s / 2, CONNECT_S)
        directly = not _proxied(parts)
        if parts.scheme == "http" and directly:
            self._client = Direct(parts, headers, timeout_s=timeout_s, connect_s=connect_s)
            return
        from synthc.runtime.backends.reqwest import Reqwest

        origin = f"{parts.scheme}://{parts.netloc}"
        self._client = Reqwest(
            origin, headers, timeout_s=timeout_s, connect_s=connect_s, directly=directly
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._client.__aexit__(*raised)

    def get(self, path: str) -> Coroutine[Any, Any, Reply]:
        """GET `path` below the url. Raises CallFailed when no HTTP answer comes in time."""
        return self._client.send("GET", self._before + path + self._after)

    def post(self, path: str, body: bytes) -> Coroutine[Any, Any, Reply]:
        """POST JSON to `path` below the url. Raises as `get` does."""
        return self._client.send("POST", self._before + path + self._after, body)


class Once:
    """A backend that sends each request once (twice where the server does not take its schema)."""

    def __init__(
        self,
        wire: Wire,
        http: Http,
        redactor: Redactor,
        breaker: Breaker,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._http = http
        self._redactor = redactor
        self._breaker = breaker
        self._clock = clock
        self._refused: set[bytes] = set()  # some servers take schemas, and not all of them

    async def complete(self, request: Request) -> Answer:
        """The answer; raises CallFailed, whose texts are free of secrets."""
        try:
            if request.schema is None:
                return await self._ask(request)
            schema = msgspec.json.encode(request.schema)
            if schema in self._refused:
                return await self._ask(replace(request, schema=None))
            try:
                return await self._ask(request)
            except SchemaRefused:
                answer = await self._ask(replace(request, schema=None))
                self._refused.add(schema)  # only now is it known that the schema was the trouble
                return answer
        except CallFailed as failed:
            failed.detail = self._redactor.clean(failed.detail)
            raise

    async def _ask(self, request: Request) -> Answer:
        path, body = self._wire.build(request)
        started = self._clock()
        task = self._breaker.send()
        try:
            reply = await self._http.post(path, body)
        finally:
            self._breaker.back(task)
        if not 200 <= reply.status <= 299:
            raise self._wire.classify(reply)
        answer = without_thoughts(self._wire.read(reply))
        return replace(answer, latency_s=self._clock() - started)


def failure(status: int, said: str, wait_s: float | None = None) -> CallFailed:
    """What an HTTP status other than 2xx means, where a protocol knows no better."""
    verdict, detail, hint = Verdict.RETRY, said, None
    if 300 <= status <= 399:
        verdict = Verdict.STOP
        detail = f"redirects, which is not followed, as the key would go along: {said}"
        hint = "set `url` to where the server really is"
    elif status in {401, 403}:
        verdict, detail = Verdict.STOP, f"refuses the key: {said}"
    elif status == 402:
        verdict, detail, hint = Verdict.STOP, f"wants to be paid: {said}", "top up the account"
    elif status in {404, 405}:
        verdict, detail = Verdict.STOP, f"knows no such address or model: {said}"
        hint = "check `model` and `url`: the url ends before /chat/completions, often in /v1"
    elif status == 429:
        verdict = Verdict.WAIT
    elif 400 <= status <= 499 and status not in {408, 409, 425}:
        verdict = Verdict.ROW
    return CallFailed(
        verdict, f"http_{status}", detail, hint=hint, status=status, retry_after_s=wait_s
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds a `Retry-After` asks for, given in seconds or as a date; None without one.

    A date is compared with the server's own `Date` where there is one: the clocks may differ.
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text)) if float(text) < float("inf") else None
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime

    try:
        until = parsedate_to_datetime(text).timestamp()
        now = (
            parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
        )
    except ValueError:
        return None
    return max(0.0, until - now)


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it does not start with http:// or https:// and a host")
    _ = parts.port  # raises ValueError where it is no port
    return parts


def _proxied(parts: SplitResult) -> bool:
    """Whether a proxy of the environment stands before a server."""
    if _is_loopback(parts.hostname or ""):
        return False
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    applies = parts.scheme in proxies or "all" in proxies
    return applies and not proxy_bypass(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
