"""Tables in the forms that trainers read without a line of glue: messages, preferences, pairs and triplets.

- `chat` has the column `messages`, a list of {role, content} that ends with the assistant's: for SFT.
- `preference` has `prompt`, `chosen` and `rejected`, as texts or as messages: for DPO and its kin.
- `embedding` has `anchor`, `positive` and maybe `negative`, in this order: for contrastive losses.

The columns are those that TRL (https://huggingface.co/docs/trl/dataset_formats) and
sentence-transformers (https://sbert.net/docs/sentence_transformer/dataset_overview.html) document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from synthc.compiler import types
from synthc.compiler.types import Field, ListOf, Record, Text, Type
from synthc.runtime.errors import RunError
from synthc.runtime.exports.files import Ask, all_of, columns_of

ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "chat": {
        "messages": ("messages",),
        "system": ("system", "system_prompt"),
        "user": ("user", "instruction", "question", "prompt"),
        "assistant": ("assistant", "answer", "response", "generation", "completion"),
    },
    "preference": {
        "system": ("system", "system_prompt"),
        "prompt": ("prompt", "instruction", "question"),
        "chosen": ("chosen",),
        "rejected": ("rejected",),
    },
    "embedding": {
        "anchor": ("anchor", "query", "user_query", "question", "input", "input_text", "S1"),
        "positive": ("positive", "positive_document", "answer", "label", "S2"),
        "negative": ("negative", "hard_negative_document", "misleading_label", "S3"),
    },
}
"""Of each form the roles that columns play in it, and the names of those that play one unasked."""

_SPEAKERS = ("system", "developer", "user", "assistant", "tool")
_MESSAGE = {Field("role", Text()), Field("content", Text())}


class WrongForm(RunError):
    """A form cannot be made of these columns (exit status 2)."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Shaped:
    """A query in a trainer's form, which column plays which role in it, and whether it has messages."""

    query: str
    taken: dict[str, str]
    has_messages: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """A column, or a part of one that is a record: how it is called, and as SQL."""

    name: str
    sql: str
    type: Type

    @property
    def is_chat(self) -> bool:
        match self.type:
            case ListOf(Record(fields)):
                return set(fields) >= _MESSAGE
            case _:
                return False

    @property
    def is_text(self) -> bool:
        match self.type:
            case Text():
                return True
            case types.Other(sql):
                return sql.startswith("ENUM")
            case _:
                return False


_Parts = Mapping[str, _Part]
_Faults = Sequence[tuple[str, str]]
"""What is wrong with a row, in words, and the SQL that is true of such a one."""


def shaped(
    ask: Ask, query: str, form: str, given: Mapping[str, str], *, conversational: bool = False
) -> Shaped:
    """The rows of a SELECT in one of the forms of ROLES.

    `given` says which column plays a role; `conversational` makes messages of a preference's texts.
    Raises RunError where a role has no column (WrongForm), or a row nothing for it.
    """
    for role in given:
        if role not in ROLES[form]:
            roles = ", ".join(ROLES[form])
            raise WrongForm(f"the form `{form}` has no role `{role}`", hint=f"it has: {roles}")
    columns = [
        _Part(column.name, types.quote(column.name), types.from_duckdb(column.type))
        for column in columns_of(ask, query)
    ]
    named = {role: _named(columns, role, name) for role, name in given.items()}
    match form:
        case "chat":
            parts, made, faults = _chat(columns, named)
        case "preference":
            parts, made, faults = _preference(columns, named, conversational)
        case _:
            parts, made, faults = _embedding(columns, named)
    _check(ask, query, faults)
    selected = ", ".join(f"{sql} AS {types.quote(name)}" for name, sql in made.items())
    messages = form == "chat" or conversational or any(part.is_chat for part in parts.values())
    return Shaped(
        f"SELECT {selected} FROM ({query}\n)",
        {role: part.name for role, part in parts.items()},
        messages or "system" in parts,
    )


# Which column plays which role


