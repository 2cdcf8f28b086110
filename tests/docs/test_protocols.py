"""The protocol that docs/protocols.md shows works, from its entry point to its columns."""

from __future__ import annotations

import tomllib
import traceback
from pathlib import Path
from typing import Any

import pytest

from synthc.compiler.compile import compile_text
from synthc.runtime.errors import RunError
from tests.docs.blocks import files
from tests.runtime.helpers import made, rows
from tests.runtime.loopback import Said, Sent, listening

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
KEY = "sk-very-secret"
MODULE, PROJECT, SPEC = "synthc_ollama.py", "pyproject.toml", "haiku.synth"


def install(folder: Path, module: str, entry_points: str, name: str = "synthc-ollama") -> None:
    """What pip leaves of a distribution: its module, and its metadata."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    (folder / MODULE).write_text(module)


def entry_points(project: str) -> str:
    """The entry points of a pyproject.toml, in the form that metadata has them."""
    groups = tomllib.loads(project)["project"]["entry-points"]
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups.items()
    )


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of the page, its package installed."""
    found = files(PAGE)
    install(tmp_path / "site", found[MODULE], entry_points(found[PROJECT]))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(__import__("sys").modules, "synthc_ollama", raising=False)
    return found


def ollama(sent: Sent) -> dict[str, Any]:
    """A reply as Ollama documents it."""
    topic = sent.body["messages"][-1]["content"].split(" on ")[1].split(".")[0]
    return {
        "model": "llama3.2",
        "created_at": "2026-11-21T10:00:00Z",
        "message": {
            "role": "assistant",
            "content": f'{{"haiku": "{topic} falls", "syllables": [5, 7, 5]}}',
            "thinking": f"Of {topic}.",
        },
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 26,
        "eval_count": 12,
    }


def test_the_shown_protocol_is_short_and_runs_the_shown_spec(
    tmp_path: Path, shown: dict[str, str]
) -> None:
    assert len(shown[MODULE].splitlines()) < 50
    with listening(ollama) as server:
        made(shown[SPEC], tmp_path, "", env={"OLLAMA_URL": server.url})
    found = rows(tmp_path, "SELECT topic, haiku, syllables, model_name FROM haikus ORDER BY topic")
    assert found == [
        ("rain", "rain falls", [5, 7, 5], "llama3.2"),
        ("snow", "snow falls", [5, 7, 5], "llama3.2"),
    ]
    calls = "SELECT reasoning, input_tokens, output_tokens, finish_reason FROM synth.calls"
    assert set(rows(tmp_path, calls)) == {
        ("Of rain.", 26, 12, "stop"),
        ("Of snow.", 26, 12, "stop"),
    }
    sent = server.requests[0]
    assert sent.path == "/api/chat"
    assert (sent.body["model"], sent.body["stream"]) == ("llama3.2", False)
    assert sent.body["options"] == {"seed": 7}
    assert set(sent.body["format"]["properties"]) == {"haiku", "syllables"}


def test_what_is_not_installed_is_refused_with_what_is(
    tmp_path: Path, shown: dict[str, str]
) -> None:
    wrong = shown[SPEC].replace('"ollama"', '"olama"')
    (problem,) = compile_text(wrong, "x.synth", tmp_path).problems
    assert problem.message() == (
        '`protocol` must be "openai" or "anthropic" or "ollama", and this is "olama"'
    )
    assert problem.help() == "did you mean `ollama`?"


def test_the_compiler_imports_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = files(PAGE)
    install(tmp_path / "site", "raise SystemExit", entry_points(found[PROJECT]))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert compile_text(found[SPEC], "x.synth", tmp_path).plan


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("import nowhere", "cannot be loaded from `synthc_ollama:Ollama`: ModuleNotFoundError"),
        ("Llama = 1", "cannot be loaded from `synthc_ollama:Ollama`: AttributeError"),
        ("Ollama = 1", "cannot be used: TypeError"),
    ],
)
def test_a_protocol_that_is_broken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, says: str
) -> None:
    found = files(PAGE)
    install(tmp_path / "site", module, entry_points(found[PROJECT]))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(__import__("sys").modules, "synthc_ollama", raising=False)
    with pytest.raises(RunError, match="backend `llama` speaks the protocol `ollama`") as error:
        made(found[SPEC], tmp_path, "")
    assert says in str(error.value)


def test_a_key_is_not_shown_where_a_protocol_trips_over_it(
    tmp_path: Path, shown: dict[str, str]
) -> None:
    module = tmp_path / "site" / MODULE
    module.write_text(shown[MODULE].replace('return {"auth', 'raise ValueError(api_key); {"auth'))
    spec = shown[SPEC].replace("seed     = 7", 'api_key = env("KEY")')
    with pytest.raises(RunError, match="cannot make its headers: ValueError") as error:
        made(spec, tmp_path, "", env={"KEY": KEY})
    assert KEY not in "".join(traceback.format_exception(error.value))


def test_a_protocol_that_two_packages_bring_is_nobodys(
    tmp_path: Path, shown: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "more", "", entry_points(shown[PROJECT]), "another-ollama")
    monkeypatch.syspath_prepend(tmp_path / "more")
    with pytest.raises(RunError, match="several packages bring: another-ollama, synthc-ollama"):
        made(shown[SPEC], tmp_path, "")


def test_what_a_protocol_did_not_expect_fails_the_call_and_not_the_program(
    tmp_path: Path, shown: dict[str, str]
) -> None:
    odd = Said({"message": {"role": "assistant"}})
    with listening(lambda _: odd) as server:
        made(shown[SPEC].replace("seed     = 7", "attempts = 2"), tmp_path, "", env={
            "OLLAMA_URL": server.url
        })  # fmt: skip
    failures = set(rows(tmp_path, "SELECT reason, detail FROM synth.failures"))
    said = "is not understood by the protocol `ollama`: KeyError: 'content' (2 attempts)"
    assert failures == {("bad_answer", said)}
