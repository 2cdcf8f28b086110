from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lsp.client import Client

MODERN = {
    "general": {"positionEncodings": ["utf-16"]},
    "textDocument": {
        "completion": {"completionItem": {"snippetSupport": True}},
        "publishDiagnostics": {"relatedInformation": True, "codeDescriptionSupport": True},
    },
}


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Starts servers on the test's folder, and ends those that a test left running."""
    clients: list[Client] = []

    def start(capabilities: dict | None = None) -> Client:
        clients.append(Client(tmp_path, MODERN if capabilities is None else capabilities))
        return clients[-1]

    yield start
    for client in clients:
        client.process.kill()
        client.process.wait()
