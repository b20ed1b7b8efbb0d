"""Faults that are refused before a job is queued, with key, rule and remedy."""

from __future__ import annotations

import pytest

from convoy.cluster import kernels
from convoy.cluster.checks import check_config, check_request
from convoy.cluster.cost import cost_of
from convoy.cluster.request import request_of, the_cluster
from convoy.cluster.submission import array_sizes
from convoy.cluster.times import seconds_of, shown
from convoy.config.faults import UserError
from convoy.training.preflight import read

CARC = ("cluster=carc", "cluster.job.account=class_1246")


def faults_of(*overrides: str, torch: str | None = "2.10.0", account: str | None = None) -> list[str]:
    """Return the error messages of `convoy submit`."""
    try:
        config = read([*CARC, *overrides])
        found = list(check_config(config))
        found += check_request(request_of(config), config, torch, account)
    except UserError as error:
        found = list(error.faults)
    return [str(fault) for fault in found]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("hardware=a100", "trainer.gpus=4"),
            "trainer.gpus=4: hardware=a100 has 2 GPUs per node; write trainer.gpus=2",
        ),
        (("hardware=a100", "trainer.gpus=0"), "a job on this cluster needs a GPU"),
        (("hardware=a100", "cluster.job.time=2-00:00:01"), "partition gpu allows 2-00:00:00"),
        (("hardware=p100", "cluster.job.partition=debug", "cluster.job.time=2:00:00"), "partition debug allows 01:00"),
        (("hardware=a100", "cluster.job.time=14400"), "is not a wall time; write HH:MM:SS"),
        (("hardware=a100", "cluster.job.time=00:00:00"), "is not a wall time"),
        (("hardware=a100", "cluster.job.time=00:03:00"), "must exceed twice the 120 s reserved for saving"),
        (("hardware=v100", "trainer.precision=bf16-mixed"), "hardware=v100 has no bfloat16"),
        (("hardware=a100", "cluster.job.account=null"), "account: must be set on carc; write account=…"),
        (("hardware=a100", "cluster.job.partition=debug"), "partition=debug: has no a100; write partition=gpu"),
        (("hardware=a100", "cluster.job.partition=gpus"), "carc has no such partition; did you mean gpu?"),
        (("hardware=auto",), "hardware=auto: cluster=carc has no such card"),
        (("hardware=a100", "trainer.nodes=19", "trainer.global_batch_size=38"), "exceed the 36 allowed per user"),
        (("hardware=p100", "cluster.job.cpus_per_gpu=16"), "has 20 CPUs for 2 ranks; write cpus_per_gpu=10"),
        (
            ("hardware=v100", "cluster.job.memory_per_gpu_gib=100"),
            "has 187 GiB for 2 ranks; write memory_per_gpu_gib=93",
        ),
        (("hardware=a100", "folder=x"), "a job's folder is named by its id"),
        (("hardware=a100", "data=image_folder", "data.root=/no/where", "model=resnet18"), "data.root=/no/where"),
    ],
)
def test_a_wrong_request_is_refused(overrides: tuple[str, ...], message: str) -> None:
    found = faults_of(*overrides)
    assert any(message in text for text in found), found


@pytest.mark.parametrize("card", ["a100", "a100_40gb", "a100_80gb", "a40", "l40s", "p100", "v100"])
def test_a_right_request_is_not(card: str) -> None:
    assert faults_of(f"hardware={card}", torch="2.7.1") == []


def test_an_account_of_the_environment_counts() -> None:
    assert faults_of("hardware=a100", "cluster.job.account=null", account="class_1246") == []


@pytest.mark.parametrize(
    ("num_tasks", "max_array_size", "max_queued", "sizes"),
    [
        (100, 5001, 100, [100]),
        (142, 5001, 100, [71, 71]),
        (5, 2, None, [2, 2, 1]),
        (7, None, None, [7]),
        (1, 10, 10, [1]),
    ],
)
def test_a_sweep_above_a_limit_is_several_arrays(
    num_tasks: int, max_array_size: int | None, max_queued: int | None, sizes: list[int]
) -> None:
    assert array_sizes(num_tasks, max_array_size, max_queued) == sizes


