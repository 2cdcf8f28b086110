"""Documents: what stands on a line, where lines may end; and how one is printed.

After Wadler's "A prettier printer": a choice is made where its text starts, for the first of its
options whose lines are short enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from synthc.compiler.format.concrete import Word
from synthc.compiler.format.strings import moved


@dataclass(frozen=True, slots=True)
class Line:
    """The end of a line; where its option stands on one line `flat` instead, if that is not None.

    An empty line is kept before a comment (`first`) and before a word (`last`) that follow;
    `apart` makes sure that there is one. `item` where something starts that may be aligned.
    """

    flat: str | None = " "
    first: bool = True
    last: bool = True
    apart: bool = False
    item: bool = False


@dataclass(frozen=True, slots=True)
class Nest:
    """What is in it is indented by so many columns more."""

    by: int
    doc: Doc


@dataclass(frozen=True, slots=True)
class Guard:
    """Here a guard starts, which is aligned with those of the lines around it."""


@dataclass(frozen=True, slots=True)
class Option:
    """A way to write something: on one line (`flat`), or over several of at most `limit` columns."""

    doc: Doc
    limit: int = 0
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The first option that fits, or the last. `soonest` is the one whose first line ends soonest."""

    options: tuple[Option, ...]
    soonest: int = -1


Doc = str | Word | Line | Nest | Guard | Choice | tuple["Doc", ...]
"""A text that is a doc is of spaces."""


@dataclass(slots=True)
class Printed:
    """A line as it is printed. `guard` is the column where a guard starts; an `item` starts here."""

    text: str
    indent: int
    comment: str | None = None
    guard: int | None = None
    item: bool = False


@dataclass(frozen=True, slots=True)
class _Start:
    """A line that begins when there is something to print on it. `line` says what may precede it."""

    indent: int
    line: Line


_Piece = tuple[int, bool, Doc]
"""A doc with its indent, and whether it stands on one line."""

STEP = 2
"""The columns of one indent."""


def printed(doc: Doc) -> list[Printed]:
    """The lines of a document."""
    printer = _Printer()
    printer.print(doc)
    return printer.lines


class _Printer:
    def __init__(self) -> None:
        self.lines: list[Printed] = []
        self._start: _Start | None = _Start(0, Line(first=False))
        self._space = ""

    def print(self, doc: Doc) -> None:
        work: list[_Piece] = [(0, False, doc)]
        while work:
            indent, flat, piece = work.pop()
            match piece:
                case str():
                    self._space += piece
                case Word():
                    self._word(piece, indent)
                case Line(flat=str(space)) if flat:
                    self._space += space
                case Line():
                    self._start = _Start(indent, piece)
                case Nest():
                    work.append((indent + piece.by, flat, piece.doc))
                case Guard():
                    line = self.lines[-1]
                    if self._start is None and line.item and not line.comment:
                        line.guard = len(line.text)
                case tuple():
                    work.extend((indent, flat, part) for part in reversed(piece))
                case Choice():
                    option = self._chosen(piece, indent, flat, work)
                    work.append((indent, option.flat, option.doc))

    def _word(self, word: Word, indent: int) -> None:
        if self._start is None and (word.before or self.lines[-1].comment):
            # A comment has cut off what usually stands on one line.
            self._start = _Start(indent + STEP, Line(first=False, last=False))
        if self._start is None:
            self._text(self._space + word.text)
        else:
            self._begin(word, self._start)
        self._space = ""
        if word.text:
            self.lines[-1].comment = word.after

    def _begin(self, word: Word, start: _Start) -> None:
        """The word on a new line, after its comments."""
        line = start.line
        apart = line.apart and not word.blank and not any(remark.blank for remark in word.before)
        for remark in word.before:
            self._blank(apart or (remark.blank and line.first))
            self.lines.append(Printed(" " * start.indent + remark.text, start.indent))
            line, apart = Line(last=line.last, item=line.item), False
        if word.text:
            self._blank(apart or (word.blank and line.first and line.last))
            self.lines.append(Printed(" " * start.indent, start.indent, item=line.item))
            self._text(word.text)
            self._start = None
        else:
            self._start = _Start(start.indent, line)

    def _blank(self, wanted: bool) -> None:
        if wanted and self.lines:
            self.lines.append(Printed("", 0))

    def _text(self, text: str) -> None:
        line = self.lines[-1]
        head, *rest = _lines(text, line.indent, not line.text.strip())
        line.text += head
        self.lines += [Printed(text, line.indent) for text in rest]

    def _chosen(self, choice: Choice, indent: int, flat: bool, after: list[_Piece]) -> Option:
        for option in choice.options[:-1]:
            if flat or self._fits(option, indent, after):
                return option
        return choice.options[-1]

    def _fits(self, option: Option, indent: int, after: list[_Piece]) -> bool:
        """Whether no line of the option is too long, with what must follow on its last one."""
        if self._start is not None:
            ruler = _Ruler(option.limit, self._start.indent, self._start.indent, fresh=True)
        else:
            line = self.lines[-1]
            if line.comment:
                return False
            ruler = _Ruler(option.limit, line.indent, len(line.text) + len(self._space))
        if not ruler.measures([(indent, option.flat, option.doc)]):
            return False
        return ruler.follows(after)


