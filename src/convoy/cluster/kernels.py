"""GPU architectures that each torch release has kernels for, known without importing torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

_ARCHITECTURES: dict[tuple[int, int], tuple[int, ...]] = {
    **dict.fromkeys([(2, 6), (2, 7)], (50, 60, 70, 75, 80, 86, 90)),
    **dict.fromkeys([(2, 8), (2, 9), (2, 10)], (70, 75, 80, 86, 90, 100, 120)),
    **dict.fromkeys([(2, minor) for minor in range(11, 16)], (75, 80, 86, 90, 100, 120)),
}
"""Compiled architectures of the Linux wheels on the package index by torch version, read from the wheels
(torch._C._cuda_getArchFlags) on 2026-11-20. The three groups are CUDA 12.4 and 12.6, CUDA 12.8, and CUDA 13."""

ENVIRONMENTS = {"sm_70": "v100", "sm_60": "p100"}
"""Value of `make install TORCH=…` for each architecture that the newest torch has no kernels for."""


def installed_torch() -> str | None:
    """Return the version of the installed torch from its metadata, or None if it is not installed."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def has_kernels(architecture: str, version: str) -> bool | None:
    """Return True if that torch version has kernels for an architecture, or None if the table cannot answer.

    Wheels of other indexes, whose version has a plus (2.9.1+cu126), are not in the table.

    Args:
        architecture: Architecture of the card, such as "sm_80".
        version: Version of torch, such as "2.14.1".
    """
    release, _, build = version.partition("+")
    numbers = re.match(r"(\d+)\.(\d+)", release)
    wanted = re.fullmatch(r"sm_(\d+)", architecture)
    compiled = _ARCHITECTURES.get((int(numbers[1]), int(numbers[2]))) if numbers else None
    if compiled is None or wanted is None or build:
        return None
    return runs_on(int(wanted[1]), [f"sm_{number}" for number in compiled])


def runs_on(card: int, compiled: Iterable[str]) -> bool:
    """Return whether a card runs code that is compiled for any of the targets.

    Source: CUDA C++ Programming Guide, "Compute Capability" and "Family-Specific Features".

    - sm_80 runs on the same major and an equal or higher minor revision: 8.0, 8.6 and 8.9.
    - sm_100f runs on its family, which is the same major revision from 10.0 on; sm_90a only on 9.0.
    - compute_120 is PTX, which the driver compiles for any card from 12.0 on; compute_120f and compute_120a only for
      the cards of the same rule as above.

    Args:
        card: Compute capability of the card, such as 89.
        compiled: Targets, such as `torch.cuda.get_arch_list()`; unknown names are ignored.
    """
    for name in compiled:
        target = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", name)
        if target is None:
            continue
        number, suffix = int(target[2]), target[3]
        same_major = number // 10 == card // 10
        if suffix == "a":
            fits = number == card
        else:
            fits = number <= card and (same_major or (target[1] == "compute" and not suffix))
        if fits:
            return True
    return False


def remedy(architecture: str) -> str:
    """Return what to do where torch has no kernels for an architecture, such as "sm_70"."""
    if (name := ENVIRONMENTS.get(architecture)) is not None:
        return f"run: make install TORCH={name}, and use .venv-{name}/bin/convoy"
    oldest = min(number for numbers in _ARCHITECTURES.values() for number in numbers)
    if int(architecture.removeprefix("sm_")) < oldest:
        return "no supported torch has them: choose another card, or write trainer.gpus=0"
    return "install a newer torch, or write trainer.gpus=0"
