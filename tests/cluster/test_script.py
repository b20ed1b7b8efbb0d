"""Text of batch scripts: the shipped ones, and scripts with values that could break out of it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Run

from convoy.cluster import script
from convoy.cluster.request import Request, request_of, the_cluster
from convoy.commands.slurm_render import scripts
from convoy.config.faults import UserError
from convoy.config.options import Options
from convoy.training.preflight import read

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("a100", "a100_40gb", "a100_80gb", "a40", "v100", "p100", "l40s", "debug")

CONFIG = read(["cluster=carc", "hardware=a100_80gb", "trainer.nodes=2", "cluster.job.account=class_1246"])
CLUSTER = the_cluster(CONFIG)
REQUEST = request_of(CONFIG)

HOSTILE = ("a'b", 'a"b', "a\nb", "$(touch broken)", "`touch broken`", "a;touch broken", "a\\", "%j", "é", "--help", "")


def test_the_shipped_scripts_match_the_config() -> None:
    texts = scripts(["cluster=carc"], Options(), "slurm")
    assert set(texts) == {f"{name}.sbatch" for name in SHIPPED} | {"_run.sh"}
    for name, text in texts.items():
        assert (ROOT / "slurm" / name).read_text() == text, f"slurm/{name} differs: run convoy slurm render"
    assert {path.name for path in (ROOT / "slurm").iterdir()} - {"local"} == set(texts)


def test_a_job_of_two_nodes_requests_the_resources_of_its_config() -> None:
    """Compare with a golden file that was reviewed line by line; a change of it changes every job."""
    cluster = replace(CLUSTER, python="/env/bin/python")
    text = script.job(REQUEST, cluster, "vgg16", "/home/me/convoy", "/out/submitted/1", array="0-5%2")
    assert text == (Path(__file__).parent / "golden" / "job.sbatch").read_text()


@pytest.mark.parametrize("name", [f"{name}.sbatch" for name in SHIPPED] + ["_run.sh"])
def test_a_shipped_script_is_bash(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "slurm" / name)], check=True)


def test_another_cluster_is_one_file(convoy: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "mine" / "cluster").mkdir(parents=True)
    (tmp_path / "mine" / "cluster" / "lab.yaml").write_text(
        "# The lab's own four cards.\n"
        "name: lab\n"
        "cards: {a100_80gb: {gres: a100sxm, partitions: [main], gpus_per_node: 4}}\n"
        'partitions: {main: {max_time: "24:00:00"}}\n'
        "job: {time: '2:00:00', cpus_per_gpu: 12}\n"
    )
    done = convoy("slurm", "render", "--config-dir", "mine", "cluster=lab", "folder=lab", folder=None)
    assert done.code == 0, done.err
    text = Path("lab/a100_80gb.sbatch").read_text()
    for line in ("--ntasks-per-node=4", "--gres=gpu:a100sxm:4", "--cpus-per-task=12", "--partition=main"):
        assert f"#SBATCH {line}\n" in text
    assert ". lab/_run.sh" in text


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_breaks_out_of_a_job_script(value: str, tmp_path: Path) -> None:
    """Run the script in bash with a "Python" that prints its arguments."""
    echo = tmp_path / "echo.sh"
    echo.write_text('#!/bin/bash\nprintf "%s\\0" "$@"\n')
    echo.chmod(0o755)
    start, out = tmp_path / f"x{value}", tmp_path / "out"
    start.mkdir()
    cluster = replace(CLUSTER, python=str(echo), setup=[], environment={"NCCL_NOTE": value})
    text = script.job(REQUEST, cluster, f"run{value}", str(start), str(out))
    path = tmp_path / "job.sbatch"
    path.write_text(text)
    done = subprocess.run(["bash", str(path)], capture_output=True, check=True, cwd=tmp_path)
    given = [word.decode() for word in done.stdout.split(b"\0")[:-1]]
    assert given[:6] == ["-m", "convoy.commands.main", "slurm", "run", "--submission", str(out)]
    assert not list(tmp_path.rglob("broken"))
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert directives == script.directives(REQUEST, f"run{value}", f"{out}/%j.log")


@pytest.mark.parametrize("value", ["a'b", "a\nb", "$(id)", "`id`", 'a"b', "a\\b"])
def test_invalid_characters_of_an_sbatch_line_are_refused(value: str) -> None:
    for hostile in (replace(REQUEST, account=value), replace(REQUEST, constraint=value), replace(REQUEST, time=value)):
        with pytest.raises(UserError, match="is not allowed in an #SBATCH line"):
            script.directives(hostile, "name", "out.log")
    with pytest.raises(UserError, match="is not allowed in an #SBATCH line"):
        script.directives(REQUEST, "name", f"/out/{value}/%j.log")


def test_a_job_name_that_lightning_treats_as_interactive_is_changed() -> None:
    for name in ("bash", "interactive"):
        assert script.job_name(name) not in ("bash", "interactive")
    assert script.job_name("vgg16") == "vgg16"


def test_the_fast_disk_is_the_nodes_to_fill_in_and_nothing_more() -> None:
    cluster = replace(CLUSTER, setup=[], fast_disk='$TMPDIR/a"b`id`$(id)')
    (line,) = [line for line in script.body(cluster).splitlines() if line.startswith("exec")]
    words = shlex.split(line.partition("--fast-disk ")[2])
    expanded = subprocess.run(
        ["bash", "-c", f"TMPDIR=/tmp; printf %s {line.partition('--fast-disk ')[2].partition(' --')[0]}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert expanded.stdout == '/tmp/a"b`id`$(id)'
    assert words


def test_a_request_follows_trainer_and_cluster() -> None:
    assert (
        Request(
            card="a100_80gb",
            gres="a100",
            nodes=2,
            tasks_per_node=2,
            cpus_per_task=8,
            memory_gib=64,
            time="4:00:00",
            partition="gpu",
            signal_s=120,
            constraint="a100-80gb",
            account="class_1246",
        )
        == REQUEST
    )
    assert REQUEST.gpus == 4
