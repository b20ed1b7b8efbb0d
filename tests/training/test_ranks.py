"""Two data-parallel processes on the CPU against one."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import TINY, Run
from tests.training.test_resume import LONG, assert_equal_runs, start, stop_after
from tests.training.test_signals import WORDS, ended, endings, paused

Convoy = Callable[..., Run]


@pytest.mark.slow
def test_two_processes_train_and_measure_as_one_does(shell: Convoy) -> None:
    """Without dropout and batch norm, which see only their rank's share, all sums are the same.

    144 val and 359 test images in batches of 2 x 64 are ragged, so the metrics show that each counts once.
    """
    words = (*TINY, "model.layers=[CONV3-8,POOL4,FC-32,FC-10]", "trainer.log_every_steps=4")
    one = shell("train", *words, folder="one")
    two = shell("train", *words, "trainer.processes=2", folder="two")
    assert (one.code, two.code) == (0, 0), two.err
    assert "2 ranks" in two.out
    for first, second in zip(one.rows(), two.rows(), strict=True):
        for name, value in first.items():
            assert (value == "") == (second[name] == "")
            if value:
                assert float(second[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on(shell: Convoy) -> None:
    words = (*LONG, "trainer.processes=2", "trainer.log_every_steps=8")
    assert shell("train", *words, folder="a").code == 0
    process = start(*words, "folder=b")
    out = stop_after(process, Path("b"), 48, signal.SIGTERM)
    assert process.returncode == 143, out
    resumed = shell("train", "resume=b", folder="b")
    assert resumed.code == 0, resumed.err
    assert_equal_runs(Path("a"), Path("b"))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_skipped_images_are_counted_once_over_all_ranks(processes: int, shell: Convoy, tmp_path: Path) -> None:
    for name in ("aster", "lily"):
        (tmp_path / "flowers" / "train" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (40, 40), (20 * number, 9, 9)).save(
                tmp_path / "flowers" / "train" / name / f"{number}.png"
            )
    broken = [tmp_path / "flowers" / "train" / name / "11.png" for name in ("aster", "lily")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    run = shell(
        "train",
        *TINY,
        "model.layers=[CONV3-8,POOL4,FC-2]",
        "data=image_folder",
        "data.root=flowers",
        "data.image_size=32",
        "data.on_bad_image=skip",
        "data.val_fraction=0.25",
        "trainer.global_batch_size=4",
        f"trainer.processes={processes}",
    )
    assert run.code == 0, run.err
    assert run.summary()["skipped_images"] == 2
    assert "2 images could not be decoded" in run.out
    assert all(str(path.relative_to(tmp_path)) in (run.folder / "run.log").read_text() for path in broken)


def test_several_nodes_without_a_launcher_are_refused(convoy: Convoy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for words in (("train",), ("train", "-m", "seed=1,2")):
        refused = convoy(*words, *TINY, "trainer.nodes=2", folder=None)
        assert refused.code == 2
        assert refused.err.startswith("error: trainer.nodes=2: needs a job or a launcher")
        assert "write trainer.nodes=1 to use this machine alone" in refused.err
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_the_ranks_of_torchrun_share_the_run_of_the_first(shell: Convoy) -> None:
    words = (*TINY, "trainer.processes=2", "trainer.max_epochs=1", "scheduler=constant")
    whole = shell("train", *words, "trainer.max_epochs=2", folder="whole")
    assert whole.code == 0, whole.err
    done = torchrun("train", *words)
    assert done.returncode == 0, done.stdout
    (folder,) = Path("outputs/lenet5").iterdir()
    assert (folder / "summary.json").is_file()
    refused = torchrun("train", "resume=latest", "trainer.max_epochs=2")
    assert "resume=latest: has several answers" in refused.stdout
    resumed = torchrun("train", f"resume={folder}", "trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stdout
    assert_equal_runs(whole.folder, folder)


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the two ranks that torchrun starts."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*launcher, "-m", "convoy.commands.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.faults
def test_two_nodes_started_with_torchrun_train_one_run() -> None:
    """The command that the refusal of a launcher names, with both nodes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        launcher += ["--master-addr=127.0.0.1", f"--master-port={probe.getsockname()[1]}"]
    words = ["-m", "convoy", "train", *TINY, "trainer.nodes=2"]
    nodes = [subprocess.Popen([*launcher, f"--node-rank={node}", *words]) for node in (0, 1)]
    assert [node.wait(timeout=180) for node in nodes] == [0, 0]
    (folder,) = Path("outputs/lenet5").iterdir()
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_two_processes_train_in_an_interactive_shell_of_slurm(shell: Convoy) -> None:
    """Of `srun --pty bash`, whose rank the second process inherits."""
    of_shell = {"SLURM_JOB_ID": "5", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash"}
    run = shell("train", *TINY, "trainer.processes=2", "trainer.max_epochs=1", "trainer.test=false", **of_shell)
    assert run.code == 0, run.err
    assert run.summary()["status"] == "finished"


@pytest.mark.slow
def test_a_loss_that_breaks_ends_both_processes(shell: Convoy) -> None:
    words = (*TINY, "trainer.processes=2", "optimizer.lr=1e18", "scheduler=constant")
    run = shell("train", *words, timeout=120)
    assert run.code == 1
    assert run.out.count("the loss is not finite") == 1


def rank_of(process: subprocess.Popen[str], rank: int) -> int:
    """Return the process id of a rank of a run with two ranks."""
    if rank == 0:
        return process.pid
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def wait_for_row(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not (folder / "metrics.csv").is_file() or f"\n{step}," not in (folder / "metrics.csv").read_text():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_ended(pids: Sequence[int]) -> None:
    """Wait for the end of processes that have closed their output."""
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("rank", "is_waiting"),
    [
        pytest.param(0, True, marks=pytest.mark.slow),
        pytest.param(1, True, marks=pytest.mark.faults),
        pytest.param(0, False, marks=pytest.mark.faults),
        pytest.param(1, False, marks=pytest.mark.slow),
    ],
)
def test_a_killed_rank_ends_the_other_rank_with_one_line(rank: int, is_waiting: bool) -> None:
    """Where the other waits for it in an operation, and where its main thread never learns of it."""
    words = (*LONG, "trainer.processes=2", "trainer.max_epochs=400", "folder=run", "trainer.checkpoint_every_steps=3")
    if is_waiting:
        process = start(*words)
        wait_for_row(process, Path("run"), 48)
    else:
        process = paused("training", "train", *words, ranks=2, call=20)
    pids = [rank_of(process, number) for number in (0, 1)]
    os.kill(pids[rank], signal.SIGKILL)
    out, _ = process.communicate(timeout=60)  # the other rank has the pipe open until it ends
    assert process.returncode == (1 if rank else -signal.SIGKILL), out
    assert "Traceback" not in out, out
    (line,) = [line for line in out.splitlines() if "to resume" in line]
    lost = "was killed by SIGKILL" if rank else "has ended"
    assert line.startswith(
        f"rank {rank} on {platform.node()} (process {pids[rank]}) {lost}; kept: run/checkpoints/last"
    )
    assert line.endswith("to resume: convoy train resume=run")
    assert_ended(pids)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.faults), pytest.param(1, marks=pytest.mark.slow)])
