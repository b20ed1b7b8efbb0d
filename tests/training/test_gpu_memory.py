"""The micro batch that is chosen for a GPU, and what is told of its memory. CUDA's own counters are stood in for."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from packaging.version import Version

from convoy.config.faults import UserError
from convoy.config.schema import Config
from convoy.runtime.allocator_settings import use_allocator
from convoy.runtime.devices import Devices
from convoy.training import gpu_memory, preflight
from convoy.training.gpu_memory import Measured, PeakMemory, comparison, plan_on, sizes_for
from convoy.training.summary import memory_lines

GIB = 2**30
RESNET = ("model=resnet18", "data.image_size=224", "trainer.global_batch_size=512")


def read(*words: str) -> Config:
    return preflight.read([*RESNET, *words], to_run=False)


def card(number: int = 1, precision: str = "bf16-mixed") -> Devices:
    return Devices("cuda", number, 1, precision, "a card", 4)


@pytest.mark.slow
def test_auto_keeps_the_global_batch_and_leaves_the_margin() -> None:
    config = read("trainer.micro_batch_size=auto")
    sizes, told = sizes_for(config, card(), 3 * GIB)
    assert sizes.micro_batch_size * sizes.accumulation == sizes.global_batch_size == 512
    assert sizes.accumulation > 1
    assert told.startswith(f"micro batch: auto is {sizes.micro_batch_size} x {sizes.accumulation} accumulation steps, ")
    plan = plan_on(config, card(), 3 * GIB, margin=0.05)
    assert plan.device_total_bytes is not None
    assert plan.device_total_bytes <= 0.95 * 3 * GIB
    twice = plan_on(read(f"trainer.micro_batch_size={2 * sizes.micro_batch_size}"), card(), 3 * GIB, margin=0.05)
    assert twice.fits is False
    assert sizes_for(config, card(), 80 * GIB)[0].accumulation == 1
    assert sizes_for(config, card(2), 3 * GIB)[0].world_size == 2


def test_auto_on_the_cpu_is_the_whole_batch() -> None:
    cpu = Devices("cpu", 2, 1, "32-true", "CPU", 1)
    sizes, told = sizes_for(read("trainer.micro_batch_size=auto"), cpu)
    assert (sizes.micro_batch_size, sizes.accumulation) == (256, 1)
    assert "on the CPU" in told
    assert sizes_for(read("trainer.micro_batch_size=64"), cpu)[1] == ""


def test_a_missing_choice_has_a_remedy() -> None:
    with pytest.raises(UserError, match=r"finds none that fits into 0\.50 GiB"):
        sizes_for(read("trainer.micro_batch_size=auto"), card(), GIB // 2)


@pytest.mark.slow
def test_auto_with_compilation_is_predicted_without_it() -> None:
    plain, _ = sizes_for(read("trainer.micro_batch_size=auto"), card(), 4 * GIB)
    compiled, told = sizes_for(read("trainer.micro_batch_size=auto", "trainer.compile=true"), card(), 4 * GIB)
    assert compiled == plain
    assert told.endswith("predicted without trainer.compile")


@dataclass
class Counters:
    """What a GPU would tell."""

    told: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.told.append("reset")

    def read(self) -> Measured:
        self.told.append("read")
        return Measured(2 * GIB, 3 * GIB, 4 * GIB)


def test_the_peak_is_that_of_training_up_to_the_first_validation() -> None:
    counters = Counters()
    memory = PeakMemory(counters)
    start, later = SimpleNamespace(global_step=0), SimpleNamespace(global_step=9)
    memory.on_train_start(start, None)  # type: ignore[arg-type]
    memory.on_validation_start(later, None)  # type: ignore[arg-type]
    memory.on_train_end(later, None)  # type: ignore[arg-type]
    assert counters.told == ["reset", "read"]


def test_predicted_and_measured_values_are_listed_with_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_memory, "_total_bytes", lambda: 16 * GIB)
    config, measured = read(), Measured(2 * GIB, 3 * GIB, 4 * GIB)
    found = comparison(config, card(), measured)
    predicted = plan_on(config, card(), 16 * GIB)
    assert found["memory/allocated_predicted_bytes"] == predicted.peak.allocated_bytes
    error = 100 * (predicted.peak.allocated_bytes / (2 * GIB) - 1)
    assert found["memory/allocated_error_percent"] == pytest.approx(error, abs=0.005)
    lines = memory_lines(found)
    assert len(lines) == 4
    assert f"{predicted.peak.allocated_bytes / GIB:.2f} G" in lines[1]
    assert "memory/allocated_predicted_bytes" not in comparison(read("trainer.compile=true"), card(), measured)
    assert comparison(config, Devices("cpu", 1, 1, "32-true", "CPU", 1), measured) == {}
    assert memory_lines({}) == []


def test_the_allocators_settings_are_those_of_the_card_unless_the_user_has_set_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "x")  # so that it is put back, whatever happens to it here
        monkeypatch.delenv(name)
    use_allocator(read("hardware=auto").hardware)
    assert "PYTORCH_ALLOC_CONF" not in os.environ
    use_allocator(read("hardware=a100").hardware)
    name = "PYTORCH_ALLOC_CONF" if Version(torch.__version__) >= Version("2.9") else "PYTORCH_CUDA_ALLOC_CONF"
    assert os.environ[name] == "expandable_segments:True"
    # torch itself refuses a setting that it doesn't know, and warns of a name that is out of use.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import torch; torch.cuda.is_available()"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setenv(name, "backend:native")
    use_allocator(read("hardware=a100").hardware)
    assert os.environ[name] == "backend:native"
