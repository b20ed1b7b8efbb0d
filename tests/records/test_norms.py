"""Norms of gradients under each precision, with the loss scaler of float16 on the CPU."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from convoy.records.norms import Norms


class Linear(pl.LightningModule):
    """One layer, trained on one batch."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network, self.fused = nn.Sequential(nn.Linear(8, 4)), fused

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.network(batch).square().mean()

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), lr=0.1, fused=self.fused)

    def train_dataloader(self) -> Any:
        return DataLoader(torch.linspace(-1, 1, 32).reshape(4, 8), batch_size=4)  # type: ignore[arg-type]


def gradient_norm(path: Path, *, fused: bool, scaled: bool) -> float:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plugins = [MixedPrecision("16-mixed", "cpu", scaler)] if scaled else []
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        plugins=plugins,
        callbacks=[Norms(1, path, None)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Linear(fused=fused))
    (row,) = csv.DictReader(path.open())
    return float(row["gradient_norm"])


@pytest.mark.parametrize("fused", [False, True])
def test_norms_leave_out_the_loss_scale(fused: bool, tmp_path: Path) -> None:
    plain = gradient_norm(tmp_path / "plain.csv", fused=fused, scaled=False)
    scaled = gradient_norm(tmp_path / "scaled.csv", fused=fused, scaled=True)
    assert scaled == pytest.approx(plain, rel=0.01)
