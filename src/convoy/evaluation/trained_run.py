"""Trained networks of runs, with everything that is known of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from omegaconf import OmegaConf
from torch import nn

from convoy.config.compose import from_saved, to_config
from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.data.datasets import open_data
from convoy.data.preparation import Preparation
from convoy.evaluation.network_facts import Facts
from convoy.models.build import build_model
from convoy.runs.layout import RunFolder, find
from convoy.tasks.construction import build_task
from convoy.tasks.task import Task
from convoy.training.resume import load, load_weights


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        checkpoint: the file of its weights.
        config: of the run.
        facts: names of targets, preparation and config.
        task: of the run.
        network: in evaluation mode, on the CPU, in float32.
    """

    checkpoint: Path
    config: Config
    facts: Facts
    task: Task
    network: nn.Module


def locate(run_text: str, checkpoint_text: str, output_root: str, key: str = "run") -> tuple[RunFolder, Path]:
    """Return a run and one of its checkpoints.

    Args:
        run_text: a run's folder, latest, or a checkpoint in a run's folder, which is then the one.
        checkpoint_text: best, last, or a file.
        output_root: where latest is looked for.
        key: what the user calls the run, for messages.

    Raises:
        UserError: there is no such run or checkpoint.
    """
    try:
        run, named = find(run_text, Path(output_root))
    except UserError as error:
        raise UserError(*(Fault(key, fault.rule, fault.remedy, fault.value) for fault in error.faults)) from error
    if run_text.endswith(".ckpt"):
        return run, named
    known = {"best": run.best, "last": run.last}
    checkpoint = known.get(checkpoint_text, Path(checkpoint_text))
    if not checkpoint.is_file():
        there = [name for name, path in known.items() if path.is_file()]
        raise UserError(Fault("checkpoint", "no such file", f"choose {' or '.join(there)}", checkpoint_text))
    return run, checkpoint


def load_trained(run: RunFolder, checkpoint: Path) -> Trained:
    """Build a run's network and load a checkpoint. The run's data need not be there where it was tested.

    Raises:
        UserError: the config or the checkpoint can't be read, or they don't fit each other.
    """
    saved = from_saved(run.saved_config())
    config = to_config(saved)
    plain = cast(dict[str, object], OmegaConf.to_container(saved, resolve=True))
    facts = Facts(config.name, _names(run, config), Preparation.of(config.data), plain)
    task = build_task(config, facts.targets)
    network = build_network(facts, task)
    load_weights(network, load(checkpoint), checkpoint)
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Trained(checkpoint, config, facts, task, network)


def build_network(facts: Facts, task: Task) -> nn.Module:
    """Build the network of a run or an exported file with initial weights, in evaluation mode."""
    return build_model(
        facts.model,
        **facts.model_sizes,
        output_check=task.output_check,
    ).eval()


def _names(run: RunFolder, config: Config) -> tuple[str, ...]:
    """Return the names of the targets from the summary of a run that has ended, else from its data."""
    try:
        summary = json.loads(run.summary.read_text(encoding="utf-8"))
        names = tuple(summary.get("target_names") or ())
    except (OSError, ValueError):
        names = ()
    return names or open_data(config.data, config.seed).targets.names
