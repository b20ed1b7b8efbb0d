from __future__ import annotations

from typing import Any

import pytest
import timm.optim
import torch
import torchvision

from convoy.config.compose import compose, to_config
from convoy.config.faults import UserError
from convoy.config.options import Options
from convoy.ledger.optimizer import state_of
from convoy.ledger.skeleton import without_weights
from convoy.optim.build_optimizer import build_optimizer, try_targets
from convoy.optim.parameters import parameter_groups

BY_NAME = ("lion", "adan", "nadamw", "muon", "lamb", "adamw")


def node_of(option: str) -> dict[str, Any]:
    return to_config(compose([f"optimizer={option}", "model=resnet18"])).optimizer


def stepped(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    for step in range(2):
        for parameter in network.parameters():
            generator = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 4))


@pytest.mark.parametrize("option", BY_NAME)
def test_steps_of_an_optimizer_by_name_are_those_of_timms_factory(option: str) -> None:
    """timm's factory chooses the parameters without weight decay by a rule of its own."""
    node = node_of(option)
    rest = {name: value for name, value in node.items() if name not in ("_target_", "decay_norms_and_biases")}
    ours, theirs = small_network(), small_network()
    factory = timm.optim.create_optimizer_v2(theirs, opt=option, filter_bias_and_bn=True, **rest)
    for one, other in zip(stepped(ours, build_optimizer(node, ours)), stepped(theirs, factory), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)  # LAMB sums norms in another order


@pytest.mark.parametrize("option", Options().of("optimizer"))
def test_the_ledger_counts_the_state_that_an_optimizer_has_after_a_step(option: str) -> None:
    node = node_of(option)
    network = small_network()
    optimizer = build_optimizer(node, network)
    stepped(network, optimizer)
    leaves = torch.utils._pytree.tree_leaves(list(optimizer.state.values()))
    size = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))
    predicted, _ = state_of(without_weights(small_network), lambda model: build_optimizer(node, model))
    assert predicted.optimizer_bytes == size > 0


class ScheduleFree(torch.optim.SGD):
    """The interface of a schedule-free optimizer."""

    def train(self) -> None: ...

    def eval(self) -> None: ...


def test_an_optimizer_that_switches_weights_is_refused() -> None:
    config = to_config(compose([f"optimizer._target_={__name__}.ScheduleFree"]))
    with pytest.raises(UserError, match="which Convoy does not switch; for a similar effect write optimizer=adamw"):
        try_targets(config)


def test_norms_and_biases_are_those_that_are_not_convolution_or_linear_weights() -> None:
    network = torchvision.models.resnet18()
    decayed, plain = parameter_groups(network, 0.1, decay_norms_and_biases=False)
    weights = {
        id(module.weight) for module in network.modules() if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
    }
    assert {id(parameter) for parameter in decayed["params"]} == weights
    assert len(decayed["params"]) + len(plain["params"]) == len(list(network.parameters()))
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_a_frozen_parameter_is_in_no_group() -> None:
    network = torch.nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    (group,) = parameter_groups(network, 0.1, decay_norms_and_biases=True)
    assert len(group["params"]) == 1


@pytest.mark.parametrize("option", Options().of("optimizer"))
def test_every_optimizer_lowers_a_quadratic_at_its_own_rate(option: str) -> None:
    """On f(w) = |Aw - b|², whose gradient torch gives; 50 steps of a network's default rate must not diverge."""
    node = to_config(compose([f"optimizer={option}", "model=resnet18"])).optimizer
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 4)
    inputs, targets = torch.randn(64, 8), torch.randn(64, 4)
    optimizer = build_optimizer(node, layer)
    losses = []
    for _ in range(50):
        loss = torch.nn.functional.mse_loss(layer(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_weight_decay_applies_only_to_decayed_parameters() -> None:
    """With zero gradients, SGD's step is w -= lr * decay * w, so biases stay as they are."""
    layer = torch.nn.Linear(3, 3)
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    node = {"_target_": "torch.optim.SGD", "lr": 0.5, "weight_decay": 0.1, "decay_norms_and_biases": False}
    optimizer = build_optimizer(node, layer)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before["weight"] * 0.95)
    torch.testing.assert_close(layer.bias.detach(), before["bias"])


def test_a_value_that_an_optimizer_refuses_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="can't be built"):
        build_optimizer({"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [2, 3]}, torch.nn.Linear(1, 1))
