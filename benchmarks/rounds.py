"""Two ways of doing the same work in turn, as paired ratios, with what else the machine was doing.

A round is peer, ours, peer. Its ratio is ours over the mean of the peer's two; its null control is the peer's second
over its first, which shows what the machine's own noise is.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

Arm = Callable[[], float]
"""Does the work once; gives images/s."""


def busy_s() -> float:
    """CPU seconds that all processes took since the machine started (Linux: proc(5), /proc/stat)."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """CPU seconds of this process and of its children: ended ones by the kernel's count, running ones by /proc."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = sum(map(_ticks, Path("/proc/self/task").glob("*/children")))
    return time.process_time() + ended.ru_utime + ended.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _ticks(children: Path) -> int:
    """Of running child processes, by proc(5): fields 14 and 15 of stat."""
    total = 0
    for child in children.read_text(encoding="ascii").split():
        try:
            fields = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total


def compare(title: str, ours: Arm, peer: Arm, rounds: int, *, names: tuple[str, str], goal: float) -> list[float]:
    """Print every round and the medians; both arms are run once before, unmeasured.

    Args:
        title: what is compared.
        ours, peer: do the same work.
        rounds: how many.
        names: of the two.
        goal: the ratio that is aimed at.

    Returns:
        The ratios.
    """
    our_name, peer_name = names
    peer()
    ours()
    print(f"\n{title}\n{'round':>5} {peer_name:>12} {our_name:>12} {peer_name:>12}  a second   ratio   null  others")
    ratios, null, others = [], [], []
    for index in range(rounds):
        began, busy, own = time.perf_counter(), busy_s(), own_s()
        first, our, second = peer(), ours(), peer()
        seconds = time.perf_counter() - began
        others.append(max(0.0, (busy_s() - busy) - (own_s() - own)) / seconds)
        ratios.append(2 * our / (first + second))
        null.append(second / first)
        print(
            f"{index + 1:>5} {first:12,.0f} {our:12,.0f} {second:12,.0f}"
            f"  {ratios[-1]:16.2f} {null[-1]:6.2f} {others[-1]:7.2f}"
        )
    tell(f"{our_name}/{peer_name} (goal {goal:g})", ratios)
    tell(f"{peer_name}/{peer_name} (null)", null)
    print(f"other processes took {statistics.median(others):.2f} cores, at most {max(others):.2f}")
    return ratios


def tell(name: str, values: Sequence[float], digits: int = 2) -> None:
    """Median and range in a line."""
    median, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    print(f"{name}: median {median}, range {least} to {most}")


def machine(*packages: str) -> str:
    """Cores, load and versions, for the head of a table."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, load {os.getloadavg()[0]:.2f}; Python {platform.python_version()}, {versions}"
