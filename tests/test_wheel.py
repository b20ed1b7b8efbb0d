"""The wheel alone, as pip installs it: a notebook in an empty folder trains a network, shows its page and uses it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
PYTHON = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
TRAINING, SHOWING = (next(cell for cell in PYTHON if text in cell) for text in ("convoy.train(", "run.report()"))
CELLS = (
    "import convoy\nconvoy.__file__",
    f"{TRAINING}\nrun.state",
    f"{SHOWING}\n'<html' in run.report().read_text()",
    "import numpy as np\nrun.predict(np.zeros((8, 8), dtype=np.uint8), top=1)",
    "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-m', 'convoy', 'runs'], capture_output=True, text=True).stdout",
)


def results(cell: Any) -> list[str]:
    """Return the values that a cell returned, without its pictures and prints."""
    return [output["data"]["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]


@pytest.mark.slow
def test_a_notebook_with_the_wheel_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, site, empty = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    source.mkdir()
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--target={site}", str(source)], check=True)
    empty.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(site))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(empty)}}).execute()
    imported, state, is_page, predicted, listed = (results(cell)[-1] for cell in notebook.cells)
    assert str(site) in imported
    assert (state, is_page) == ("'finished'", "True")
    assert "'probability'" in predicted
    assert "lenet5" in listed
    assert [path.name for path in empty.iterdir()] == ["outputs"]
