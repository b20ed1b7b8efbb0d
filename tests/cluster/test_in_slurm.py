"""Jobs in a real Slurm: scripts, arrays, several nodes, refusals, and recovery from faults."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.cluster import faults
from tests.cluster.accounting import accounting, why_no_accounting
from tests.cluster.conftest import HERE, SMALL, Site, site_of
from tests.cluster.faults import LONG, ONE, TWO_NODES, strike
from tests.cluster.slurm_host import running, why_not
from tests.cluster.test_script import SHIPPED
from tests.conftest import Run, command
from tests.training.test_resume import assert_equal_runs

from convoy.cluster.submission import Submission, Task
from convoy.commands.main import main
from convoy.runs.lock import has_lease

Convoy = Callable[..., Run]

DIGITS = Path(__file__).resolve().parents[2] / "conf" / "data" / "digits.yaml"

SUBMIT = (*SMALL, *HERE, "hardware=a100", "account=class_1246", "memory_per_gpu_gib=8")


@pytest.mark.slow
def test_every_script_is_taken_and_finishes(site: Site) -> None:
    """Slurm accepts each script as shipped. a100 and debug run unchanged, the others with one rank, all at once."""
    words = (*SMALL, "trainer.max_steps=3", "trainer.test=false")
    jobs = {}
    for name in SHIPPED:
        taken = site.host.call("sbatch", "--test-only", f"slurm/{name}.sbatch")
        assert " to start at " in taken, taken
        whole = name in ("a100", "debug")
        gres = next(card for card in ("a100", "a40", "v100", "l40s", "p100") if name.startswith(card) or card == "p100")
        options = () if whole else ("--ntasks-per-node=1", f"--gres=gpu:{gres}:1")
        jobs[name] = site.sbatch(name, *words, f"trainer.processes={1 + whole}", options=options)
    for name, job in jobs.items():
        assert site.wait_for(job, 180) == "COMPLETED", f"{name}: {site.log(job)}"
        assert site.run(job).summary()["steps"] == 3
        assert ("2 ranks" in site.log(job)) is (name in ("a100", "debug"))


@pytest.mark.slow
def test_two_nodes_with_two_ranks_each_train_and_measure_as_one_process_does(site: Site, shell: Convoy) -> None:
    words = (*SMALL, "model.layers=[CONV3-8,POOL4,FC-32,FC-10]")
    hostile = '$(touch broken) `touch broken` "; touch broken'
    job = site.sbatch("a100", *words, f"tags=['{hostile}']", "trainer.processes=2", options=("--nodes=2", "--mem=8G"))
    one = shell("train", *words, "hardware=a100", folder="one")
    assert one.code == 0, one.err
    assert site.wait_for(job) == "COMPLETED", site.log(job)
    assert "4 ranks" in site.log(job)
    assert yaml.safe_load((site.folder(job) / "config.yaml").read_text())["tags"] == [hostile]
    assert not list(site.path.rglob("broken"))
    for first, second in zip(one.rows(), site.run(job).rows(), strict=True):
        for name, value in first.items():
            assert (value == "") == (second[name] == "")
            if value:
                assert float(second[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


@pytest.mark.slow
def test_an_array_of_six_points_has_six_folders_and_one_task_is_repeated(site: Site, convoy: Convoy) -> None:
    done = convoy("submit", "-m", *SUBMIT, "seed=1,2,3", "optimizer.lr=0.1,1e30", "max_parallel=3", "logger=csv")
    assert done.code == 0, done.err
    job = done.out.partition("job     ")[2].partition(",")[0]
    folders = [Path(line.split()[1]) for line in done.out.splitlines() if line.startswith("folder  ")]
    assert len(folders) == 6
    assert site.host.job(f"{job}_0")["ArrayTaskThrottle"] == "3"
    states = [site.wait_for(f"{job}_{index}") for index in range(6)]
    assert states == ["COMPLETED", "FAILED"] * 3, site.log(job)
    for index, folder in enumerate(folders):
        config = (folder / "config.yaml").read_text()
        assert f"seed: {index // 2 + 1}\n" in config
        assert ("lr: 1.0e+30" in config) is (index % 2 == 1)
        assert json.loads((folder / "summary.json").read_text())["status"] == ("finished", "not finite")[index % 2]
    listed = convoy("jobs").out
    assert listed.count(" done ") == 3
    assert listed.count(" failed ") == 3
    assert "seed=3 optimizer.lr=1e+30" in listed
    (folder,) = Path("outputs/submitted").iterdir()
    again = site.host.call("sbatch", "--parsable", "--array=4", str(folder / "job.sbatch")).strip()
    assert site.wait_for(f"{again}_4") == "COMPLETED"
    (second,) = Path(f"outputs/sweeps/slurm-{again}").iterdir()
    assert_equal_runs(folders[4], second)


@pytest.fixture
def small_site(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Site of a cluster whose arrays have at most two tasks, and whose queue has room for three."""
    if reason := why_not():
        pytest.skip(f"no Slurm here: {reason}")
    with running(tmp_path_factory.mktemp("slurm") / "small", max_array_size=2, max_job_count=4) as host:
        yield from site_of(host, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_sweep_above_the_limits_of_slurm_is_split_and_each_point_runs_once(small_site: Site, convoy: Convoy) -> None:
    site = small_site
    words = (
        "submit",
        "-m",
        *SUBMIT,
        "trainer.max_steps=3",
        "trainer.test=false",
        "cluster.partitions.gpu.max_queued=4",
    )
    whole = convoy(*words, "seed=range(3)")
    assert whole.code == 2
    assert "Invalid job array specification; write cluster.max_array_size=… of at most MaxArraySize in" in whole.err
    assert not Path("outputs/submitted").exists()
    done = convoy(*words, "seed=range(5)", "cluster.max_array_size=2")
    assert done.code == 0, done.err
    (first,) = re.findall(r"^job     (\d+), an array of 2$", done.out, re.MULTILINE)
    (second, full), (third, above) = re.findall(r"^later   sbatch (\S+) \((.*)\)$", done.out, re.MULTILINE)
    assert "Resource temporarily unavailable; the queue is full (MaxJobCount): submit again" in full
    assert above == "above the 4 waiting jobs of gpu"
    for job in (f"{first}_0", f"{first}_1"):  # a step that starts during the restart would hang
        assert site.wait_for(job) == "COMPLETED", site.log(job)
    site.host.restart_with(max_job_count=100)
    second, third = (site.host.call("sbatch", "--parsable", script).strip() for script in (second, third))
    for job in (f"{second}_0", f"{second}_1", f"{third}_0"):
        assert site.wait_for(job) == "COMPLETED", site.log(job)
    (folder,) = Path("outputs/sweeps").iterdir()
    assert folder.name == f"slurm-{first}"
    assert sorted(path.name for path in folder.iterdir()) == [f"{seed}_seed={seed}" for seed in range(5)]
    for seed in range(5):
        run = folder / f"{seed}_seed={seed}"
        assert json.loads((run / "summary.json").read_text())["steps"] == 3
        assert json.loads((run / "slurm" / "job.json").read_text())["start"] == 1


@pytest.fixture
def limited_site(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Site of a cluster on which this user may have three jobs in the queue."""
    if reason := why_not() or why_no_accounting():
        pytest.skip(f"no Slurm with accounts here: {reason}")
    folder = tmp_path_factory.mktemp("slurm")
    with accounting(folder / "accounting") as lines, running(folder / "limited", accounting=lines) as host:
        host.wait(lambda: "convoy" in host.call("sacctmgr", "show", "cluster"), 60, "the database knows no cluster")
        host.call("sacctmgr", "--immediate", "add", "account", "class_1246", check=True)
        limit = ("account=class_1246", "MaxSubmitJobs=3")
        host.call("sacctmgr", "--immediate", "add", "user", "root", *limit, check=True)
        shown = ("scontrol", "show", "assoc_mgr", "accounts=class_1246")
        host.wait(lambda: "MaxSubmitJobs=3" in host.call(*shown), 60, "slurmctld knows no limit")
        yield from site_of(host, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_sweep_above_the_limit_of_an_account_is_split_as_the_refusal_says(limited_site: Site, convoy: Convoy) -> None:
    site = limited_site
    words = ("submit", "-m", *SUBMIT, "trainer.max_steps=3", "trainer.test=false", "seed=range(5)")
    whole = convoy(*words)
    assert whole.code == 2
    assert "AssocMaxSubmitJobLimit" in whole.err
    assert "a sweep in parts with cluster.partitions.<partition>.max_queued=<jobs>" in whole.err
    assert not Path("outputs/submitted").exists()
    done = convoy(*words, "cluster.partitions.gpu.max_queued=3")
    assert done.code == 0, done.err
    (first,) = re.findall(r"^job     (\d+), an array of 3$", done.out, re.MULTILINE)
    ((script, reason),) = re.findall(r"^later   sbatch (\S+) \((.*)\)$", done.out, re.MULTILINE)
    assert reason == "above the 3 waiting jobs of gpu"
    for index in range(3):
        assert site.wait_for(f"{first}_{index}") == "COMPLETED", site.log(first)
    second = site.host.call("sbatch", "--parsable", script).strip()
    for index in range(2):
        assert site.wait_for(f"{second}_{index}") == "COMPLETED", site.log(second)
    (folder,) = Path("outputs/sweeps").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [f"{seed}_seed={seed}" for seed in range(5)]


@pytest.mark.slow
def test_a_stopped_run_of_this_machine_is_resumed_in_a_job(site: Site, convoy: Convoy, shell: Convoy) -> None:
    words = (*SMALL, "trainer.max_epochs=30", "trainer.checkpoint_every_steps=3", "report=false")
    whole = shell("train", *words, folder="whole")
    process = subprocess.Popen(command(["train", *words, "folder=run"]))
    site.wait_until(lambda: Path("run/checkpoints/last.ckpt").is_file(), "0", seconds=240)
    process.send_signal(signal.SIGSTOP)
    refused = convoy("submit", "resume=run", *HERE, "hardware=a100", "account=class_1246", folder=None)
    assert "resume=run: is being trained" in refused.err
    process.terminate()
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 128 + signal.SIGTERM
    asked = (*HERE, "hardware=a100", "hardware.accelerator=cpu", "hardware.cpu_threads=1", "trainer.precision=32")
    done = convoy("submit", "resume=run", *asked, "account=class_1246", "memory_per_gpu_gib=8")
    assert done.code == 0, done.err
    job = done.out.partition("job     ")[2].split()[0]
    assert site.wait_for(job, seconds=240) == "COMPLETED", site.log(job)
    assert_equal_runs(whole.folder, Path("run"))
    assert "done" in convoy("jobs").out
    finished = convoy("submit", "resume=run", *asked, "account=class_1246")
    assert "resume=run: is finished" in finished.err


@pytest.mark.slow
def test_a_run_that_cannot_fit_its_card_is_not_queued_unless_forced(site: Site, convoy: Convoy) -> None:
    words = ("hardware=a100", "account=class_1246", "memory_per_gpu_gib=8", "model=resnet50", "data.image_size=224")
    words += (*HERE, "logger=csv", "trainer.global_batch_size=4096")
    refused = convoy("submit", *words)
    assert refused.code == 2
    assert "hardware=a100: has 39.39 GiB, and resnet50, micro batch 2048 in bf16-mixed is predicted" in refused.err
    assert "write trainer.micro_batch_size=512 (4 accumulation steps keep the global batch of 4096)" in refused.err
    assert not Path("outputs/submitted").exists()
    assert site.host.call("squeue", "--noheader").strip() == ""
    kept = convoy("submit", *words, "plan.force=true")
    assert kept.code == 0, kept.err
    assert "predicted, not calibrated" in kept.out
    site.host.call("scancel", kept.out.partition("job     ")[2].split()[0])


@pytest.mark.slow
def test_a_submitted_run_is_the_one_that_was_checked(site: Site, convoy: Convoy) -> None:
    """Edits do not affect a waiting job, whose resolved config is stored next to its script."""
    options = Path("mine/data")
    options.mkdir(parents=True)
    (options / "own.yaml").write_text(DIGITS.read_text())
    words = ("--config-dir", "mine", "data=own", "trainer.max_steps=3")
    started = time.monotonic()
    done = convoy("submit", *SUBMIT, *words, "seed=7")
    assert time.monotonic() - started < 10
    (options / "own.yaml").write_text("name: broken\n")
    assert done.code == 0, done.err
    job = done.out.partition("job     ")[2].split()[0]
    assert f"folder  outputs/lenet5/slurm-{job}\n" in done.out
    assert "cost    1,440 billing units per hour" not in done.out  # 8 GiB and one card: 8 + 8 + 2 per minute
    assert "cost    1,080 billing units per hour, at most 4,320 for 4:00:00" in done.out
    assert site.wait_for(job) == "COMPLETED", site.log(job)
    assert "seed: 7\n" in (site.folder(job) / "config.yaml").read_text()
    assert "done" in convoy("jobs").out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("constraint=h100", "Invalid feature specification"),
        ("cluster.cards.a100.gres=h100", "Requested node configuration is not available"),
        ("trainer.nodes=3", "Requested node configuration is not available"),
    ],
)
def test_a_refusal_by_slurm_is_reported_with_its_message_and_nothing_is_written(
    site: Site, convoy: Convoy, word: str, reason: str
) -> None:
    before = faults.folder_bytes(site.path)
    done = convoy("submit", *SUBMIT, "trainer.global_batch_size=120", word)
    assert done.code == 2
    assert f"Slurm refuses: allocation failure: {reason}" in done.err.replace("failure: failure", "failure"), done.err
    assert faults.folder_bytes(site.path) == before
    assert site.host.call("squeue", "--noheader") == ""


def test_a_mismatched_allocation_is_reported_in_the_first_second(site: Site) -> None:
    job = site.sbatch("a100", *SMALL, "trainer.processes=1")
    assert site.wait_for(job) == "FAILED"
    ran = site.host.job(job)
    assert ran["ExitCode"] == "2:0"
    assert int(ran["RunTime"].rpartition(":")[2]) <= 3
    assert "trainer.processes=1: this job has 2 per node; write trainer.processes=2" in site.log(job)
    assert not site.folder(job).exists()


@pytest.mark.slow
def test_a_program_error_fails_at_once_and_is_not_queued_again(site: Site) -> None:
    """The error is only found after the import of torch, on both ranks; srun kills the slower one."""
    job = site.sbatch("a100", *SMALL, "trainer.processes=2", "+optimizer.momentun=0.9")
    assert site.wait_for(job) == "FAILED"
    assert site.host.job(job)["Restarts"] == "0"
    assert "did you mean momentum?" in site.log(job)
    assert "convoy: failed: " in site.log(job)


@pytest.mark.slow
def test_a_cancelled_job_stays_cancelled(site: Site, convoy: Convoy) -> None:
    held = site.sbatch("v100", *LONG, options=("--hold", "--array=0"))
    assert " waiting " in convoy("jobs").out
    assert convoy("cancel", held).code == 0
    job = site.sbatch("a100", *LONG, options=ONE)
    site.wait_for_step(job, 100)
    assert convoy("cancel", job).out == f"cancelled {job}\n"
    faults.wait_until_cancelled(site, job)
    assert site.host.state(job) == "CANCELLED"
    assert " cancelled " in convoy("jobs").out
    claim = site.claim(job)
    assert (claim["start"], claim["requeues"]) == (1, 0)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_done_twice(site: Site, shell: Convoy) -> None:
    """Run a job with one rank and a job with one rank on each of two nodes, at the same time, with different faults.

    The options of the first are edited while it runs; it keeps its config. The second logs to W&B, whose process
    receives every signal too.
    """
    draw = random.Random(4)
    own = Path("mine/data/own.yaml")
    own.parent.mkdir(parents=True)
    own.write_text(DIGITS.read_text())
    words = (*LONG, "--config-dir", "mine", "data=own")
    one = site.sbatch("a100", *words, options=(*ONE, "--exclude=a01,a02,e01", "--gres=gpu:a40:1"))
    two = site.sbatch("a100", *LONG, "logger=wandb", options=TWO_NODES)
    steps = sorted(draw.sample(range(60, 900, faults.MARGIN), 3))
    plans = {
        one: [(faults.kill, steps[0]), (faults.term, steps[1])],
        two: [(faults.usr1, steps[0]), (faults.preempt, steps[2])],
    }
    site.wait_for_step(one, 4)
    own.write_text(DIGITS.read_text().replace("val_fraction: 0.1", "val_fraction: 0.2"))
    strike(site, plans)
    for job in (one, two):
        assert site.wait_for(job, 180) == "COMPLETED", site.log(job)
    for job, processes in ((one, 1), (two, 2)):
        alone = shell("train", *LONG, "hardware=a100", f"trainer.processes={processes}", folder=f"alone{processes}")
        assert alone.code == 0, alone.err
        assert_equal_runs(alone.folder, site.folder(job))
        assert site.run(job).summary()["steps"] == faults.TOTAL_STEPS
        with (site.folder(job) / "metrics.csv").open(newline="") as file:
            rows = [(row["step"], bool(row["train/loss"])) for row in csv.DictReader(file)]
        assert len(rows) == len(set(rows)) + 1  # the last validation and the test share a step
    records = [path.name for path in (site.folder(two) / "wandb").glob("offline-run-*")]
    assert len(records) == 3  # one per start, all of the same run
    assert len({name.split("-")[3] for name in records}) == 1


@pytest.mark.slow
def test_a_job_that_loses_a_rank_resumes_without_a_stack_trace(site: Site) -> None:
    job = site.sbatch("a100", *LONG, options=TWO_NODES)
    strike(site, {job: [(faults.kill_one_rank, 100)]})
    assert site.wait_for(job, 180) == "COMPLETED", site.log(job)
    assert site.run(job).summary()["steps"] == faults.TOTAL_STEPS
    log = site.log(job)
    assert "Traceback" not in log, log
    assert re.search(r"lost a rank \(exit code \d+ of srun\); requeued \(1 of at most 20\)", log), log
    assert "nothing is kept" not in log, log
    assert faults.resumed_steps(log)


@pytest.mark.slow
def test_data_is_copied_to_the_nodes_disk_first(site: Site, tmp_path: Path) -> None:
    from PIL import Image

    for split, name in ((split, name) for split in ("train", "val") for name in ("cat", "dog")):
        (tmp_path / "pets" / split / name).mkdir(parents=True)
        for index in range(8):
            Image.new("L", (32, 32), color=index).save(tmp_path / "pets" / split / name / f"{index}.png")
    (tmp_path / "node").mkdir()
    assert main(["slurm", "render", *HERE, f"cluster.fast_disk={tmp_path}/node"]) == 0
    pets = ("data=image_folder", "data.root=pets", "data.channels=1", "data.image_size=32", "data.augment.flip=false")
    words = (*SMALL, *pets, "data.mean=[0.5]", "data.std=[0.5]", "trainer.global_batch_size=4", "model=lenet5")
    model = "model.layers=[CONV3-8,POOL4,FC-2]"
    job = site.sbatch("a100", *words, model, "data.augment.random_resized_crop=null", options=ONE)
    assert site.wait_for(job) == "COMPLETED", site.log(job)
    staged = tmp_path / "node" / f"convoy-{job}" / "pets"
    assert len(list(staged.rglob("*.png"))) == 32
    assert f"root: {staged}" in (site.folder(job) / "config.yaml").read_text()


@pytest.mark.slow
def test_the_runs_of_jobs_are_queued_running_preempted_and_stopped(site: Site, convoy: Convoy) -> None:
    """And none of them can be cleaned while Slurm may start it."""

    def states() -> dict[str, str]:
        return {row["job"]: row["state"] for row in csv.DictReader(convoy("runs", "format=csv").out.splitlines())}

    held = site.host.call("sbatch", "--parsable", "--hold", "--wrap=true").strip()
    submission = Path("outputs/submitted/one")
    submission.mkdir(parents=True)
    (submission / "0.yaml").write_text("model: {name: vgg16}\n")
    task = Task("mine", [], "0.yaml", "outputs/mine/slurm-{job}")
    Submission("mine", "2026-01-02T03:04:05+00:00", ".", [task], False, [], job_id=held).write(submission)
    assert states() == {held: "queued"}
    assert "mine/slurm-" in convoy("runs", "model=vgg16").out
    site.host.call("scancel", held)

    job = site.sbatch("a100", *LONG, options=ONE)
    site.wait_for_step(job, 100)
    assert states()[job] == "running"
    site.host.call("scontrol", "requeuehold", job)
    site.wait_until(lambda: site.host.state(job) == "PENDING", job)
    site.wait_until(lambda: not has_lease(site.folder(job)), job)
    assert states()[job] == "preempted"
    assert "nothing to remove" in convoy("runs", "clean").out
    assert convoy("cancel", job).code == 0
    assert states()[job] == "stopped"
