"""Spaces of cells and of stages: random draws train, published networks are among them, and faults are named."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
import torch
from tests.models.test_zoo import load

from convoy.config.faults import UserError
from convoy.models.building.build import construct_model
from convoy.search.architecture.cell_space import CellSpace
from convoy.search.architecture.decisions import ArchitectureSpace, drawn
from convoy.search.architecture.stage_space import StageSpace

STAGES = [
    "(BASIC|BOTTLENECK|INVERTED)3-(8|16) x(1|2) (se0.25|)",
    {"choice": [["BOTTLENECK(3|5)-16/2 g(4|8) (e2|)"], ["INVERTED(3|5)-(16|24)/2 (e1|e3) (se0.25|)"]]},
    {"repeat": [0, 1], "of": ["BASIC3-32/2"]},
]
CELLS = {
    "blocks": 3,
    "operations": ["identity", "average", "max", "convolution1", "separable3", "dilated3"],
    "combinations": ["add", "concat"],
}


def network_of(space: ArchitectureSpace, keys: Mapping[str, Any], **sizes: Any) -> torch.nn.Module:
    model = {**load(space.option), **{key.removeprefix("model."): value for key, value in keys.items()}, **sizes}
    return construct_model(model, num_classes=3, in_channels=1, image_size=16)


@pytest.mark.parametrize(
    ("space", "sizes"),
    [
        (StageSpace(STAGES), {"stem": "small", "stem_filters": 8}),
        pytest.param(
            *(CellSpace(CELLS), {"stem": "small", "stem_filters": 6, "cells": 2, "filters": 4}), marks=pytest.mark.slow
        ),
    ],
    ids=["stages", "cells"],
)
def test_random_networks_train_all_their_parameters(space: ArchitectureSpace, sizes: dict[str, Any]) -> None:
    rng, texts = Random(0), set()
    for _ in range(40):
        values = drawn(space, rng)
        texts.add(space.text(values))
        network = network_of(space, space.decode(values), **sizes)
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        loss = torch.nn.functional.cross_entropy(network(torch.randn(4, 1, 16, 16)), torch.arange(4) % 3)
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
        assert all(parameter.grad is not None for parameter in network.parameters()), space.text(values)
    assert len(texts) > 30


@pytest.mark.parametrize("name", ["nasnet_mobile", "amoebanet"])
def test_the_space_of_cells_contains_published_cells(name: str) -> None:
    """But for their output states, which are the authors' choice."""
    space = CellSpace({"blocks": 5})
    option = load(name)
    wanted = [word for cell in ("normal", "reduction") for block in option[cell][:-1] for word in block.split()]
    chosen = [int(word) if word.isdigit() else word for word in wanted if word != "+"]
    values = tuple(one.choices.index(word) for one, word in zip(space.decisions, chosen, strict=True))
    assert space.decode(values) == {"model.normal": option["normal"][:-1], "model.reduction": option["reduction"][:-1]}


def test_the_combination_of_a_block_is_a_decision_if_there_are_several() -> None:
    settings = {"blocks": 2, "operations": ["identity", "max"]}
    both = CellSpace({**settings, "combinations": ["add", "concat"]})
    values = (1, 0, 0, 1, 1) + (0, 1, 1, 2, 0) + (0,) * 10
    assert both.decode(values)["model.normal"] == ["max 0 concat identity 1", "identity 1 + max 2"]
    assert len(both.decisions) == 20
    one = CellSpace({**settings, "combinations": ["concat"]})
    assert one.decode((0,) * 16)["model.reduction"] == ["identity 0 concat identity 0"] * 2
    assert [decision.choices for decision in one.decisions] == [
        decision.choices for decision in CellSpace(settings).decisions
    ]


def test_the_space_of_stages_contains_regnet() -> None:
    space = StageSpace([f"BOTTLENECK(3|5)-{width}/2 (|x3|x6) g(4|8) (se0.25|)" for width in (48, 104, 208, 440)])
    values = tuple(value for depth in (0, 1, 2, 2) for value in (0, depth, 1, 0))
    assert space.texts(values) == load("regnet_y_400mf")["stages"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "architecture.cells: is not a mapping; write cells: {blocks: 5"),
        ({"blocks": 0}, "must be an integer from 1 to 20"),
        ({"block": 3}, "architecture.cells.block: no such setting; did you mean blocks?"),
        ({"operations": ["maxx"]}, "architecture.cells.operations=maxx: no such operation; did you mean max?"),
        ({"operations": []}, "must be a list; choose from identity"),
        ({"combinations": "concat"}, "architecture.cells.combinations=concat: must be a list; choose from add, concat"),
        (
            {"combinations": ["sum"]},
            "cells.combinations=sum: no such combination; choose from add, concat",
        ),
    ],
)
def test_faults_of_a_space_of_cells(settings: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        CellSpace(settings)
    assert message in str(error.value)


def test_faults_of_a_stage_name_its_entry() -> None:
    with pytest.raises(UserError, match=r"architecture.stages\[1\]=BASIC4-8: no padding keeps"):
        StageSpace(["BASIC3-8", "BASIC(3|4)-8"])