def test_a_stopped_rank_ends_the_run(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_HANG_S", "2")
    process = start(*LONG, "trainer.processes=2", "trainer.max_epochs=400", "folder=run")
    wait_for_row(process, Path("run"), 48)
    pids = [rank_of(process, number) for number in (0, 1)]
    os.kill(pids[rank], signal.SIGSTOP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    assert "Traceback" not in out, out
    (line,) = [line for line in out.splitlines() if "to resume" in line]
    assert f"rank {rank} on {platform.node()} (process {pids[rank]}) has been stopped for 2 s; kept: run/" in line
    assert_ended(pids)


@pytest.mark.faults
def test_a_run_that_is_paused_as_a_whole_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z and fg, for longer than the limit of a stopped rank."""
    monkeypatch.setenv("CONVOY_HANG_S", "1")
    process = start(*LONG, "trainer.processes=2", "folder=run")
    wait_for_row(process, Path("run"), 48)
    pids = [rank_of(process, number) for number in (0, 1)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out


@pytest.mark.slow
def test_ranks_that_do_nothing_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank sleeps, and the other waits for it."""
    monkeypatch.setenv("CONVOY_HANG_S", "3")
    process = paused("training", "train", *LONG, "trainer.processes=2", "folder=run", ranks=2, call=60)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    assert f"ranks 0 and 1 on {platform.node()} have done nothing for 3 s; kept: run/" in out


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("training", marks=pytest.mark.faults),
        pytest.param("validation", marks=pytest.mark.faults),
        pytest.param("test", marks=pytest.mark.slow),
    ],
)
def test_two_ranks_stop_together_after_a_signal_to_the_first(stage: str, shell: Convoy) -> None:
    process = paused(stage, "train", *WORDS, "trainer.processes=2", "folder=run", ranks=2)
    out = ended(process, signal.SIGTERM)
    assert process.returncode == 143, out
    (line,) = endings(out)
    assert "to resume: convoy train resume=run" in line
    resumed = shell("train", "resume=run")
    assert resumed.code == 0, resumed.err
    assert resumed.summary()["steps"] == 20
