"""Candidates of an architecture search per second on one core that are drawn and checked against constraints.

The space is the grammar of conf/search/digits_chain.yaml. Three figures: parameters and MACs from the tokens alone,
the same within a study that refuses all candidates, and by the ledger, which builds and traces each network.

    python -m benchmarks.search_filter --candidates 10000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks.results import Goal, Result
from benchmarks.rounds import machine, threads
from convoy.config.options import Options
from convoy.runs.records import Monitor
from convoy.search.architecture.candidate import ChainFilter
from convoy.search.architecture.decisions import drawn
from convoy.search.architecture.sampler import REFUSED_BEFORE
from convoy.search.candidates import costs_of, refusal
from convoy.search.run_study import Study, Workplace
from convoy.search.study_config import find_study, override, overrides_of, read_study
from convoy.training import preflight

BOUND_PER_S = 200.0
"""Lower bound for the rate of candidates whose costs follow from their tokens."""

OPTIONS = Options()
STUDY = read_study(find_study("digits_chain", OPTIONS))


def token_rate(chains: ChainFilter, count: int) -> float:
    """Return candidates per second whose costs follow from their tokens."""
    rng = Random(0)
    began = time.perf_counter()
    kept = sum(not chains.refuses(drawn(chains.space, rng)) for _ in range(count))
    rate = count / (time.perf_counter() - began)
    print(f"{kept:,} of {count:,} candidates satisfy the constraints")
    return rate


def ledger_rate(chains: ChainFilter, count: int) -> float:
    """Return candidates per second that the ledger counts."""
    rng = Random(0)
    began = time.perf_counter()
    for _ in range(count):
        layers = override("model.layers", chains.space.texts(drawn(chains.space, rng)))
        words = [*overrides_of(STUDY, [], []), layers]
        refusal(STUDY.constraints, words, costs_of(words, OPTIONS), OPTIONS)
    return count / (time.perf_counter() - began)


def study_rate() -> float:
    """Return candidates per second of a study that refuses all of them and stops."""
    with tempfile.TemporaryDirectory() as folder:
        refusing = replace(STUDY, constraints={"params": 1}, sampler="random", sampler_settings={})
        study = Study(Workplace(Path(folder), refusing, Monitor("val/top1", "max"), [], OPTIONS), lambda _: None)
        began = time.perf_counter()
        study.run()
        refused = sum(1 + trial.user_attrs[REFUSED_BEFORE] for trial in study.optuna.trials)
        return refused / (time.perf_counter() - began)


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000, help="candidates per round")
    parser.add_argument("--traced", type=int, default=20, help="candidates per round that the ledger counts")
    parser.add_argument("--rounds", type=int, default=3, help="rounds")
    given = parser.parse_args(words)
    print(machine("optuna"))
    chains = ChainFilter.of(STUDY, preflight.read(overrides_of(STUDY, [], []), OPTIONS, to_run=False))
    assert chains is not None
    rounds = range(given.rounds)
    with threads(1):
        tokens = [token_rate(chains, given.candidates) for _ in rounds]
        refused = [study_rate() for _ in rounds]
        traced = [ledger_rate(chains, given.traced) for _ in rounds]
    title, goal = "candidates filtered by parameters and MACs", Goal(BOUND_PER_S)
    results = [
        Result(title, f"{given.candidates:,} by their tokens", None, tokens, goal=goal, unit="per s", digits=0),
        Result(title, "within a study", None, refused, goal=goal, unit="per s", digits=0),
        Result(title, "by the ledger", None, traced, unit="per s", digits=1),
    ]
    for result in results:
        print(result.line())
    return results


if __name__ == "__main__":
    main()
