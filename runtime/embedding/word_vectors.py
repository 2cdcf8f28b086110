"""Word vectors in a text file, as GloVe and word2vec write them: a word a line, and its numbers.

Such a file is read once: what it says is kept in the cache as numbers that are mapped into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import Progress, being_built, digest, read_json, write_json

SUFFIXES = (".txt", ".vec")
_READER = 1  # counts the changes to how files are read: what another number made is made again
_UNKNOWN = "\n"  # stands for the words that are not in the file; no text has it as a word
_TOLD_EVERY = 100_000  # lines
_SHOWN = 40  # characters of what is wrong
_FORM = "each line is a word and its numbers: `mango 0.12 -0.5 …`"


@dataclass(frozen=True, slots=True)
class WordVectors:
    """The words of a file and their vectors, float32 of shape (words, dimensions), in its order.

    `repeated` counts the lines whose word stood there before: the first one counts.
    """

    vectors: np.ndarray
    tokenizer: Tokenizer
    unknown: int
    repeated: int


def is_text(path: Path) -> bool:
    """Whether a path is that of word vectors in a text file."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def word_vectors(path: Path, *, cache: Path, progress: Progress | None = None) -> WordVectors:
    """The word vectors of a file, from the cache or read now (a million numbers a second or more).

    A text is taken apart into words and punctuation, in lower case where all words of the file are.
    Raises RunError, with the line: it is not in UTF-8, has no word, not as many numbers as the
    others, or one that is none; or the header does not hold.
    """
    made_from = f"{digest(path, cache=cache)} {_READER}"
    target = cache / "tables" / hashlib.sha256(made_from.encode()).hexdigest()[:32]
    if not (target / "card.json").is_file():
        if progress:
            progress(0, None, f"reading {path.name}")
        with being_built(target) as building:
            _convert(path, building, progress)
    card = read_json(target / "card.json")
    shape = card["words"], card["dimensions"]
    return WordVectors(
        vectors=np.asarray(np.memmap(target / "vectors.f32", np.float32, "r", shape=shape)),
        tokenizer=Tokenizer.from_file(str(target / "tokenizer.json")),
        unknown=card["words"],
        repeated=card["repeated"],
    )


def _convert(path: Path, folder: Path, progress: Progress | None) -> None:
    places: dict[str, int] = {}
    lines = dimensions = 0
    with (folder / "vectors.f32").open("wb") as numbers:
        for word, vector in _lines(path):
            lines += 1
            if word not in places:
                places[word] = len(places)
                dimensions = len(vector)
                numbers.write(vector.tobytes())
            if progress and lines % _TOLD_EVERY == 0:
                progress(numbers.tell(), None, f"reading {path.name}")
    tokenizer = Tokenizer(models.WordLevel({**places, _UNKNOWN: len(places)}, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if all(word == word.lower() for word in places):
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"words": len(places), "dimensions": dimensions, "repeated": lines - len(places)}
    write_json(folder / "card.json", about)


def _lines(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The words of a file with their vectors, float32 of shape (dimensions,)."""
    dimensions = announced = None
    found = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            if not fields:
                continue
            if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                announced, dimensions = int(fields[0]), int(fields[1])
                continue
            dimensions = len(fields) - 1 if dimensions is None else dimensions
            found += 1
            yield _read(path, number, fields, dimensions)
    if not found:
        raise RunError(f"{path} holds no word vectors", hint=_FORM)
    if announced not in (None, found):
        raise RunError(
            f"{path}, line 1: it says that {announced} words follow, and there are {found}",
            hint="fetch the file again if it is cut off, or mend its first line",
        )


def _read(path: Path, number: int, fields: list[bytes], dimensions: int) -> tuple[str, np.ndarray]:
    """The word and the vector of a line. A word may hold spaces: the numbers are at the end."""
    named = fields[: max(1, len(fields) - dimensions)]
    try:
        word = b" ".join(named).decode()
    except UnicodeDecodeError:
        raise RunError(
            f"{path}, line {number}: its word is not text in UTF-8",
            hint=f"convert it, if it is in Latin-1: `iconv -f LATIN1 -t UTF-8 {path.name}`",
        ) from None
    try:
        numbers = [float(field) for field in fields[len(named) :]]
        with np.errstate(over="ignore"):  # what is too large is not finite then
            vector = np.array(numbers, np.float32)
    except ValueError:
        vector = None
    too_many = len(named) > 1 and _is_number(named[-1])
    if vector is None or too_many or not 0 < dimensions == len(vector):
        why = _malformed(fields, dimensions)
        raise RunError(f"{path}, line {number}: {why}", hint=_FORM)
    if not np.isfinite(vector).all():
        raise RunError(
            f"{path}, line {number}: a number of `{word[:_SHOWN]}` is not finite", hint=_FORM
        )
    return word, vector


def _malformed(fields: list[bytes], dimensions: int) -> str:
    """What is wrong with a line."""
    numbers = len(fields) - 1
    wrong = next((f for f in fields[max(1, len(fields) - dimensions) :] if not _is_number(f)), None)
    if wrong is not None and numbers >= dimensions:
        return f"`{wrong.decode(errors='replace')[:_SHOWN]}` is no number"
    first = fields[0].decode(errors="replace")[:_SHOWN]
    has = "1 number" if numbers == 1 else f"{numbers} numbers"
    return f"`{first}` has {has}, and there must be {dimensions or 'some'}"


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
