"""Devices and precision that a config selects on a machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convoy.config.faults import UserError
from convoy.runtime import devices
from convoy.runtime.machine_record import Recorded, described
from convoy.training import preflight
from convoy.training.machine import choose_machine

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="the CPU's flags are read from Linux's /proc/cpuinfo")
def test_bfloat16_support_is_detected_from_cpu_flags() -> None:
    flags = next(line for line in CPUINFO.read_text().splitlines() if line.startswith(("flags", "Features"))).split()
    assert devices.cpu_has_bf16() == ("avx512_bf16" in flags or "amx_tile" in flags)


@pytest.mark.parametrize(
    ("has", "words", "precision"),
    [
        (True, (), "bf16-mixed"),
        (False, (), "32-true"),
        (True, ("hardware=cpu",), "bf16-mixed"),
        (True, ("trainer.precision=32",), "32-true"),
        (False, ("trainer.precision=bf16-mixed",), "bf16-mixed"),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_with_bfloat16(
    has: bool, words: tuple[str, ...], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: has)
    assert devices.choose(preflight.read(["trainer.gpus=0", *words])).precision == precision


@pytest.fixture
def torch_settings() -> Iterator[None]:
    """Restore the global settings of torch after a test."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])
    torch.backends.cudnn.allow_tf32 = before[2]


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.usefixtures("torch_settings")
def test_tf32_applies_to_matrix_products_and_convolutions(tf32: bool) -> None:
    config = preflight.read([f"trainer.tf32={str(tf32).lower()}"])
    gpu = replace(devices.choose(config), accelerator="cuda")
    devices.configure_torch(gpu, tf32=config.trainer.tf32)
    assert torch.backends.cuda.matmul.allow_tf32 is tf32
    assert torch.backends.cudnn.allow_tf32 is tf32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("torch_settings")
def test_without_tf32_a_gpu_rounds_like_float32() -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("TF32 needs a GPU from Ampere on")
    matrix = torch.randn(512, 512, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).cuda()
    errors = []
    for tf32 in (False, True):
        config = preflight.read([])
        devices.configure_torch(devices.choose(config), tf32=tf32)
        errors.append(float(((matrix.float() @ matrix.float()).double() - matrix @ matrix).abs().max()))
    # The mantissas have 23 and 10 bits.
    assert errors[0] * 100 < errors[1]


def test_synchronized_batch_norm_is_refused_on_several_cpu_processes() -> None:
    config = preflight.read(["trainer.gpus=0", "trainer.processes=2", "trainer.sync_batchnorm=true"])
    with pytest.raises(UserError, match=r"trainer\.sync_batchnorm=true: torch\.nn\.SyncBatchNorm runs on GPUs only"):
        choose_machine(config)


@pytest.mark.usefixtures("torch_settings")
def test_synchronized_batch_norm_changes_nothing_on_one_process() -> None:
    assert choose_machine(preflight.read(["trainer.gpus=0", "trainer.sync_batchnorm=true"])).devices.world_size == 1


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch reports on an Apple silicon Mac with macOS 13."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) <= (13, 6))


@pytest.mark.usefixtures("mac", "torch_settings")
def test_an_apple_gpu_is_used_in_float32_and_without_channels_last() -> None:
    machine = choose_machine(preflight.read([]))
    assert (machine.devices.accelerator, machine.devices.name) == ("mps", "Apple GPU")
    assert (machine.devices.precision, machine.devices.world_size) == ("32-true", 1)
    assert machine.config.trainer.channels_last is False
    assert any("channels_last" in notice for notice in machine.notices)
    assert Recorded.of({"machine": described(machine.devices, deterministic=False)}).gpus == 1


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize("words", ["hardware=cpu", "trainer.gpus=0"])
def test_the_cpu_of_a_mac_can_be_chosen(words: str) -> None:
    assert devices.choose(preflight.read([words])).accelerator == "cpu"


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("trainer.precision=16-mixed", "needs an NVIDIA GPU"),
        ("trainer.precision=bf16-mixed", "macOS before 14"),
        ("trainer.gpus=2", "this machine has 1 GPU"),
    ],
)
def test_what_an_apple_gpu_lacks_is_refused(words: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        devices.choose(preflight.read([words]))
