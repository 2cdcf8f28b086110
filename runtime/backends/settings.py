"""Settings of a backend, read from the environment, and what keeps them out of every text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from synthc.compiler.plan import Env, Setting
from synthc.compiler.span import Span
from synthc.runtime.errors import RunError

FROM_ENV = 4  # characters from which a value of the environment is taken for a secret
FROM_SPEC = 8  # the same for a value the spec shows anyway: "none" and "EMPTY" are words


@dataclass(frozen=True, slots=True)
class Value:
    """A resolved setting; `variable` names where it came from, None where the spec says it."""

    text: str
    variable: str | None = None


def resolve(
    setting: Setting | None, what: str, *, env: Mapping[str, str], span: Span
) -> Value | None:
    """The value of a setting, None where it is absent or empty.

    Raises RunError where it needs a variable that is not set.
    """
    if not isinstance(setting, Env):
        return Value(setting) if setting else None
    if text := env.get(setting.name, "").strip():
        return Value(text, setting.name)
    if setting.default is None:
        raise RunError(
            f"{what} needs the environment variable {setting.name}, which is not set",
            hint=f"`export {setting.name}=…`, or a line `{setting.name}=…` in a file `.env`",
            span=span,
        )
    return Value(setting.default) if setting.default else None


def place(url: Value) -> str:
    """How a message calls the server: never by what a variable or the url's secret parts hold."""
    if url.variable is not None:
        return f"the url in {url.variable}"
    parts = urlsplit(url.text)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def secrets(values: Iterable[Value], url: Value | None) -> set[str]:
    """All that must not be shown: the values, their words, and the secret parts of an url."""
    found: set[str] = set()
    for value in values:
        least = FROM_SPEC if value.variable is None else FROM_ENV
        words = (value.text, *value.text.split())
        found.update(w for w in words if len(w) >= least and w not in {"Bearer", "Basic"})
    if url is not None:
        parts = urlsplit(url.text)
        found.update(filter(None, (parts.password, parts.netloc.rpartition("@")[0])))
        found.update(pair.partition("=")[2] for pair in parts.query.split("&"))
        if url.variable is not None:
            found.update(filter(None, (url.text, parts.netloc, parts.hostname, parts.username)))
    return found


class Redactor:
    """Puts `***` in place of secrets of at least four characters."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {s for secret in secrets for s in (secret, quote(secret, safe=""))}
        # Longest first: a secret may be a part of another.
        ordered = sorted((s for s in spellings if len(s) >= FROM_ENV), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def clean(self, text: str) -> str:
        """The text without the secrets."""
        return self._pattern.sub("***", text) if self._pattern else text
