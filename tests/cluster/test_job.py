"""Decisions of a job: its run folder, the check of its allocation, and whether it is requeued."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from convoy.cluster import allocation as allocations
from convoy.cluster.reports import Report, of_code, of_exception
from convoy.cluster.requeue_policy import Decision, Restarts, decide
from convoy.cluster.run_lease import JobFolder, hash_of, take, wait_for_the_start_before
from convoy.training.preflight import read

JOB = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_GPUS_ON_NODE": "2",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_JOB_NODELIST": "a[01-02]",
}


def faults_of(card: str | None, *overrides: str, **environment: str) -> list[str]:
    allocation = allocations.read({**JOB, **environment})
    assert allocation is not None
    return [str(fault) for fault in allocations.mismatches(allocation, read(list(overrides)), card)]


def test_an_allocation_that_fits_is_not_remarked_upon() -> None:
    assert faults_of("a100", "hardware=a100") == []
    assert faults_of("a100", "hardware=a100", "trainer.gpus=2") == []
    assert faults_of("a100", "hardware=a100", "hardware.accelerator=cpu", "trainer.processes=2") == []


@pytest.mark.parametrize(
    ("overrides", "environment", "message"),
    [
        (
            ("hardware=a100", "trainer.gpus=1"),
            {},
            "trainer.gpus=1: this job has 2 per node; write trainer.gpus=2, "
            "or sbatch --ntasks-per-node=1 --gres=gpu:a100:1 …",
        ),
        (("hardware=a100", "trainer.gpus=0"), {}, "trainer.gpus=0: this job has 2 per node; write trainer.gpus=2"),
        (
            ("hardware=a100", "trainer.nodes=2"),
            {},
            "trainer.nodes=2: this job has 1 node; write trainer.nodes=1, or sbatch --nodes=2 …",
        ),
        (("hardware=v100",), {}, "hardware=v100: this job requested a100; submit slurm/v100.sbatch"),
        (("hardware=a100",), {"SLURM_GPUS_ON_NODE": "1"}, "--gres: this job has 2 tasks and 1 GPUs per node"),
        (
            ("hardware=a100", "hardware.accelerator=cpu"),
            {},
            "trainer.processes=1: this job has 2 per node; write trainer.processes=2",
        ),
    ],
)
def test_an_allocation_that_differs_is_reported_with_both_remedies(
    overrides: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    (fault,) = faults_of("a100", *overrides, **environment)
    assert fault.startswith(message)


def test_a_task_of_an_array_is_called_by_array_and_index() -> None:
    """The id of the last task is also that of the array, so requeueing by it would requeue all tasks."""
    allocation = allocations.read({**JOB, "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "5"})
    assert allocation is not None
    assert (allocation.job_id, allocation.array_id, allocation.task) == ("77_5", "77", 5)
    assert allocations.read({}) is None


def test_a_requeued_job_finds_only_its_own_folder(tmp_path: Path) -> None:
    wanted = tmp_path / "lenet5" / "slurm-77"
    first, claim = take(wanted, "77", "hash", restarts=0)
    assert (first.path, claim.start) == (wanted, 1)
    again, claim = take(wanted, "77", "hash", restarts=1)
    assert (again.path, claim.start) == (wanted, 2)
    # The id is used again, later, by another job: with another config, and with the same.
    for digest in ("other", "hash"):
        other, claim = take(wanted, "77", digest, restarts=0)
        assert other.path not in (first.path, wanted)
        assert claim.start == 1
        assert take(wanted, "77", digest, restarts=1)[0].path == other.path
    # A restarted job whose config no longer fits starts in a new folder.
    assert take(wanted, "77", "changed", restarts=3)[0].path == wanted.with_name("slurm-77.4")


def test_a_folder_without_a_claim_is_left_alone(tmp_path: Path) -> None:
    wanted = tmp_path / "slurm-77"
    wanted.mkdir()
    (wanted / "config.yaml").write_text("seed: 1")
    assert take(wanted, "77", "hash", restarts=2)[0].path == tmp_path / "slurm-77.2"


def test_the_hash_depends_on_the_training_not_on_the_folder() -> None:
    saved = {"seed": 1, "folder": None, "cluster": None, "output_root": "a", "resume": None}
    assert hash_of(saved) == hash_of({**saved, "folder": "x", "cluster": {"name": "carc"}, "output_root": "b"})
    assert hash_of(saved) != hash_of({**saved, "seed": 2})


def test_a_start_waits_for_the_ranks_of_the_one_before(tmp_path: Path) -> None:
    folder, _ = take(tmp_path / "slurm-1", "1", "hash", restarts=0)
    assert not wait_for_the_start_before(folder)
    folder.alive.touch()
    started = time.monotonic()
    assert wait_for_the_start_before(folder, limit_s=1.0)
    assert time.monotonic() - started >= 1.0
    os.utime(folder.alive, (time.time() - 100, time.time() - 100))
    assert not wait_for_the_start_before(folder)
    assert JobFolder(tmp_path / "slurm-1").claim() is not None


def decided(code: int, state: str | None = "RUNNING", *reports: Report, **changed: int | bool) -> Decision:
    restarts = Restarts(changed.pop("requeues", 0), 20, changed.pop("stalled", 0))
    given = {"ranks": max(1, len(reports)), "progressed": False, **changed}
    return decide(code, state, reports, restarts=restarts, **given)  # type: ignore[arg-type]


DONE, STOPPED, LOST, ERROR = Report("done"), Report("stopped"), Report("lost"), Report("error", "ValueError: x")
TERMINATED = Report("terminated")


@pytest.mark.parametrize(
    ("decision", "requeue"),
    [
        (decided(0, "RUNNING", DONE, DONE), False),
        (decided(0, "RUNNING", STOPPED, STOPPED), True),
        (decided(0, "COMPLETING", STOPPED, STOPPED), False),  # Slurm's own requeue, or scancel
        (decided(143, "CANCELLED", STOPPED), False),
        (decided(143, "RUNNING"), True),  # preempted during imports
        (decided(138, "RUNNING", TERMINATED, stalled=1), True),  # the time's warning during imports
        (decided(143, "RUNNING", TERMINATED, TERMINATED, stalled=1), True),  # preempted while starting
        (decided(143, "RUNNING", TERMINATED, ranks=2, stalled=1), False),  # a crash: srun terminated the other rank
        (decided(143, "RUNNING", LOST, ranks=2, stalled=1), False),
        (decided(137, "RUNNING", STOPPED, ranks=2, stalled=1), False),
        (decided(137, "RUNNING", ERROR), False),  # srun's code hides the error of the rank that failed first
        (decided(137, "RUNNING", LOST), True),  # a node is gone
        (decided(1, "RUNNING", ERROR, LOST), False),
        (decided(1, "RUNNING"), True),  # hung, or srun could not reach a node
        (decided(137, "RUNNING", stalled=1), False),
        (decided(137, "RUNNING", stalled=1, progressed=True), True),
        (decided(143, "RUNNING", stalled=1), True),
        (decided(0, "RUNNING", STOPPED, requeues=20), False),
        (decided(137, None), True),
        (decided(143, "RUNNING", finished=True), False),  # a signal after the results: only the page was left
        (decided(0, "RUNNING", STOPPED, DONE, finished=True), False),
        (decided(137, "RUNNING", LOST, DONE, finished=True), False),
    ],
)
def test_a_job_is_requeued_if_it_can_resume(decision: Decision, requeue: bool) -> None:
    assert decision.requeue is requeue


def test_a_crash_that_repeats_itself_is_given_up_after_two() -> None:
    first = decided(139)
    assert (first.requeue, first.stalled) == (True, 1)
    second = decided(139, stalled=first.stalled)
    assert not second.requeue
    assert "2 times in a row without a new checkpoint" in second.reason


@pytest.mark.parametrize(
    "reports", [[LOST], [TERMINATED], [STOPPED], [LOST, TERMINATED]], ids=lambda found: "-".join(r.kind for r in found)
)
def test_srun_ends_the_other_ranks_of_a_lost_one(reports: list[Report]) -> None:
    """Their exit code, 143, hides that of the lost rank, and their reports depend on when the signal arrives."""
    for code in (137, 139, 143):
        assert decided(code, "RUNNING", *reports, ranks=3).reason.startswith(f"lost a rank (exit code {code} of srun)")


def test_a_program_error_has_its_exit_code_not_that_of_killed_ranks() -> None:
    assert decided(137, "RUNNING", ERROR).exit_code(137) == 1
    assert decided(0, "RUNNING", DONE).exit_code(0) == 0
    assert decided(0, "CANCELLED", STOPPED).exit_code(0) == 1


def test_a_job_whose_results_are_complete_is_done() -> None:
    killed = decided(137, "RUNNING", DONE, ranks=2, finished=True)
    assert (killed.exit_code(137), killed.reason) == (0, "done; then a rank was ended (exit code 137 of srun)")
    assert decided(143, "CANCELLED", finished=True).exit_code(143) == 0
    assert decided(1, "RUNNING", ERROR, finished=True).exit_code(1) == 1


def test_a_lost_peer_is_distinguished_from_a_program_error() -> None:
    gloo = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242")
    assert of_exception(gloo).kind == "lost"
    assert of_exception(RuntimeError("mat1 and mat2 shapes cannot be multiplied")).kind == "error"
    assert of_exception(ValueError("Connection closed by peer")).kind == "error"
    assert [of_code(code).kind for code in (0, 1, 2, 138, 143)] == ["done", "error", "error", "stopped", "stopped"]
