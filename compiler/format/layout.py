"""Where the lines of a spec end: its nodes → a document.

Two rules hold everywhere. What somebody broke into lines is joined where it fits on JOINED columns, and
what somebody wrote on one line is broken only where it is longer than KEPT. A list that ends with a
comma, and a block that starts on a new line, stay broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from synthc.compiler.format.concrete import STEPS, Node, Part, Source, Word, first, has_steps, words
from synthc.compiler.format.doc import STEP, Choice, Doc, Guard, Line, Nest, Option

JOINED = 100
KEPT = 110
SPREAD = 5
"""The `=` of settings are aligned where no name needs more spaces than these."""

_NEW = Line(flat=None)
_CUT = Line(first=False, last=False)
"""Where a line ends only because it is long."""

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_NO_SPACE_BEFORE = frozenset([",", ")", "]", ":", ".", "..", "?"])
_NO_SPACE_AFTER = frozenset(["(", "[", ".", ".."])
_BESIDE = frozenset(["arguments", "parameters", "contract_details"])
"""Brackets that stand beside what they belong to."""

_APART = frozenset(["mutations", "task", "test"])
"""Declarations with an empty line before and after them, as tables with steps have."""


def layout(source: Source) -> Doc:
    """The document of a whole spec."""
    declarations = source.declarations
    docs: list[Doc] = []
    pads = _pads(declarations, "type_alias", 1, None)
    for number, (declaration, pad) in enumerate(zip(declarations, pads, strict=True)):
        if number:
            apart = _stands_apart(declarations[number - 1]) or _stands_apart(declaration)
            docs.append(Line(flat=None, apart=apart))
        is_type = declaration.rule == "type_alias"
        docs.append(_type_alias(declaration, pad) if is_type else _doc(declaration))
    return (*docs, _NEW, source.end)


def _stands_apart(node: Node) -> bool:
    return node.rule in _APART or (node.rule == "table" and has_steps(node))


def _doc(part: Part) -> Doc:
    if isinstance(part, Word):
        return part
    return _RULES.get(part.rule, _plain)(part)


def _plain(node: Node) -> Doc:
    return _spaced(node.parts, node.rule)


def _spaced(parts: Sequence[Part], rule: str = "") -> Doc:
    """Parts with spaces between them, where one belongs."""
    return _joined(parts, [_doc(part) for part in parts], rule)


def _joined(parts: Sequence[Part], docs: Sequence[Doc], rule: str = "") -> Doc:
    """The same, of their docs. A doc is made once: of brackets in brackets there are many options."""
    all_docs: list[Doc] = [*docs[:1]]
    for (left, right), doc in zip(pairwise(parts), docs[1:], strict=True):
        all_docs += [_space(left, right, rule), doc]
    return tuple(all_docs)


def _space(left: Part, right: Part, rule: str) -> str:
    if isinstance(right, Node):
        tight = right.rule in _BESIDE
    else:
        tight = right.text in _NO_SPACE_BEFORE or (right.text == "[" and rule == "list_type")
    return "" if tight or _text(left) in _NO_SPACE_AFTER else " "


def _text(part: Part) -> str:
    return part.text if isinstance(part, Word) else ""


def _nodes(parts: Sequence[Part]) -> list[Node]:
    return [part for part in parts if isinstance(part, Node)]


# What the author wrote


def _every(parts: Sequence[Part]) -> list[Word]:
    return [word for part in parts for word in words(part)]


def _on_one_line(parts: Sequence[Part]) -> bool:
    """Whether no line ends between the words of these parts."""
    return not any(word.newline for word in _every(parts)[1:])


def _kept(as_written: bool) -> int:
    """How long lines may be that stay as they are, or that are made."""
    return KEPT if as_written else JOINED


def _joinable(parts: Sequence[Part]) -> bool:
    """Whether no comment, and no comma at the end of a list, keeps these parts from one line."""
    every = _every(parts)
    commented = any(w.before for w in every[1:]) or any(w.after for w in every[:-1])
    ends = any(a.text == "," and b.text in _CLOSING.values() for a, b in pairwise(every))
    return not commented and not ends


def _long_text(parts: Sequence[Part]) -> bool:
    """Whether a string in them has several lines."""
    return any("\n" in word.text for word in _every(parts))


# Brackets and blocks


def _brackets(node: Node) -> Doc:
    """Something in brackets, with what stands before and behind them."""
    texts = [_text(part) for part in node.parts]
    start = next(at for at, text in enumerate(texts) if text in _CLOSING)
    end = texts.index(_CLOSING[texts[start]], start)
    head, tail = node.parts[:start], node.parts[end + 1 :]
    inside = _in_brackets(node.parts[start : end + 1])
    return (_spaced(head), inside, (" ", _spaced(tail)) if tail else ())


def _in_brackets(parts: Sequence[Part]) -> Doc:
    opening, *inside, closing = parts
    docs = [_doc(part) for part in inside]
    joinable = _joinable(parts)
    on_one_line: Doc = (first(opening), _joined(inside, docs), first(closing))
    if joinable and (not inside or (len(inside) == 1 and _rule(inside[0]) == "string")):
        return on_one_line  # to break these would help nobody
    each = Option(_broken(parts, docs, [True] * len(inside[::2])))
    if inside and _text(inside[-1]) == ",":
        return Choice((each,))
    as_written = _on_one_line(parts)
    rows = Option(_broken(parts, docs, _rows(inside)), _kept(not as_written))
    if not joinable or (not as_written and _long_text(inside)):
        return Choice((rows, each))
    return Choice((Option(on_one_line, _kept(as_written), flat=True), rows, each))


def _rows(inside: Sequence[Part]) -> list[bool]:
    """For each item, whether the author began a line with it, or with the comma before it."""
    breaks = [True] if inside else []
    for comma, item in zip(inside[1::2], inside[2::2], strict=True):
        breaks.append(first(comma).newline or first(item).newline)
    return breaks


def _broken(parts: Sequence[Part], inside: Sequence[Doc], breaks: Sequence[bool]) -> Doc:
    """Brackets whose items are on lines; `inside` are the docs of items and commas."""
    docs: list[Doc] = []
    for number, starts in enumerate(breaks):
        docs.append(Line(first=number > 0) if starts else " ")
        docs += inside[2 * number : 2 * number + 2]
    return (first(parts[0]), *_closed(docs, first(parts[-1])))


def _closed(docs: Sequence[Doc], closing: Word) -> tuple[Doc, ...]:
    """What stands between brackets, and the closing one; comments before that belong inside."""
    remarks: Doc = (Line(first=bool(docs)), Word("", closing.before)) if closing.before else ()
    return (Nest(STEP, (*docs, remarks)), _CUT, closing.bare())


def _block(parts: Sequence[Part], items: Sequence[Doc]) -> Doc:
    """A block with an item on each line. `parts` are its words, from bracket to bracket."""
    opening, closing = first(parts[0]), first(parts[-1])
    if not items and not closing.before and not opening.after:
        return (opening, closing)
    docs: list[Doc] = []
    for number, item in enumerate(items):
        docs += [Line(flat=None, first=number > 0, item=True), item]
    return (opening, *_closed(docs, closing))


def _split(node: Node) -> tuple[Doc, Sequence[Part]]:
    """What stands before a block, with a space; and the block."""
    start = [_text(part) for part in node.parts].index("{")
    return (_spaced(node.parts[:start]), " "), node.parts[start:]


def _settings(node: Node) -> Doc:
    """A block that may stand on one line, where it was written so."""
    head, block = _split(node)
    items = _nodes(block)
    docs = [_doc(item) for item in items]
    pads = _pads(items, "assignment", 0, SPREAD)
    broken = _block(block, [_padded(doc, pad) for doc, pad in zip(docs, pads, strict=True)])
    if not items or first(items[0]).newline or _long_text(block) or not _joinable(block):
        return (head, broken)
    on_one_line: Doc = (first(block[0]), " ", *_between(docs, "  "), " ", first(block[-1]))
    flat = Option(on_one_line, _kept(_on_one_line(block)), flat=True)
    return (head, Choice((flat, Option(broken))))


def _padded(doc: Doc, pad: int) -> Doc:
    """An assignment with more spaces behind its name."""
    return (doc[0], " " * pad, *doc[1:]) if isinstance(doc, tuple) else doc


def _between(docs: Sequence[Doc], separator: Doc) -> tuple[Doc, ...]:
    return tuple(part for doc in docs for part in (separator, doc))[1:]


def _pads(nodes: Sequence[Node], rule: str, name: int, spread: int | None) -> list[int]:
    """How many spaces make the names as long as those around them, on lines that follow directly.

    `name` is where the name stands in nodes of that rule. The others get none.
    """
    pads: list[int] = []
    run: list[int] = []
    for node in nodes:
        length = len(first(node.parts[name]).text) if node.rule == rule else None
        word = first(node)
        if length is None or word.blank or word.before or _too_far(run, length, spread):
            pads += _filled(run)
            run = []
        if length is None:
            pads.append(0)
        else:
            run.append(length)
    return pads + _filled(run)


def _too_far(run: Sequence[int], length: int, spread: int | None) -> bool:
    lengths = (min(run, default=length), length, max(run, default=length))
    return spread is not None and max(lengths) - min(lengths) > spread


def _filled(lengths: Sequence[int]) -> list[int]:
    return [max(lengths) - length for length in lengths]


# Declarations


def _type_alias(node: Node, pad: int) -> Doc:
    word, name, sign, *type_ = node.parts
    head: Doc = (first(word), " ", _doc(name), " " * (pad + 1), first(sign))
    if len(type_) == 1 and isinstance(type_[0], Node) and type_[0].rule == "choice":
        return _choices(head, type_[0])
    return (head, " ", _spaced(type_))


def _choices(head: Doc, node: Node) -> Doc:
    """`head a | b`, or each on its line with the bar first."""
    docs = [_doc(part) for part in node.parts]
    one_line = not any(word.newline for word in words(node))
    flat = Option((" ", _joined(node.parts, docs)), _kept(one_line), flat=True)
    if len(docs) == 1:
        return (head, flat.doc)
    start, *rest = docs
    lines: list[Doc] = [Nest(2 * STEP, (_CUT, start))]
    for bar, choice in zip(rest[::2], rest[1::2], strict=True):
        lines.append(Nest(STEP, (_CUT, bar, " ", choice)))
    return (head, Choice((flat, Option(tuple(lines)))))


def _table(node: Node) -> Doc:
    head = [part for part in node.parts if not _below(part)]
    steps: list[Doc] = []
    for part in node.parts[len(head) :]:
        steps += [_NEW, _doc(part)]
    return (_spaced(head), Nest(STEP, tuple(steps)))


def _below(part: Part) -> bool:
    """A step of a table, or the comments behind the last one."""
    return part.rule in STEPS if isinstance(part, Node) else not part.text


def _with_items(node: Node) -> Doc:
    """A task or a test."""
    head, block = _split(node)
    return (head, _block(block, [_item(part) for part in _nodes(block)]))


def _item(node: Node) -> Doc:
    """`in` of a task is filled up to the length of `out`."""
    if node.rule == "input":
        return (first(node), "  ", _spaced(node.parts[1:]))
    return _doc(node)


def _tags(node: Node) -> Doc:
    """Of tags that do not fit each stands on its line, below the first."""
    word, *inside = node.parts
    flat = Option((first(word), " ", _spaced(inside)), _kept(_on_one_line(inside)), flat=True)
    lines = [_doc(tag) if tag is inside[0] else (_CUT, _doc(tag)) for tag in inside[::2]]
    commas = [*inside[1::2], ()]
    below = [part for pair in zip(lines, commas, strict=True) for part in pair]
    return Choice((flat, Option((first(word), " ", Nest(len("tags "), tuple(below))))))


def _pairs(node: Node) -> Doc:
    """`given  a = 1  b = 2`, or each below the first."""
    word, *pairs = node.parts
    head: Doc = (first(word), " " * (len("expect ") - len(_text(word))))
    docs = [_doc(pair) for pair in pairs]
    if len(docs) == 1:
        return (head, docs[0])
    below = Option((head, Nest(len("expect "), _between(docs, Line()))))
    if not _joinable(pairs) or (_long_text(pairs) and not _on_one_line(pairs)):
        return Choice((below,))
    on_one_line: Doc = (head, *_between(docs, "  "))
    return Choice((Option(on_one_line, _kept(_on_one_line(pairs)), flat=True), below))


# What makes a column

_BREAKS_ITSELF = frozenset(["sample", "list", "record", "apply"])


def _produce(node: Node) -> Doc:
    """`let` and `out`."""
    word, target, sign, producer, *guard = node.parts
    head: Doc = (first(word), " ", _doc(target), " ", first(sign))
    return _made(head, producer, guard, after_sign=True)


def _next(word: Word, producer: Part) -> Doc:
    return _made(word, producer, (), after_sign=False)


def _made(head: Doc, producer: Part, guard: Sequence[Part], *, after_sign: bool) -> Doc:
    """What makes a column, behind its head.

    Where it does not fit, what may follow it stands below, or all of it stands on a line of its own.
    """
    core, options = _options(producer)
    docs = [*map(_doc, options), *((Guard(), _doc(part)) for part in guard)]
    if _rule(producer) == "repeat":
        return (head, *_between(["", core, *docs], " "))
    parts = [*options, *guard]
    written = (first(producer).newline, bool(parts) and first(parts[0]).newline)
    one_line = not any(word.newline for part in (producer, *guard) for word in words(part))
    joined: Doc = _between([core, *docs], " ")
    lower: Doc = (core, Nest(STEP, tuple((_CUT, doc) for doc in docs)))
    choices = [Option((" ", joined), _kept(one_line), flat=True)]
    if docs:
        choices.append(Option((" ", lower), _kept(written == (False, True))))
    soonest = -1
    if after_sign and _rule(producer) not in _BREAKS_ITSELF:
        soonest = len(choices)
        choices.append(Option(Nest(STEP, (_CUT, joined)), _kept(written == (True, False))))
        if docs:
            choices.append(Option(Nest(STEP, (_CUT, lower)), _kept(written == (True, True))))
    return (head, Choice((*choices, Option((" ", lower))), soonest))


def _rule(part: Part) -> str:
    return part.rule if isinstance(part, Node) else ""


def _options(producer: Part) -> tuple[Doc, Sequence[Part]]:
    """A producer without what may follow it, and that."""
    if isinstance(producer, Node) and producer.rule == "ask":
        return _spaced(producer.parts[:2]), producer.parts[2:]
    return _doc(producer), ()


def _sample(node: Node) -> Doc:
    word = first(node)
    if len(node.parts) == 1:
        return word
    draws = node.parts[1]
    assert isinstance(draws, Node)
    if draws.rule == "weighted_choices":
        return _choices(word, draws)
    *several, choices = draws.parts
    assert isinstance(choices, Node)
    return _choices((word, " ", _spaced(several)), choices)


def _repeat(node: Node) -> Doc:
    texts = [_text(part) for part in node.parts]
    start = texts.index("{")
    ends = texts.index("until") if "until" in texts[:start] else start
    head = _spaced(node.parts[:ends])
    until = node.parts[ends:start]
    last = texts.index("next")
    items = [_doc(part) for part in node.parts[start + 1 : last]]
    next_ = _next(first(node.parts[last]), node.parts[last + 1])
    block = _block(node.parts[start:], [*items, next_])
    if not until:
        return (head, " ", block)
    joined = Option((" ", _spaced(until)), _kept(not first(until[0]).newline), flat=True)
    cut = Option(Nest(2 * STEP, (_CUT, _spaced(until))))
    return (head, Choice((joined, cut)), " ", block)


_RULES: dict[str, Callable[[Node], Doc]] = {
    **dict.fromkeys(("backend", "embedder", "group", "mutations"), _settings),
    **dict.fromkeys(("parameters", "columns", "arguments", "contract_details", "file"), _brackets),
    **dict.fromkeys(("apply", "list", "record", "record_type"), _brackets),
    **dict.fromkeys(("task", "test"), _with_items),
    **dict.fromkeys(("let", "out"), _produce),
    **dict.fromkeys(("given", "reply", "expect", "expect_word"), _pairs),
    "table": _table,
    "tags": _tags,
    "sample": _sample,
    "repeat": _repeat,
}
"""The rules of the grammar whose parts stand on several lines, or at a distance."""
