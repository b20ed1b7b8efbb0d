"""Runs of W&B sweeps, started by W&B's agent with the arguments that it builds."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import yaml
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[2]
SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "wandb_sweep.yaml").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["${args_no_hyphens}", "${args}"])
def test_a_run_has_the_values_and_the_id_of_the_agent(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.wandb_agent import Agent

    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name, value in {"WANDB_SWEEP_ID": "ab12cd34", "WANDB_MODE": "offline", "WANDB_API_KEY": "x" * 40}.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # the agent sets them in this process
    agent = Agent(None, Queue())
    small = [word for word in TINY if word != "logger=csv"]
    before = [word for word in SWEEP["command"] if word.startswith("$") and "args" not in word]
    agent._sweep_command = [*before, *small, "trainer.max_epochs=1", "folder=run", "report=false", arguments]
    values = {"optimizer.lr": 0.0625, "model": "lenet5", "trainer.test": False, "tags": ["a", "b"]}
    given = {key: {"value": value} for key, value in values.items()}
    agent._command_run({"run_id": "q1w2e3r4", "program": str(ROOT / SWEEP["program"]), "args": given})
    assert agent._run_processes["q1w2e3r4"].wait() == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == 0.0625
    assert config["tags"] == ["a", "b"]
    assert config["trainer"]["test"] is False
    assert (tmp_path / "run" / "wandb_id.txt").read_text().strip() == "q1w2e3r4"
    (record,) = (tmp_path / "run").glob("wandb/offline-run-*")
    assert record.name.endswith("-q1w2e3r4")


def test_the_example_monitors_a_metric_of_convoy() -> None:
    assert SWEEP["metric"] == {"name": "val/top1", "goal": "maximize"}
    assert SWEEP["command"][:3] == ["${env}", "${interpreter}", "${program}"]
