"""Clipping of gradients with fused optimizers, in each precision, with the loss scaler of float16 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from tests.conftest import TINY, Run
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from convoy.training.lightning_module import TrainingModule

MAX_NORM = 0.01


class Linear(pl.LightningModule):
    """One layer, trained on one batch with Convoy's clipping."""

    configure_gradient_clipping = TrainingModule.configure_gradient_clipping

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.fused = nn.Linear(8, 4), fused

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), lr=1.0, fused=self.fused)

    def train_dataloader(self) -> Any:
        return DataLoader(torch.linspace(-1, 1, 32).reshape(4, 8), batch_size=4)  # type: ignore[arg-type]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_the_step_has_the_maximum_norm(precision: str, fused: bool) -> None:
    """With SGD and a learning rate of 1, the step is the clipped gradient."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if precision == "16-mixed" else None
    mixed = [] if precision == "32" else [MixedPrecision(precision, "cpu", scaler)]  # type: ignore[arg-type]
    module = Linear(fused=fused)
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        gradient_clip_val=MAX_NORM,
        plugins=mixed,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    step = nn.utils.parameters_to_vector(module.parameters()).detach() - before
    assert float(step.norm()) == pytest.approx(MAX_NORM, rel=1e-3)


def test_a_run_in_bfloat16_clips_with_a_fused_optimizer(convoy: Callable[..., Run]) -> None:
    words = [word for word in TINY if "precision" not in word]
    run = convoy("train", *words, "trainer.precision=bf16-mixed", "trainer.clip_grad_norm=0.1")
    assert run.code == 0, run.err
    assert run.summary()["status"] == "finished"
