"""Every benchmark runs, with sizes too small for meaningful figures."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import (
    __main__,
    architecture_search,
    augmentation,
    folder_loader,
    lightning_overhead,
    optimizer_step,
    page_time,
    precision,
    pruned_search,
    published_memory,
    run_list,
    search_filter,
    shards,
    shared_weights,
    startup,
    step_overhead,
    tabular_search,
    template,
    training_recipes,
)
from benchmarks.gpu import __main__ as gpu_parts
from benchmarks.gpu import part, trace, training_speed
from benchmarks.results import Goal, Result, markdown, table
from benchmarks.rounds import Turns, threads
from benchmarks.small_images import SmallImages
from omegaconf import OmegaConf
from PIL import Image

from convoy.config.data_schema import DataConfig
from convoy.data.sources.mnist import read_fashion_mnist
from convoy.models.building.build import build_model
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


def test_benchmarks_of_searches_run(capsys: pytest.CaptureFixture[str]) -> None:
    filtered = search_filter.main(["--candidates", "20", "--traced", "1", "--rounds", "1"])
    assert [len(result.values) for result in filtered] == [1, 1, 1]
    compared = architecture_search.main(["--networks", "3", "--seeds", "1", "--epochs", "1"])
    assert {result.ours for result in compared} == set(architecture_search.SAMPLERS)
    assert tabular_search.main([]) == [] or len(compared) == 8
    predicted = shared_weights.main(["--networks", "2", "--epochs", "1", "--seeds", "1", "--shared-epochs", "1"])
    assert [len(result.values) for result in predicted] == [1] * 6 + [2]
    searched = pruned_search.main(["--trials", "6", "--epochs", "1", "--seeds", "1", "--again", "1"])
    assert [len(result.values) for result in searched] == [1] * 2 * len(pruned_search.PRUNERS)
    out = capsys.readouterr().out
    assert all(result.line() in out for result in (*filtered, *compared, *predicted, *searched))


@needs_fashion_mnist
def test_searches_run_on_fashion_mnist(capsys: pytest.CaptureFixture[str]) -> None:
    compared = architecture_search.main(["--data", "fashion_mnist", "--networks", "1", "--epochs", "1", "--seeds", "2"])
    assert capsys.readouterr().out.count("; mean ") == len(compared)
    images = SmallImages("fashion_mnist")
    pixels = torch.cat([images.val[0], images.train[0]])
    assert pixels.shape == (2000, 1, 14, 14)
    raw = read_fashion_mnist(DataConfig()).train
    first = np.asarray(Image.fromarray(raw.images[0, 0].numpy()).resize((14, 14), Image.Resampling.BILINEAR))
    assert np.corrcoef(first.ravel(), pixels[0].ravel())[0, 1] > 0.999  # they differ by the normalization
    assert torch.equal(torch.cat([images.val[1], images.train[1]]), raw.labels[:2000])


def test_the_interval_of_a_mean_is_that_of_students_t() -> None:
    """4.303 is the 97.5 % quantile with 2 degrees of freedom in printed tables."""
    assert architecture_search._mean([1.0, 2.0, 3.0]) == f"; mean 2.00 ± {4.303 / 3**0.5:.2f}, deviation 1.00"


def test_a_table_of_networks_is_read_without_running_its_code(tmp_path: Path) -> None:
    path = tmp_path / "data.anb"
    path.write_bytes(pickle.dumps({(0, 1): Path("x")}))
    with pytest.raises(pickle.UnpicklingError, match="is not part of a table"):
        tabular_search.read_table(path)


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


def test_lists_of_runs_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, size = run_list.main(["--runs", "3", "--rounds", "1"])
    assert (len(first.values), len(again.values), len(size.values)) == (1, 1, 1)
    assert "time of convoy runs: 3 runs" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium: apt-get install chromium")
def test_pages_are_timed() -> None:
    run, sweep = page_time.main(["--rows", "50", "--points", "2", "--rounds", "1"])
    assert len(run.values) == len(sweep.values) == 1


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
    others = {"__main__", "numerics", "pack_accuracy", "published_memory", "template"}
    long = {"architecture_search", "pruned_search", "shared_weights", "tabular_search", "training_recipes"}
    assert mains - set(__main__.BENCHMARKS) == others | long
    with pytest.raises(SystemExit):
        __main__.main(["shard"])
    assert "shard: no such benchmark; choose from startup, augmentation" in capsys.readouterr().err


def test_published_runs_are_fitted_or_reported_but_not_both() -> None:
    for name, rows in (("peaks", 63), ("batches", 59)):
        found = published_memory.runs(name)
        assert len(found) == len({replace(run, part="", used_mib=None) for run in found}) == rows
        assert {run.part for run in found} == {"fit", "report"}
        assert {run.source for run in found} <= set(published_memory.SOURCES)
    assert published_memory._quantile([3.0, 1.0, 2.0], 0.75) == 2.5


@pytest.mark.slow
def test_all_parts_of_make_gpu_run_on_a_cpu(tmp_path: Path) -> None:
    """Each part reports its figures; those of a CPU have no meaning."""
    root = Path(__main__.__file__).parents[1]
    program = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--output", str(tmp_path / "gpu.jsonl")]
    done = subprocess.run([*program, "--logs", str(tmp_path)], cwd=root, capture_output=True, text=True, check=False)
    parts = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [part["part"] for part in parts] == list(gpu_parts.LIMITS_S)
    assert {part["part"]: part["status"] for part in parts if part["status"] != "done"} == {}, done.stderr
    assert all(part["figures"] for part in parts)
    assert done.returncode == 0
    figures = {part["part"]: part["figures"] for part in parts}
    assert figures["default_run"]["steps"] == 20
    assert figures["two_ranks"]["equal weights"] is True


@pytest.mark.slow
def test_a_part_that_fails_or_takes_too_long_does_not_stop_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures that a part has reported before its end are kept."""
    package = tmp_path / "benchmarks" / "gpu"
    package.mkdir(parents=True)
    (package / "part.py").write_text(Path(part.__file__).read_text())
    modules = {
        "accuracy": "    yield 'first', 1\n    raise ValueError('broken')",
        "decoding": "    yield 'first', 2\n    import time\n    time.sleep(1000)",
        "trace": "    yield 'first', 3",
    }
    for name, body in modules.items():
        (package / f"{name}.py").write_text(f"def figures(device):\n{body}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(gpu_parts, "LIMITS_S", {"accuracy": 60, "decoding": 6, "trace": 60})
    assert gpu_parts.main(["--logs", str(tmp_path)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["figures"] for line in lines] == [{"first": 1}, {"first": 2}, {"first": 3}]
    assert [line["status"] for line in lines] == [
        "failed with exit code 1: ValueError: broken",
        "stopped after 6 s",
        "done",
    ]


def test_the_long_tail_has_the_published_numbers_and_disjoint_splits(tmp_path: Path) -> None:
    """12,406 images of CIFAR-10 with a factor of 100 (Cui et al. 2019)."""
    for split, number in (("train", 5100), ("test", 2)):
        for label in range(10):
            (tmp_path / split / str(label)).mkdir(parents=True)
            for index in range(number):
                (tmp_path / split / str(label) / f"{index:04}.png").touch()
    numbers = training_recipes.long_tail_table(tmp_path, tmp_path / "table.csv")
    assert (sum(numbers), numbers[0], numbers[-1]) == (12406, 5000, 50)
    rows = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()[1:]]
    assert len({image for image, _, _ in rows}) == len(rows) == 12406 + 10 * 100 + 10 * 2
    assert Counter(label for _, label, split in rows if split == "train") == dict(
        zip("0123456789", numbers, strict=True)
    )


@pytest.mark.slow
def test_ways_to_balance_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        for label in range(10):
            (tmp_path / split / str(label)).mkdir(parents=True)
            for index in range(36):
                color = (25 * label, index, 100)
                Image.new("RGB", (32, 32), color).save(tmp_path / split / str(label) / f"{index}.png")
    words = ["long_tail", "--data", str(tmp_path), "--epochs", "1", "--seeds", "1", "--most", "400"]
    results = training_recipes.main(words)
    assert [result.ours for result in results] == list(training_recipes.BALANCING)[1:]
    recalls = [
        line.partition("recall ")[2].split(", ") for line in capsys.readouterr().out.splitlines() if "recall" in line
    ]
    assert [len(values) for values in recalls] == [10] * 4


def test_a_machine_without_a_gpu_is_told_of_the_rehearsal(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SystemExit):
        gpu_parts.main([])
    assert "make gpu DEVICE=cpu" in capsys.readouterr().err


def test_gaps_between_overlapping_kernels() -> None:
    assert trace.gaps_us([(0, 4), (1, 2), (6, 7), (7, 9), (12, 13)]) == [2, 3]


@pytest.mark.slow
def test_the_gpu_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--device cpu --models resnet18 --precisions bf16-mixed --compile off --size 32 --batch 4 --steps 2"
    training_speed.main([*words.split(), "--rounds", "1"])
    out = capsys.readouterr().out
    arms = re.findall(r"^(\w+) +([\d,]+) +[\d,]+ to [\d,]+ +– +[\d.]+%$", out, re.MULTILINE)
    assert [name for name, _ in arms] == ["synthetic", "timm", "memory", "folder", "convoy"]
    assert all(int(speed.replace(",", "")) > 0 for _, speed in arms)


def test_an_unknown_card_gets_no_other_cards_peak() -> None:
    assert training_speed._peak("NVIDIA A100-SXM4-40GB") == 312e12
    assert training_speed._peak("NVIDIA GeForce RTX 4090") is None
