"""Lock files resolve on the systems that the README names: the package index is asked, and nothing is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
LOCKS = {
    "requirements.lock": ("3.11", "3.14"),
    "requirements-dev.lock": ("3.11", "3.14"),
    "requirements-docs.lock": ("3.14",),
    "requirements-v100.lock": ("3.14",),
    "requirements-p100.lock": ("3.13",),  # torch 2.7 is older than Python 3.14
}
CASES = [
    (lock, version, platform) for lock, versions in LOCKS.items() for version in versions for platform in PLATFORMS
]


def asked(lock: Path, version: str, platform: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask for the wheels of every package in a lock file, but for one that has only a source distribution."""
    words = ["uv", "pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    words += ["--no-binary=antlr4-python3-runtime", f"--python-version={version}", f"--python-platform={platform}"]
    # Without it, uv assumes macOS 13, for which torch has no wheels.
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    command = [sys.executable, "-m", *words, f"--target={folder / 'target'}", "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    if done.returncode and any(sign in done.stderr for sign in ("Failed to fetch", "Could not connect", "dns error")):
        pytest.skip("the package index can't be reached")
    return done


@pytest.mark.slow
@pytest.mark.parametrize(("lock", "version", "platform"), CASES)
def test_a_lock_file_resolves(lock: str, version: str, platform: str, tmp_path: Path) -> None:
    done = asked(ROOT / lock, version, platform, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Would download" in done.stderr


@pytest.mark.slow
def test_a_missing_wheel_is_noticed(tmp_path: Path) -> None:
    """torch has no wheels for Intel Macs since 2.3."""
    done = asked(ROOT / "requirements.lock", "3.12", "x86_64-apple-darwin", tmp_path)
    assert done.returncode == 1
    assert "torch" in done.stderr
