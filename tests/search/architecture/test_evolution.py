"""Regularized evolution against a simulation by hand, and its convergence on a function."""

from __future__ import annotations

from random import Random

from convoy.search.architecture.chain_space import ChainSpace
from convoy.search.architecture.decisions import Trained, Values
from convoy.search.architecture.evolution import Evolution

SPACE = ChainSpace(["CONV(1|3|5|7)-(1|2|3|4) (relu|elu|tanh|sigmoid)", "FC-{num_classes}"])


def distance(one: Values, other: Values) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_the_oldest_member_dies_and_the_best_of_a_full_sample_is_the_parent() -> None:
    """With a sample far larger than the population, the parent is its best member.

    Population of 3; the best network of all (reward 9) is trained first. It is the parent while it is one of the last
    three, and is forgotten after three more, though no later network is as good.
    """
    rewards = [9.0, 1.0, 2.0, 5.0, 3.0, 4.0, 0.0, 1.0]
    points: list[Values] = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3), (0, 1, 2), (1, 2, 3), (2, 3, 0), (3, 0, 1)]
    trained = [Trained(point, reward) for point, reward in zip(points, rewards, strict=True)]
    evolution = Evolution(SPACE, population=3, sample=200)
    parents = {}
    for count in range(3, 9):
        for seed in range(20):
            child = evolution.ask(trained[:count], Random(seed))
            (parent,) = [point for point in points[count - 3 : count] if distance(point, child) == 1][:1]
            parents.setdefault(count, set()).add(parent)
    best = {3: (0, 0, 0), 4: (3, 3, 3), 5: (3, 3, 3), 6: (3, 3, 3), 7: (1, 2, 3), 8: (1, 2, 3)}
    assert parents == {count: {point} for count, point in best.items()}


def test_the_first_networks_are_random_and_all_draws_repeat() -> None:
    evolution = Evolution(SPACE, population=4, sample=2)
    first = [evolution.ask([], Random(f"1 {number}")) for number in range(50)]
    assert len(set(first)) > 25
    assert first == [Evolution(SPACE, 4, 2).ask([], Random(f"1 {number}")) for number in range(50)]


def test_evolution_climbs_a_hill_of_a_million_networks() -> None:
    """The reward counts matches with one network; of twelve decisions a random network matches three."""
    space = ChainSpace(["CONV(1|3|5|7)-(1|2|3|4) (relu|elu|tanh|sigmoid)"] * 4 + ["FC-{num_classes}"])
    target = (2, 1, 3) * 4
    trained: list[Trained] = []
    for number in range(150):
        values = Evolution(space, population=20, sample=10).ask(trained, Random(f"0 {number}"))
        trained.append(Trained(values, -distance(values, target)))
    matches = [12 + one.reward for one in trained]
    assert sum(matches[:20]) / 20 < 4
    assert sum(matches[-50:]) / 50 > 7
