"""HTTP by a well-kept library, on a thread of its own: TLS, proxies, HTTP/2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self

from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from synthc.runtime.backends.protocol import CallFailed, Reply, Verdict


class Reqwest:
    """The pool of connections to one server. Use it as an async context manager.

    A proxy of the environment applies, unless the server is to be reached `directly`. Raises ValueError
    (which may quote a secret) where the url or a header cannot be used.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        connect_s: float,
        directly: bool,
    ) -> None:
        self._origin = url
        self._timeout_s = timeout_s
        builder = ClientBuilder().follow_redirects(enable=False).default_headers(dict(headers))
        # Also covers a body that comes a byte at a time: it runs until the last one.
        builder = builder.timeout(timedelta(seconds=timeout_s))
        builder = builder.connect_timeout(timedelta(seconds=connect_s))
        if directly:
            builder = builder.no_proxy()
        self._client = builder.build()
        self._client.get(f"{url}/")  # raises ValueError now rather than later

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._client.__aexit__(*raised)

    async def send(self, method: str, target: str, body: bytes | None = None) -> Reply:
        """The answer to one request. Raises CallFailed when none comes in time."""
        request = self._client.request(method, self._origin + target)
        if body is not None:
            request = request.body_bytes(body)
        # `from None`: the library's errors show the url, and the url may hold a secret.
        try:
            response = await request.build().send()
            content = await response.bytes()
        except PyreqwestError as error:
            raise self._failed(error) from None
        return Reply(response.status, response.headers, content.to_bytes())

    def _failed(self, error: PyreqwestError) -> CallFailed:
        causes = _causes(error)
        if not isinstance(error, TimeoutError):
            # The innermost cause says most, and the outer ones repeat the url.
            return CallFailed(Verdict.RETRY, "connection", (causes or [error.message])[-1])
        if any("(Connect)" in cause for cause in causes):
            return CallFailed(Verdict.RETRY, "connection", "no connection in time")
        said = f"no whole answer within {self._timeout_s:g} s"
        return CallFailed(Verdict.RETRY, "timeout", said)


def _causes(error: PyreqwestError) -> list[str]:
    match error.args:
        case (_, {"causes": [*causes]}):
            return [cause["message"] for cause in causes]
        case _:
            return []
