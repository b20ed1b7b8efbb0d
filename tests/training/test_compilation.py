"""Tests of trainer.compile and of the choice that trainer.compile=auto makes."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run
from torch import nn

from convoy.config.batch import divide
from convoy.config.faults import UserError
from convoy.runtime.devices import Devices
from convoy.training.compilation import (
    MEASURED_PASSES,
    WARM_UP_PASSES,
    CompileChoice,
    check_compilation,
    compilation_seconds,
    compile_network,
)

CPU = Devices("cpu", 1, 1, "32-true", "CPU", 1)
CUDA = replace(CPU, accelerator="cuda")


class FakeTraining:
    """Passes of given durations of a callback's hooks; every micro batch is an optimizer step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, eager_s: float, compiled_s: float) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        self.durations = {False: eager_s, True: compiled_s}
        self.network = nn.Linear(2, 2)
        self.lines: list[str] = []
        self.trainer: Any = SimpleNamespace(
            global_step=0, accumulate_grad_batches=1, strategy=SimpleNamespace(broadcast=lambda value: value)
        )
        self.module = SimpleNamespace(network=self.network, device=torch.device("cpu"))

    @property
    def is_compiled(self) -> bool:
        return self.network._compiled_call_impl is not None

    def choice(self, total_steps: int | None) -> CompileChoice:
        return CompileChoice(total_steps, SimpleNamespace(say=self.lines.append))  # type: ignore[arg-type]

    def run(self, choice: CompileChoice, steps: int) -> None:
        choice.on_train_start(self.trainer, self.module)  # type: ignore[arg-type]
        for _ in range(steps):
            choice.on_train_batch_start(self.trainer, self.module, None, 0)
            self.now += self.durations[self.is_compiled]
            self.trainer.global_step += 1
            choice.on_train_batch_end(self.trainer, self.module, None, None, 0)


PROBE = WARM_UP_PASSES + MEASURED_PASSES


@pytest.mark.parametrize(("margin", "is_compiled"), [(1.01, True), (0.99, False)])
def test_auto_compiles_if_compilation_is_at_most_three_percent_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, margin: float, is_compiled: bool
) -> None:
    training = FakeTraining(monkeypatch, eager_s=0.1, compiled_s=0.05)
    rest = margin * compilation_seconds(training.network) / (0.03 * 0.1)
    training.run(training.choice(round(rest) + PROBE), PROBE)
    assert training.is_compiled is is_compiled


def test_auto_keeps_the_compiled_network_if_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    training = FakeTraining(monkeypatch, eager_s=1.0, compiled_s=0.8)
    training.run(training.choice(100_000), 2 * PROBE)
    assert training.is_compiled
    assert training.lines == ["compile: yes, a pass takes 800 ms compiled, 1e+03 ms before; compared for 20 s"]


def test_auto_returns_to_the_network_as_it_was_if_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    training = FakeTraining(monkeypatch, eager_s=1.0, compiled_s=1.1)
    training.run(training.choice(100_000), 2 * PROBE)
    assert not training.is_compiled
    assert torch.equal(training.network(torch.ones(2)), training.network.forward(torch.ones(2)))
    training.run(training.choice(None), PROBE)  # a run of unknown length
    assert not training.is_compiled


def test_a_resumed_run_keeps_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = FakeTraining(monkeypatch, eager_s=1.0, compiled_s=0.8)
    choice = first.choice(100_000)
    first.run(choice, 2 * PROBE)
    second = FakeTraining(monkeypatch, eager_s=1.0, compiled_s=0.8)
    again = second.choice(100_000)
    again.load_state_dict(choice.state_dict())
    second.run(again, 1)
    assert second.is_compiled
    assert second.lines == []


def test_a_machine_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    sizes = divide(8, None, 1)
    with pytest.raises(UserError, match=r"trainer\.compile=true: torch\.compile needs the C\+\+ compiler no-such"):
        check_compilation(True, CPU, sizes)
    assert check_compilation("auto", CPU, sizes).startswith("compile: auto is false, since torch.compile needs")
    assert check_compilation(False, CPU, sizes) == ""


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_cuda_graphs_are_refused_with_accumulation(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    # Neither Triton nor a compiler is needed to refuse a combination of settings, or to accept one.
    monkeypatch.setattr("convoy.training.compilation._missing", lambda _: "")
    with pytest.raises(UserError, match="accumulates 2"):
        check_compilation(mode, CUDA, divide(8, 4, 1))
    assert check_compilation(mode, CUDA, divide(8, 8, 1)) == ""
    assert check_compilation("max-autotune-no-cudagraphs", CUDA, divide(8, 4, 1)) == ""


def test_names_in_the_state_dict_stay_the_same() -> None:
    network = nn.Linear(2, 2)
    compile_network(network, "reduce-overhead")
    assert network._compiled_call_impl is not None
    assert list(network.state_dict()) == ["weight", "bias"]


@pytest.mark.slow
def test_a_compiled_run_has_the_losses_of_one_without(convoy: Any) -> None:
    # Without dropout, whose random numbers differ in compiled code.
    words = (*(word for word in TINY if "layers" not in word), "model.layers=[CONV3-8 bn,POOL4,FC-32 relu,FC-10]")
    runs: list[Run] = [
        convoy("train", *words, "trainer.max_steps=3", f"trainer.compile={setting}", folder=setting)
        for setting in ("false", "true", "auto")
    ]
    assert [run.code for run in runs] == [0, 0, 0], runs[1].err
    losses = [float(run.summary()["val/loss"]) for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == losses[0]  # three steps are too few to be compiled
