"""Lightning callback that trains shared weights and the policy that chooses among their networks by turns.

ENAS: Pham et al. 2018 (arXiv:1802.03268), section 2.2. In each epoch, every training batch trains the weights of a
network that the policy draws. After it, the policy learns from networks that it draws, each rated on a batch of val
with the shared weights. At the end, networks that the policy draws are ranked on all of val.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from random import Random
from typing import Any

import pytorch_lightning as pl
import torch

from convoy.config.faults import Fault, UserError
from convoy.data.batches.collate import Batch
from convoy.models.shared_cells import SharedCells
from convoy.runs.whole_files import replace_text
from convoy.search.architecture.cell_space import CellSpace
from convoy.search.architecture.decisions import Trained, Values
from convoy.search.architecture.lstm import LstmPolicy
from convoy.search.architecture.sampler import MOST_DRAWS
from convoy.search.shared_weights import CANDIDATES
from convoy.tasks.construction import metrics_of

LEARNING_RATE = 0.003


class WeightSharing(pl.Callback):
    """Selects a network of `SharedCells` for each batch, trains the policy after each epoch, and ranks its networks.

    Its draws follow from the seed, the position of the run and the rewards so far, which its state consists of.

    Args:
        seed: of the draws.
        updates: networks per epoch from which the policy learns.
        drawn: different networks that are ranked at the end.
        learning_rate: of the policy; a larger one repeats the networks whose weights were trained first.
        **policy: other settings of `LstmPolicy`.
    """

    def __init__(
        self, seed: int = 1, updates: int = 50, drawn: int = 100, learning_rate: float = LEARNING_RATE, **policy: Any
    ) -> None:
        self._seed, self._updates, self._drawn = seed, updates, drawn
        self._settings = {"learning_rate": learning_rate, **policy}
        self._rewards: list[Trained] = []

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if trainer.world_size > 1:
            rule = "shared weights are trained by one process, since each batch trains a part of them"
            raise UserError(Fault("trainer.gpus", rule, "write trainer.gpus=1", str(trainer.world_size)))
        network: SharedCells = pl_module.network
        self._space = CellSpace({"blocks": network.blocks, "operations": list(network.operations)})
        self._policy = LstmPolicy(self._space, **self._settings)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        # By the step, since batch_idx counts from 0 again in a run that resumes within an epoch.
        part = batch_idx % trainer.accumulate_grad_batches
        self._select(pl_module.network, self._draw(f"train {trainer.global_step} {part}"))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.eval()
        for index, batch in enumerate(islice(_repeated(trainer), self._updates)):
            values = self._draw(f"policy {trainer.current_epoch} {index}")
            value = self._value(pl_module, values, [batch])
            self._rewards.append(Trained(values, value if pl_module.task.mode == "max" else -value))
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self._rank(trainer, pl_module)
        pl_module.train()

    def state_dict(self) -> dict[str, Any]:
        return {"rewards": [[list(one.values), one.reward] for one in self._rewards]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rewards = [Trained(tuple(values), reward) for values, reward in state_dict["rewards"]]

    def _draw(self, purpose: str) -> Values:
        return self._policy.ask(self._rewards, Random(f"{self._seed} {purpose}"))

    def _select(self, network: SharedCells, values: Values) -> None:
        keys = self._space.decode(values)
        network.select(keys["model.normal"], keys["model.reduction"])

    def _value(self, module: Any, values: Values, batches: Iterable[Batch]) -> float:
        """Return the monitored metric of a network with the shared weights."""
        self._select(module.network, values)
        metrics = metrics_of(module.task, module.config, "val").to(module.device)
        with torch.no_grad():
            for batch in batches:
                module.task.update(metrics, module.network, Batch(*batch).to(module.device))
        return float(module.task.compute(metrics)[module.task.monitor.removeprefix("val/")])

    def _rank(self, trainer: pl.Trainer, module: Any) -> None:
        """Write the networks that the policy draws, the best first, to the file that the environment names."""
        drawn = (self._draw(f"rank {index}") for index in range(MOST_DRAWS))
        networks = islice(dict.fromkeys(drawn), self._drawn)
        monitor, sign = module.task.monitor, -1 if module.task.mode == "max" else 1
        rated = [(self._value(module, values, _val(trainer)), values) for values in networks]
        ranked = [
            {"architecture": self._space.text(values), monitor: value, "values": list(values)}
            for value, values in sorted(rated, key=lambda one: sign * one[0])
        ]
        if path := os.environ.get(CANDIDATES):
            lines = ",\n".join(json.dumps(one) for one in ranked)
            replace_text(Path(path), f"[\n{lines}\n]\n")


def _val(trainer: pl.Trainer) -> Iterable[Batch]:
    batches: Iterable[Batch] = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
    return batches


def _repeated(trainer: pl.Trainer) -> Iterator[Batch]:
    """Yield the batches of val again and again."""
    return chain.from_iterable(_val(trainer) for _ in repeat(None))
