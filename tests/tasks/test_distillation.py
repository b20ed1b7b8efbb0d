"""Distillation against torch's KLDivLoss, and with teachers that fit or don't."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Run
from torch import nn

from convoy.config.schema import Config
from convoy.data.batches.collate import Batch
from convoy.data.data_module import ImageData
from convoy.models.building.build import build_model
from convoy.tasks.construction import build_task
from convoy.training.preflight import read
from convoy.training.resume import load, load_weights

Convoy = Callable[..., Run]


def of(config: Config) -> tuple[nn.Module, Batch, ImageData]:
    """Return a new network of a config, in evaluation mode, a batch of its data, and the data."""
    data = ImageData(config.data, seed=1, micro_batch_size=32, accumulation=1, eval_batch_size=9)
    data.open()
    torch.manual_seed(3)
    return build_model(config.model, **data.model_sizes).eval(), next(iter(data.training_loader(0))), data


def test_the_loss_is_that_of_torch_and_the_teacher_stays_out_of_checkpoints(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=9", folder="teacher").code == 0
    words = ["task=distillation", "task.teacher=teacher", "task.weight=0.3", "task.temperature=2"]
    config = read([*TINY, *words])
    student, batch, data = of(config)
    task = build_task(config, data.targets)
    task.prepare(config.data)
    found = task.training_losses(student, batch)
    teacher = of(config)[0]
    path = Path("teacher/checkpoints/best.ckpt")
    load_weights(teacher, load(path), path)
    soft = nn.KLDivLoss(reduction="batchmean", log_target=True)(
        torch.log_softmax(student(batch.images) / 2, 1), torch.log_softmax(teacher(batch.images) / 2, 1)
    )
    torch.testing.assert_close(found["distillation"], 0.3 * 4 * soft)
    hard = nn.functional.cross_entropy(student(batch.images), batch.targets)
    torch.testing.assert_close(found["classifier"], 0.7 * hard)
    assert float(task.training_losses(teacher, batch)["distillation"]) == pytest.approx(0, abs=1e-6)

    run = convoy("train", *TINY, *words, "trainer.max_steps=4", "trainer.ema_decay=0.9")
    assert run.code == 0, run.err
    assert {name.split(".")[0] for name in run.checkpoint()["state_dict"]} == {"network"}
    assert float(run.rows()[0]["train/distillation"]) > 0
    shutil.rmtree("teacher")
    assert convoy("evaluate", "run=run").code == 0  # which needs no teacher


def test_the_planner_counts_the_weights_of_the_teacher(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=1", folder="teacher").code == 0
    plan = ("plan", *(word for word in TINY if "gpus" not in word), "hardware=a40", "format=json")
    words = ("task=distillation", "task.teacher=teacher")
    plain, distilled = (json.loads(convoy(*plan, *more).out)["categories"] for more in ((), words))
    assert "task_weights" not in plain
    size = 4 * 16_826  # parameters of the network, which has no buffers
    assert size <= distilled["task_weights"] < size + 512


@pytest.mark.slow
def test_teachers_that_do_not_fit_are_refused(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=1", "data.mean=[0.25]", folder="teacher").code == 0
    for words, message in (
        (("task=distillation",), "task.teacher: must be set"),
        (("task=distillation", "task.teacher=none"), "no such run or checkpoint; name a run's folder or its best.ckpt"),
        (("task=distillation", "task.teacher=teacher"), "add data.mean=[0.25]"),
        (("task=distillation", "task.teacher=teacher", "task.weight=3"), "weight must be from 0 to 1"),
    ):
        refused = convoy("train", *TINY, *words, folder="student")
        assert refused.code == 2
        assert message in refused.err
        assert not refused.folder.exists()


def test_a_teacher_can_not_name_code_of_its_own(convoy: Convoy, tmp_path: Path) -> None:
    teacher = convoy("train", *TINY, "trainer.max_steps=1", folder="teacher")
    path = teacher.folder / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["convoy"]["config"]["model"] = {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}
    torch.save(content, path)
    refused = convoy("train", *TINY, "task=distillation", "task.teacher=teacher", folder="student")
    assert refused.code == 2
    assert "os.system" in refused.err
    assert not (tmp_path / "ran").exists()
    assert not refused.folder.exists()
