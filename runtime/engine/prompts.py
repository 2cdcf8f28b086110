"""Templates rendered in Jinja's sandbox: they turn values into text, and reach nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.filters import do_default
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct

from synthc.compiler import types
from synthc.compiler.types import Field, Type
from synthc.runtime.errors import RowFailed

_GLOBALS = ("range", "dict", "namespace")


class Prompts:
    """Compiles each template once."""

    def __init__(self) -> None:
        self._sandbox = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, finalize=shown, keep_trailing_newline=True
        )
        self._sandbox.globals = {name: self._sandbox.globals[name] for name in _GLOBALS}
        del self._sandbox.filters["random"]
        self._sandbox.filters |= dict.fromkeys(("default", "d"), _default)
        self._compiled: dict[str, Template] = {}

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The text of a template. Raises RowFailed where it cannot be made from these values."""
        try:
            return self._sandbox.concat(self._pieces(template, values))
        except Exception as error:  # a template can fail in any way: it is this row's fault
            raise RowFailed("template", f"the template cannot be filled: {error}") from error

    def parts(
        self, template: str, values: Mapping[str, Any], images: Iterable[Field]
    ) -> list[str | Picture]:
        """The text of a template, and between it the pictures that it prints: `images` are the values that
        are pictures, or hold some. Raises RowFailed as `render` does.

        A picture is known by what it is, not by any sign in the text: no value can pretend to be one.
        """
        held: list[_Held] = []
        parts: list[str | Picture] = []
        text: list[str] = []
        try:
            known = {f.name: _hold(values[f.name], f.type, f.name, held) for f in images}
            for piece in self._pieces(template, {**values, **known}):
                if isinstance(piece, _Printed):
                    parts += ["".join(text), piece.picture]
                    text = []
                else:
                    text.append(piece)
        except Exception as error:
            raise RowFailed("template", f"the template cannot be filled: {error}") from error
        if len(parts) // 2 < sum(one._printed for one in held):
            raise RowFailed("template", "the template makes text of a picture")
        return [*parts, "".join(text)]

    def _pieces(self, template: str, values: Mapping[str, Any]) -> Iterable[str]:
        """What `Template.generate` gives, without the chain of maps that it makes of globals and values: to
        walk along it took longer than the template."""
        compiled = self._compiled.get(template)
        if compiled is None:
            compiled = self._compiled[template] = self._sandbox.from_string(template)
            compiled.globals = {}  # they are among the values
        context = compiled.new_context({**self._sandbox.globals, **values}, shared=True)
        return compiled.root_render_func(context)


class Picture(Struct, frozen=True):
    """A picture that a template printed: bytes, a data URL or a path, out of the value `name`."""

    name: str
    value: Any


class _Held:
    """A picture while a template is filled: it can be printed, and nothing else comes of it.

    `_printed` counts how often it was made text of. No template reaches a name that starts with `_`.
    """

    __slots__ = ("_picture", "_printed")

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._printed = 0

    def __str__(self) -> str:
        self._printed += 1
        return _Printed(self._picture)


class _Printed(str):
    """What is printed of a picture: no text, that knows which picture it is."""

    picture: Picture

    def __new__(cls, picture: Picture) -> _Printed:
        made = super().__new__(cls)
        made.picture = picture
        return made


def _hold(value: Any, type_: Type, name: str, held: list[_Held]) -> Any:
    """A value with its pictures as templates have them."""
    match type_:
        case _ if value is None:
            return None
        case types.Image():
            held.append(_Held(Picture(name, value)))
            return held[-1]
        case types.Maybe(inner):
            return _hold(value, inner, name, held)
        case types.ListOf(element):
            return [_hold(item, element, name, held) for item in value]
        case types.Record(fields):
            parts = {field.name: field.type for field in fields}
            return {
                part: _hold(inner, parts[part], name, held) if part in parts else inner
                for part, inner in value.items()
            }
        case _:
            return value


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja's filter, to which a null is as good as nothing."""
    return default_value if value is None else do_default(value, default_value, boolean)


def shown(value: Any) -> Any:
    """A value as a prompt shows it: JSON's spelling, not Python's. Refuses null."""
    match value:
        case None:
            raise TypeError("a null cannot be printed")
        case bool():
            return "true" if value else "false"
        case list() | dict() | tuple():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return value
