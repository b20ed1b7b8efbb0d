"""Agreement of ranks on the point at which they stop, with real stores and processes."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from tests.conftest import TINY
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from convoy.runtime.rank_store import RankStore
from convoy.training.stop_agreement import StopAgreement

STEPS_PER_EPOCH, MAX_EPOCHS = 5, 2000
POINTS = [(number + 1) % STEPS_PER_EPOCH for number in range(STEPS_PER_EPOCH * MAX_EPOCHS)]
"""0 at an epoch's end."""


class Links:
    """Bounds of the lead of a rank over the others, as the gradients' reduction sets them.

    A rank may start a step once all have started the step `lead` steps before. The wait knows nothing of the store.
    """

    def __init__(self, ranks: int, lead: int) -> None:
        self.started, self.lead = [0] * ranks, lead
        self.changed = threading.Condition()

    def start(self, rank: int) -> None:
        with self.changed:
            self.started[rank] += 1
            self.changed.notify_all()
            reached = self.changed.wait_for(lambda: min(self.started) > self.started[rank] - 1 - self.lead, timeout=60)
            assert reached, "deadlock"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))


def stop_points(lead: int, asks: dict[int, tuple[int, int]], name: str) -> list[tuple[int, int]]:
    """Return the number of the point at which each of the ranks stops, and the code.

    Args:
        lead: steps by which a rank may be ahead.
        asks: point from which on a rank has a code, and the code.
        name: prefix in the store.
    """
    ranks = len(asks)
    links = Links(ranks, lead)

    def train(rank: int) -> tuple[int, int]:
        store = RankStore()
        store._open(name)
        agreement = StopAgreement(store)
        agreement.start(rank, ranks)
        try:
            for number, kind in enumerate(POINTS, start=1):
                links.start(rank)
                since, code = asks[rank]
                own = code if number >= since else 0
                agreed = agreement.at_step(own) if kind else agreement.at_epoch_end(own)
                if agreed:
                    return number, agreed
            return 0, 0
        finally:
            store.stop()

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(train, range(ranks)))


NEVER = (10**9, 0)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("lead", [1, 3, 50])
@pytest.mark.parametrize("since", [1, 4, 5, 6, 12])
def test_all_ranks_stop_at_one_point(lead: int, since: int) -> None:
    first, *others = stop_points(lead, {0: NEVER, 1: (since, 16), 2: NEVER}, f"{lead}/{since}")
    assert first == others[0] == others[1]
    assert first[0] >= since
    assert first[1] == 16


@pytest.mark.usefixtures("server")
def test_requests_of_several_ranks_lead_to_one_point() -> None:
    drawn = random.Random(1)
    for trial in range(10):
        asks = {0: (drawn.randint(1, 30), 1), 1: (drawn.randint(1, 30), 16), 2: (drawn.randint(1, 30), 3)}
        first, *others = stop_points(drawn.choice([1, 2, 10]), asks, f"several/{trial}")
        assert first == others[0] == others[1], asks
        assert first[1] in (1, 3, 16)


@pytest.mark.slow
def test_a_step_of_two_ranks_has_only_the_collectives_of_ddp() -> None:
    """The gradients of this network, which has no buffers, are one bucket, so one all-reduce per step."""
    words = (*TINY, "trainer.processes=2", "trainer.log_every_steps=100", "trainer.max_epochs=1")
    driver = Path(__file__).with_name("collectives_driver.py")
    subprocess.run(
        [sys.executable, str(driver), "train", *words, "folder=run"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    for rank in (0, 1):
        numbers = json.loads(Path(f"collectives-{rank}.json").read_text())
        assert len(numbers) == 10
        # DDP rebuilds its buckets once, in the second step.
        assert [after - before for before, after in pairwise(numbers[2:])] == [1] * 7
