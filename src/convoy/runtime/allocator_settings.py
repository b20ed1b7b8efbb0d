"""Settings of PyTorch's CUDA allocator. This module does not import torch, which reads the settings on import."""

from __future__ import annotations

import os

from convoy.cluster.kernels import installed_torch
from convoy.config.schema import HardwareConfig

_SETTING = "expandable_segments:True"
_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Names of the environment variable: from torch 2.9 on, and before."""


def use_allocator(hardware: HardwareConfig) -> None:
    """Apply hardware.expandable_segments to this process and its children, unless the user has set the variable."""
    if hardware.expandable_segments and not any(name in os.environ for name in _NAMES):
        os.environ[_NAMES[_is_older_than_2_9(installed_torch())]] = _SETTING


def allocator_settings() -> str | None:
    """Return the settings of this process; None for PyTorch's defaults."""
    return next((os.environ[name] for name in _NAMES if name in os.environ), None)


def _is_older_than_2_9(version: str | None) -> bool:
    if version is None:
        return False
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < (2, 9)