class _Ruler:
    """Measures lines without printing them."""

    def __init__(self, limit: int, margin: int, column: int, *, fresh: bool = False) -> None:
        self.limit = limit
        self.margin = margin
        self.column = column
        self.fresh = fresh
        self.commented = False

    def measures(self, work: list[_Piece]) -> bool:
        """Whether these lines are short enough, and hold no comment where a line cannot end."""
        while work:
            indent, flat, piece = work.pop()
            match piece:
                case str():
                    self.column += 0 if self.fresh else len(piece)
                case Word():
                    if not self._word(piece):
                        return False
                case Line(flat=str(space)) if flat:
                    self.column += len(space)
                case Line():
                    if flat:
                        return False
                    self.margin = self.column = indent
                    self.fresh, self.commented = True, False
                case Nest():
                    work.append((indent + piece.by, flat, piece.doc))
                case tuple():
                    work.extend((indent, flat, part) for part in reversed(piece))
                case Choice():
                    option = piece.options[0]
                    if flat and not option.flat:
                        return False
                    option = option if option.flat else piece.options[-1]
                    work.append((indent, option.flat, option.doc))
                case Guard():
                    pass
        return True

    def follows(self, after: list[_Piece]) -> bool:
        """Whether there is room for what comes next, up to where the line may end."""
        position = len(after)
        work: list[_Piece] = []
        while work or position:
            if not work:
                position -= 1
                work.append(after[position])
            indent, flat, piece = work.pop()
            if self.commented:
                return True
            match piece:
                case str():
                    self.column += len(piece)
                case Word():
                    if piece.before:
                        return True
                    if not self._word(piece):
                        return False
                    if "\n" in piece.text:
                        return True
                case Line(flat=str(space)) if flat:
                    self.column += len(space)
                case Line():
                    return True
                case Nest():
                    work.append((indent + piece.by, flat, piece.doc))
                case tuple():
                    work.extend((indent, flat, part) for part in reversed(piece))
                case Choice():
                    option = piece.options[0 if flat else piece.soonest]
                    work.append((indent, option.flat, option.doc))
                case Guard():
                    pass
        return True

    def _word(self, word: Word) -> bool:
        if self.commented or (word.before and not self.fresh):
            return False
        head, *rest = _lines(word.text, self.margin, self.fresh)
        if self.column + len(head) > self.limit:
            return False
        self.column = len(rest[-1]) if rest else self.column + len(head)
        self.fresh = False
        self.commented = bool(word.after)
        return self.column <= self.limit


def _lines(text: str, margin: int, alone: bool) -> list[str]:
    """The lines of a word that stands on a line with this margin, `alone` where nothing precedes it."""
    if "\n" not in text:
        return [text]
    space = text[: len(text) - len(text.lstrip(" "))]
    return (space + moved(text.lstrip(" "), margin, margin if alone else margin + STEP)).split("\n")
