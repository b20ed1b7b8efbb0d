"""convoy submit wait=true: print the logs of a job until it has ended."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from convoy.cluster import slurm_commands
from convoy.runtime.stop_signals import StopSignal

_POLL_S = 2.0
_UNDER_WAY = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "STOPPED", "RESIZING")


def wait(job_id: str, folder: Path) -> int:
    """Print the logs until no task is queued or running, and return 0 if all have completed.

    Ctrl-C does not affect the job.
    """
    read: dict[Path, int] = {}
    states = [""]
    try:
        while True:
            states = slurm_commands.job_states(job_id)
            for path in sorted(folder.glob(f"{job_id}*.log")):
                read[path] = _show(path, read.get(path, 0))
            if not any(state in _UNDER_WAY for state in states):
                break
            time.sleep(_POLL_S)
    except StopSignal as stop:
        print(f"\nthe job continues; to end it: convoy cancel {job_id}")
        return 0 if stop.number == signal.SIGINT else stop.exit_code
    print(f"job     {job_id} {', '.join(sorted(set(states))) or 'has left the queue'}")
    return 0 if all(state == "COMPLETED" for state in states) else 1


def _show(path: Path, since: int) -> int:
    """Print the content of a file after `since` bytes, and return the size of the file."""
    with path.open("rb") as file:
        file.seek(since)
        text = file.read()
    print(text.decode(errors="replace"), end="", flush=True)
    return since + len(text)
