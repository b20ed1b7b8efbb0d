from __future__ import annotations

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from convoy.config.faults import UserError
from convoy.config.sweep_points import points, varied


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=vgg16,resnet18", "optimizer.lr=0.1,0.01"],
        ["seed=range(3)", "trainer.max_epochs=5"],
        ["model.layers=[FC-10],[FC-20,FC-10]", "seed=1,2"],
        ["name=a-b,'c d'", "seed=choice(4,5)"],
    ],
)
def test_points_have_the_order_of_hydras_sweeper(overrides: list[str]) -> None:
    parsed = OverridesParser.create().parse_overrides(overrides)
    (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    assert points(overrides) == [list(point) for point in batch]


def test_only_the_keys_with_several_values_are_varied() -> None:
    assert varied(["a=1,2", "b=3", "c=x,y"]) == ["a", "c"]


def test_a_sweep_of_one_point_is_no_sweep() -> None:
    with pytest.raises(UserError, match="several values"):
        points(["model=vgg16"])
