"""A spec with every word and every comment of it: Lark's tree, with what the grammar leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lark import Token, Tree

from synthc.compiler.parse.parse import _parser

_BLANK = " \t\r\f"
STEPS = ("step", "sql_step")
"""The rules of a table's steps."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment on a line of its own; `blank` where an empty line stands before it."""

    text: str
    blank: bool = False
    column: int = 0


@dataclass(slots=True, eq=False)
class Word:
    """A word, sign or string, with the comments around it and how it stood in the text.

    `before` are the comments on lines of their own before it, `after` the one behind it on its line;
    `newline` where it was the first of its line, `blank` where an empty line stands right before it.
    """

    text: str
    before: tuple[Remark, ...] = ()
    after: str | None = None
    newline: bool = False
    blank: bool = False
    column: int = 0

    def bare(self) -> Word:
        """The word without the comments before it."""
        return Word(self.text, (), self.after)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """What a rule of the grammar stands for: its words and the nodes in it, in order."""

    rule: str
    parts: tuple[Part, ...] = field(default=())


Part = Node | Word


def words(part: Part) -> Iterator[Word]:
    """Every word of a part, in order."""
    if isinstance(part, Word):
        yield part
        return
    for inner in part.parts:
        yield from words(inner)


def first(part: Part) -> Word:
    """The word that a part starts with."""
    while isinstance(part, Node):
        part = part.parts[0]
    return part


@dataclass(frozen=True, slots=True)
class Source:
    """A whole spec; `end` is a word without text, for the comments behind the last declaration."""

    declarations: tuple[Node, ...]
    end: Word

    def comments(self) -> Iterator[str]:
        """Every comment, in order."""
        for node in (*self.declarations, self.end):
            for word in words(node):
                yield from (remark.text for remark in word.before)
                if word.after:
                    yield word.after


def read(text: str) -> Source:
    """A text that parses, word by word.

    Raises UnexpectedInput where it does not parse.
    """
    reading = _parser().parse_interactive(text)
    tokens = list(reading.iter_parse())
    tree = reading.feed_eof(tokens[-1] if tokens else None)
    all_words, end = _words(text, tokens)
    _settle(all_words)
    spec = _Builder(tokens, all_words).node(tree)
    declarations = [part for part in spec.parts if isinstance(part, Node)]
    return Source(tuple(_with_left_out_steps(declarations, end)), end)


def _words(text: str, tokens: list[Token]) -> tuple[list[Word], Word]:
    found: list[Word] = []
    at = 0
    for token in tokens:
        start = token.start_pos or 0
        word = Word(str(token), column=(token.column or 1) - 1)
        _gap(text[at:start], found[-1] if found else None, word)
        found.append(word)
        at = token.end_pos or start
    end = Word("")
    _gap(text[at:] + "\n", found[-1] if found else None, end)
    return found, end


def _gap(text: str, before: Word | None, after: Word) -> None:
    """Gives what stands between two words to them: comments, empty lines."""
    lines = text.split("\n")
    if before is not None:
        before.after = lines.pop(0).strip(_BLANK) or None
        after.newline = bool(lines)
    remarks: list[Remark] = []
    for line in lines[:-1]:
        comment = line.strip(_BLANK)
        if comment:
            column = len(line) - len(line.lstrip(_BLANK))
            remarks.append(Remark(comment, after.blank, column))
        after.blank = not comment
    after.before = tuple(remarks)


def _settle(all_words: list[Word]) -> None:
    """Moves comments over signs that shall stay beside the word before them, or after them."""
    for number, word in enumerate(all_words):
        if not number or word.text not in (",", "{", "(", "["):
            continue
        previous = all_words[number - 1]
        if word.text == "," and word.before and number + 1 < len(all_words):
            following = all_words[number + 1]
            following.before = word.before + following.before
            following.newline = True
            word.before = ()
        ends_line = previous.text in (",", "{", "(", "[")
        if previous.after and not (ends_line or word.before or word.after):
            word.after, previous.after = previous.after, None


class _Builder:
    """Lark's tree, whose rules have positions, and the words → nodes that hold all words."""

    def __init__(self, tokens: list[Token], all_words: list[Word]) -> None:
        self._starts = [token.start_pos or 0 for token in tokens]
        self._words = all_words
        self._next = 0

    def node(self, tree: Tree[Token]) -> Node:
        parts: list[Part] = []
        for child in tree.children:
            if isinstance(child, Tree):
                parts += self._until(child.meta.start_pos)
                parts.append(self.node(child))
        top = tree.data == "start"
        parts += self._until(self._starts[-1] + 1 if top and self._starts else _end(tree))
        return Node(tree.data, tuple(parts))

    def _until(self, position: int) -> list[Word]:
        start = self._next
        while self._next < len(self._starts) and self._starts[self._next] < position:
            self._next += 1
        return self._words[start : self._next]


def _with_left_out_steps(declarations: list[Node], end: Word) -> Iterator[Node]:
    """Comments behind the steps of a table that are indented as these are stay with the table."""
    following = [*map(first, declarations[1:]), end]
    for node, word in zip(declarations, following, strict=False):
        count = 0
        if node.rule == "table" and has_steps(node):
            columns = [remark.column for remark in word.before]
            count = next((n for n, at in enumerate(columns) if at <= word.column), len(columns))
        left_out, word.before = word.before[:count], word.before[count:]
        yield Node(node.rule, (*node.parts, Word("", left_out))) if left_out else node


def has_steps(table: Node) -> bool:
    """Whether a table has steps."""
    return any(isinstance(part, Node) and part.rule in STEPS for part in table.parts)


def _end(tree: Tree[Token]) -> int:
    return 0 if tree.meta.empty else tree.meta.end_pos
