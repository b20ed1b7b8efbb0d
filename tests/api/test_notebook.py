"""The Python API in a real Jupyter kernel: tables, the progress bar, and the interruption of a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from tests.conftest import TINY, read_rows

LONG = [word for word in TINY if "max_epochs" not in word and "log_every" not in word]

CELLS = (
    f"import convoy\nwords = {LONG!r}",
    "run = convoy.train(*words, 'trainer.max_steps=40', 'trainer.log_every_steps=1')",
    "run",
    "convoy.ledger(run.network, (1, 32, 32))",
    "import os, pathlib, signal, threading, time\n"
    "def interrupt():  # as the front end does\n"
    "    metrics = pathlib.Path('long/metrics.csv')\n"
    "    while not metrics.is_file() or metrics.read_text().count('\\n') < 5:\n"
    "        time.sleep(0.05)\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "threading.Thread(target=interrupt, daemon=True).start()\n"
    "try:\n"
    "    convoy.train(*words, 'trainer.max_epochs=500', 'trainer.log_every_steps=1', 'folder=long')\n"
    "except KeyboardInterrupt:\n"
    "    print('interrupted')",
    "run = convoy.open_run('long')\nsteps = run.summary['steps']\nrun.state",
    "run.resume(f'trainer.max_steps={steps + 3}').summary['steps'] - steps",
)


def texts(outputs: list[Any], kind: str = "text/plain") -> list[str]:
    return [one["data"][kind] for one in outputs if kind in one.get("data", {})]


@pytest.mark.slow
def test_cells_of_a_notebook(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    trained, shown, ledger, interrupted, state, resumed = (cell["outputs"] for cell in notebook["cells"][1:])
    assert any("best at step" in text for text in texts(trained))
    assert sum("top-1" in text for text in texts(trained)) == 1
    assert "top-1" in next((tmp_path / "outputs").rglob("run.log")).read_text(encoding="utf-8")
    assert not any("<progress" in text for text in texts(trained, "text/html"))  # the bar is gone at the end
    assert not any(one.get("name") == "stderr" for cell in notebook["cells"] for one in cell["outputs"])
    assert "<td>finished</td>" in texts(shown, "text/html")[0]
    assert "<td>total</td>" in texts(ledger, "text/html")[0]
    assert any("interrupted" in one.get("text", "") for one in interrupted)
    assert any("to resume" in text for text in texts(interrupted))
    assert texts(state) == ["'stopped'"]
    assert texts(resumed)[-1] == "3"
    steps = [int(row["step"]) for row in read_rows(tmp_path / "long") if row["train/loss"]]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.slow
def test_the_bar_of_a_notebook_is_redrawn(tmp_path: Path) -> None:
    """Its messages are display_data and update_display_data with one id."""
    text = (
        "from convoy.records.progress_bars import NotebookBar\nbar = NotebookBar(10)\nbar.update(5, 'epoch 1/2', 'x')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = notebook["cells"][0]["outputs"]
    assert output["data"]["text/plain"] == "epoch 1/2  step 5/10  x"
    assert output["data"]["text/html"] == 'epoch 1/2 <progress value="5" max="10"></progress> x'
