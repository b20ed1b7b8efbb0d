"""Checks before anything is built or written; those without torch come first, so that a typo is reported at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from convoy.config import rules
from convoy.config.compose import OverrideError, compose, from_saved, overlay, to_config
from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.data.check import check_data, counted_sizes
from convoy.models.building.build import check_model
from convoy.records.wandb_run import check_wandb
from convoy.runs.layout import read_saved
from convoy.runtime.ranks import incomplete_launch

if TYPE_CHECKING:
    from torch import nn


_TORCHRUN = (
    "torchrun --nnodes={nodes} --node-rank=<its number> --nproc-per-node=<its GPUs> --master-addr=<the first node> "
    "-m convoy train …"
)


def read(
    overrides: Sequence[str], options: Options | None = None, saved: Path | None = None, *, to_run: bool = True
) -> Config:
    """Compose a new run's config and check it as a whole. Imports no torch.

    Args:
        overrides: what was typed.
        options: where options are looked for.
        saved: a file with a resolved config, which then takes the place of the composed one.
        to_run: whether it must be possible to run it here; if not, its data and its loggers may be missing.

    Raises:
        UserError: with every fault: of the overrides, of single values and across groups.
    """
    faults: list[Fault] = []
    if saved is not None:
        return checked(overlay(from_saved(read_saved(saved)), overrides, options))
    try:
        composed = compose(overrides, options)
    except OverrideError as error:
        faults.extend(error.faults)
        composed = error.config
    return checked(composed, faults, to_run=to_run)


def checked(composed: DictConfig, faults: Sequence[Fault] = (), *, to_run: bool = True) -> Config:
    """Return a composed config as plain dataclasses, checked as a whole; `faults` are reported with new ones."""
    found = list(faults)
    try:
        config = to_config(composed)
    except UserError as error:
        raise UserError(*found, *error.faults) from error
    for fault in check(config, to_run=to_run):
        if fault.key not in {known.key for known in found}:
            found.append(fault)
    if found:
        raise UserError(*found)
    return config


def read_data(
    overrides: Sequence[str],
    options: Options | None = None,
    check_set: Callable[[DataConfig], Sequence[Fault]] = check_data,
) -> Config:
    """Compose a config of which only the data and the seed are used, and check the data. Imports no torch.

    Args:
        overrides: overrides of the data.
        options: folders of the options.
        check_set: function that returns the faults of the data config.

    Raises:
        UserError: if there are faults; all are reported.
    """
    faults: list[Fault] = []
    try:
        composed = compose(overrides, options)
    except OverrideError as error:
        faults, composed = list(error.faults), error.config
    config = to_config(composed)
    if not any(fault.key == "data" for fault in faults):
        faults += [fault for fault in check_set(config.data) if fault.key not in {known.key for known in faults}]
    if faults:
        raise UserError(*faults)
    return config


def check(config: Config, *, to_run: bool = True) -> list[Fault]:
    """Every fault that can be found without torch; fills in what follows from a folder."""
    faults = rules.check(config)
    faults += check_wandb(config.logger.wandb) if to_run else []
    faults += check_data(config.data, present=to_run)
    if not any(fault.key in ("data.image_size", "data.channels", "model._target_") for fault in faults):
        faults += check_model(config.model, **counted_sizes(config.data))
    return faults


def check_launch(config: Config) -> None:
    """Refuse ranks that would wait for each other for ever, or would all take themselves for the first.

    Raises:
        UserError: trainer.nodes is above 1 and no launcher has started this process, or the launcher has not set the
            variables that give its rank.
    """
    nodes = config.trainer.nodes
    incomplete = incomplete_launch(nodes)
    if incomplete is not None:
        name, missing = incomplete
        rule = f"does not give the rank of this process without {', '.join(missing)}"
        remedy = "start the processes with torchrun, which sets all of them, or unset it to train on this machine alone"
        if nodes > 1:
            remedy = f"start each node with {_TORCHRUN.format(nodes=nodes)}, which sets all of them"
        raise UserError(Fault(name, rule, remedy, os.environ[name]))
    if nodes > 1 and "RANK" not in os.environ and "SLURM_PROCID" not in os.environ:
        rule = "needs a job or a launcher, which starts a process on each node"
        remedy = f"write trainer.nodes=1 to use this machine alone, or queue it: convoy submit trainer.nodes={nodes} …"
        raise UserError(Fault("trainer.nodes", rule, remedy, str(nodes)))


def check_images(config: Config) -> None:
    """Images that are too small for the network, before data is opened and weights are made.

    Raises:
        UserError: the network can't be built, or takes only larger ones, with the smallest of these; or batch norm
            would have a single value to normalize.
    """
    from convoy.models.building.build import CHAIN, refuse_too_small
    from convoy.planner.workload import batch_sizes, model_sizes, skeleton

    is_chain = config.model.get("_target_") == CHAIN  # which `check` has followed
    is_lone = batch_sizes(config).micro_batch_size == 1
    if is_chain and not is_lone:
        return
    network = skeleton(config)
    if not is_chain:
        refuse_too_small(network, config.model, **model_sizes(config))
    if is_lone:
        _refuse_lone_image(network.train(), config)


def _refuse_lone_image(network: nn.Module, config: Config) -> None:
    from convoy.config.faults import one_line
    from convoy.models.building.sizes import refusal_of, takes_image_size

    shape = config.data.channels, config.data.image_size
    error = refusal_of(network, *shape, num_images=1)
    if error is not None and takes_image_size(network, *shape):
        key = "micro_batch_size" if config.trainer.micro_batch_size == 1 else "global_batch_size"
        rule = f"is too small for this network ({one_line(error)})"
        raise UserError(Fault(f"trainer.{key}", rule, "write 2 or more", "1"))
