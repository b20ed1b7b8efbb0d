"""Lessons in examples/notebooks: each is executed, and its figures are those of papers and of torchvision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import FASHION_MNIST

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
LESSONS = sorted(FOLDER.glob("*.ipynb"))
FIGURES = {
    "1_layers": ["8,396,800", "212,992", "208 parameters", "110592", "200704"],
    "2_vgg16": ["15,237,608", "73.3 MB", "138.36", "25.56", "3.50", "5.29"],
    "3_depth": ["plain56", "resnet56"],
    "4_memory": ["peak allocated", "p100"],
    "5_own_network": ["did you mean model.width?", "'report.html'", "'probability'"],
}


def text_of(notebook: Any) -> str:
    """Return what the cells printed and showed as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(str(one.get("text") or one.get("data", {}).get("text/plain", "")) for one in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs(lesson: Path, tmp_path: Path) -> None:
    if lesson.stem == "5_own_network" and not FASHION_MNIST.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    notebook = nbformat.read(lesson, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [one["text"] for one in outputs if one.get("name") == "stderr"] == []
    assert [figure for figure in FIGURES[lesson.stem] if figure not in text_of(notebook)] == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_shown_with_its_outputs(lesson: Path) -> None:
    notebook = nbformat.read(lesson, as_version=4)
    nbformat.validate(notebook)
    text = text_of(notebook)
    assert [figure for figure in FIGURES[lesson.stem] if figure not in text] == []
    assert not re.search(r"/(tmp|home|root|work)/", text), "paths of a machine"
    for cell in notebook.cells:
        for link in re.findall(r"\]\(([^)]+)\)", cell.source if cell.cell_type == "markdown" else ""):
            assert (FOLDER / link).is_file(), link
