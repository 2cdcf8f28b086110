"""Golden files: what a test made is compared with the file that was read and agreed on."""

from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the golden files that differ, and fail, so that the diff is read",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a golden file; with --update-golden write it, and fail where it changed."""

    def compare(path: Path, text: str) -> None:
        known = path.read_text(encoding="utf-8") if path.exists() else None
        if known != text and request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
            pytest.fail(f"{path.name} was rewritten: read the diff")
        assert known is not None, f"{path} is not there: run pytest --update-golden"
        assert text == known

    return compare
