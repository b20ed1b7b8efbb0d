"""Tests of convoy submit, jobs, cancel and sync that need no Slurm."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Run

from convoy.cluster.job_table import Known, Queued, known_jobs, row, state
from convoy.cluster.reports import Rank, Report
from convoy.cluster.run_lease import take
from convoy.cluster.submission import Submission, Task
from convoy.commands.sync import unsent

Convoy = Callable[..., Run]

MINE = ("account=class_1246", "hardware=a100")


def test_a_dry_run_answers_in_two_seconds_without_torch_and_writes_nothing(tmp_path: Path) -> None:
    """It waits for nothing, so that its CPU time is its wall time on a machine with nothing else to do."""
    code = (
        "import sys\nfrom convoy.commands.main import main\nmain(sys.argv[1:])\n"
        "print(sorted({'torch', 'pytorch_lightning', 'wandb', 'numpy'} & set(sys.modules)))"
    )
    words = ["submit", "dry_run=true", *MINE, "model=resnet50", "trainer.gpus=2", "trainer.nodes=2", "time=12:00:00"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "#SBATCH --nodes=2\n" in done.stdout
    assert "#SBATCH --time=12:00:00\n" in done.stdout
    assert "5,760 billing units per hour, at most 69,120 for 12:00:00" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hardware=a100", "modle=vgg16", "account=a"), "did you mean model?"),
        ((*MINE, "tiem=1:00:00"), "did you mean"),
        ((*MINE, "time=3-00:00:00"), "partition gpu allows 2-00:00:00"),
        (("hardware=a100",), "account: must be set on carc"),
        ((*MINE, "max_parallel=none"), "must be a whole number of at least 1"),
        ((*MINE, "trainer.nodes=2", "trainer.global_batch_size=130"), "doesn't divide by 4 ranks"),
        ((*MINE, "-m", "seed=1,2", "workers=2"), "workers=2: applies to a study; write max_parallel=…"),
        ((*MINE, "resume=nothing"), "resume=nothing: no such run"),
        ((*MINE, "-m", "resume=nothing", "seed=1,2"), "applies to a single run, not to a sweep"),
        (("account=a", "-m", "hardware=a100,a40"), "must request the same; these differ in card"),
        ((*MINE, "-m", "model=vgg16,vgg99"), "vgg99"),
        ((*MINE, "name='a\"; id'"), "must be a folder name"),
        ((*MINE, "output_root='a\"b'"), "output_root"),
        ((*MINE, "--wiat"), "no such flag"),
    ],
)
def test_a_mistake_ends_in_one_message_and_nothing_is_written(
    convoy: Convoy, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.delenv("SBATCH_ACCOUNT", raising=False)
    done = convoy("submit", *words, folder=None)
    assert done.code == 2, done.out
    assert message in done.err
    assert "Traceback" not in done.err
    assert list(Path().iterdir()) == []


def test_a_dry_run_of_a_sweep_above_the_limit_prints_each_array(convoy: Convoy) -> None:
    done = convoy("submit", "-m", "dry_run=true", *MINE, "seed=range(3)", "cluster.max_array_size=2")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if "--array" in line] == [
        "#SBATCH --array=0-1",
        "#SBATCH --array=0-0",
    ]


def test_a_missing_slurm_has_a_remedy(convoy: Convoy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for words in (("submit", *MINE), ("jobs",), ("cancel", "12")):
        done = convoy(*words, folder=None)
        assert done.code == 2
        assert "is not installed on this machine; run it on the cluster's login node" in done.err
    assert list(Path().iterdir()) == []


def test_four_gpus_a_node_are_for_the_cluster_to_say(convoy: Convoy, tmp_path: Path) -> None:
    (tmp_path / "mine" / "cluster").mkdir(parents=True)
    (tmp_path / "mine" / "cluster" / "lab.yaml").write_text(
        "# Four cards a node.\nname: lab\ncards: {a100: {gres: a100, partitions: [main], gpus_per_node: 4}}\n"
        'partitions: {main: {max_time: "24:00:00"}}\n'
    )
    done = convoy("submit", "--config-dir", "mine", "cluster=lab", "hardware=a100", "dry_run=true", folder=None)
    assert "#SBATCH --gres=gpu:a100:4\n" in done.out, done.err
    assert "cost    unknown" in done.out


def submission(folder: Path, job_id: str | None, labels: list[str], *, is_array: bool) -> None:
    folder.mkdir(parents=True)
    tasks = [
        Task(label, [label], f"{index}.yaml", f"outputs/x/slurm-{{job}}/{index}") for index, label in enumerate(labels)
    ]
    Submission("x", "2026-11-24T00:00:00+00:00", ".", tasks, is_array, [], None, job_id).write(folder)


def test_jobs_of_both_ways_are_known_by_their_id() -> None:
    submission(Path("outputs/submitted/1"), "9", ["lr=1", "lr=2"], is_array=True)
    submission(Path("outputs/submitted/2"), "10", ["vgg16"], is_array=False)
    submission(Path("outputs/submitted/3"), None, ["never sent"], is_array=False)
    folder, _ = take(Path("outputs/lenet5/slurm-8"), "8", "hash", 0)
    found = known_jobs(Path("outputs"))
    assert [(job.job_id, job.what) for job in found] == [
        ("8", "lenet5"),
        ("9_0", "lr=1"),
        ("9_1", "lr=2"),
        ("10", "vgg16"),
    ]
    assert found[0].folder == folder.path
    assert found[2].folder == Path("outputs/x/slurm-9/1")


def test_a_job_unknown_to_slurm_is_listed_from_the_records_of_its_run(tmp_path: Path) -> None:
    folder, claim = take(tmp_path / "slurm-8", "8", "hash", 0)
    (folder.path / "config.yaml").write_text("task: {monitor: val/top1, mode: max, percent: [top1]}")
    (folder.path / "metrics.csv").write_text("step,epoch,val/top1\n10,1,\n10,1,0.5\n20,2,0.75\n25,2.5,\n")
    job = Known("8", "lenet5", folder.path)
    shown = row(job, None, None)
    assert (shown.state, shown.epoch, shown.best, shown.starts) == ("ended", "2.5", "75.00%", 1)
    Rank({"CONVOY_RUN_FOLDER": str(folder.path), "CONVOY_SLURM_START": "1", "SLURM_PROCID": "1"}).end(
        Report("error", "ValueError: no such thing")
    )
    assert row(job, None, "FAILED").reason == "ValueError: no such thing"
    assert row(job, None, "CANCELLED by 0").state == "cancelled"
    assert row(job, Queued("PENDING", "(Resources)", "0:00"), None).state == "requeued"
    (folder.path / "summary.json").write_text(json.dumps({"status": "finished"}))
    assert row(job, None, None).state == "done"
    assert claim.start == 1


def test_the_states_of_a_job() -> None:
    assert state(Queued("PENDING", "(Priority)", "0:00"), None, 0, finished=False) == "waiting"
    assert state(Queued("RUNNING", "a01", "1:00"), None, 1, finished=False) == "running"
    assert state(None, "COMPLETED", 1, finished=False) == "done"
    assert state(None, "OUT_OF_MEMORY", 1, finished=False) == "out_of_memory"


def test_a_word_that_is_no_job_is_not_cancelled(convoy: Convoy) -> None:
    done = convoy("cancel", "12;id", folder=None)
    assert done.code == 2
    assert "is not a job id" in done.err


def test_only_records_that_were_not_sent_are_sent(convoy: Convoy, tmp_path: Path) -> None:
    """The folders and the mark are those that wandb itself writes: see `convoy train` and `wandb sync`."""
    for name in ("offline-run-20260101_000002-aa", "offline-run-20260101_000001-aa", "run-20260101_000003-bb"):
        (tmp_path / "outputs/x/y/wandb" / name).mkdir(parents=True)
    sent = tmp_path / "outputs/z/y/wandb/offline-run-20260101_000000-cc"
    sent.mkdir(parents=True)
    (sent / "run-cc.wandb.synced").touch()
    assert [path.name for path in unsent([tmp_path / "outputs"])] == [
        "offline-run-20260101_000001-aa",
        "offline-run-20260101_000002-aa",
    ]
    done = convoy("sync", folder=None)
    assert done.code == 2
    assert "there is no W&B key on this machine" in done.err


def test_the_saved_config_of_a_run_can_be_run_again(convoy: Convoy) -> None:
    from tests.conftest import TINY
    from tests.training.test_resume import assert_equal_runs

    assert convoy("train", *TINY, "seed=5", folder="first").code == 0
    again = convoy("train", "--from", "first/config.yaml", "folder=second", folder=None)
    assert again.code == 0, again.err
    assert_equal_runs(Path("first"), Path("second"))
    assert convoy("train", "--from", "nowhere/config.yaml", folder=None).code == 2


def test_a_job_declares_the_targets_that_were_typed_when_it_was_submitted(tmp_path: Path) -> None:
    """Its config is saved data: alone it could name no code of the user's."""
    from convoy.cluster.allocation import Allocation
    from convoy.commands.slurm import _of_submission

    typed = ["model=mine", "optimizer._target_=mine.SGD"]
    tasks = [Task("mine", typed, "0.yaml", "outputs/mine/slurm-{job}")]
    flags = ["--config-dir", "/options"]
    Submission("mine", "2026-11-24T00:00:00+00:00", ".", tasks, False, flags).write(tmp_path)
    allocation = Allocation("7", None, 1, 1, None, None, 0, "node")
    words, _, _ = _of_submission(tmp_path, allocation)
    assert words == [*flags, typed[1], "--from", str(tmp_path / "0.yaml")]
