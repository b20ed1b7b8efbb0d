"""Several runs as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.optimize import minimize
from tests.conftest import TINY, Run

from convoy.evaluation.ensemble import best_weights

Convoy = Callable[..., Run]


@pytest.fixture
def three(convoy: Convoy) -> str:
    """Three runs of different seeds and lengths."""
    for seed in (1, 2, 3):
        done = convoy(
            "train", *TINY, f"seed={seed}", f"trainer.max_steps={8 * seed}", "trainer.test=false", folder=f"r{seed}"
        )
        assert done.code == 0, done.err
    return "runs=[r1,r2,r3]"


def test_the_table_lists_each_run_and_the_ensemble(convoy: Convoy, three: str) -> None:
    found = json.loads(convoy("evaluate", three, "format=json", folder=None).out)
    for index, member in enumerate(found["runs"], start=1):
        assert member["weight"] == pytest.approx(1 / 3)
        alone = convoy("evaluate", f"run=r{index}", folder=None)
        assert alone.code == 0
        record = json.loads(Path(f"r{index}/evaluation-digits-test.json").read_text())
        assert member["top1"] == pytest.approx(record["test/top1"], abs=1e-6)
        assert member["loss"] == pytest.approx(record["test/loss"], rel=1e-4)
    # The logarithm is concave: the mean of probabilities has at most the mean of the losses (Jensen).
    assert found["ensemble"]["loss"] <= sum(member["loss"] for member in found["runs"]) / 3
    table = convoy("evaluate", three, "weights=val", "split=val", folder=None).out
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["r1", "r2", "r3", "ensemble"]
    learned = json.loads(convoy("evaluate", three, "weights=val", "split=val", "format=json", folder=None).out)
    equal = json.loads(convoy("evaluate", three, "split=val", "format=json", folder=None).out)
    assert sum(member["weight"] for member in learned["runs"]) == pytest.approx(1)
    assert learned["ensemble"]["loss"] <= equal["ensemble"]["loss"] + 1e-9


def test_the_weights_equal_those_found_by_scipy() -> None:
    torch.manual_seed(3)
    logits = torch.randn(3, 400, 5, dtype=torch.float64)
    labels = torch.randint(0, 5, (400,))
    logits[0, torch.arange(400), labels] += 1.5
    logits[1, torch.arange(400), labels] += 1.0
    probabilities = logits.softmax(-1)
    of_label = probabilities[:, torch.arange(400), labels].numpy()

    def loss(free: list[float]) -> float:
        weights = torch.tensor([*free, 0.0]).softmax(0).double().numpy()
        return float(-torch.from_numpy(weights @ of_label).log().mean())

    reference = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12})
    expected = torch.tensor([*reference.x, 0.0]).softmax(0)
    assert best_weights(torch.from_numpy(of_label)).tolist() == pytest.approx(expected.tolist(), abs=2e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("runs=[r1]",), "write runs=[a,b,c], or run=… for one"),
        (("runs=[r1,r9]",), "runs=r1: no such run"),
        (("runs=[r1,r1]",), "runs=r1,r1: contains a run twice"),
        (("run=[r1,r2]",), "write runs=[r1,r2]"),
        (("run=r1", "weights=val"), "weights=val: needs several runs"),
        (("run=r1", "format=json"), "evaluation-<data>-<split>.json"),
        (("run=r1", "chekpoint=last"), "did you mean checkpoint?"),
        (("runs=[r1,r2]", "weights=vla"), "did you mean val?"),
        (("runs=[r1,r2]", "run=r1"), "can't be combined with runs"),
        (("runs=[r1,r2]", "format=jsn"), "did you mean json?"),
        (("runs=[r1,r2]", "split=tset"), "did you mean test?"),
    ],
)
def test_a_mistake_ends_in_one_message(convoy: Convoy, words: tuple[str, ...], said: str) -> None:
    done = convoy("evaluate", *words, folder=None)
    assert done.code == 2
    assert said in done.err


def test_runs_of_different_sets_are_refused(convoy: Convoy) -> None:
    words = ("trainer.max_steps=2", "trainer.test=false")
    assert convoy("train", *TINY, *words, folder="r1").code == 0
    assert convoy("train", *TINY, *words, "data.name=other", folder="r2").code == 0
    done = convoy("evaluate", "runs=[r1,r2]", folder=None)
    assert done.code == 2
    assert "must have the same images and classes (r1: digits, r2: other)" in done.err
