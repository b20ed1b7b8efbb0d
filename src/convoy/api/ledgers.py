"""Ledgers of any module, and of a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from convoy.api.calls import alone, options_of, words_of
from convoy.config.faults import Fault, UserError
from convoy.config.run_overrides import run_key_faults

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from convoy.ledger.ledger_object import Ledger

Precision = Literal["32", "bf16-mixed", "16-mixed"]


@overload
def ledger(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    precision: Precision = "32",
    on_cuda: bool = True,
    optimizer: Callable[[nn.Module], Optimizer] | None = None,
    micro_batch_size: int = 1,
) -> Ledger: ...


@overload
def ledger(*overrides: str, config_dir: str | Path | None = None) -> Ledger: ...


def ledger(*given: Any, **named: Any) -> Ledger:
    """Return parameters, MACs and memory of a network's training, layer by layer.

    The network is traced without data, and no memory is allocated. It is either a module, which is not changed, or that
    of a command line, as in `convoy ledger`.

    Args:
        given: a module and `input_shape`, or `overrides`.
        named: the other arguments.
        network: any module that takes a batch of images.
        input_shape: (channels, height, width) of an image.
        precision: "32", "bf16-mixed" or "16-mixed".
        on_cuda: whether mixed precision follows the rules of CUDA; otherwise those of the CPU.
        optimizer: function that builds the optimizer, such as `lambda network: SGD(network.parameters())`.
        micro_batch_size: samples per rank per forward pass.
        overrides: words of `convoy train`, such as `"model=vgg16"`.
        config_dir: folder of options, as in `--config-dir`.

    Raises:
        UserError: if the config has faults, or the network does not take such images or can't be traced without data.
    """
    if not given or isinstance(given[0], str | Sequence | Mapping):
        return _of_words(*given, **named)
    return _of_module(*given, **named)


def _of_words(*overrides: str, config_dir: str | Path | None = None) -> Ledger:
    with alone():
        words = words_of(overrides)
        if faults := run_key_faults(words, "the ledger"):
            raise UserError(*faults)
        # Imported here, since torch takes seconds to import.
        from convoy.planner.config_ledger import ledger_of
        from convoy.training import preflight

        return ledger_of(preflight.read(words, options_of(config_dir), to_run=False))


def _of_module(network: nn.Module, input_shape: Sequence[int], **named: Any) -> Ledger:
    from convoy.ledger.build_ledger import build_ledger
    from convoy.ledger.rows import UntraceableError

    if not isinstance(input_shape, Sequence) or len(input_shape) != 3:
        rule = "must be (channels, height, width)"
        raise UserError(Fault("input_shape", rule, "write such as (3, 224, 224)", str(input_shape)))
    try:
        return build_ledger(network, input_shape, name=type(network).__name__, **named)
    except UntraceableError as error:
        remedy = f"pass (channels, height, width) of images that it takes instead of {tuple(input_shape)}"
        raise UserError(Fault("network", str(error), remedy, type(network).__name__)) from error
