"""A small client of the Language Server Protocol, over the pipes of a real `synthc lsp`."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SYNTHC = str(Path(sys.executable).with_name("synthc"))
WAIT = 20.0
"""Seconds after which a test fails that waits for the server."""


class Client:
    """Speaks to a server process; what it says of itself are `capabilities`."""

    def __init__(self, folder: Path, capabilities: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [SYNTHC, "lsp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ.copy(),
        )
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.number = 0
        self.versions: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        root = folder.as_uri()
        started = self.request(
            "initialize",
            {"processId": os.getpid(), "rootUri": root, "capabilities": capabilities or {}},
        )
        self.capabilities = started["capabilities"]
        self.notify("initialized", {})

    def _read(self) -> None:
        out = self.process.stdout
        assert out
        while line := out.readline():
            length = 0
            while line.strip():
                name, _, value = line.decode().partition(":")
                if name.lower() == "content-length":
                    length = int(value)
                line = out.readline()
            self.messages.put(json.loads(out.read(length)))
        self.messages.put({"end": True})

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin
        self.process.stdin.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.process.stdin.flush()

    def notify(self, method: str, params: Any) -> None:
        self._write({"method": method, "params": params})

    def answer(self, method: str, params: Any) -> dict[str, Any]:
        """The whole answer to a request; what comes before it is kept for later."""
        self.number += 1
        self._write({"id": self.number, "method": method, "params": params})
        kept: list[dict[str, Any]] = []
        while True:
            message = self.messages.get(timeout=WAIT)
            assert "end" not in message, "the server ended"
            if message.get("id") == self.number and "method" not in message:
                break
            kept.append(message)
        for one in kept:
            self.messages.put(one)
        return message

    def request(self, method: str, params: Any) -> Any:
        answer = self.answer(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    # Documents

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def open(self, name: str, text: str | None = None) -> list[dict[str, Any]]:
        """Open a file, with another text than it has if one is given: its problems."""
        self.texts[name] = (self.folder / name).read_text() if text is None else text
        self.versions[name] = 1
        document = {"uri": self.uri(name), "languageId": "synth", "version": 1}
        self.notify(
            "textDocument/didOpen", {"textDocument": {**document, "text": self.texts[name]}}
        )
        return self.problems(name)

    def type(self, name: str, text: str) -> list[dict[str, Any]]:
        """Give a file another text: its problems, once that text was looked at."""
        self.send(name, text)
        return self.problems(name)

    def comes_to(self, name: str, codes: list[str]) -> list[dict[str, Any]]:
        """The problems of a file, as soon as they are these: a long spec is looked at twice."""
        while True:
            found = self.problems(name)
            if [problem["code"] for problem in found] == codes:
                return found

    def send(self, name: str, text: str) -> None:
        self.texts[name] = text
        self.versions[name] += 1
        document = {"uri": self.uri(name), "version": self.versions[name]}
        changes = [{"text": text}]
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def shut(self, name: str) -> list[dict[str, Any]]:
        """Close a file: the problems that are left of it."""
        self.notify("textDocument/didClose", {"textDocument": {"uri": self.uri(name)}})
        while True:
            message = self.messages.get(timeout=WAIT)
            assert "end" not in message, "the server ended"
            said = message.get("params", {})
            if said.get("uri") == self.uri(name) and "version" not in said:
                return said["diagnostics"]

    def problems(self, name: str) -> list[dict[str, Any]]:
        """What is wrong with the newest text of a file."""
        kept: list[dict[str, Any]] = []
        while True:
            message = self.messages.get(timeout=WAIT)
            assert "end" not in message, "the server ended"
            said = message.get("params", {})
            shown = message.get("method") == "textDocument/publishDiagnostics"
            if shown and said["uri"] != self.uri(name):
                kept.append(message)
            elif shown and said.get("version") == self.versions[name]:
                break
        for one in kept:
            self.messages.put(one)
        return said["diagnostics"]

    def at(self, name: str, mark: str, shift: int = 0, encoding: str = "utf-16") -> dict[str, Any]:
        """The parameters of a request about the place behind a mark of a file's text."""
        text = self.texts[name]
        assert text.count(mark) == 1, f"{mark!r} stands {text.count(mark)} times"
        before = text[: text.index(mark) + len(mark) + shift]
        line = before.rsplit("\n", 1)[-1]
        width = 2 if encoding == "utf-16" else 1
        codec = "utf-16-le" if encoding == "utf-16" else encoding
        place = {"line": before.count("\n"), "character": len(line.encode(codec)) // width}
        return {"textDocument": {"uri": self.uri(name)}, "position": place}

    def labels(self, name: str, mark: str) -> list[str]:
        """What is offered behind a mark."""
        items = self.request("textDocument/completion", self.at(name, mark))["items"]
        return [item["label"] for item in items]

    def hover(self, name: str, mark: str) -> str:
        shown = self.request("textDocument/hover", self.at(name, mark))
        return shown["contents"]["value"] if shown else ""

    def close(self) -> int:
        """Shut the server down: its exit status."""
        self.request("shutdown", None)
        self.notify("exit", None)
        return self.process.wait(WAIT)
