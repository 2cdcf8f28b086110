"""Regular expressions that models may feed: RE2's, which take time in proportion to the text."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import re2

MAX_SCANNED = 500_000_000
"""Characters that are looked at for all matches of a pattern in one answer, less than a second of work.

Each match is found in linear time, but may look through all the rest of the text. A megabyte is read
for five hundred matches at least, ten kilobytes for fifty thousand.
"""


@functools.lru_cache(maxsize=64)  # a plan has a handful; one may hold some MiB
def compiled(pattern: str) -> Any:
    """A pattern in RE2's syntax. Raises re2.error where it has none: the compiler has seen it."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def matches(pattern: str, text: str) -> Iterator[Any]:
    """The matches in a text without lone surrogates, as many as MAX_SCANNED allows."""
    left = MAX_SCANNED
    for match in compiled(pattern).finditer(text):
        yield match
        left -= len(text) - match.end()
        if left < 0:
            return


def literally(text: str) -> str:
    """A pattern of the words of a text, with any space between them."""
    return (SPACE + "*").join(re2.escape(word) for word in text.split())


SPACE = r"[ \t\r\x{A0}\x{FEFF}]"
"""A space within a line, as a pattern."""