def _named(columns: Sequence[_Part], role: str, name: str) -> _Part:
    """A column by its name, or a part of a record: `g.answer`. Raises WrongForm where there is none."""
    found = next((column for column in columns if column.name.lower() == name.lower()), None)
    if found:
        return found
    first, *rest = name.split(".")
    found = next((column for column in columns if column.name.lower() == first.lower()), None)
    for part in rest:
        fields = found.type.fields if found and isinstance(found.type, Record) else ()
        field = next((f for f in fields if f.name.lower() == part.lower()), None)
        if found is None or field is None:
            break
        literal = field.name.replace("'", "''")
        found = _Part(
            f"{found.name}.{field.name}", f"struct_extract({found.sql}, '{literal}')", field.type
        )
    else:
        if found:
            return found
    raise WrongForm(
        f"there is no column `{name}` to be `{role}`", hint=f"there are: {_names_of(columns)}"
    )


def _names_of(columns: Sequence[_Part]) -> str:
    return ", ".join(column.name for column in columns)


def _usual(
    columns: Sequence[_Part],
    form: str,
    role: str,
    named: _Parts,
    fits: Callable[[_Part], bool] = lambda part: part.is_text,
) -> _Part | None:
    """The column that plays a role: the one that was named, else the one that is called like it."""
    if role in named:
        return named[role]
    own, *others = ROLES[form][role]
    by_name = {column.name: column for column in columns if fits(column)}
    if own in by_name:
        return by_name[own]
    found = [by_name[name] for name in others if name in by_name]
    if len(found) > 1:
        raise WrongForm(
            f"several columns could be `{role}`: {_names_of(found)}",
            hint=f"say which: --column {role}={found[0].name}",
        )
    return found[0] if found else None


def _needed(columns: Sequence[_Part], form: str, role: str, named: _Parts) -> _Part:
    either = _is_talk if form == "preference" else _is_text
    found = _usual(columns, form, role, named, either)
    if found is None:
        raise WrongForm(
            f"no column is `{role}`, which the form `{form}` needs (there are: {_names_of(columns)})",
            hint=f"say which: --column {role}=NAME",
        )
    if not either(found):
        wanted = "neither text nor a conversation" if form == "preference" else "no text"
        raise WrongForm(
            f"`{found.name}` is {wanted} and cannot be `{role}`: it is {types.name(found.type)}",
            hint="a query can make text of it, in the place of the table",
        )
    return found


def _is_text(part: _Part) -> bool:
    return part.is_text


def _is_talk(part: _Part) -> bool:
    return part.is_text or part.is_chat


def _system(columns: Sequence[_Part], form: str, named: _Parts) -> dict[str, _Part]:
    found = _usual(columns, form, "system", named)
    if found and not found.is_text:
        raise WrongForm(f"`{found.name}` is no text and cannot be `system`")
    return {"system": found} if found else {}


# The forms


def _chat(
    columns: Sequence[_Part], named: _Parts
) -> tuple[dict[str, _Part], dict[str, str], _Faults]:
    system = _system(columns, "chat", named)
    talk = None if "user" in named else _conversation(columns, named)
    if talk is None:
        user = _needed(columns, "chat", "user", named)
        assistant = _needed(columns, "chat", "assistant", named)
        parts = {**system, "user": user, "assistant": assistant}
        said = f"{_turns('user', user)} || {_turns('assistant', assistant)}"
        return parts, {"messages": _after(system, said)}, [_missing(user), _missing(assistant)]
    faults = [_missing(talk), *_broken(talk)]
    parts = {**system, "messages": talk}
    said = _messages(talk)
    if "assistant" in named:
        assistant = parts["assistant"] = _needed(columns, "chat", "assistant", named)
        said += f" || {_turns('assistant', assistant)}"
        faults += [_missing(assistant), _ends(talk, "assistant", "before the answer", wanted=False)]
    else:
        faults.append(_ends(talk, "assistant", "name its answer: --column assistant=NAME"))
    if system:
        faults.append(
            (f"`{talk.name}` has a system message of its own", f"{talk.sql}[1].role = 'system'")
        )
    return parts, {"messages": _after(system, said)}, faults


def _conversation(columns: Sequence[_Part], named: _Parts) -> _Part | None:
    """The column with the messages, if there is one: the one that is named or called so, or the only one."""
    found = named.get("messages")
    if found:
        if not found.is_chat:
            raise WrongForm(
                f"`{found.name}` is no conversation and cannot be `messages`: "
                f"it is {types.name(found.type)}",
                hint="a conversation is a list of {role: text, content: text}",
            )
        return found
    chats = [column for column in columns if column.is_chat]
    own = [column for column in chats if column.name == "messages"]
    if len(chats) > 1 and not own:
        raise WrongForm(
            f"several columns could be `messages`: {_names_of(chats)}",
            hint=f"say which: --column messages={chats[0].name}",
        )
    return next(iter(own or chats), None)


