"""Runs that are killed and resumed end as an undisturbed run does."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.runs import RESUME, WORDS, ForkServer, Tally, differences

SEED, KILLS = 20261129, 50
NO_CHECKPOINT = ("has no checkpoint yet", "no config.yaml", "no such run")


def resumed(server: ForkServer, folder: Path) -> str:
    """Resume a killed run, or start it again if it had no checkpoint; return what is wrong with that."""
    ended = server.run(folder, *RESUME)
    if ended.code == 2 and any(text in ended.out for text in NO_CHECKPOINT):
        shutil.rmtree(folder / "run", ignore_errors=True)
        ended = server.run(folder, *WORDS)
    done = ended.code == 2 and "has done all its" in ended.out
    return "" if ended.code == 0 or done else f"exit code {ended.code}: {ended.out[-300:]}"


def die_at_each(
    servers: list[ForkServer], whole: Path, place: Path, points: Sequence[int | str], *, links: bool = True
) -> list[str]:
    """Kill a run before each of these file operations and resume it; return what was lost."""
    free = list(servers)

    def check(point: int | str) -> str | None:
        server, folder = free.pop(), place / str(point)
        try:
            ended = server.run(folder, *WORDS, die_at=point, links=links)
            if ended.code == 0 and point == points[-1] and isinstance(point, int):
                return None  # this run had one operation less: their number varies with the timing
            if ended.code != -9:
                return f"operation {point}: not reached, exit code {ended.code}"
            wrong = [resumed(server, folder)]
            wrong += [] if wrong[0] else differences(whole, folder / "run")
            shutil.rmtree(folder)
            text = ", ".join(filter(None, wrong))
            print(f"operation {point}: lost, {text}" if text else ".", end="", flush=True)
            return f"operation {point}: {text}" if text else None
        finally:
            free.append(server)

    with ThreadPoolExecutor(len(servers)) as pool:
        return [text for text in pool.map(check, points) if text]


@pytest.mark.faults
def test_a_run_that_dies_before_any_file_operation(
    servers: list[ForkServer], undisturbed: Path, tmp_path: Path
) -> None:
    operations = servers[0].run(tmp_path / "counted", *WORDS).operations
    points = range(1, len(operations) + 1)
    lost = die_at_each(servers, undisturbed, tmp_path, points)
    Tally("SIGKILL before each file operation of a run", len(points), lost).show()
    assert not lost


@pytest.mark.slow
def test_a_run_that_dies_around_its_best_checkpoint_and_at_its_end(
    servers: list[ForkServer], undisturbed: Path, tmp_path: Path
) -> None:
    operations = servers[0].run(tmp_path / "counted", *WORDS).operations
    last_best = max(number for number, name in enumerate(operations, 1) if name == "os.rename .best.ckpt.partial")
    # By name: the number of operations of a run varies with its timing.
    ends = [name for name in operations if "os.rename .summary" in name or "confusion" in name]
    ends = [*ends[-2:], *(name for name in operations if ".report.html" in name)]
    lost = die_at_each(servers, undisturbed, tmp_path, [last_best - 2, last_best, *ends])
    assert not lost


@pytest.mark.faults
def test_a_file_system_without_hard_links(servers: list[ForkServer], undisturbed: Path, tmp_path: Path) -> None:
    ended = servers[0].run(tmp_path / "whole", *WORDS, links=False)
    assert ended.code == 0
    assert not differences(undisturbed, tmp_path / "whole" / "run")
    points = [number for number, name in enumerate(ended.operations, 1) if "best.ckpt" in name]
    points += [number + 1 for number in points]
    lost = die_at_each(servers, undisturbed, tmp_path, sorted(set(points)), links=False)
    Tally("SIGKILL around best.ckpt, without hard links", len(set(points)), lost).show()
    assert not lost


@pytest.mark.faults
def test_kills_at_random_moments(server: ForkServer, tmp_path: Path) -> None:
    """Of a run of 400 steps; two of the kills come before the resumed run has made any progress."""
    words = (*WORDS, "trainer.max_epochs=40", "trainer.checkpoint_every_steps=3")
    whole = tmp_path / "whole"
    assert server.run(whole, *words).code == 0
    # The moments are in units of a run of 30 steps, so that a slow machine makes progress between two kills, too.
    begun = time.monotonic()
    assert server.run(tmp_path / "short", *WORDS).code == 0
    unit_s = time.monotonic() - begun
    lost: list[str]
    moments, left, lost, attempt = random.Random(SEED), KILLS, [], 0
    while left:
        attempt += 1
        folder = tmp_path / str(attempt)
        code, next_words = -9, words
        while code != 0:
            early = KILLS // 2 <= left <= KILLS // 2 + 1  # twice in a row before the first step
            kill_after = None if not left else unit_s * (0.1 if early else moments.uniform(0.1, 1.2))
            ended = server.run(folder, *next_words, kill_after_s=kill_after)
            code, left = ended.code, left - (ended.code == -9)
            print(".", end="", flush=True)
            if code == 2 and any(text in ended.out for text in NO_CHECKPOINT):
                shutil.rmtree(folder / "run", ignore_errors=True)
                next_words = words
            elif code in (0, 2) and "has done all its" in ended.out:
                code = 0
            elif code not in (0, -9):
                lost.append(f"exit code {code} after {KILLS - left} kills: {ended.out[-300:]}")
                break
            else:
                next_words = RESUME
        lost += differences(whole / "run", folder / "run")
    Tally(f"SIGKILL at random moments (seed {SEED}, {attempt} runs)", KILLS, lost).show()
    assert not lost
