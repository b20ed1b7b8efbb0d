"""GPU architectures that each torch release has kernels for, known without importing torch."""

from __future__ import annotations

import re
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

    Code compiled for sm_80 also runs on sm_86 and sm_89: a device runs code of the same major and a lower or equal
    minor revision. Wheels of other indexes, whose version has a plus (2.9.1+cu126), are not in the table.

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
    card = int(wanted[1])
    return any(arch // 10 == card // 10 and arch <= card for arch in compiled)
