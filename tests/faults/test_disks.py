"""Runs whose disk is full, read-only or too small for temporary files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convoy.training.checkpoint_files import step_of
from tests.faults.runs import RESUME, WORDS, Ended, ForkServer, Tally, differences

Mount = Callable[[int], Path]
SIZES = 20
ROOMY = 64 * 2**20


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Return a function that mounts a file system of so many bytes, which is unmounted at the end."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted: list[Path] = []

    def small(size: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False)
        if done.returncode:
            pytest.skip("tmpfs can't be mounted here")
        mounted.append(place)
        return place

    yield small
    for place in mounted:
        subprocess.run(["umount", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def wrong_message(ended: Ended, folder: Path) -> str:
    """Return what is wrong with the end of a run whose disk is full or read-only."""
    lines = [line for line in ended.out.splitlines() if line.startswith(("stopped:", "error:"))]
    if ended.code not in (1, 2) or len(lines) != 1 or "Traceback" in ended.out or "Logging error" in ended.out:
        return f"exit code {ended.code}: {ended.out[-600:]}"
    step = step_of(folder / "checkpoints" / "last.ckpt")
    kept = f"kept: run/checkpoints/last.ckpt of step {step}; " if step else "no checkpoint had been written; "
    if ended.code == 1 and (kept not in lines[0] or (step and "convoy train resume=run" not in lines[0])):
        return f"{lines[0]} (last.ckpt is of step {step})"
    left = [path.name for path in folder.rglob(".*.partial")]
    return f"left over: {left}" if left else ""


def fill(server: ForkServer, place: Path, whole: Path) -> str:
    """Run on a small file system, resume while it is full and once there is room; return what is wrong."""
    run = place / "run"
    ended = server.run(place, *WORDS)
    if ended.code == 0:
        if "no page: " in ended.out:  # there was room for all but this
            remount(place, f"size={ROOMY}")
            server.run(place, *RESUME)
        return ", ".join(differences(whole, run))
    if wrong := wrong_message(ended, run):
        return wrong
    has_checkpoint = step_of(run / "checkpoints" / "last.ckpt") is not None
    if has_checkpoint:
        again = server.run(place, *RESUME)
        if again.code != 0 and (wrong := wrong_message(again, run)):
            return f"resumed while full: {wrong}"
    remount(place, f"size={ROOMY}")
    if not has_checkpoint:
        shutil.rmtree(run, ignore_errors=True)
    ended = server.run(place, *(RESUME if has_checkpoint else WORDS))
    if ended.code == 2 and "has done all its" in ended.out:
        return ", ".join(differences(whole, run))
    return ", ".join(differences(whole, run)) if ended.code == 0 else f"exit code {ended.code}: {ended.out[-600:]}"


@pytest.mark.faults
def test_a_disk_that_is_full_at_twenty_sizes(server: ForkServer, undisturbed: Path, mount: Mount) -> None:
    """From one that holds a few records to one that holds almost the whole run."""
    needed = sum(path.stat().st_blocks * 512 for path in undisturbed.rglob("*") if path.is_file())
    sizes = [4096 * (6 + round((needed / 4096 - 6) * number / SIZES)) for number in range(SIZES)]
    lost = [f"{size:,} bytes: {text}" for size in sizes if (text := fill(server, mount(size), undisturbed))]
    Tally("disk full", SIZES, lost).show()
    assert not lost


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line_and_the_run_resumes(
    server: ForkServer, undisturbed: Path, mount: Mount
) -> None:
    assert not fill(server, mount(1_300_000), undisturbed)


@pytest.mark.slow
def test_a_file_size_limit_is_reported_in_one_line(tmp_path: Path) -> None:
    """A file that may not grow stands for a full disk, which only root can mount. The checkpoint has 0.5 MB."""
    code = "import resource, sys; from convoy.commands.main import main; "
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)); sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *WORDS], capture_output=True, text=True, check=False)
    ended = Ended(done.returncode, [], done.stdout + done.stderr)
    assert done.returncode == 1
    assert not wrong_message(ended, tmp_path / "run")
    assert "run/checkpoints/last.ckpt can't be written (File too large); no checkpoint had been written" in ended.out


@pytest.mark.slow
def test_output_that_can_not_be_printed_is_one_line() -> None:
    """Standard output is redirected to a full disk."""
    code = "import sys; from convoy.commands.main import main; sys.exit(main(sys.argv[1:]))"
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-c", code, *WORDS]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    expected = "stopped: standard output: No space left on device; no checkpoint had been written; make room and"
    assert done.stderr.splitlines()[-1].startswith(expected)
    assert "Traceback" not in done.stderr


@pytest.mark.faults
def test_a_run_on_a_file_system_that_is_read_only(server: ForkServer, undisturbed: Path, mount: Mount) -> None:
    place = mount(ROOMY)
    operations = server.run(place / "counted", *WORDS).operations
    shutil.rmtree(place / "counted")
    died = server.run(place, *WORDS, die_at=len(operations) // 2)
    assert died.code == -9
    remount(place, "ro")
    ended = server.run(place, *RESUME)
    remount(place, "rw")
    lost = [text for text in [wrong_message(ended, place / "run")] if text]
    assert server.run(place, *RESUME).code == 0
    lost += differences(undisturbed, place / "run")
    Tally("read-only file system", 1, lost).show()
    assert not lost
    assert re.search(
        r"Read-only file system; kept: run/checkpoints/last\.ckpt of step \d+; make it writable", ended.out
    )


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["full", "read-only", "missing"])
def test_an_unusable_temporary_folder(
    server: ForkServer, undisturbed: Path, mount: Mount, tmp_path: Path, kind: str
) -> None:
    temporary = tmp_path / "nowhere" if kind == "missing" else mount(4096)
    if kind == "full":
        with pytest.raises(OSError, match="No space"):
            (temporary / "file").write_bytes(bytes(10_000))
    elif kind == "read-only":
        remount(temporary, "ro")
    ended = server.run(tmp_path / "place", *WORDS, environment={"TMPDIR": str(temporary)})
    lost = differences(undisturbed, tmp_path / "place" / "run") if ended.code == 0 else [ended.out[-600:]]
    Tally(f"temporary folder {kind}", 1, lost).show()
    assert not lost
