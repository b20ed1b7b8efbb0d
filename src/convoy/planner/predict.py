"""The prediction of a config's training on its card, as plain data."""

from __future__ import annotations

from typing import Any

import torch

from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.data.check import num_classes
from convoy.ledger.record import UntraceableError
from convoy.ledger.skeleton import without_weights
from convoy.models.build import construct_model
from convoy.optim.build import build_optimizer
from convoy.planner.plan import Family
from convoy.planner.steps import Training, record


def predicted(config: Config) -> dict[str, Any]:
    """Peak, categories and verdict of a config; what is not known is None.

    Raises:
        UserError: the model can't be built, or can't be followed without data.
    """
    trainer, hardware, data = config.trainer, config.hardware, config.data
    classes = num_classes(data)
    node = {key: value for key, value in config.model.items() if key != "pretrained"}
    network = without_weights(
        lambda: construct_model(node, num_classes=classes, in_channels=data.channels, image_size=data.image_size)
    )
    if trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    ranks = (trainer.gpus if isinstance(trainer.gpus, int) and trainer.gpus else 1) * trainer.nodes
    micro = trainer.micro_batch_size or trainer.global_batch_size // ranks
    precision = (hardware.precision or "32") if trainer.precision == "auto" else trainer.precision
    training = Training(
        (data.channels, data.image_size, data.image_size),
        classes,
        lambda model: build_optimizer(config.optimizer, model),
        precision,
        accumulation=min(2, trainer.global_batch_size // (micro * ranks)),  # a third is like the second
        ranks=ranks,
        clip_grad_norm=trainer.clip_grad_norm is not None,
        averages=trainer.ema_decay is not None,
        label_smoothing=trainer.label_smoothing,
        mixes=trainer.mixup > 0 or trainer.cutmix > 0,
        channels_last=trainer.channels_last,
    )
    name = str(config.model.get("name", config.name))
    try:
        family = Family(record(network, training, micro), record(network, training, 2 * micro))
    except UntraceableError as error:
        raise UserError(Fault("model", str(error), "it can't be planned", name)) from error
    peak = family.peak(micro)
    context, usable = hardware.context_bytes, hardware.usable_bytes
    limit = None if usable is None or context is None else usable - context
    fits = None if limit is None else family.fits(micro, limit)
    if limit is not None and fits:
        peak = family.peak(micro, limit)
    total = peak.reserved_bytes + (context or 0)
    return {
        "model": name,
        "hardware": hardware.name,
        "precision": precision,
        "micro_batch_size": micro,
        "peak_allocated_bytes": peak.allocated_bytes,
        "peak_reserved_bytes": peak.reserved_bytes,
        "device_total_bytes": None if context is None else total,
        "fits": fits,
        "slack_bytes": None if usable is None else usable - total,
        "largest_micro_batch": None if limit is None else family.largest(limit),
        "at": f"{peak.phase} of {peak.module or 'the model'}",
        "categories": peak.categories | {"context": context, "cudnn_workspace": None},
    }
