"""Costs of candidates: predicted memory and measured latency."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Run

import convoy as package
from convoy.config.options import Options
from convoy.search.candidates import further_costs, refusal


def test_the_peak_memory_is_that_of_convoy_plan() -> None:
    words = ["model=lenet5", "data=digits", "logger=csv"]
    found = further_costs({"peak_memory", "params"}, "v100", words, Options())
    plan = package.plan(*words, "hardware=v100")
    assert found == {"peak_memory": plan.peak.reserved_bytes}


def test_a_network_with_more_work_has_a_higher_latency() -> None:
    words = ["data=digits", "logger=csv", "trainer.gpus=0"]
    layers = ("[CONV3-4,POOL4,FC-10]", "[CONV3-64,CONV3-64,CONV3-64,POOL4,FC-10]")
    small, large = (further_costs({"latency_ms"}, None, [*words, f"model.layers={one}"], Options()) for one in layers)
    assert 0 < small["latency_ms"] < large["latency_ms"]
    reason = refusal({"latency_ms": small["latency_ms"]}, [], large, Options())
    assert reason is not None
    assert reason.startswith("latency_ms ")


def test_peak_memory_needs_a_card(convoy: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "train: [logger=csv, hardware=cpu]\nspace: {seed: {int: [1, 9]}}\nobjectives: [peak_memory]\n"
    )
    done = convoy("search", "study=one.yaml", folder=None)
    assert done.code == 2
    assert "peak_memory needs a card; write hardware=<card>" in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", ["latency", "peak_memroy"])
def test_an_unknown_cost_is_answered_with_the_known_ones(convoy: Callable[..., Run], tmp_path: Path, name: str) -> None:
    (tmp_path / "one.yaml").write_text(f"space: {{seed: {{int: [1, 9]}}}}\nobjectives: [{name}]\n")
    done = convoy("search", "study=one.yaml", folder=None)
    assert done.code == 2
    assert "did you mean" in done.err
