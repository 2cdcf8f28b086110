"""A conversation becomes the text that a model was trained on, by the Jinja template of the model."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct

from synthc.runtime.backends.protocol import Message
from synthc.runtime.errors import RowFailed, RunError


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The source of a template, and the special tokens that it may print, by their names."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)


class Rendered(Struct, frozen=True):
    """A text that a template wrote, special tokens and all: the tokenizer adds none to it."""

    text: str


def render(template: ChatTemplate, turns: Sequence[Message]) -> Rendered:
    """The turns as the model reads them, up to where it would answer.

    The template sees what transformers gives it but the date: a vector is the same on every day.
    Raises RowFailed where the template refuses these turns, RunError where it is no template.
    """
    compiled = _compiled(template.source)
    try:
        text = compiled.render(
            messages=[{"role": turn.role, "content": turn.content} for turn in turns],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **template.tokens,
        )
    except Exception as error:  # noqa: BLE001 - a template is a program, and fails in all ways
        said = " ".join(str(error).split())
        raise RowFailed("chat", f"the model's chat template refuses it: {said}") from None
    return Rendered(text)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what an assistant said, for training: here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - the base class has it so

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(8)
def _compiled(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise RunError(
            f"the model's chat template cannot be read, line {error.lineno}: {error.message}",
            hint="fetch the model again",
        ) from None


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
