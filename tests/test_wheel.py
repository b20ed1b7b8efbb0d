"""The wheel alone, as pip installs it: a notebook in an empty folder trains a network, shows its page and uses it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
CELLS = (
    "import convoy\nconvoy.__file__",
    "run = convoy.train('model=lenet5', 'data=digits', 'trainer.max_epochs=2', 'logger=csv')\nrun.state",
    "page = run.report()\n'<html' in page.read_text()",
    "import numpy as np\nrun.predict(np.zeros((8, 8), dtype=np.uint8), top=1)",
    "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-m', 'convoy', 'runs'], capture_output=True, text=True).stdout",
)


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
    imported, state, is_page, predicted, listed = (cell.outputs[-1]["data"]["text/plain"] for cell in notebook.cells)
    assert str(site) in imported
    assert (state, is_page) == ("'finished'", "True")
    assert "'probability'" in predicted
    assert "lenet5" in listed
    assert [path.name for path in empty.iterdir()] == ["outputs"]
