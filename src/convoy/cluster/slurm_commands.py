"""Slurm's commands, and what they say when they refuse."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from convoy.config.faults import Fault, UserError

_TIMEOUT_S = 60


def require(command: str = "sbatch") -> None:
    """Refuse where Slurm is not installed.

    Raises:
        UserError: this machine has no such command.
    """
    if shutil.which(command) is None:
        remedy = "call it on the cluster's login node; --dry-run works anywhere"
        raise UserError(Fault(command, "is not on this machine", remedy))


def sbatch(script: Path, *options: str) -> str:
    """Submit a script; the job's id.

    Raises:
        UserError: Slurm refuses, in its own words.
    """
    done = _run(["sbatch", "--parsable", *options, str(script)])
    if done.returncode:
        raise UserError(Fault("sbatch", f"Slurm refuses: {_reason(done.stderr)}", "change what it names"))
    return done.stdout.strip().partition(";")[0]


def test_only(script: Path) -> str:
    """What Slurm says to a script without queueing it: when and where it would start.

    Raises:
        UserError: Slurm refuses, in its own words.
    """
    done = _run(["sbatch", "--test-only", str(script)])
    if done.returncode:
        raise UserError(Fault("sbatch --test-only", f"Slurm refuses: {_reason(done.stderr)}", "change what it names"))
    return _reason(done.stderr)


def job_state(job_id: str) -> str | None:
    """JobState of a job, such as RUNNING or CANCELLED; None where Slurm doesn't answer."""
    done = _run(["scontrol", "show", "job", "-o", job_id])
    found = re.search(r"\bJobState=(\S+)", done.stdout)
    return found[1] if found else None


def job_states(job_id: str) -> list[str]:
    """JobState of a job or of each task of an array that Slurm still knows."""
    done = _run(["scontrol", "show", "job", "-o", job_id])
    return [found[1] for line in done.stdout.splitlines() if (found := re.search(r"\bJobState=(\S+)", line))]


def requeue(job_id: str) -> str | None:
    """Requeue a job; None where Slurm did, else what it said."""
    done = _run(["scontrol", "requeue", job_id])
    return _reason(done.stderr or done.stdout) if done.returncode else None


def first_host(node_list: str) -> str:
    """Name of the first node of a list in Slurm's short form."""
    done = _run(["scontrol", "show", "hostnames", node_list])
    return next(iter(done.stdout.split()), "127.0.0.1")


def cancel(job_ids: Sequence[str]) -> str | None:
    """Cancel jobs; None where Slurm did, else what it said."""
    done = _run(["scancel", *job_ids])
    return _reason(done.stderr) if done.returncode or done.stderr.strip() else None


def squeue(*options: str) -> list[list[str]] | None:
    """Rows of squeue's words, split at |; None where it can't be asked."""
    done = _run(["squeue", "--noheader", *options])
    if done.returncode:
        return None
    return [line.split("|") for line in done.stdout.splitlines() if line.strip()]


def sacct(job_ids: Sequence[str], fields: str) -> list[list[str]]:
    """Rows of sacct for jobs, without their steps; empty where there is no accounting."""
    if not job_ids or shutil.which("sacct") is None:
        return []
    words = ["sacct", "--noheader", "--allocations", "--parsable2", f"--format={fields}", f"--jobs={','.join(job_ids)}"]
    done = _run(words)
    return [line.split("|") for line in done.stdout.splitlines()] if done.returncode == 0 else []


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(words), 1, "", f"{words[0]}: {error}")


def _reason(text: str) -> str:
    """Slurm's message in one line, without the command's name before it."""
    lines = [re.sub(r"^(sbatch|scontrol|scancel|squeue): (error: )?", "", line.strip()) for line in text.splitlines()]
    return "; ".join(line for line in lines if line) or "no reason given"
