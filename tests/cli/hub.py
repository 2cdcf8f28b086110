"""A server on the loopback that plays the Hugging Face Hub: one that takes datasets, and has them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_loopbackhunter2"


@dataclass(slots=True)
class Hub:
    """Its address, the files of each of its repositories, who may be read by all, what was asked of it.

    With a `refusal`, an HTTP status, it makes no commit.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    refusal: int | None = None


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub for as long as the block runs. It takes one token, and large files apart from the commit."""
    state = Hub()
    large: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._take()
            path = self.path.split("?")[0].removeprefix("/api/datasets/")
            name, _, rest = path.partition("/tree/")
            files = state.repositories.get(name)
            if files is None:
                self._say({"error": "Repository not found"}, 404)
            elif rest:
                tree = [
                    {"type": "file", "path": p, "size": len(d), "oid": "0"}
                    for p, d in files.items()
                ]
                self._say(tree)
            else:
                siblings = [{"rfilename": path} for path in files]
                self._say({"id": name, "sha": "0" * 40, "siblings": siblings, "tags": []})

        def do_PUT(self) -> None:
            body = self._take()
            large[self.path.removeprefix("/large/")] = body
            self._say({})

        def do_POST(self) -> None:
            body = self._take()
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                self._say({"error": "Invalid credentials in Authorization header"}, 401)
            elif self.path == "/api/repos/create":
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}"
                state.repositories[name] = {}
                if not wanted.get("private"):
                    state.public.add(name)
                self._say({"url": f"{state.url}/datasets/{name}", "name": name})
            elif self.path == "/api/validate-yaml":
                self._say({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                self._say({"files": [_mode(file["path"]) for file in files]})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {
                        **wanted,
                        "actions": {"upload": {"href": f"{state.url}/large/{wanted['oid']}"}},
                    }
                    for wanted in json.loads(body)["objects"]
                ]
                self._say({"transfer": "basic", "objects": objects})
            elif state.refusal:
                self._say({"error": "You may not do this"}, state.refusal)
            else:
                name = self.path.removeprefix("/api/datasets/").partition("/commit/")[0]
                for line in body.splitlines():
                    self._commit(state.repositories[name], json.loads(line))
                oid = {"commitOid": "1" * 40, "commitUrl": f"{state.url}/datasets/{name}/commit/1"}
                self._say({**oid, "pullRequestUrl": None})

        def _commit(self, files: dict[str, bytes], said: dict[str, Any]) -> None:
            value = said["value"]
            match said["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    data = large[value["oid"]]
                    assert hashlib.sha256(data).hexdigest() == value["oid"]
                    files[value["path"]] = data
                case "deletedFile":
                    del files[value["path"]]
                case _:  # what the commit is called
                    pass

        def _take(self) -> bytes:
            state.asked.append(f"{self.command} {self.path}")
            return self.rfile.read(int(self.headers.get("content-length", 0)))

        def _say(self, said: Any, status: int = 200) -> None:
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _mode(path: str) -> dict[str, object]:
    """How a file is to come: large ones by Git LFS, as .gitattributes says."""
    mode = "lfs" if path.endswith(".parquet") else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}
