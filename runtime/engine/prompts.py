"""Templates rendered in Jinja's sandbox: they turn values into text, and reach nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

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
        self._compiled: dict[str, Template] = {}

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The text of a template. Raises RowFailed where it cannot be made from these values."""
        compiled = self._compiled.get(template)
        try:
            if compiled is None:
                compiled = self._compiled[template] = self._sandbox.from_string(template)
                compiled.globals = {}  # they are among the values
            return self._fill(compiled, values)
        except Exception as error:  # a template can fail in any way: it is this row's fault
            raise RowFailed("template", f"the template cannot be filled: {error}") from error

    def _fill(self, compiled: Template, values: Mapping[str, Any]) -> str:
        """What `render` does, without the chain of maps that it makes of globals and values: to walk along
        it took longer than the template."""
        context = compiled.new_context({**self._sandbox.globals, **values}, shared=True)
        return self._sandbox.concat(compiled.root_render_func(context))


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
