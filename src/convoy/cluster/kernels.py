"""Which torch has kernels for which card, known without importing torch."""

from __future__ import annotations

import re
from importlib import metadata

_ARCHITECTURES: dict[tuple[int, int], tuple[int, ...]] = {
    **dict.fromkeys([(2, 6), (2, 7)], (50, 60, 70, 75, 80, 86, 90)),
    **dict.fromkeys([(2, 8), (2, 9), (2, 10)], (70, 75, 80, 86, 90, 100, 120)),
    **dict.fromkeys([(2, minor) for minor in range(11, 16)], (75, 80, 86, 90, 100, 120)),
}
"""By torch's version, what the Linux wheels of the package index were compiled for, read from the wheels
(torch._C._cuda_getArchFlags) on 2026-11-20: CUDA 12.4 and 12.6, 12.8, and 13."""

ENVIRONMENTS = {"sm_70": "v100", "sm_60": "p100"}
"""What `make install TORCH=…` takes for a card that the newest torch has no kernels for."""


def installed_torch() -> str | None:
    """Version of the installed torch from its metadata; None where there is none."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def has_kernels(architecture: str, version: str) -> bool | None:
    """Whether that torch runs on that architecture; None where this table can't say.

    Code for sm_80 runs on sm_86 and sm_89 too: a minor revision runs what was compiled for a lower one. Wheels
    of other indexes, which say so after a plus (2.9.1+cu126), are not in the table.
    """
    release, _, build = version.partition("+")
    numbers = re.match(r"(\d+)\.(\d+)", release)
    wanted = re.fullmatch(r"sm_(\d+)", architecture)
    compiled = _ARCHITECTURES.get((int(numbers[1]), int(numbers[2]))) if numbers else None
    if compiled is None or wanted is None or build:
        return None
    card = int(wanted[1])
    return any(arch // 10 == card // 10 and arch <= card for arch in compiled)
