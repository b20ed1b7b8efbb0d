"""Cross entropy that also rewards low confidence (Pereyra et al. 2017, arXiv:1701.06548)."""

from torch import Tensor, nn
from torch.nn import functional


class ConfidencePenalty(nn.Module):
    """Cross entropy minus `beta` times the entropy of the predicted probabilities."""

    def __init__(self, beta: float = 0.1, reduction: str = "mean") -> None:
        super().__init__()
        self.beta = beta
        self.reduction = reduction

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits [B, num_classes] and labels [B]: a scalar, or [B] with reduction="none"."""
        log_probabilities = logits.log_softmax(1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(1)
        losses = functional.cross_entropy(logits, labels, reduction="none") - self.beta * entropy
        return losses.mean() if self.reduction == "mean" else losses
