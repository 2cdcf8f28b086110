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
COMMIT = "1" * 40


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

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            self._take()
            path = self.path.split("?")[0]
            if "/resolve/" in path:
                name, _, rest = path.removeprefix("/datasets/").partition("/resolve/")
                self._send(state.repositories.get(name, {}).get(rest.partition("/")[2]))
                return
            name, _, rest = path.removeprefix("/api/datasets/").partition("/tree/")
            name = name.partition("/revision/")[0]
            files = state.repositories.get(name)
            if files is None:
                self._say({"error": "Repository not found"}, 404)
            elif rest:
                self._say(_tree(files, rest.partition("/")[2], "recursive=True" in self.path))
            else:
                siblings = [{"rfilename": path} for path in files]
                self._say({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []})

        def _send(self, data: bytes | None) -> None:
            if data is None:
                self._say({"error": "Entry not found"}, 404, "EntryNotFound")
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

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
            elif "/paths-info/" in self.path:
                name = self.path.removeprefix("/api/datasets/").partition("/paths-info/")[0]
                paths = json.loads(body)["paths"]
                files = state.repositories[name]
                self._say([_file(path, files[path]) for path in paths if path in files])
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
                oid = {"commitOid": COMMIT, "commitUrl": f"{state.url}/datasets/{name}/commit/1"}
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

        def _say(self, said: Any, status: int = 200, code: str = "RepoNotFound") -> None:
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 404:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
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


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    """What lies in a folder: files, and folders unless all that is in them is told."""
    start = f"{folder}/" if folder else ""
    inside = {path: data for path, data in files.items() if path.startswith(start)}
    deeper = {path for path in inside if "/" in path[len(start) :]}
    if recursive:
        return [_file(path, data) for path, data in inside.items()]
    folders = sorted({start + path[len(start) :].partition("/")[0] for path in deeper})
    direct = [_file(path, data) for path, data in inside.items() if path not in deeper]
    return [*direct, *({"type": "directory", "path": path, "oid": "0"} for path in folders)]


def _file(path: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _mode(path: str) -> dict[str, object]:
    """How a file is to come: large ones by Git LFS, as .gitattributes says."""
    mode = "lfs" if path.endswith(".parquet") else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}
