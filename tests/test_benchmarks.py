"""Benchmarks that need a GPU run on the CPU too, where their figures mean nothing."""

from __future__ import annotations

import re

import pytest
from benchmarks import gpu_training


def test_the_gpu_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--device cpu --models resnet18 --precisions bf16-mixed --compile off --size 32 --batch 4 --steps 2"
    gpu_training.main([*words.split(), "--rounds", "1"])
    out = capsys.readouterr().out
    arms = re.findall(r"^(\w+) +([\d,]+) +[\d,]+ to [\d,]+ +– +[\d.]+%$", out, re.MULTILINE)
    assert [name for name, _ in arms] == ["synthetic", "timm", "memory", "folder", "convoy"]
    assert all(int(speed.replace(",", "")) > 0 for _, speed in arms)


def test_an_unknown_card_gets_no_other_cards_peak() -> None:
    assert gpu_training._peak("NVIDIA A100-SXM4-40GB") == 312e12
    assert gpu_training._peak("NVIDIA GeForce RTX 4090") is None
