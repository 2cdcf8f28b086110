"""The graph of a text model: exported once in a process of its own, then found in the cache.

That process, `python -m synthc.runtime.embedding.export`, is the only one to import torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from synthc.runtime.embedding.model_files import TextModel, read_text_model
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import (
    Progress,
    being_built,
    cache_folder,
    digest,
    read_json,
    write_json,
)

EXPORTER = 1  # counts the changes to how graphs are made: a graph of another number is made again
EXPORT_PACKAGES = ("onnx", "optimum", "optimum-onnx", "torch", "transformers")
SHOWN_LOG_LINES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """An exported text model: token ids and attention mask in, `embedding` (rows, dimensions) out.

    Where `pooling` is `none`, `embedding` is (rows, tokens, dimensions): a vector for each token.
    `digest` is that of the files that make the vectors; `card` is what card.json says of how and
    from what they were made. The other fields are those of TextModel.
    """

    path: Path
    tokenizer: Path
    pooling: str
    dimensions: int
    max_tokens: int
    position_limit: int | None
    pad_id: int
    lowercase: bool
    digest: str
    card: Mapping[str, Any]


def graph_for(
    model_folder: Path,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    cache: Path | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> Graph:
    """The graph of the model in a folder, from the cache or exported now (seconds to minutes).

    `pooling` and `normalize` are what the model's files say where they are None; `source` is how
    the user named the model. Raises RunError: no text model, no exporter installed, an export that
    fails, or one that does not give the vectors of the original.
    """
    cache = cache or cache_folder()
    source = source or str(model_folder)
    model = read_text_model(model_folder, pooling=pooling, normalize=normalize)
    model_digest = digest(model_folder, cache=cache)
    made_from = json.dumps([model_digest, model.pooling, model.normalize, EXPORTER])
    key = hashlib.sha256(made_from.encode()).hexdigest()[:32]
    target = cache / "graphs" / key
    graph = _cached(target, cache)
    if graph is not None:
        return graph
    _require_exporter(source)
    if progress:
        progress(0, None, f"exporting {source}")
    with being_built(target) as building:
        _export(model, building, source, log=cache / "logs" / f"export-{key}.log")
        names = sorted(file.name for file in building.iterdir() if file.name != "card.json")
        card = {
            "source": source,
            "model_digest": model_digest,
            **read_json(building / "card.json"),
            "files": {name: digest(building / name, cache=cache) for name in names},
        }
        write_json(building / "card.json", card)
    graph = _cached(target, cache)
    if graph is None:
        raise RunError(f"the graph in {target} changed while it was written", hint="run again")
    return graph


def _cached(folder: Path, cache: Path) -> Graph | None:
    """The graph in a folder of the cache; None where there is none whose files match its card."""
    card = read_json(folder / "card.json")
    files = card.get("files", {})
    try:
        sound = bool(files) and all(
            digest(folder / name, cache=cache) == sha256 for name, sha256 in files.items()
        )
    except OSError:
        return None
    if not sound:
        return None
    return Graph(
        path=folder / "model.onnx",
        tokenizer=folder / "tokenizer.json",
        pooling=card["pooling"],
        dimensions=card["dimensions"],
        max_tokens=card["max_tokens"],
        position_limit=card["position_limit"],
        pad_id=card["pad_id"],
        lowercase=card["lowercase"],
        digest=hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        card=card,
    )


def _require_exporter(source: str) -> None:
    """Ask what is installed, without importing it."""
    for package in EXPORT_PACKAGES:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError as error:
            raise RunError(
                f"`{source}` must be exported once, and {package} is not installed",
                hint="pip install 'synthc[export]'",
            ) from error


def _export(model: TextModel, folder: Path, source: str, *, log: Path) -> None:
    """Make the graph, its tokenizer and card.json in `folder`, in a process of its own."""
    wanted = {
        "folder": str(model.folder.absolute()),
        "pooling": model.pooling,
        "normalize": model.normalize,
        "max_tokens": model.max_tokens,
        "position_limit": model.position_limit,
        "pad_id": model.pad_id,
        "lowercase": model.lowercase,
    }
    # -P: a `torch.py` in the current folder is not torch.
    module = [sys.executable, "-P", "-m", "synthc.runtime.embedding.export"]
    # The model is here already: nothing may be fetched.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as noise:
        done = subprocess.run(
            [*module, json.dumps(wanted), str(folder.absolute())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=noise,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode == 0:
        return
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = "\n".join(f"  {line}" for line in said[-SHOWN_LOG_LINES:])
    raise RunError(
        f"`{source}` could not be exported (status {done.returncode}):\n{last}",
        hint=f"the whole log is {log}",
    )


if __name__ == "__main__":
    from synthc.runtime.embedding.torch_graph import export

    fields = json.loads(sys.argv[1])
    export(TextModel(**{**fields, "folder": Path(fields["folder"])}), Path(sys.argv[2]))
