"""Choice of the best checkpoint, and the checkpoints that are kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from tests.conftest import TINY, Run
from torch import Tensor
from torchmetrics import Metric

Convoy = Callable[..., Run]
LONG = (*TINY, "trainer.max_epochs=6", "scheduler=constant", "optimizer.lr=0.3")


def validations(run: Run, metric: str) -> dict[int, float]:
    """Return the values of a metric by optimizer step."""
    return {int(row["step"]): float(row[metric]) for row in run.rows() if row.get(metric)}


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [("val/top1", "max", max), ("val/loss", "min", min), ("val/f1_macro", "max", max)],
)
def test_the_monitored_metric_chooses_the_best_checkpoint(
    convoy: Convoy, monitor: str, mode: str, best: Callable[..., float]
) -> None:
    run = convoy("train", *LONG, "metric=f1_macro", f"task.monitor={monitor}", f"task.mode={mode}")
    assert run.code == 0, run.err
    values = validations(run, monitor)
    summary = run.summary()
    assert len(values) == 6
    assert values[summary["best_step"]] == best(values.values())
    assert summary["monitor"] == monitor
    assert summary[monitor] == pytest.approx(best(values.values()))


def test_the_best_checkpoints_are_kept(convoy: Convoy) -> None:
    run = convoy("train", *LONG, "task.monitor=val/loss", "task.mode=min", "checkpoint.save_top_k=3")
    assert run.code == 0, run.err
    values = validations(run, "val/loss")
    expected = sorted(values, key=lambda step: values[step])[:3]
    kept = {path.name for path in (run.folder / "checkpoints").glob("*.ckpt")}
    assert kept == {"best.ckpt", "last.ckpt", *(f"step-{step}.ckpt" for step in expected)}
    best = (run.folder / "checkpoints" / f"step-{expected[0]}.ckpt").read_bytes()
    assert (run.folder / "checkpoints" / "best.ckpt").read_bytes() == best


class FirstIsNaN(Metric):
    """Metric that is NaN after the first epoch and then falls."""

    epochs = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        pass

    def compute(self) -> Tensor:
        self.epochs += 1
        return torch.tensor(math.nan if self.epochs == 1 else 1 / self.epochs)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_any_number_is_better_than_nan(convoy: Convoy, mode: str) -> None:
    metric = f"+metric.odd._target_={__name__}.{FirstIsNaN.__name__}"
    run = convoy("train", *TINY, metric, "task.monitor=val/odd", f"task.mode={mode}")
    assert run.code == 0, run.err
    assert math.isnan(validations(run, "val/odd")[10])
    assert run.summary()["best_step"] == 20


@pytest.mark.slow
def test_last_is_written_every_few_epochs_and_at_the_end(convoy: Convoy) -> None:
    """A learning rate that changes nothing: only the first epoch is the best one."""
    stuck = ("optimizer.lr=1e-12", "optimizer.weight_decay=0", "trainer.max_epochs=5", "scheduler=constant")
    run = convoy("train", *TINY, *stuck, "checkpoint.every_epochs=3")
    assert run.code == 0, run.err
    assert run.summary()["best_step"] == 10
    assert run.checkpoint()["global_step"] == 50
