"""Conversations: whether a value is one, and one that can be continued."""

from __future__ import annotations

from typing import Any

from synthc.runtime.backends.protocol import Message
from synthc.runtime.errors import RowFailed

ROLES = ("system", "user", "assistant", "tool")


def messages(value: Any, name: str) -> list[Message]:
    """The messages of a conversation. Raises RowFailed where the value is none; `name` says which."""
    if not isinstance(value, list | tuple):
        raise _broken(f"`{name}` is no list of messages")
    if not value:
        raise _broken(f"`{name}` has no messages")
    found: list[Message] = []
    for number, message in enumerate(value, 1):
        which = f"message {number} of `{name}`"
        if not isinstance(message, dict):
            raise _broken(f"{which} is no object with a role and its content")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            said = "no role" if role is None else f"the role {str(role)[:40]!r}"
            raise _broken(f"{which} has {said}: it must be one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise _broken(f"{which} has no text as its content")
        found.append(Message(role, content))
    return found


def unanswered(value: Any, name: str) -> list[Message]:
    """The messages of a conversation that waits for an answer: its last one is the user's."""
    found = messages(value, name)
    if found[-1].role != "user":
        raise _broken(
            f"the last message of `{name}` is of the role {found[-1].role!r}: only the user's can be answered"
        )
    return found


def _broken(detail: str) -> RowFailed:
    return RowFailed("chat", detail)
