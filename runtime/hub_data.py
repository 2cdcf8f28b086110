"""Datasets of the Hugging Face Hub, fetched through the `datasets` library into Parquet on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from synthc.compiler import plan
from synthc.runtime.errors import RunError


def fetch_data(path: str, token: str | None) -> tuple[Path, int]:
    """Fetch the rows of a dataset, as `plan.Read` names it, in the place of those that are there.

    Gives the file and the number of its rows. Raises RunError, in which the token does not stand.
    """
    try:
        import datasets
    except ImportError:
        raise RunError(
            "datasets of the Hub are fetched by the library `datasets`, which is not installed",
            hint="pip install 'synthc[hub]'",
        ) from None
    name, _, part = path.removeprefix(plan.DATASET).partition("#")
    repository, _, revision = name.partition("@")
    configuration, _, split = part.rpartition("/")
    target = plan.dataset_file(path)
    if Path(repository).exists():
        raise RunError(
            f"a folder `{repository}` is in the way: `datasets` would read it, and not the Hub",
            hint="fetch from another folder",
        )
    try:
        found = datasets.load_dataset(
            repository,
            configuration or None,
            split=split,
            revision=revision or None,
            token=token,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
            made = Path(scratch) / "data.parquet"
            found.to_parquet(os.fspath(made))
            made.replace(target)
    except Exception as error:  # noqa: BLE001 - whatever the library and what it calls raise
        said = " ".join(str(error).split())
        said = said.replace(token, "…") if token else said
        raise RunError(
            f"the dataset {path} cannot be fetched: {said[:300]}",
            hint="private and gated ones need a token in HF_TOKEN",
        ) from None
    return target, len(found)
