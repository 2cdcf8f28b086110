"""How many tokens a call takes: guessed before it is sent, known when it is answered."""

from __future__ import annotations

from dataclasses import dataclass

from synthc.compiler.plan import Sampling
from synthc.runtime.backends.protocol import Answer, Content, Request

CHARACTERS = 4  # of a token, as long as no server has counted any
ANSWER = 512  # tokens of an answer, as long as none has come and nothing limits it
IMAGE = 4_000
"""Characters that a picture is taken for, 1,000 tokens: vendors count some 100 to 1,600, by its size."""


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a prompt, and of its answer."""

    input: float
    output: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.input + self.output


class Sizes:
    """Learns from the answers of one backend. `sampling.max_tokens` is the most of an answer."""

    def __init__(self, sampling: Sampling) -> None:
        self._max_tokens = sampling.max_tokens
        # As if a short prompt had been counted, so that the first one weighs more than the guess.
        self._characters, self._read = 10.0 * CHARACTERS, 10.0
        self._answers, self._written, self._longest = 0, 0.0, 0.0

    def expected(self, request: Request) -> Size:
        """What a call takes on the average."""
        mean = self._written / self._answers if self._answers else self._most(ANSWER)
        return Size(self._input(request), mean)

    def bound(self, request: Request) -> Size:
        """What a call takes at most, as far as is known: without `max_tokens`, the longest so far."""
        longest = self._longest if self._answers else ANSWER
        return Size(self._input(request), self._max_tokens or longest)

    def learn(self, request: Request, answer: Answer) -> Size:
        """What an answered call took: guessed by its length where the server does not say."""
        read, written = answer.input_tokens, answer.output_tokens
        if read is None:
            read = self._input(request)
        else:
            self._characters += _characters(request)
            self._read += read
        if written is None:
            written = len(answer.text) / CHARACTERS
        self._answers += 1
        self._written += written
        self._longest = max(self._longest, written)
        return Size(read, written)

    def _input(self, request: Request) -> float:
        return _characters(request) * self._read / self._characters

    def _most(self, tokens: float) -> float:
        return min(tokens, self._max_tokens or tokens)


def _characters(request: Request) -> int:
    return sum(characters(message.content) for message in request.messages)


def characters(content: Content) -> int:
    """How long a message is; a picture in it is taken for so much text."""
    if isinstance(content, str):
        return len(content)
    return sum(len(part) if isinstance(part, str) else IMAGE for part in content)
