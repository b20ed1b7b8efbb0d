"""Mutual monitoring of the processes of a run, so that the loss of one ends the others. Imports no torch.

The first rank starts the other ranks of its machine and monitors them, and each of them monitors the first. A rank is
lost if its process has ended, if it is stopped (SIGSTOP) while the others run, or if no rank uses CPU time. Time is
counted in polls of the monitoring process, so that a run that was paused as a whole, or a machine that was suspended,
does not count as a loss. A point of a sweep monitors the sweep.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HANG_S = "CONVOY_HANG_S"
"""Environment variable with the seconds without CPU time after which ranks count as hung."""

PARENT = "CONVOY_PARENT"
"""Environment variable with the id of the parent process, without which this process must not continue."""

LOST, REPORTED = 76, 77
"""Exit codes of a rank that ends because another one was lost; REPORTED if it has printed the reason."""

_HANG_S, _STOPPED_S = 1800.0, 60.0
"""Limits without CONVOY_HANG_S: no CPU time used by any rank, and a stopped rank."""

_LOOK_EVERY_S = 0.25
_GRACE_S = 3.0
"""Time for the main thread to end by itself, since its connection to the lost rank also breaks."""

_WINDOW_S, _BUSY_SHARE = 10.0, 0.03
"""Share of a core that the busiest thread of a working rank uses at least.

