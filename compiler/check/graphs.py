"""Whether the graphs that embedders name fit them, where their files are there to be looked into."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from synthc.compiler import ast, graphs, plan
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span

Report = Callable[[Problem], None]

_PIN = re.compile(r"@sha256:[0-9a-fA-F]{64}$")


def check_graphs(
    nodes: Mapping[str, ast.Embedder],
    embedders: Mapping[str, plan.Embedder | None],
    base: Path,
    report: Report,
) -> dict[str, graphs.Fit]:
    """How embedders use their graphs, by name: of those that name a file on this machine.

    A graph that does not fit is reported. `base` is the folder that paths start from.
    """
    found: dict[str, graphs.Fit] = {}
    for name, embedder in embedders.items():
        path = _path(embedder, base) if embedder else None
        if embedder is None or path is None:
            continue
        fit = _fit(embedder, path)
        if isinstance(fit, graphs.Fit):
            found[name] = fit
        elif fit is not None:
            span = _place(nodes[name], fit.setting)
            shown = _PIN.sub("", str(embedder.model))
            report(
                problems.GraphDoesNotFit(
                    span=span, path=shown, reason=fit.reason, advice=fit.advice
                )
            )
    return found


def _path(embedder: plan.Embedder, base: Path) -> Path | None:
    """Where the model is, if it is on this machine and nothing in the environment says where."""
    if not isinstance(embedder.model, str) or embedder.url is not None:
        return None
    plain = _PIN.sub("", embedder.model)
    if plain.startswith(("hf:", "pypi:")) or not plain.strip():
        return None
    try:
        path = base / Path(plain).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):  # too long a name, or the home of somebody who is not there
        return None


def _fit(embedder: plan.Embedder, path: Path) -> graphs.Fit | graphs.Misfit | None:
    """How a graph is used, or why it cannot be; None where the model is none that was made elsewhere."""
    if embedder.input == "text" and not graphs.made_elsewhere(path):
        return graphs.alone(path)
    if embedder.input not in ("text", "vector"):
        return None
    file = graphs.file_of(path)
    if isinstance(file, graphs.Misfit):
        return file
    try:
        graph = graphs.read(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return graphs.Misfit("model", f"cannot be read: {reason}")
    fits = graphs.fit_texts if embedder.input == "text" else graphs.fit_numbers
    return fits(embedder, graph)


def _place(node: ast.Embedder, setting: str) -> Span:
    """The setting that is wrong; that of the model where it does not stand there."""
    settings = {s.name.text: s for s in node.settings}
    return (settings.get(setting) or settings["model"]).span
