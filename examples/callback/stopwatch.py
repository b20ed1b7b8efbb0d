"""Time of each epoch."""

import time

import pytorch_lightning as pl


class Stopwatch(pl.Callback):
    """Prints the time of each epoch that takes longer than `at_least_s` seconds."""

    def __init__(self, at_least_s: float = 0.0) -> None:
        self.at_least_s = at_least_s
        self._begin = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the time."""
        seconds = time.perf_counter() - self._begin
        if seconds >= self.at_least_s and trainer.is_global_zero:
            print(f"epoch {trainer.current_epoch + 1} took {seconds:.1f} s")