@pytest.mark.parametrize("value", ["x\n#SBATCH --wrap=id", "a b", "$(id)", "a;b", "'", '"', "`id`", "--wrap=id"])
@pytest.mark.parametrize("key", ["account", "partition", "qos", "mail", "constraint"])
def test_a_hostile_word_is_refused(key: str, value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    found = faults_of("hardware=a100", f"cluster.job.{key}='{quoted}'")
    if (key, value) == ("constraint", "--wrap=id"):
        return  # '=' alone is refused below
    assert any(text.startswith(f"{key}=") for text in found), found


CASES = [
    # Architectures in the wheels of the package index, read from the wheels in 2026-11.
    ("sm_70", "2.10.0", True),
    ("sm_70", "2.11.0", False),
    ("sm_60", "2.7.1", True),
    ("sm_60", "2.8.0", False),
    ("sm_89", "2.14.1", True),  # runs sm_80's code
    ("sm_80", "2.14.1", True),
    ("sm_35", "2.6.0", False),
    ("sm_70", "2.16.0", None),
    ("sm_60", "2.9.1+cu126", None),
    ("sm_80", "3.0.0a1", None),
]


@pytest.mark.parametrize(("architecture", "version", "runs"), CASES)
def test_which_torch_has_kernels_for_which_card(architecture: str, version: str, runs: bool | None) -> None:
    assert kernels.has_kernels(architecture, version) is runs


@pytest.mark.parametrize(
    ("card", "torch", "command"), [("v100", "2.14.1", "TORCH=v100"), ("p100", "2.10.0", "TORCH=p100")]
)
def test_a_card_without_kernels_is_refused_with_the_command_that_helps(card: str, torch: str, command: str) -> None:
    (fault,) = faults_of(f"hardware={card}", torch=torch)
    assert "has no kernels; run: make install " + command in fault


def test_the_installed_torch_is_known_from_its_metadata() -> None:
    import torch

    version = kernels.installed_torch()
    assert version is not None
    # torch itself adds the build (+cu130) also where the package index's version has none.
    assert version.partition("+")[0] == torch.__version__.partition("+")[0]


def test_the_table_agrees_with_the_installed_torch() -> None:
    """Compare with `_cuda_getArchFlags` of torch, which is empty for a CPU build."""
    import torch

    flags = getattr(torch._C, "_cuda_getArchFlags", lambda: None)()
    if not flags:
        pytest.skip("this torch has no CUDA")
    compiled = {int(flag[3:]) for flag in flags.split() if flag.startswith("sm_")}
    for arch in (60, 70, 75, 80, 86, 89, 90, 120):
        expected = any(other // 10 == arch // 10 and other <= arch for other in compiled)
        assert kernels.has_kernels(f"sm_{arch}", torch.__version__.partition("+")[0]) is expected


def test_one_a100_with_8_cpus_and_32_gib_costs_24_units_a_minute() -> None:
    """Compare with the sum of CARC's published weights: 8 + 8 x 1 + 32 x 0.25."""
    config = read([*CARC, "hardware=a100", "trainer.gpus=1", "cluster.job.time=10:00:00"])
    cost = cost_of(request_of(config), the_cluster(config))
    assert cost is not None
    assert (cost.per_hour, cost.maximum) == (24 * 60, 24 * 600)
    four = read([*CARC, "hardware=a100", "trainer.nodes=2", "cluster.job.time=10:00:00"])
    cost = cost_of(request_of(four), the_cluster(four), num_jobs=3)
    assert cost is not None
    assert (cost.per_hour, cost.maximum) == (4 * 24 * 60, 3 * 4 * 24 * 600)


def test_a_price_that_is_not_known_is_not_made_up() -> None:
    config = read([*CARC, "hardware=l40s"])
    assert cost_of(request_of(config), the_cluster(config)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4:00:00", 14400),
        ("2-00:00:00", 172800),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("100:00:00", 360000),
        ("30", None),
        ("30:00", None),
        ("x", None),
        ("0:00:00", None),
    ],
)
def test_wall_times_are_read_as_slurm_reads_them(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds
    if seconds:
        assert seconds_of(shown(seconds)) == seconds
