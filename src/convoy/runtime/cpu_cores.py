"""Which of the CPU cores that this process may use other processes are busy with. Imports no torch.

An operation of several threads ends with its last one, and a thread that shares its core with another process waits for
the scheduler's time slices: beside a busy process on one of two cores, a small network is faster with one thread.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_SHORTEST_S = 0.5
"""Over which counters that tick a hundred times a second still tell something."""


@dataclass(frozen=True)
class CoreTimes:
    """What the CPU has done until now, in seconds.

    Attributes:
        wall_s: by a clock of its own.
        busy_s: of the cores that this process may use, since the machine started, by all processes; None where Linux's
            /proc/stat can't be read.
        own_s: by this process and its children that have ended.
    """

    wall_s: float
    busy_s: float | None
    own_s: float

    @classmethod
    def now(cls) -> CoreTimes:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.monotonic(), _busy_s(), sum(usage.ru_utime + usage.ru_stime for usage in used))


def cores_of_others(start: CoreTimes, end: CoreTimes) -> int:
    """Cores that other processes were busy with, rounded; 0 where that can't be told or the time was too short."""
    seconds = end.wall_s - start.wall_s
    if start.busy_s is None or end.busy_s is None or seconds < _SHORTEST_S:
        return 0
    return max(0, int(((end.busy_s - start.busy_s) - (end.own_s - start.own_s)) / seconds + 0.5))


def own_cores(processes: int) -> int:
    """Cores of one process: a task's of Slurm's are its own, those of a machine are shared among the processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if task_cores := os.environ.get("SLURM_CPUS_PER_TASK"):
        return max(1, min(cores, int(task_cores)))
    return max(1, cores // processes)


def _busy_s() -> float | None:
    """By proc(5): of each core's line in /proc/stat all but the time that it was idle or waited for a disk."""
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
