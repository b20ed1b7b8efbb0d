"""convoy submit wait=true: stays with a job and shows its log."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from convoy.cluster import slurm_commands
from convoy.runtime.stop_signals import StopSignal

_POLL_S = 2.0
_UNDER_WAY = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "STOPPED", "RESIZING")


def wait(job_id: str, folder: Path) -> int:
    """Show the logs as they grow until no task is queued or runs. 0 where all have completed.

    Ctrl-C leaves the job as it is.
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
    """Print what a file has more than `since` bytes; where it ends now."""
    with path.open("rb") as file:
        file.seek(since)
        text = file.read()
    print(text.decode(errors="replace"), end="", flush=True)
    return since + len(text)
