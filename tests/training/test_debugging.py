"""Options of the debug group, on small runs, and the first loss against closed formulas."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Run

from convoy.config.compose import compose, to_config
from convoy.planner.workload import task_of
from convoy.training.debugging import first_loss_text

Convoy = Callable[..., Run]
CPU = torch.device("cpu")


def test_a_fast_run_is_one_step_and_one_batch_of_each_split(convoy: Convoy) -> None:
    run = convoy("train", *TINY[1:], "debug=fast", "trainer.eval_batch_size=7")
    assert run.code == 0, run.err
    assert run.summary()["steps"] == 1
    counts = [line.split(",")[1:] for line in (run.folder / "confusion_matrix.csv").read_text().splitlines()[1:]]
    assert 1 <= sum(int(count) for row in counts for count in row) <= 7
    assert any(abs(run.summary()["val/top1"] * size % 1) < 1e-6 for size in range(1, 8))
    assert "that of a network without information 2.303" in run.out
    assert {path.name for path in run.folder.glob("*")} >= {"summary.json"}


def test_debug_runs_have_a_separate_output_root_and_shorten_experiments() -> None:
    config = to_config(compose(["debug=fast", "experiment=cifar10_fast"]))
    assert (config.output_root, config.trainer.max_steps, config.logger.wandb) == ("outputs/debug", 1, None)
    config = to_config(compose(["debug=overfit", "experiment=cifar10_fast"]))
    assert config.scheduler["_target_"].endswith("constant")
    assert config.data.augment.flip is False
    assert to_config(compose(["debug=overfit", "trainer.max_steps=7"])).trainer.max_steps == 7


def test_overfitting_one_batch_passes_or_fails(convoy: Convoy) -> None:
    tiny = [word for word in TINY if "layers" not in word and "max_epochs" not in word]
    words = ("train", *tiny, "debug=overfit", "model.layers=[FC-32,FC-10]")
    passed = convoy(*words)
    assert passed.code == 0, passed.err
    assert "overfit passed: the loss of one batch went from" in passed.out
    summary = passed.summary()
    assert summary["val/top1"] == 1  # val is the same batch
    assert summary["val/loss"] < 0.1
    failed = convoy(*words, "optimizer.lr=1e-9", "trainer.max_steps=3", folder="other")
    assert failed.code == 1
    assert "overfit failed: the loss of one batch" in failed.out
    assert (failed.folder / "checkpoints" / "last.ckpt").is_file()


def test_a_loss_that_can_not_vanish_is_refused(convoy: Convoy) -> None:
    refused = convoy("train", *TINY, "debug=overfit", "loss.label_smoothing=0.1", "task.mixup=0.2")
    assert refused.code == 2
    assert "add loss.label_smoothing=0" in refused.err
    assert "add task.mixup=0" in refused.err


def test_the_profile_names_the_parts_of_a_step_and_leaves_a_trace(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "debug=profile", "debug.profile_steps=3")
    assert run.code == 0, run.err
    text = (run.folder / "profile.txt").read_text()
    times = {line[:18].strip(): float(line[18:27]) for line in text.splitlines()[1:7]}
    assert times.pop("together") == pytest.approx(sum(times.values()), abs=0.01)
    assert set(times) == {"data", "forward and loss", "backward", "optimizer", "rest"}
    assert min(times["forward and loss"], times["backward"], times["optimizer"]) > 0
    names = {event.get("name") for event in json.loads((run.folder / "trace.json").read_text())["traceEvents"]}
    assert "aten::convolution" in names
    assert any(str(name).startswith("Optimizer.step") for name in names)


BREAKING = """
from torch import nn

class Breaking(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.layer = nn.Linear(in_channels * 32 * 32, num_classes)

    def forward(self, images):
        outputs = self.layer(images.flatten(1))
        return outputs + (outputs * 0).sqrt()  # sqrt'(0) * 0 is NaN
"""


@pytest.mark.slow
def test_anomaly_detection_names_the_operation_that_returns_nan(shell: Convoy) -> None:
    Path("breaking.py").write_text(BREAKING)
    Path("options/model").mkdir(parents=True)
    Path("options/model/breaking.yaml").write_text("_target_: breaking.Breaking\n")
    words = [word for word in TINY if "model." not in word]
    # In a separate process, since pytest takes the warning with torch's traceback.
    run = shell("train", "--config-dir", "options", *words, "model=breaking", "debug=anomaly", "folder=run")
    assert run.code == 1, run.err
    assert "Function 'MulBackward0' returned nan values" in run.out
    assert "Traceback" not in run.err
    assert "learning rate, such as" not in run.out
    assert "breaking.py" in (run.folder / "debug.log").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), math.log(10)),
        (("loss.label_smoothing=0.1",), math.log(10)),
        (("loss=focal",), 0.9**2 * math.log(10)),
        (("task=multilabel", "data.target=multi_hot"), math.log(2)),
        (("task=regression", "data.target=values"), None),
    ],
)
def test_the_loss_without_information(words: tuple[str, ...], expected: float | None) -> None:
    found = task_of(to_config(compose([*words, "data.num_classes=10"]))).uninformed_loss(CPU)
    assert found == (expected if expected is None else pytest.approx(expected, rel=1e-6))


def test_a_first_loss_that_is_far_off_has_a_hint() -> None:
    assert "far above; check data.mean" in first_loss_text(40.0, math.log(10))
    assert "far below" in first_loss_text(0.3, math.log(10))
    assert "far" not in first_loss_text(2.6, math.log(10))


def test_an_existing_run_takes_keys_of_debug_but_no_option(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_epochs=1").code == 0
    refused = convoy("train", "resume=run", "debug=fast")
    assert refused.code == 2
    assert "write debug.detect_anomaly=true or debug.profile_steps=20, or start a new run" in refused.err
    resumed = convoy("train", "resume=run", "trainer.max_epochs=2", "debug.detect_anomaly=true")
    assert resumed.code == 0, resumed.err
