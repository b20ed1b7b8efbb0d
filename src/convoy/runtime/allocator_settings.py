"""PyTorch's CUDA allocator as hardware.expandable_segments has it. Imports no torch, which reads the settings first."""

from __future__ import annotations

import os

from convoy.cluster.kernels import installed_torch
from convoy.config.schema import HardwareConfig

_SETTING = "expandable_segments:True"
_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""From torch 2.9 on, and before it."""


def use_allocator(hardware: HardwareConfig) -> None:
    """Set the environment of this process and of those it starts, unless the user has set it."""
    if hardware.expandable_segments and not any(name in os.environ for name in _NAMES):
        os.environ[_NAMES[_is_older_than_2_9(installed_torch())]] = _SETTING


def _is_older_than_2_9(version: str | None) -> bool:
    if version is None:
        return False
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < (2, 9)
