"""Which compiled targets run on which card, by the rules of the CUDA C++ Programming Guide."""

from __future__ import annotations

import pytest

from convoy.cluster.kernels import remedy, runs_on

CUDA_12_6 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
WITH_PTX = (*CUDA_13, "compute_120")
FAMILY = ("sm_90a", "sm_100f", "compute_100f")


@pytest.mark.parametrize(
    ("card", "compiled", "expected"),
    [
        (60, CUDA_12_6, True),  # P100
        (60, CUDA_13, False),
        (61, CUDA_12_6, True),  # GTX 1080
        (70, CUDA_12_6, True),  # V100
        (70, CUDA_13, False),
        (75, CUDA_13, True),  # T4
        (80, CUDA_13, True),  # A100
        (86, CUDA_13, True),  # A40
        (89, CUDA_13, True),  # L40S, by sm_86
        (90, CUDA_13, True),  # H100
        (90, ("sm_90a",), True),
        (100, CUDA_13, True),  # B200
        (100, FAMILY, True),
        (103, FAMILY, True),  # B300, of the family of 10.0
        (103, ("sm_100a",), False),
        (120, CUDA_13, True),  # RTX 5090
        (120, FAMILY, False),
        (121, CUDA_13, True),
        (130, CUDA_13, False),
        (130, WITH_PTX, True),  # the driver compiles PTX
        (90, ("compute_80",), True),
        (75, ("compute_80",), False),
        (80, ("sm_86",), False),
        (80, (), False),
        (80, ("gfx90a",), False),  # ROCm
    ],
)
def test_what_runs_on_a_card(card: int, compiled: tuple[str, ...], expected: bool) -> None:
    assert runs_on(card, compiled) is expected


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("sm_60", "run: make install TORCH=p100, and use .venv-p100/bin/convoy"),
        ("sm_70", "run: make install TORCH=v100, and use .venv-v100/bin/convoy"),
        ("sm_37", "no supported torch has them: choose another card, or write trainer.gpus=0"),
        ("sm_130", "install a newer torch, or write trainer.gpus=0"),
    ],
)
def test_the_remedy_names_the_torch_that_works(architecture: str, expected: str) -> None:
    assert remedy(architecture) == expected
