"""File formats of exported networks: writers and readers, including metadata.

All take float32 images [N, C, H, W] and return float32 outputs [N, number of targets, ...], for any N, and for any H
and W where val sees images in their own sizes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convoy.config.compose import from_saved, to_config
from convoy.config.faults import Fault, UserError, one_line
from convoy.data.source_names import WHOLE_VIEW
from convoy.evaluation.network_facts import Facts
from convoy.evaluation.trained_run import build_network
from convoy.export.batch_norm_folding import fold
from convoy.runs.layout import EXPORT_SUFFIXES
from convoy.tasks.construction import build_task
from convoy.training.resume import load_weights

Run = Callable[[Tensor], Tensor]
"""Function from images [N, C, H, W] to outputs [N, number of targets]."""

_EXTRA_FILE = "convoy.json"
_NAMED_BY = {"checkpoint": "file"}


@dataclass(frozen=True)
class Format:
    """File format.

    Attributes:
        runtime: name of the software that runs such a file, for messages.
        write: function that writes a network in evaluation mode and its metadata to a file.
        read: function that returns the metadata of a file and a function that runs its network.
        to_write: packages for writing that are not dependencies of Convoy.
        to_read: packages for reading that are not dependencies of Convoy.
    """

    runtime: str
    write: Callable[[nn.Module, Facts, Path], None]
    read: Callable[[Path], tuple[Facts, Run]]
    to_write: tuple[str, ...] = ()
    to_read: tuple[str, ...] = ()


def run_network(network: nn.Module) -> Run:
    """Return a function that runs a network."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(images)
        return logits

    return run


def build(facts: Facts) -> nn.Module:
    """Build the network of an exported file with initial weights, in evaluation mode and with its folded layers."""
    task = build_task(to_config(from_saved(dict(facts.config))), facts.targets)
    network = build_network(facts, task)
    fold(network, facts.folded or ())
    return network


def _write_safetensors(network: nn.Module, facts: Facts, path: Path) -> None:
    from safetensors.torch import save

    state = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    # Not save_file, which writes files that only their owner can read.
    path.write_bytes(save(state, {"format": "pt", **facts.as_metadata()}))


def _read_safetensors(path: Path) -> tuple[Facts, Run]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        facts = Facts.from_metadata(file.metadata() or {}, str(path))
        state = {f"network.{name}": file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    network = build(facts)
    load_weights(network, {"state_dict": state}, path)
    if facts.config.get("trainer", {}).get("channels_last", True):
        network = network.to(memory_format=torch.channels_last)
    return facts, run_network(network)


def _example(facts: Facts) -> Tensor:
    # Two images, since a batch size of 1 would be treated as a constant.
    return torch.zeros(2, *facts.preparation.shape)


def _dynamic_shapes(facts: Facts) -> tuple[dict[int, Any]]:
    sides = {2: "height", 3: "width"} if facts.preparation.view == WHOLE_VIEW else {}
    return ({axis: torch.export.Dim(name, min=1) for axis, name in {0: "batch", **sides}.items()},)


def _write_onnx(network: nn.Module, facts: Facts, path: Path) -> None:
    program = torch.onnx.export(
        network.to(memory_format=torch.contiguous_format),
        (_example(facts),),
        dynamo=True,
        dynamic_shapes=_dynamic_shapes(facts),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None, "dynamo=True returns a program"
    program.model.metadata_props.update(facts.as_metadata())
    program.save(path, external_data=False)


def _read_onnx(path: Path) -> tuple[Facts, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised too
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    facts = Facts.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {name: images.contiguous().numpy()})
        return torch.from_numpy(logits)

    return facts, run


def _write_torch_export(network: nn.Module, facts: Facts, path: Path) -> None:
    program = torch.export.export(
        network.to(memory_format=torch.contiguous_format),
        (_example(facts),),
        dynamic_shapes=_dynamic_shapes(facts),
    )
    torch.export.save(program, path, extra_files={_EXTRA_FILE: json.dumps(facts.as_metadata())})


def _read_torch_export(path: Path) -> tuple[Facts, Run]:
    extra: dict[str, Any] = {_EXTRA_FILE: ""}
    logger = logging.getLogger("torch.export")
    logger.disabled = True  # a damaged file is reported once, by Convoy
    try:
        program = torch.export.load(path, extra_files=extra)
    finally:
        logger.disabled = False
    facts = Facts.from_metadata(json.loads(extra[_EXTRA_FILE] or "{}"), str(path))
    run = run_network(program.module())
    return facts, lambda images: run(images.contiguous())


FORMATS = {
    "safetensors": Format("PyTorch", _write_safetensors, _read_safetensors),
    "onnx": Format(
        "onnxruntime", _write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime"), to_read=("onnxruntime",)
    ),
    "torch_export": Format("torch.export", _write_torch_export, _read_torch_export),
}


def require(packages: Sequence[str], key: str, value: str) -> None:
    """Check that packages can be imported.

    Raises:
        UserError: if one can't be imported; the message has `key`, `value` and the command that installs them.
    """
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            remedy = f"pip install {' '.join(packages)}"
            raise UserError(Fault(key, f"{package} is not installed ({one_line(error)})", remedy, value)) from error


def write(format_name: str, network: nn.Module, facts: Facts, path: Path) -> None:
    """Write a network in evaluation mode; its parameters may have another memory format afterwards.

    Raises:
        UserError: if the format can't represent the network.
    """
    try:
        FORMATS[format_name].write(network, facts, path)
    except Exception as error:  # exporters raise various types for unsupported networks
        if isinstance(error, UserError):
            raise
        rule = f"{facts.name} can't be written in this format ({one_line(error)})"
        raise UserError(Fault("format", rule, "choose another format", format_name)) from error


def read(path: Path, key: str = "checkpoint", value: str | None = None) -> tuple[Facts, Run]:
    """Open an exported file.

    Args:
        path: the file.
        key: setting that names the file or its format, for errors.
        value: its value; None for the path.

    Raises:
        UserError: if it is not an exported file, is damaged, or its runtime isn't installed. The returned function
            raises it for images that the file can't process.
    """
    form = FORMATS[next(name for name, suffix in EXPORT_SUFFIXES.items() if suffix == path.suffix)]
    value = value or str(path)
    require(form.to_read, key, value)

    def fault(rule: str, error: Exception) -> UserError:
        return UserError(Fault(key, f"{rule} ({one_line(error)})", f"choose another {_NAMED_BY.get(key, key)}", value))

    try:
        facts, run = form.read(path)
    except UserError:
        raise
    except Exception as error:  # readers raise various types for damaged files
        raise fault("can't be read", error) from error

    def outputs(images: Tensor) -> Tensor:
        try:
            return run(images)
        except Exception as error:  # runtimes raise various types
            height, width = images.shape[2:]
            raise fault(f"can't process images of {height}x{width} pixels", error) from error

    return facts, outputs
