"""Calls of Slurm's commands, with their error messages."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from convoy.config.faults import Fault, UserError

_TIMEOUT_S = 60
_REMEDIES = {
    "Invalid job array specification": (
        "write cluster.max_array_size=… of at most MaxArraySize in the output of scontrol show config"
    ),
    "Resource temporarily unavailable": "the queue is full (MaxJobCount): submit again when jobs have ended",
    "SubmitJob": (  # AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit and others
        "submit again when jobs have ended, or a sweep in parts with cluster.partitions.<partition>.max_queued=<jobs>"
    ),
}
"""Remedies by Slurm's messages that name no value."""


def require(command: str = "sbatch") -> None:
    """Raise if a Slurm command is not installed.

    Raises:
        UserError: If this machine has no such command.
    """
    if shutil.which(command) is None:
        remedy = "run it on the cluster's login node; dry_run=true works anywhere"
        raise UserError(Fault(command, "is not installed on this machine", remedy))


def sbatch(script: Path, *options: str) -> str:
    """Submit a script and return the job's id.

    Raises:
        UserError: If Slurm refuses the job; the message is Slurm's.
    """
    done = _run(["sbatch", "--parsable", *options, str(script)])
    if done.returncode:
        raise _refusal("sbatch", done.stderr)
    return done.stdout.strip().partition(";")[0]


def test_only(script: Path) -> str:
    """Validate a script without queueing it and return Slurm's estimate of when and where it would start.

    Raises:
        UserError: If Slurm refuses the job; the message is Slurm's.
    """
    done = _run(["sbatch", "--test-only", str(script)])
    if done.returncode:
        raise _refusal("sbatch --test-only", done.stderr)
    return _reason(done.stderr)


def job_state(job_id: str) -> str | None:
    """Return the JobState of a job, such as RUNNING or CANCELLED, or None if Slurm does not answer."""
    done = _run(["scontrol", "show", "job", "-o", job_id])
    found = re.search(r"\bJobState=(\S+)", done.stdout)
    return found[1] if found else None


def job_states(job_id: str) -> list[str]:
    """Return the JobState of a job, or of each task of an array that Slurm still knows."""
    done = _run(["scontrol", "show", "job", "-o", job_id])
    return [found[1] for line in done.stdout.splitlines() if (found := re.search(r"\bJobState=(\S+)", line))]


def requeue(job_id: str) -> str | None:
    """Requeue a job and return None, or Slurm's message if it refused."""
    done = _run(["scontrol", "requeue", job_id])
    return _reason(done.stderr or done.stdout) if done.returncode else None


def first_host(node_list: str) -> str:
    """Return the name of the first node of a list in Slurm's short form."""
    done = _run(["scontrol", "show", "hostnames", node_list])
    return next(iter(done.stdout.split()), "127.0.0.1")


def cancel(job_ids: Sequence[str]) -> str | None:
    """Cancel jobs and return None, or Slurm's message if it refused."""
    done = _run(["scancel", *job_ids])
    return _reason(done.stderr) if done.returncode or done.stderr.strip() else None


def squeue(*options: str) -> list[list[str]] | None:
    """Return the rows of squeue's output, split at |, or None if squeue fails."""
    done = _run(["squeue", "--noheader", *options])
    if done.returncode:
        return None
    return [line.split("|") for line in done.stdout.splitlines() if line.strip()]


def sacct(job_ids: Sequence[str], fields: str) -> list[list[str]]:
    """Return the rows of sacct for jobs, without their steps; empty if the cluster has no accounting."""
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


def _refusal(command: str, text: str) -> UserError:
    reason = _reason(text)
    remedy = next((remedy for part, remedy in _REMEDIES.items() if part in reason), "change the named value")
    return UserError(Fault(command, f"Slurm refuses: {reason}", remedy))


def _reason(text: str) -> str:
    """Return Slurm's message in one line, without the command's name."""
    lines = [re.sub(r"^(sbatch|scontrol|scancel|squeue): (error: )?", "", line.strip()) for line in text.splitlines()]
    return "; ".join(line for line in lines if line) or "no reason given"
