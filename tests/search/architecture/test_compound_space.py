"""Compound scaling against the published EfficientNets and the formula of the grid."""

from __future__ import annotations

import pytest
from tests.models.test_cells import EFFICIENTNET_B0
from tests.models.test_zoo import load

from convoy.config.faults import UserError
from convoy.ledger.skeleton import without_weights
from convoy.models.building.build import construct_model
from convoy.search.architecture.compound_space import CompoundSpace

SETTINGS = {"stages": EFFICIENTNET_B0, "image_size": 224, "head": 1280, "step": 0.05, "tolerance": 0.1}


def index_of(space: CompoundSpace, *factors: float) -> int:
    return space.decisions[0].choices.index("alpha {:g} beta {:g} gamma {:g}".format(*factors))


@pytest.mark.parametrize("phi", [1, 2, 3])
def test_the_published_factors_give_efficientnet_by_its_formula(phi: int) -> None:
    space = CompoundSpace({**SETTINGS, "phi": phi})
    keys = space.decode((index_of(space, 1.2, 1.1, 1.15),))
    side = keys["data.image_size"]
    changes = {key.removeprefix("model."): value for key, value in keys.items() if key.startswith("model.")}
    # The last convolution of torchvision has four times the channels of the last stage, here it is scaled by itself.
    head = 4 * int(changes["stages"][-1].split("-")[1].split()[0])
    ours = {**load(space.option), **changes, "activation": "silu", "head": head}
    theirs = {**load("efficientnet"), "phi": phi}
    sizes = {"num_classes": 1000, "in_channels": 3, "image_size": side}
    counts = [
        sum(one.numel() for one in without_weights(lambda model=model: construct_model(model, **sizes)).parameters())
        for model in (ours, theirs)
    ]
    assert counts[0] == counts[1]
    assert side == round(224 * 1.15**phi)


def test_the_grid_has_all_factors_whose_product_is_near_two() -> None:
    space = CompoundSpace({**SETTINGS, "step": 0.1, "tolerance": 0.05})
    wanted = {
        f"alpha {a / 10:g} beta {b / 10:g} gamma {c / 10:g}"
        for a in range(10, 30)
        for b in range(10, 30)
        for c in range(10, 30)
        if abs(a * b * b * c * c - 200_000) <= 5_000
    }
    assert set(space.decisions[0].choices) == wanted
    assert len(wanted) > 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": EFFICIENTNET_B0}, "needs stages and image_size"),
        ({**SETTINGS, "steps": 1}, "architecture.compound.steps: no such setting; did you mean step?"),
        ({**SETTINGS, "step": 0}, "must be a positive number"),
        ({**SETTINGS, "image_size": 1.5}, "must be a positive integer"),
        ({**SETTINGS, "step": 0.7, "tolerance": 0.001}, "no factors of the grid have this product"),
        ({**SETTINGS, "stages": ["INVERTED4-8"]}, "an even window"),
    ],
)
def test_faults_of_compound_scaling(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        CompoundSpace(settings)
    assert message in str(error.value)
