"""A resumed run continues with what it found on its first machine, and reports what another machine lacks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.conftest import TINY, Run
from tests.training.test_resume import assert_equal_runs

from convoy.runtime import devices
from convoy.runtime.machine_record import Recorded, choose_again, described
from convoy.training import machine, preflight

Convoy = Callable[..., Run]
FREE = tuple(word for word in TINY if not word.startswith(("hardware", "trainer.precision")))
"""Threads and precision are chosen for the machine."""


def environment(folder: str = "run") -> dict[str, Any]:
    return dict(json.loads(Path(folder, "environment.json").read_text())["machine"])


def test_a_run_records_its_machine(convoy: Convoy) -> None:
    assert convoy("train", *FREE, "trainer.max_steps=2").code == 0
    found = environment()
    assert found["cpu_threads"] == torch.get_num_threads()
    assert (found["device"], found["gpus_per_node"], found["nodes"], found["world_size"]) == ("CPU", 0, 1, 1)
    assert found["precision"] == ("bf16-mixed" if devices.cpu_has_bf16() else "32")
    assert found["cudnn"]["deterministic"] is False
    assert {"allocator", "float32_matmul_precision"} <= set(found)
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["hardware"]["cpu_threads"] == found["cpu_threads"]
    assert config["trainer"]["precision"] == "auto"


@pytest.mark.slow
def test_a_run_begun_on_an_idle_machine_keeps_its_threads_on_a_busy_one(
    convoy: Convoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cores at the start, of which another process takes one before the resume."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(machine, "cores_of_others", lambda *_: 0)
    words = (*FREE, "trainer.precision=32", "scheduler=constant")
    assert convoy("train", *words, folder="whole").code == 0
    assert convoy("train", *words, "trainer.max_epochs=1").code == 0
    monkeypatch.setattr(machine, "cores_of_others", lambda *_: 1)
    resumed = convoy("train", "resume=run", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    assert environment()["cpu_threads"] == torch.get_num_threads() == 2
    assert_equal_runs(Path("whole"), Path("run"))


def test_threads_that_the_machine_lacks_are_kept_and_reported(convoy: Convoy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert convoy("train", *FREE, "hardware.cpu_threads=2", "trainer.max_steps=2").code == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    resumed = convoy("train", "resume=run", "trainer.max_steps=3")
    assert (
        "2 threads, as before, on 1 core; hardware.cpu_threads=1 is faster, and sums round differently" in resumed.out
    )
    assert environment()["cpu_threads"] == 2
    assert convoy("train", "resume=run", "trainer.max_steps=4", "hardware.cpu_threads=1").code == 0
    assert environment()["cpu_threads"] == 1


@pytest.mark.parametrize(("before", "now"), [(True, False), (False, True)])
def test_auto_does_not_change_the_precision_of_a_resumed_run(
    convoy: Convoy, monkeypatch: pytest.MonkeyPatch, before: bool, now: bool
) -> None:
    """A CPU with bfloat16 instructions, and one without them, which computes the same, only slower."""
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: before)
    assert convoy("train", *FREE, "trainer.max_steps=2").code == 0
    first = environment()
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: now)
    shutil.copytree("run", "other")
    resumed = convoy("train", "resume=run", "trainer.max_steps=3")
    assert resumed.code == 0, resumed.err
    assert environment() == first
    assert f"device  CPU, {'bf16-mixed' if before else '32-true'}" in resumed.out
    typed = convoy("train", "resume=other", "trainer.max_steps=3", "trainer.precision=32")
    assert environment("other")["precision"] == "32"
    assert ("this run was in bf16-mixed and resumes in 32: results differ" in typed.out) == before


RECORDED = Recorded("4 x NVIDIA A100", 4, 4, "bf16-mixed")


def cards(monkeypatch: pytest.MonkeyPatch, count: int, name: str, *, bf16: bool) -> None:
    """Let torch report so many GPUs; nothing runs on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    monkeypatch.setattr(devices, "_missing_kernels", lambda: None)


@pytest.mark.parametrize(
    ("count", "name", "bf16", "chosen", "notice"),
    [
        (4, "NVIDIA A100", True, (4, "bf16-mixed"), None),
        (8, "NVIDIA A100", True, (4, "bf16-mixed"), "4 x NVIDIA A100, as before; trainer.gpus=8 uses 8 x NVIDIA A100"),
        (4, "V100", False, (4, "16-mixed"), "this run was in bf16-mixed and resumes in 16-mixed: results differ"),
        (2, "NVIDIA A100", True, (2, "bf16-mixed"), "this run was on 4 x NVIDIA A100 (4 ranks) and resumes on 2 x NV"),
        (0, "", True, (1, "bf16-mixed"), "this run was on 4 x NVIDIA A100 (4 ranks) and resumes on CPU: sums round"),
    ],
    ids=["the same", "more GPUs", "no bfloat16", "fewer GPUs", "no GPU"],
)
def test_devices_are_chosen_again(
    monkeypatch: pytest.MonkeyPatch, count: int, name: str, bf16: bool, chosen: tuple[int, str], notice: str | None
) -> None:
    cards(monkeypatch, count, name, bf16=bf16)
    found, notices = choose_again(preflight.read([]), RECORDED, 0)
    assert (found.per_node, found.precision) == chosen
    if notice is None:
        assert not notices
    else:
        assert any(text.startswith(notice) for text in notices)


def test_a_run_on_the_cpu_resumes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, 1, "NVIDIA A100", bf16=True)
    recorded = Recorded("CPU", 0, 1, "32")
    config = preflight.read([])
    found, notices = choose_again(config, recorded, 0)
    assert (found.accelerator, found.precision) == ("cpu", "32-true")
    assert notices == ["CPU, as before; trainer.gpus=1 uses NVIDIA A100"]
    asked = replace(config, hardware=replace(config.hardware, accelerator="gpu"))
    assert choose_again(asked, recorded, 0)[0].accelerator == "cuda"


def test_a_record_survives_writing_and_reading() -> None:
    chosen = devices.choose(preflight.read(["trainer.gpus=0", "trainer.precision=32"]))
    record = json.loads(json.dumps(described(chosen, deterministic=True)))
    assert Recorded.of({"machine": record}) == Recorded("CPU", 0, 1, "32")
    assert Recorded.of({}) is None
