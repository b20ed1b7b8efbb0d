"""Outputs of a network for all images of a split."""

from __future__ import annotations

import torch
from torch import Tensor

from convoy.evaluation.trained_run import RunData
from convoy.training.lightning_module import TrainingModule


def outputs_of(module: TrainingModule, data: RunData, split: str) -> tuple[Tensor, Tensor]:
    """Return the network's outputs [N, ...] for a split and its targets, on the CPU, in the order of the data set."""
    network = module.network.to(data.device).eval()
    outputs, targets = [], []
    with torch.inference_mode(), data.autocast():
        for images, own in data.batches(split):
            outputs.append(module.task.outputs(network, images).cpu())
            targets.append(own.cpu())
    return torch.cat(outputs), torch.cat(targets)
