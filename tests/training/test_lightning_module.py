"""The Lightning module's own parts."""

from __future__ import annotations

import torch
from torch import nn

from convoy.data.data_module import ImageData
from convoy.training.lightning_module import seed_step
from convoy.training.preflight import read
from convoy.training.run_parts import build_module


def test_a_step_is_seeded_as_torch_would_and_nothing_is_kept_of_it() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    kept = len(torch.cuda._queued_calls)
    for _ in range(5):
        seed_step(7, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
    assert len(torch.cuda._queued_calls) == kept


def test_batch_norm_is_synchronized_between_gpus_only_where_there_are_several() -> None:
    config = read(["model=resnet20", "data=digits", "trainer.sync_batchnorm=true", "logger=csv"])
    data = ImageData(config.data, seed=1, micro_batch_size=8, accumulation=1, eval_batch_size=8)
    data.open()
    plain, synchronized = (build_module(config, data, world_size).network for world_size in (1, 2))
    kinds = [{type(module) for module in network.modules()} for network in (plain, synchronized)]
    assert nn.SyncBatchNorm not in kinds[0]
    assert nn.SyncBatchNorm in kinds[1]
    assert nn.BatchNorm2d not in kinds[1]
    assert list(plain.state_dict()) == list(synchronized.state_dict())
