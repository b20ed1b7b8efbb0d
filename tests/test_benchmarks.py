"""Every benchmark runs, with sizes too small for meaningful figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks import (
    __main__,
    augmentation,
    folder_loader,
    gpu_training,
    lightning_overhead,
    optimizer_step,
    precision,
    shards,
    startup,
    step_overhead,
    template,
)
from benchmarks.results import Goal, Result, markdown, table
from benchmarks.rounds import Turns, threads
from omegaconf import OmegaConf

from convoy.models.build import build_model
from convoy.training.preflight import read
from tests.conftest import needs_fashion_mnist

TINY = {
    augmentation: "--images 512 --batch 32 --rounds 1",
    folder_loader: "--images 16 --batch 8 --workers 1 --rounds 1",
    shards: "--images 16 --batch 8 --workers 1 --rounds 1",
    optimizer_step: "--model squeezenet1_1 --rounds 1",
    lightning_overhead: "--steps 2 --batch 8 --rounds 1 model=lenet5 data=digits trainer.precision=32",
    precision: "--steps 2 --batch 4 --rounds 1 model=lenet5 data=digits",
    step_overhead: "--steps 5 --rounds 1",
}


@pytest.mark.parametrize("benchmark", TINY, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_benchmark_runs_and_returns_its_results(benchmark: object, capsys: pytest.CaptureFixture[str]) -> None:
    with threads(1):
        results = benchmark.main(TINY[benchmark].split())  # type: ignore[attr-defined,index]
    out = capsys.readouterr().out
    assert results or "skipped, this CPU has neither" in out
    for result in results:
        assert len(result.values) == len(result.null) == len(result.busy_cores) == 1
        assert result.line() in out


@needs_fashion_mnist
@pytest.mark.slow
def test_the_template_trains_for_a_step(tmp_path: Path) -> None:
    """`seconds_of` raises if a program ends with another exit code."""
    startup.unpack_fashion_mnist(tmp_path)
    assert startup.seconds_of(startup.TEMPLATE, tmp_path) > 0
    assert not list(tmp_path.glob("outputs/*/*/checkpoints/*"))  # it ended before its first epoch
    with pytest.raises(RuntimeError, match="exit code 1"):
        startup.seconds_of(("-c", "raise SystemExit(1)"), tmp_path)


def test_commands_are_timed_beside_the_import_of_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "ANSWERS", {"a typo refused": startup.ANSWERS["a typo refused"]})
    (answer,) = startup.answers(1, tmp_path)
    assert (answer.ours, answer.peer, len(answer.values)) == ("a typo refused", "import hydra", 1)


@pytest.mark.parametrize("model", startup.NETWORKS)
def test_both_sides_of_the_first_step_train_the_same_network(model: str) -> None:
    config = read([f"model={model}", "data=fashion_mnist", "logger=csv"])
    ours = build_model(config.model, num_classes=10, in_channels=1, image_size=config.data.image_size)
    theirs = getattr(template, startup.NETWORKS[model])()
    shapes = [[tuple(parameter.shape) for parameter in network.parameters()] for network in (ours, theirs)]
    assert shapes[0] == shapes[1]
    batch_size = OmegaConf.load(Path(template.__file__).with_suffix(".yaml")).data.batch_size
    assert batch_size == config.trainer.global_batch_size


def test_ratios_and_differences_are_those_of_a_round() -> None:
    turns = Turns(peer=[(10.0, 30.0), (8.0, 8.0)], others={"ours": [40.0, 4.0], "ceiling": [80.0, 16.0]})
    assert turns.ratios("ours") == [2.0, 0.5]
    assert turns.null_ratios() == [3.0, 1.0]
    assert turns.differences("ours") == [20.0, -4.0]
    assert turns.shares("ours", "ceiling") == [0.5, 0.25]


def test_a_goal_holds_for_the_median() -> None:
    result = Result("steps", "ours", "theirs", [1.0, 5.0, 2.1], [1.0, 1.1, 0.9], Goal(2.0), busy_cores=[0.1, 0.0, 0.2])
    assert (result.is_met, Result("steps", "ours", None, [3.0], goal=Goal(2.0, at_least=False)).is_met) == (True, False)
    cells = table([("one", result)]).splitlines()[1]
    assert re.split(r"  +", cells) == [
        "one",
        "steps: ours against theirs",
        "2.10 (1.00 to 5.00) times",
        "1.00 (0.90 to 1.10)",
        "≥ 2",
        "yes",
        "–",
        "0.10",
    ]
    assert markdown([("one", result)], ["here"]).splitlines()[4].startswith("| `one` | steps: ours against theirs |")


def test_all_of_them_are_of_make_bench(capsys: pytest.CaptureFixture[str]) -> None:
    """All modules with a `main` except long or GPU ones, the peer, the table and the comparison of numbers."""
    folder = Path(__main__.__file__).parent
    mains = {path.stem for path in folder.glob("*.py") if "def main(" in path.read_text(encoding="utf-8")}
    assert mains - set(__main__.BENCHMARKS) == {"__main__", "gpu_training", "numerics", "pack_accuracy", "template"}
    with pytest.raises(SystemExit):
        __main__.main(["shard"])
    assert "shard: no such benchmark; choose from startup, augmentation" in capsys.readouterr().err


@pytest.mark.slow
def test_the_gpu_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--device cpu --models resnet18 --precisions bf16-mixed --compile off --size 32 --batch 4 --steps 2"
    gpu_training.main([*words.split(), "--rounds", "1"])
    out = capsys.readouterr().out
    arms = re.findall(r"^(\w+) +([\d,]+) +[\d,]+ to [\d,]+ +– +[\d.]+%$", out, re.MULTILINE)
    assert [name for name, _ in arms] == ["synthetic", "timm", "memory", "folder", "convoy"]
    assert all(int(speed.replace(",", "")) > 0 for _, speed in arms)


def test_an_unknown_card_gets_no_other_cards_peak() -> None:
    assert gpu_training._peak("NVIDIA A100-SXM4-40GB") == 312e12
    assert gpu_training._peak("NVIDIA GeForce RTX 4090") is None
