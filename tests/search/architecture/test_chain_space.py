"""Grammars of chains: the networks that they derive, their costs, and what is refused."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch

from convoy.config.faults import UserError
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.skeleton import without_weights
from convoy.models.chain import Chain
from convoy.models.notation.chain_costs import chain_costs
from convoy.models.notation.shapes import read_chain
from convoy.search.architecture.chain_space import ChainSpace
from convoy.search.architecture.decisions import drawn, mutated

GRAMMAR = [
    "CONV(3|5)-(4|8) (relu|elu|maxout2) (nobias|)",
    "(POOL2|AVGPOOL2|L2POOL2)",
    {"repeat": [0, 1, 2], "of": ["(CONV3x1-8 g2|CONV1-4|LOCAL3-4)", "(BN|LRN3|DROPOUT0.5|)"]},
    {"choice": [["GAP"], ["POOL4", "(FC-16 bn|FC-8 nobias|)"], []]},
    "FC-{num_classes}",
]
SIZES: dict[str, Any] = {"num_classes": 3, "in_channels": 1, "image_size": 12}


def test_decisions_become_tokens() -> None:
    space = ChainSpace(["CONV(3|5)-(8|16)", {"repeat": [0, 2], "of": ["(BN|)"]}, "FC-{num_classes}"])
    assert [one.choices for one in space.decisions] == [("3", "5"), ("8", "16"), (0, 2), ("BN", ""), ("BN", "")]
    assert space.texts((1, 0, 0, 0, 0)) == ["CONV5-8", "FC-{num_classes}"]
    assert space.texts((0, 1, 1, 1, 0)) == ["CONV3-16", "BN", "FC-{num_classes}"]
    assert space.used((1, 0, 0, 0, 0)) == {0, 1, 2}
    assert space.used((0, 1, 1, 1, 0)) == {0, 1, 2, 3, 4}


def test_random_chains_train_and_cost_what_their_ledger_counts() -> None:
    space, rng, built = ChainSpace(GRAMMAR), Random(0), set()
    for _ in range(60):
        layers = space.texts(drawn(space, rng))
        costs = chain_costs(read_chain(layers, **SIZES))
        network = without_weights(lambda layers=layers: Chain(layers, **SIZES))
        ledger = build_ledger(network, (1, 12, 12))
        assert costs == {"params": ledger.total("params"), "macs": ledger.total("macs")}, layers
        built.add(tuple(layers))
    assert len(built) > 40
    for layers in sorted(built)[:20]:
        network = Chain(list(layers), **SIZES)
        torch.nn.functional.cross_entropy(network(torch.randn(4, 1, 12, 12)), torch.arange(4) % 3).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_mutation_changes_one_decision_that_the_network_depends_on() -> None:
    space, rng = ChainSpace(GRAMMAR), Random(0)
    changed = set()
    for _ in range(500):
        parent = drawn(space, rng)
        child = mutated(space, parent, rng)
        (index,) = [index for index in range(len(parent)) if parent[index] != child[index]]
        assert index in space.used(parent)
        changed.add(index)
    assert changed == set(range(len(space.decisions)))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("CONV3-8", "architecture.chain: is not a list of entries"),
        (["CONVX(3|5)-8"], "architecture.chain[0]=CONVX3-8: "),
        (["CONV(3|4)-8"], "no padding keeps the spatial size"),
        ([{"repeat": [1, -1], "of": ["BN"]}], "architecture.chain[0].repeat=[1, -1]: must be a number"),
        ([{"repeat": 1}], "architecture.chain[0]={'repeat': 1}: is no entry of a grammar; write a text"),
        ([{"choice": [["BN"]], "of": []}], "is no entry of a grammar"),
        ([{"repeat": 501, "of": ["(BN|)"]}], "has more than 500 decisions"),
    ],
)
def test_faults_of_a_grammar_name_the_entry(entries: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        ChainSpace(entries)
    assert message in str(error.value)
