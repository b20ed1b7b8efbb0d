"""Agreement of all ranks on the point at which they stop, without a collective operation or a wait per step."""

from __future__ import annotations

import threading

from convoy.runtime.rank_store import RankStore

_REQUESTED = "stop/requested"


class StopAgreement:
    """Points at which training may stop, numbered from 1: the ends of optimizer steps and epochs, equal on all ranks.

    A stop code is a positive integer; of several, the highest counts. A code is never taken back.

    **Ends of steps.** A rank whose code is positive sets a key in the store. A thread of each rank looks for the key.
    When it is there, each rank publishes once the number of points that it has passed, and its code. From then on it
    passes no further point until all ranks have published. All of them stop at the point after the highest number
    published, with the highest code published.

    - No rank has passed that point: each is held at the first point after its published number, which is at most this
      one. The number is read and published under the lock that is needed to pass a point.
    - No rank waits for ever: a held rank waits only for the threads of the others. These publish even if their main
      threads wait in a collective operation for the held rank, however many steps they are ahead.

    **Ends of epochs.** All ranks write their codes and wait for those of the others: once an epoch, where a validation
    has just been reduced over the ranks. A rank takes part after it has passed all earlier points, so nobody waits for
    it in an operation before. If the agreed point of a stop is an epoch's end, the rank that asked for the stop writes
    a positive code there; so all ranks stop there in either way.

    Args:
        store: store of the ranks, open at the first point if there are several.
    """

    def __init__(self, store: RankStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._rank, self._world_size = 0, 1
        self._passed = 0
        self._code = 0
        self._is_published = False
        self._agreed: tuple[int, int] | None = None
        self._epoch_ends = 0

    def start(self, rank: int, world_size: int) -> None:
        """Begin to look for the requests of other ranks."""
        self._rank, self._world_size = rank, world_size
        if world_size > 1:
            self._store.add_watcher(self._look)

    def at_step(self, code: int) -> int:
        """Return the code with which all ranks stop after this optimizer step; 0 to continue.

        Args:
            code: of this rank; 0 if it has no reason to stop.
        """
        if self._world_size == 1:
            return code
        with self._lock:
            self._code = max(self._code, code)
            if code and not self._is_published:
                self._store.write(_REQUESTED, "")
                self._publish()
            if not self._is_published:
                self._passed += 1
                return 0
        self._agreed = self._agreed or self._collected()
        point, highest = self._agreed
        self._passed += 1
        return highest if self._passed == point else 0

    def at_epoch_end(self, code: int) -> int:
        """Return the code with which all ranks stop after this epoch; 0 to continue."""
        if self._world_size == 1:
            return code
        with self._lock:
            self._passed += 1
        self._epoch_ends += 1
        key = f"stop/epoch/{self._epoch_ends}"
        self._store.write(f"{key}/{self._rank}", str(code))
        codes = self._store.collect(key, self._world_size)
        if self._epoch_ends > 1:  # read by all: each has come to this end
            self._store.remove(f"stop/epoch/{self._epoch_ends - 1}/{self._rank}")
        return max(int(each) for each in codes)

    def _look(self) -> None:
        """Publish if any rank asks for a stop; called by the store's thread."""
        if not self._is_published and self._store.read(_REQUESTED) is not None:
            with self._lock:
                if not self._is_published:
                    self._publish()

    def _publish(self) -> None:
        self._store.write(f"stop/published/{self._rank}", f"{self._passed} {self._code}")
        self._is_published = True

    def _collected(self) -> tuple[int, int]:
        published = [text.split() for text in self._store.collect("stop/published", self._world_size)]
        return max(int(passed) for passed, _ in published) + 1, max(int(code) for _, code in published)
