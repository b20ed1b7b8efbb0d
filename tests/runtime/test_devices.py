"""Precision that trainer.precision=auto selects on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from convoy.runtime import devices
from convoy.training import preflight

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
