"""Measurement of several implementations of the same work in alternation, with the load of the machine.

A round measures the peer, our arms, and the peer again. Its ratio is our rate divided by the mean of the peer's two
rates. Its null control is the peer's second rate divided by its first, and shows the noise of the machine. A ceiling,
an arm that does only the unavoidable part of the work, is measured in the same rounds.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.results import Goal, Result

Arm = Callable[[], float]
"""Function that does the work once and returns a rate, such as images/s, or a time."""
NamedArm = tuple[str, Arm]


def busy_s() -> float:
    """Return the CPU seconds of all processes since boot (Linux, proc(5): /proc/stat)."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """Return the CPU seconds of this process and its children, both ended (getrusage) and running (/proc)."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = sum(map(_ticks, Path("/proc/self/task").glob("*/children")))
    return time.process_time() + ended.ru_utime + ended.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _ticks(children: Path) -> int:
    """Return the clock ticks of running child processes (proc(5): fields 14 and 15 of stat)."""
    total = 0
    for child in children.read_text(encoding="ascii").split():
        try:
            fields = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total


@dataclass(frozen=True)
class Turns:
    """Figures of all arms, one per round.

    Attributes:
        peer: Both figures of the arm that begins and ends each round.
        others: Figures of the other arms by name.
        busy_cores: Cores that other processes used during each round.
    """

    peer: list[tuple[float, float]] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=dict)
    busy_cores: list[float] = field(default_factory=list)

    def means(self) -> list[float]:
        """Return the mean of the peer's two figures, per round."""
        return [(first + second) / 2 for first, second in self.peer]

    def ratios(self, name: str) -> list[float]:
        """Return an arm's rate divided by the peer's, per round."""
        return [one / mean for one, mean in zip(self.others[name], self.means(), strict=True)]

    def null_ratios(self) -> list[float]:
        """Return the peer's second rate divided by its first, per round."""
        return [second / first for first, second in self.peer]

    def differences(self, name: str) -> list[float]:
        """Return an arm's time minus the peer's, per round."""
        return [one - mean for one, mean in zip(self.others[name], self.means(), strict=True)]

    def null_differences(self) -> list[float]:
        """Return the peer's second time minus its first, per round."""
        return [second - first for first, second in self.peer]

    def shares(self, name: str, ceiling: str) -> list[float]:
        """Return an arm's rate divided by the ceiling's, per round."""
        return [one / most for one, most in zip(self.others[name], self.others[ceiling], strict=True)]


def take_turns(title: str, arms: Mapping[str, Arm], rounds: int, *, unit: str = "per second", digits: int = 0) -> Turns:
    """Run each arm once without measuring and then in rounds, and print every figure.

    Args:
        title: Measured work.
        arms: Arms by name, the peer first. A single arm runs twice per round.
        rounds: Number of rounds.
        unit: Unit of the figures.
        digits: Decimal places of the printed figures.
    """
    peer, *names = arms
    for arm in arms.values():
        arm()
    width = max(12, *(len(name) + 1 for name in arms))
    heads = "".join(f"{name:>{width}}" for name in (peer, *names, peer))
    print(f"\n{title}; {unit}\n{'round':>5}{heads}  others' cores")
    turns = Turns(others={name: [] for name in names})
    for index in range(rounds):
        began, busy, own = time.perf_counter(), busy_s(), own_s()
        figures = [arms[name]() for name in (peer, *names, peer)]
        seconds = time.perf_counter() - began
        turns.busy_cores.append(max(0.0, (busy_s() - busy) - (own_s() - own)) / seconds)
        turns.peer.append((figures[0], figures[-1]))
        for name, figure in zip(names, figures[1:-1], strict=True):
            turns.others[name].append(figure)
        row = "".join(f"{figure:{width},.{digits}f}" for figure in figures)
        print(f"{index + 1:>5}{row} {turns.busy_cores[-1]:14.2f}", flush=True)
    return turns


def compare(
    title: str,
    ours: NamedArm,
    peer: NamedArm,
    rounds: int,
    *,
    goal: float | None = None,
    ceiling: NamedArm | None = None,
    digits: int = 0,
) -> Result:
    """Compare two arms, and print every round and the medians.

    Args:
        title: Measured work.
        ours: Arm that returns our rate, with its name.
        peer: Arm that returns the rate of the peer for the same work, with its name.
        rounds: Number of rounds.
        goal: Lower bound for the ratio.
        ceiling: Arm that does only the unavoidable part of the work, with its name.
        digits: Decimal places of the printed rates.

    Returns:
        The ratios of our rate to the peer's.
    """
    our_name, peer_name = ours[0], peer[0]
    arms = dict([peer, ours, ceiling] if ceiling else [peer, ours])
    turns = take_turns(title, arms, rounds, digits=digits)
    result = Result(
        title,
        our_name,
        peer_name,
        turns.ratios(our_name),
        turns.null_ratios(),
        Goal(goal) if goal is not None else None,
        ceiling=ceiling[0] if ceiling else None,
        of_ceiling=turns.shares(our_name, ceiling[0]) if ceiling else [],
        rate=statistics.median(turns.others[our_name]),
        peer_rate=statistics.median(turns.means()),
        busy_cores=turns.busy_cores,
    )
    print(result.line())
    return result


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Set the number of torch's threads inside the context."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(*packages: str) -> str:
    """Return cores, load and versions in one line, for the head of a table."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, load {os.getloadavg()[0]:.2f}; Python {platform.python_version()}, {versions}"
