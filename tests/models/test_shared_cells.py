"""Shared weights of cells against the stand-alone network with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from convoy.config.faults import UserError
from convoy.models.cells import CellNetwork
from convoy.models.shared_cells import SharedCells
from convoy.search.architecture.cell_space import CellSpace
from convoy.search.architecture.decisions import drawn

OPERATIONS = ["identity", "max", "separable3"]
SPACE = CellSpace({"blocks": 2, "operations": OPERATIONS})
SIZES: dict[str, Any] = {"num_classes": 3, "in_channels": 2, "cells": 1, "filters": 4, "stem_filters": 5}
STEMS = [
    {"stem": "small"},
    {"stem": "small", "project_stem": False},
    {"stem": "standard", "filters": 16, "stem_filters": 16},
]


def networks(sizes: dict[str, Any]) -> Iterator[tuple[SharedCells, CellNetwork]]:
    """Yield shared weights with a random network selected, and a copy of this network."""
    torch.manual_seed(0)
    rng, shared = Random(0), None
    for _ in range(6):
        cells = list(SPACE.decode(drawn(SPACE, rng)).values())
        shared = shared or SharedCells(*cells, OPERATIONS, **sizes)
        shared.select(*cells)
        alone = CellNetwork(*cells, **sizes)
        weights = {name: weight.detach().clone() for name, weight in shared.weights().items()}
        assert weights.keys() == dict(alone.named_parameters()).keys()
        alone.load_state_dict(weights, strict=False)
        yield shared, alone


@pytest.mark.parametrize("stem", STEMS, ids=str)
def test_outputs_and_gradients_are_those_of_the_network_alone(stem: dict[str, Any]) -> None:
    images, targets = torch.randn(4, 2, 16, 16), torch.arange(4) % 3
    for shared, alone in networks({**SIZES, **stem}):
        outputs = [network(images) for network in (shared, alone)]
        torch.testing.assert_close(*outputs, rtol=0, atol=0)
        shared.zero_grad()
        for output in outputs:
            nn.functional.cross_entropy(output, targets).backward()
        # The gradient of a sum of products with the weights is the product: all elements at their places are compared.
        gradients = {name: parameter.grad for name, parameter in alone.named_parameters()}
        total = sum((weight * gradients[name]).sum() for name, weight in shared.weights().items())
        used = torch.autograd.grad(total, list(shared.parameters()), allow_unused=True)
        for parameter, expected in zip(shared.parameters(), used, strict=True):
            assert (parameter.grad is None) == (expected is None)
            if expected is not None:
                torch.testing.assert_close(parameter.grad, expected)
        assert any(one is None for one in used)


def test_all_networks_find_their_weights_whatever_was_selected_first() -> None:
    """Two objects have the same weights, and each place its own."""
    first, *_, last = (SPACE.decode(drawn(SPACE, Random(seed))).values() for seed in range(9))
    built = []
    for cells in (first, last):
        torch.manual_seed(5)
        built.append(SharedCells(*cells, OPERATIONS, **SIZES, stem="small"))
    states = [one.state_dict() for one in built]
    assert states[0].keys() == states[1].keys()
    for name, weight in states[0].items():
        torch.testing.assert_close(weight, states[1][name])
    other = "max 0 + max 0"
    names = []
    for text in ("separable3 0 + max 1", "max 1 + separable3 0", "separable3 1 + max 0"):
        built[0].select([text, other], [other, other])
        parts = {id(weight) for weight in built[0].weights().values()}
        names.append(parts & {id(one) for one in built[0].parameters()})
    assert all(one - other for one in names for other in names if one is not other)


def test_a_batch_norm_uses_the_batch_also_in_evaluation() -> None:
    shared, _ = next(networks({**SIZES, "stem": "small"}))
    images = torch.randn(4, 2, 8, 8)
    torch.testing.assert_close(shared(images), shared.eval()(images))
    assert not list(shared.buffers())


def test_selecting_a_network_draws_no_random_numbers() -> None:
    shared, _ = next(networks({**SIZES, "stem": "small"}))
    state = torch.get_rng_state()
    shared.select(*SPACE.decode([0] * len(SPACE.decisions)).values())
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(UserError, match=r"model.normal\[0\]"):
        shared.select(["maxx 0 + max 0"] * 2, ["max 0 + max 0"] * 2)