def _preference(
    columns: Sequence[_Part], named: _Parts, conversational: bool
) -> tuple[dict[str, _Part], dict[str, str], _Faults]:
    system = _system(columns, "preference", named)
    parts = {role: _needed(columns, "preference", role, named) for role in ("chosen", "rejected")}
    whole = all(part.is_chat for part in parts.values())
    # Two whole conversations have their prompt in common.
    if not whole or _usual(columns, "preference", "prompt", named, _is_talk):
        parts = {"prompt": _needed(columns, "preference", "prompt", named), **parts}
    faults: list[tuple[str, str]] = []
    for role, part in parts.items():
        faults.append(_missing(part))
        if part.is_chat:
            faults += _broken(part)
            faults.append(_ends(part, "assistant", "", wanted=role != "prompt"))
    if not (conversational or system or any(part.is_chat for part in parts.values())):
        return parts, {role: f"CAST({p.sql} AS VARCHAR)" for role, p in parts.items()}, faults
    made = {
        role: _messages(part)
        if part.is_chat
        else _turns("user" if role == "prompt" else "assistant", part)
        for role, part in parts.items()
    }
    for role in ("prompt",) if "prompt" in made else ("chosen", "rejected"):
        made[role] = _after(system, made[role])
    return {**system, **parts}, made, faults


def _embedding(
    columns: Sequence[_Part], named: _Parts
) -> tuple[dict[str, _Part], dict[str, str], _Faults]:
    parts = {role: _needed(columns, "embedding", role, named) for role in ("anchor", "positive")}
    if "negative" in named or _usual(columns, "embedding", "negative", named):
        parts["negative"] = _needed(columns, "embedding", "negative", named)
    made = {role: f"CAST({part.sql} AS VARCHAR)" for role, part in parts.items()}
    return parts, made, [_missing(part) for part in parts.values()]


# Messages in SQL


def _turns(role: str, part: _Part) -> str:
    return f"[{{'role': '{role}', 'content': CAST({part.sql} AS VARCHAR)}}]"


def _messages(part: _Part) -> str:
    turn = "{'role': turn.role, 'content': turn.content}"
    return f"list_transform({part.sql}, lambda turn: {turn})"


def _after(system: _Parts, said: str) -> str:
    """Messages after the system's, which is none in rows where it is null."""
    if not system:
        return said
    part = system["system"]
    return f"if({part.sql} IS NULL, [], {_turns('system', part)}) || {said}"


# What rows must have


def _missing(part: _Part) -> tuple[str, str]:
    return f"`{part.name}` is null", f"{part.sql} IS NULL"


def _broken(part: _Part) -> _Faults:
    speakers = ", ".join(f"'{name}'" for name in _SPEAKERS)
    odd = f"turn.content IS NULL OR coalesce(turn.role NOT IN ({speakers}), true)"
    return [
        (f"`{part.name}` has no message", f"len({part.sql}) = 0"),
        (
            f"`{part.name}` has a message without content, or of none of {', '.join(_SPEAKERS)}",
            f"len(list_filter({part.sql}, lambda turn: {odd})) > 0",
        ),
    ]


def _ends(part: _Part, role: str, advice: str, *, wanted: bool = True) -> tuple[str, str]:
    said = f"`{part.name}` {'does not end' if wanted else 'ends'} with a message of the {role}"
    return (
        f"{said} ({advice})" if advice else said,
        f"len({part.sql}) > 0 AND {part.sql}[-1].role {'<>' if wanted else '='} '{role}'",
    )


def _check(ask: Ask, query: str, faults: _Faults) -> None:
    """Raise RunError where a row could not be used: no trainer is told which rows are to be left out."""
    counts = ", ".join(f'count(*) FILTER ({sql}), min("·row") FILTER ({sql})' for _, sql in faults)
    numbered = f'SELECT *, row_number() OVER () AS "·row" FROM ({query}\n)'
    (found,) = all_of(ask, f"SELECT {counts} FROM ({numbered})")
    for (words, _), count, first in zip(faults, found[::2], found[1::2], strict=True):
        if count:
            where = f"in row {first}" if count == 1 else f"in {count} rows, first in row {first}"
            raise RunError(
                f"{words} {where}",
                hint="leave such rows out: by a query in the place of the table, or by a `where` in the spec",
            )
