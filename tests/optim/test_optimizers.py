from __future__ import annotations

import pytest
import torch
import torchvision

from convoy.config.compose import compose, to_config
from convoy.config.faults import UserError
from convoy.config.options import Options
from convoy.optim.construction import build_optimizer
from convoy.optim.parameters import parameter_groups


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
