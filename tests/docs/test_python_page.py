"""The page of the Python interface, as a notebook that runs from its first cell to its last."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


class ThisPython(KernelSpecManager):
    """One kernel: the Python of the tests, whatever is installed for the user."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        del kernel_name
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        )


def test_a_notebook_of_the_page_runs_from_top_to_bottom(tmp_path: Path):
    for name in ("quickstart.synth", "topics.jsonl"):
        shutil.copy(ROOT / "specs" / "examples" / name, tmp_path)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    cells = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = AsyncKernelManager(kernel_spec_manager=ThisPython())
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, km=kernel, resources=resources, timeout=120).execute()
    shown = [cell.outputs[-1].data if cell.outputs else {} for cell in notebook.cells]
    plan, results, rows, counts, calls = shown
    assert "<svg" in plan["text/html"]
    assert "embedding FLOAT[384]" in plan["text/html"]
    assert ">pairs</td>" in results["text/html"]
    assert "varchar" in rows["text/plain"]
    assert rows["text/html"].count("<tr>") == 4
    assert len(rows["text/html"]) < 5_000  # DuckDB's own has each number of three vectors
    assert counts["text/plain"].startswith("[(")
    assert calls["text/plain"] == "[('write_pair.question', 8)]"
