"""Mean difference between the highest and the second highest probability."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Margin(Metric):
    """Mean margin over all images and ranks: 1 if the network is certain of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits [B, num_classes] and labels [B]."""
        best, second = logits.softmax(1).topk(2).values.unbind(1)
        self.total += (best - second).sum()
        self.count += len(labels)

    def compute(self) -> Tensor:
        """Return the mean margin."""
        return self.total / self.count
