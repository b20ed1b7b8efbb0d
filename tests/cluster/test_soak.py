"""At least thirty faults of every kind at random steps (`make soak`), about 15 minutes on two cores.

The seed is random and printed; CONVOY_SOAK_SEED repeats a soak.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from tests.cluster import faults
from tests.cluster.conftest import SMALL, Site
from tests.cluster.faults import LONG, MARGIN, ONE, TOTAL_STEPS, TWO_NODES, Fault, resumed_steps, strike
from tests.cluster.test_script import SHIPPED
from tests.conftest import Run
from tests.training.test_resume import assert_equal_runs

Convoy = Callable[..., Run]

pytestmark = pytest.mark.soak

SEED = int(os.environ.get("CONVOY_SOAK_SEED", time.time_ns() % 100_000))
KINDS: tuple[Fault, ...] = (faults.usr1, faults.term, faults.requeue, faults.preempt, faults.kill)
ON_B01 = (*ONE, "--gres=gpu:a40:1")


def plan(draw: random.Random, num_faults: int) -> list[tuple[Fault, int]]:
    """Return faults of random kinds at random steps, far enough apart that each start between them trains."""
    room = TOTAL_STEPS - 2 * MARGIN - num_faults * MARGIN
    offsets = sorted(draw.randrange(1, room) for _ in range(num_faults))
    return [(draw.choice(KINDS), offset + index * MARGIN) for index, offset in enumerate(offsets)]


def assert_undisturbed(site: Site, shell: Convoy, job_id: str, processes: int, words: tuple[str, ...]) -> None:
    alone = shell("train", *words, "hardware=a100", f"trainer.processes={processes}", folder=f"alone{processes}")
    assert alone.code == 0, alone.err
    assert_equal_runs(alone.folder, site.folder(job_id))
    assert site.run(job_id).summary()["steps"] == alone.summary()["steps"]


@pytest.mark.parametrize("wave", range(4))
def test_eight_faults_at_random_steps_leave_no_trace(site: Site, shell: Convoy, wave: int) -> None:
    draw = random.Random(SEED + wave)
    one = site.sbatch("a100", *LONG, f"seed={SEED + wave}", options=ON_B01)
    two = site.sbatch("a100", *LONG, f"seed={SEED + wave}", options=TWO_NODES)
    plans = {one: plan(draw, 4), two: plan(draw, 4)}
    planned = {job: [(fault.__name__, step) for fault, step in faults_of] for job, faults_of in plans.items()}
    print(f"seed {SEED}, wave {wave}: {planned}")
    strike(site, plans)
    for job in plans:
        assert site.wait_for(job, 240) == "COMPLETED", site.log(job)
        # Only a kill repeats steps, at most those since the last checkpoint.
        starts = resumed_steps(site.log(job))
        for (fault, step), start in zip(plans[job], starts, strict=False):
            assert start >= step - (50 if fault is faults.kill else 0), (fault.__name__, step, starts)
    assert_undisturbed(site, shell, one, 1, (*LONG, f"seed={SEED + wave}"))
    assert_undisturbed(site, shell, two, 2, (*LONG, f"seed={SEED + wave}"))


@pytest.mark.parametrize(("processes", "options"), [(1, ONE), (2, TWO_NODES)])
def test_a_node_that_is_lost_costs_at_most_the_checkpoints_interval(
    site: Site, shell: Convoy, processes: int, options: tuple[str, ...]
) -> None:
    """Slurm notices after 30 s, in which the lost node's ranks keep running; two of them wait until it is back."""
    words = (*LONG, "trainer.max_epochs=400")
    job = site.sbatch("a100", *words, options=options)
    step = random.Random(SEED).randrange(60, 500)
    strike(site, {job: [(faults.lose_node, step)]})
    assert site.wait_for(job, 240) == "COMPLETED", site.log(job)
    assert resumed_steps(site.log(job))[0] >= step - 50
    assert site.claim(job)["start"] == 2
    assert_undisturbed(site, shell, job, processes, words)


def test_a_run_longer_than_its_time_limit_continues_in_another_start(site: Site, shell: Convoy) -> None:
    words = (*LONG, "trainer.max_epochs=300")
    job = site.sbatch("a100", *words, options=(*ONE, "--time=1", "--signal=USR1@20"))
    assert site.wait_for(job, 400) == "COMPLETED", site.log(job)
    assert int(site.host.job(job)["Restarts"]) >= 1
    assert "stopped by SIGUSR1" in site.log(job)
    assert_undisturbed(site, shell, job, 1, words)


def test_every_shipped_script_runs_unchanged(site: Site) -> None:
    words = (*SMALL, "trainer.processes=2", "trainer.max_steps=3", "trainer.test=false")
    jobs = {name: site.sbatch(name, *words) for name in SHIPPED}
    for name, job in jobs.items():
        assert site.wait_for(job, 240) == "COMPLETED", f"{name}: {site.log(job)}"
        assert "2 ranks" in site.log(job)
