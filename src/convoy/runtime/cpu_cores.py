"""Number of CPU cores that other processes keep busy. This module does not import torch.

An operation with several threads ends with the slowest of them, and a thread that shares its core with another process
waits for time slices. With another process on one of two cores, a small network trains faster with one thread.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_SHORTEST_S = 0.5
"""Shortest interval to measure over; the kernel's counters have a resolution of 10 ms."""


@dataclass(frozen=True)
class CoreTimes:
    """CPU times at one moment, in seconds.

    Attributes:
        wall_s: Monotonic wall time.
        busy_s: CPU time of all processes since boot, on the cores that this process may use; None if /proc/stat can't
            be read.
        own_s: CPU time of this process and its ended children.
    """

    wall_s: float
    busy_s: float | None
    own_s: float

    @classmethod
    def now(cls) -> CoreTimes:
        """Read the current times."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.monotonic(), _busy_s(), sum(usage.ru_utime + usage.ru_stime for usage in used))

    def wait(self) -> None:
        """Wait until enough time has passed since this moment to measure over."""
        time.sleep(max(0.0, self.wall_s + _SHORTEST_S - time.monotonic()))


class Imports:
    """Imports of the libraries of a run.

    Attributes:
        are_done: True in a process that was forked from one that had imported them.
    """

    are_done = False


def cores_of_others(start: CoreTimes, end: CoreTimes) -> int:
    """Return the number of cores that other processes used between two moments, rounded; 0 if unknown."""
    seconds = end.wall_s - start.wall_s
    if start.busy_s is None or end.busy_s is None or seconds < _SHORTEST_S:
        return 0
    return max(0, int(((end.busy_s - start.busy_s) - (end.own_s - start.own_s)) / seconds + 0.5))


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores(processes: int) -> int:
    """Return the cores of one process: those of its Slurm task, else its share of the machine's cores.

    Args:
        processes: Number of processes of the run on this machine.
    """
    cores = usable_cores()
    if task_cores := os.environ.get("SLURM_CPUS_PER_TASK"):
        return max(1, min(cores, int(task_cores)))
    return max(1, cores // processes)


def _busy_s() -> float | None:
    """Return the busy time in /proc/stat of the cores that this process may use, without idle and iowait (proc(5))."""
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = 0
        for name, *values in (line.split() for line in lines):
            if name in cores:
                user, nice, system, _idle, _iowait, irq, softirq = map(int, values[:7])
                ticks += user + nice + system + irq + softirq
        return ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
