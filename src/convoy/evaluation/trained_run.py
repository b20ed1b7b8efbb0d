"""Trained networks of runs, with everything that is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import nn

from convoy.config.compose import from_saved, to_config
from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
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
    """Build a run's network and load a checkpoint, without the run's data.

    Raises:
        UserError: the config or the checkpoint can't be read, or they don't fit each other.
    """
    return _trained(run.saved_config(), load(checkpoint), checkpoint)


def load_alone(checkpoint: Path) -> Trained:
    """Build the network of a checkpoint from what the file carries, wherever it is.

    Raises:
        UserError: the file can't be read, or was written by another version.
    """
    content = load(checkpoint)
    return _trained(dict(content["convoy"]["config"]), content, checkpoint)


def _trained(saved_config: Mapping[str, Any], content: Mapping[str, Any], checkpoint: Path) -> Trained:
    saved = from_saved(saved_config)
    config = to_config(saved)
    plain = cast(dict[str, object], OmegaConf.to_container(saved, resolve=True))
    names = tuple(str(name) for name in content["convoy"]["target_names"])
    facts = Facts(config.name, names, Preparation.of(config.data), plain)
    task = build_task(config, facts.targets)
    network = build_network(facts, task)
    load_weights(network, content, checkpoint)
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
