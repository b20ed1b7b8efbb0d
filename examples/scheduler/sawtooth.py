"""A learning rate that falls within each period and starts again."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Sawtooth(LRScheduler):
    """Falls linearly to zero `periods` times in a run."""

    def __init__(self, optimizer: Optimizer, total_steps: int, periods: int = 2) -> None:
        self.length = max(1, total_steps // periods)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """Return the learning rate of each parameter group at the current step."""
        factor = 1 - self.last_epoch % self.length / self.length
        return [rate * factor for rate in self.base_lrs]