The threads that watch and wait (this one, the store's, gloo's) use up to 0.013 each on a slow virtual machine, and a
rank has five of them, so that the CPU time of a whole process does not separate waiting ranks from working ones."""

_GONE = -1000


@dataclass(frozen=True)
class Loss:
    """A lost rank.

    Attributes:
        text: Description as a clause; empty if that rank has printed the reason.
        exit_code: Exit code of the run.
    """

    text: str
    exit_code: int = 1


@dataclass
class Peer:
    """Another process of this run.

    Attributes:
        rank: Its rank; None for the sweep that has started this point.
        pid: Its process id.
        ended: Function that returns its exit code, or None while it runs.
    """

    rank: int | None
    pid: int
    ended: Callable[[], int | None]
    stopped_s: float = 0.0

    def __str__(self) -> str:
        return f"rank {self.rank} on {platform.node()} (process {self.pid})"


class RankWatch:
    """Thread that detects the loss of a rank, and ends this process if the main thread does not.

    Attributes:
        say: Function that prints the last line.
        kept: Function that returns a clause with the kept files and the command that resumes the run.
    """

    def __init__(self) -> None:
        self.say: Callable[[str], None] = lambda text: print(text, flush=True)
        self.kept: Callable[[], str] = lambda: "to continue, repeat the command"
        self._peers: list[Peer] = []
        self._kill: Callable[[], None] = lambda: None
        self._loss: Loss | None = None
        self._found, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._hang_s = float(os.environ.get(HANG_S) or _HANG_S)
        self._window_s = min(_WINDOW_S, self._hang_s)
        self._looked_s = self._idle_s = 0.0
        self._busy_s: dict[str, float] = {}

    @property
    def has_ranks(self) -> bool:
        """True while other ranks are watched."""
        return any(peer.rank is not None for peer in self._peers)

    def follow_parent(self) -> None:
        """Watch the process that started this rank or this point of a sweep, if the environment names one."""
        parent = int(os.environ.get(PARENT, 0))
        if not parent or (os.getppid() != parent and _is_running(parent)):
            return  # or the variable was inherited from a process in between
        rank = 0 if _local_rank() else None
        self._follow([Peer(rank, parent, lambda: None if os.getppid() == parent else _GONE)])

    def follow_ranks(self, ranks: Sequence[Peer], kill: Callable[[], None]) -> None:
        """Watch the ranks that this process has started.

        Args:
            ranks: The ranks.
            kill: Function that kills them and waits for their end.
        """
        self._kill = kill
        self._follow(ranks)

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._thread, self._peers = None, []

    def take_over(self, wait_s: float) -> Loss | None:
        """Stop watching, and return the loss if one is found within `wait_s`, for the caller to report."""
        if self._thread is not None:
            self._found.wait(wait_s)
        self.stop()
        return self._loss

    def report(self, loss: Loss) -> None:
        """Print the last line of a run that has lost a rank. Only one of the remaining ranks prints it."""
        if loss.text and _local_rank() <= 1:
            self.say(f"{loss.text}; {self.kept()}")

    def _follow(self, peers: Sequence[Peer]) -> None:
        self._peers = [*self._peers, *peers]
        if self._thread is None:
            self._loss = None
            self._over.clear()
            self._found.clear()
            self._thread = threading.Thread(target=self._watch, name="convoy-rank-watch", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            self._loss = self._look()
            if self._loss is not None:
                self._found.set()
                if not self._over.wait(_GRACE_S):
                    self._end(self._loss)
                return

    def _look(self) -> Loss | None:
        ended = [(peer, code) for peer in self._peers if (code := peer.ended())]
        # A killed rank is reported before the ranks that ended because of it.
        for peer, code in sorted(ended, key=lambda item: (item[1] >= 0, item[1] in (LOST, REPORTED))):
            if peer.rank is not None:
                return _loss_of(peer, code)
            self._peers.remove(peer)
            os.kill(
                os.getpid(), signal.SIGTERM
            )  # the sweep has ended, so its point stops as after a signal of the user
        ranks = [peer for peer in self._peers if peer.rank is not None]
        for peer in ranks:
            peer.stopped_s = peer.stopped_s + _LOOK_EVERY_S if _is_stopped(peer.pid) else 0.0
            if peer.stopped_s >= min(_STOPPED_S, self._hang_s):
                return Loss(f"{peer} has been stopped for {peer.stopped_s:.0f} s")
        if ranks and not _local_rank() and self._is_hung(ranks):
            names = " and ".join(str(peer.rank) for peer in ranks)
            return Loss(f"ranks 0 and {names} on {platform.node()} have done nothing for {self._hang_s:.0f} s")
        return None

    def _is_hung(self, ranks: Sequence[Peer]) -> bool:
        """Return True if no thread of a rank on this machine has worked for `hang_s`."""
        self._looked_s += _LOOK_EVERY_S
        if self._looked_s < self._window_s:
            return False
        now_s = {
            thread: s for pid in (os.getpid(), *(peer.pid for peer in ranks)) for thread, s in _thread_seconds(pid)
        }
        if not now_s:
            return False  # a system without /proc
        is_busy = any(s - self._busy_s.get(thread, 0.0) > _BUSY_SHARE * self._looked_s for thread, s in now_s.items())
        self._idle_s = 0.0 if is_busy else self._idle_s + self._looked_s
        self._looked_s, self._busy_s = 0.0, now_s
        return self._idle_s >= self._hang_s

    def _end(self, loss: Loss) -> None:
        """End this process from the monitoring thread, since the main thread does not."""
        self.report(loss)
        self._kill()
        if _local_rank():
            for peer in self._peers:  # a stopped first rank finds that the others have ended
                with suppress(OSError):
                    os.kill(peer.pid, signal.SIGCONT)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(REPORTED if _local_rank() else loss.exit_code)


WATCH = RankWatch()
"""Watch of this process."""


def _loss_of(peer: Peer, code: int) -> Loss:
    if code in (2, REPORTED):
        return Loss("", exit_code=2 if code == 2 else 1)
    if code == LOST:
        return Loss(f"{peer} has lost its connection to the others")
    if code == _GONE:
        return Loss(f"{peer} has ended")
    if code < 0:
        return Loss(f"{peer} was killed by {signal.Signals(-code).name}")
    return Loss(f"{peer} has ended with exit code {code}")


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _status(place: Path) -> list[str]:
    """Return the fields of the `stat` of a process or thread from the state on; empty if it has ended."""
    try:
        text = (place / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _is_stopped(pid: int) -> bool:
    return _status(Path(f"/proc/{pid}"))[:1] == ["T"]


def _thread_seconds(pid: int) -> Iterator[tuple[str, float]]:
    """Yield the id and the CPU time in seconds of each thread of a process."""
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        if fields := _status(thread):
            yield thread.name, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
