"""Policy gradients against sums over all networks of a small space, and the learning of both policies."""

from __future__ import annotations

import math
from itertools import product
from random import Random

import pytest
import torch

from convoy.search.architecture.baseline import MovingBaseline
from convoy.search.architecture.chain_space import ChainSpace
from convoy.search.architecture.decisions import Strategy, Trained, Values
from convoy.search.architecture.lstm import Controller, LstmPolicy
from convoy.search.architecture.reinforce import Reinforce, softmax

SPACE = ChainSpace(["CONV(1|3|5)-8", {"repeat": [0, 1], "of": ["(BN|RELU|ELU)"]}, "FC-{num_classes}"])
"""Three decisions, of which the last is used beside one of two values of the second: twelve networks."""

NETWORKS = [(a, b, c) for a, b, c in product(range(3), range(2), range(3)) if b or not c]


def reward(values: Values) -> float:
    a, b, c = values
    return [0.3, 0.9, 0.1][a] + 0.5 * b * [0.2, 1.0, 0.7][c] * (a + 1)


def chances(policy: Reinforce) -> dict[Values, float]:
    first, second, third = (softmax(logits) for logits in policy.logits)
    return {(a, b, c): first[a] * second[b] * (third[c] if b else 1.0) for a, b, c in NETWORKS}


def test_the_expected_step_of_independent_policies_is_the_gradient_of_the_expected_reward() -> None:
    """d E[R] / d logit_k = p_k (E[R | k] - E[R | any choice]), summed over the cases in which the decision is used."""
    policy = Reinforce(SPACE)
    policy.logits = [[0.3, -0.2, 0.1], [0.5, -0.4], [0.2, 0.0, -0.7]]
    chance = chances(policy)
    assert sum(chance.values()) == pytest.approx(1)
    for baseline in (0.0, 0.8):  # the baseline changes the variance, not the mean
        found = [[0.0] * len(logits) for logits in policy.logits]
        for values, share in chance.items():
            for sums, slopes in zip(found, policy.log_gradient(values), strict=True):
                for choice, slope in enumerate(slopes):
                    sums[choice] += share * (reward(values) - baseline) * slope
        for index, logits in enumerate(policy.logits):
            using = {values: share for values, share in chance.items() if index in SPACE.used(values)}
            mean = sum(share * reward(values) for values, share in using.items())
            for choice, share in enumerate(softmax(logits)):
                chosen = sum(part * reward(values) for values, part in using.items() if values[index] == choice)
                assert found[index][choice] == pytest.approx(chosen - share * mean, abs=1e-12)


def test_the_expected_step_of_the_lstm_is_the_gradient_of_the_expected_reward() -> None:
    controller = Controller(SPACE, hidden=5, seed=3)
    for parameter in controller.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    logs = [controller.log_probability(values) for values in NETWORKS]
    shares = torch.stack(logs).exp()
    assert float(shares.sum().detach()) == pytest.approx(1)
    weights = list(controller.parameters())
    expected = sum(share * reward(values) for share, values in zip(shares, NETWORKS, strict=True))
    exact = torch.autograd.grad(expected, weights, retain_graph=True)
    estimated = sum(
        share.detach() * (reward(values) - 0.8) * log for share, values, log in zip(shares, NETWORKS, logs, strict=True)
    )
    found = torch.autograd.grad(estimated, weights)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other)
    assert max(float(one.abs().max()) for one in exact) > 0.01


def test_the_lstm_draws_networks_with_their_probability() -> None:
    controller = Controller(SPACE, hidden=5, seed=3)
    rng = Random(0)
    drawn = [controller.draw(rng) for _ in range(2000)]
    assert set(drawn) == set(NETWORKS)
    for values in NETWORKS:
        share = float(controller.log_probability(values).exp().detach())
        assert drawn.count(values) / 2000 == pytest.approx(share, abs=4 * math.sqrt(share / 2000))


def test_the_baseline_is_a_moving_average() -> None:
    baseline = MovingBaseline(0.75)
    assert baseline.advantage(2.0) == 0
    assert baseline.advantage(6.0) == pytest.approx(4 / math.sqrt(0.25 * 16))  # the mean was 2 and becomes 3
    assert baseline.advantage(1.0) == pytest.approx(-2 / math.sqrt(0.75 * 4 + 0.25 * 4))


@pytest.mark.parametrize("policy", [Reinforce, LstmPolicy])
def test_a_policy_learns_the_best_network_and_forgets_with_its_trials(policy: type[Reinforce | LstmPolicy]) -> None:
    learner: Strategy = policy(SPACE)
    trained: list[Trained] = []
    for number in range(200):
        values = learner.ask(trained, Random(f"2 {number}"))
        trained.append(Trained(values, reward(values)))
    mean = sum(one.reward for one in trained[-50:]) / 50
    assert mean > sum(reward(values) for values in NETWORKS) / len(NETWORKS) + 0.4
    again = policy(SPACE)
    assert [again.ask(trained[:count], Random("x")) for count in (60, 20)] == [
        policy(SPACE).ask(trained[:count], Random("x")) for count in (60, 20)
    ]
