"""The Lightning module's own parts."""

from __future__ import annotations

import torch

from convoy.training.lightning_module import seed_step


def test_a_step_is_seeded_as_torch_would_and_nothing_is_kept_of_it() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    kept = len(torch.cuda._queued_calls)
    for _ in range(5):
        seed_step(7, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
    assert len(torch.cuda._queued_calls) == kept
