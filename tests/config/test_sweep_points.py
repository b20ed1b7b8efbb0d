from __future__ import annotations

import re

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


def test_zipped_keys_take_their_values_in_step() -> None:
    found = points(["seed=1,2", "model=zip(vgg16,lenet5)", "name=x", "optimizer.lr=zip(0.01,0.1)"])
    assert found == [
        [f"seed={seed}", f"model={model}", "name=x", f"optimizer.lr={lr}"]
        for seed in (1, 2)
        for model, lr in (("vgg16", 0.01), ("lenet5", 0.1))
    ]
    assert points(["model=zip(vgg16,lenet5)", "seed=zip(range(4,6))"]) == [
        ["model=vgg16", "seed=4"],
        ["model=lenet5", "seed=5"],
    ]
    assert varied(["model=zip(vgg16,lenet5)", "seed=zip(1,2)"]) == ["model", "seed"]


def test_a_glob_selects_options() -> None:
    found = points(["model=glob(vgg1*,exclude=*_bn)"])
    assert found == [["model=vgg11"], ["model=vgg13"], ["model=vgg16"], ["model=vgg19"]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=zip(vgg16,lenet5)", "seed=zip(1,2,3)"], "model has 2, seed has 3"),
        (["optimizer.lr=interval(0.01,0.1)", "seed=1,2"], "convoy search 'optimizer.lr=interval(0.01,0.1)'"),
    ],
)
def test_lists_that_are_no_grid_are_refused_with_a_remedy(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        points(overrides)
