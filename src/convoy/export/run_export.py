"""Export of a run's network: folding, writing, and verification of the file against the trained network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.table import Table
from torch import nn

from convoy.config.faults import Fault, UserError
from convoy.data.data_module import ImageData
from convoy.evaluation.trained_run import TrainedRun
from convoy.export import formats
from convoy.export.batch_norm_folding import Folding, find_pairs, fold
from convoy.export.formats import FORMATS, run_network
from convoy.export.verification import Agreement, Speeds, compare, measure_speeds
from convoy.records.console import Console
from convoy.runs.layout import EXPORT_SUFFIXES, shown
from convoy.tasks.task import Task

_SPEED_BATCH_SIZE = 32


@dataclass(frozen=True)
class ExportRequest:
    """File to write.

    Attributes:
        format: name in `formats.FORMATS`.
        fold_bn: whether batch norms are folded.
        output: the file; None for export/<checkpoint><suffix> in the run's folder.
        images: number of images to check; None for all of the test split, or of val if there is none.
    """

    format: str
    fold_bn: bool = True
    output: Path | None = None
    images: int | None = None


def export(run: TrainedRun, request: ExportRequest) -> Path:
    """Write the file and print its comparison with the trained network, in float32 on the CPU.

    Raises:
        UserError: if the file exists, or its predictions differ for an image. Nothing is written in this case.
    """
    terminal = Console()
    terminal.log_to(None)
    form = FORMATS[request.format]
    formats.require(form.to_write, "format", request.format)
    output = _output(request, run)
    data, split = _open(run)

    network, folding = run.network, None
    runs = {"as trained": run_network(run.network)}
    if request.fold_bn:
        network, folding = _folded(run)
        if folding.pairs:
            runs["folded"] = run_network(network)
    facts = replace(run.facts, folded=None if folding is None else folding.pairs)
    with _partial(output) as partial:
        formats.write(request.format, copy.deepcopy(network), facts, partial)
        name = form.runtime if request.format != "safetensors" else output.name
        _, runs[name] = formats.read(partial, "format", request.format)
        agreements = compare(runs, run.task, data.evaluation_loader(split, device="cpu"), request.images)
        _refuse_changes(agreements, request)
        images, _ = next(iter(data.evaluation_loader(split, device="cpu")))
        images = images[:_SPEED_BATCH_SIZE]
        speeds = measure_speeds(runs, images)
        partial.replace(output)

    terminal.say(run.title)
    if folding is not None:
        terminal.say(f"batch norm: {folding.text()}")
    threads = torch.get_num_threads()
    terminal.say(
        f"checked on {agreements['as trained'].images:,} {split} images of {run.config.data.name}, in float32 on "
        f"the CPU ({threads} thread{'' if threads == 1 else 's'});\nimages/s with batches of {len(images)}: "
        f"medians of {speeds.rounds} interleaved rounds"
    )
    terminal.show(_table(agreements, speeds, run.task))
    terminal.say(f"{shown(output)} ({output.stat().st_size / 1e6:,.1f} MB)")
    return output


def _output(request: ExportRequest, run: TrainedRun) -> Path:
    """Return the path of the file, which does not exist yet."""
    if request.output is None:
        output = run.folder / "export" / f"{run.checkpoint.stem}{EXPORT_SUFFIXES[request.format]}"
    else:
        output = request.output.absolute()
        if not output.parent.is_dir():
            remedy = "create it, or choose another"
            raise UserError(Fault("output", f"there is no folder {output.parent}", remedy, str(request.output)))
    if output.exists():
        remedy = "remove it, or choose another file with output=<file>"
        raise UserError(Fault("output", "exists already", remedy, shown(output)))
    return output


def _open(run: TrainedRun) -> tuple[ImageData, str]:
    """Return the run's data, and the split on which the file is checked."""
    data = run.open_data().images
    if data.targets != run.facts.targets:
        rule = f"has {data.targets.describe()}, not the {run.facts.targets.describe()} that the run was trained on"
        raise UserError(Fault("data", rule, "restore the data of the run", run.config.data.name))
    return data, "test" if data.sizes["test"] else "val"


def _folded(run: TrainedRun) -> tuple[nn.Module, Folding]:
    image = torch.zeros(1, *run.facts.preparation.shape)
    network = copy.deepcopy(run.network)
    folding = find_pairs(network, image)
    fold(network, folding.pairs)
    return network, folding


@contextmanager
def _partial(output: Path) -> Iterator[Path]:
    """Yield a file beside `output` to write into; it is removed at the end if it still exists."""
    made_folder = not output.parent.exists()
    output.parent.mkdir(exist_ok=True)
    partial = output.with_name(f".partial-{output.name}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
        if made_folder and not any(output.parent.iterdir()):
            output.parent.rmdir()


def _refuse_changes(agreements: Mapping[str, Agreement], request: ExportRequest) -> None:
    for name, agreement in agreements.items():
        if not agreement.changed:
            continue
        key, value = ("fold_bn", "true") if name == "folded" else ("format", request.format)
        rule = (
            f"the predictions of {name} differ from those as trained for {agreement.changed:,} of "
            f"{agreement.images:,} images (largest difference of an output {agreement.max_difference:.1e}); "
            "nothing was written"
        )
        remedy = "write fold_bn=false" if name == "folded" else "choose another format"
        raise UserError(Fault(key, rule, remedy, value))


def _table(agreements: Mapping[str, Agreement], speeds: Speeds, task: Task) -> Table:
    monitored = task.monitor.removeprefix("val/")
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("")
    for heading in (
        task.title(monitored),
        "largest difference\nof an output",
        "predictions\nchanged",
        "images/s",
        "speed-up",
    ):
        grid.add_column(heading, justify="right", vertical="bottom")
    before = speeds.images_per_s["as trained"]
    for index, (name, agreement) in enumerate(agreements.items()):
        speed = speeds.images_per_s[name]
        against = (f"{agreement.max_difference:.1e}", str(agreement.changed)) if index else ("", "")
        times = f"{speed / before:.2f}" if index else ""
        grid.add_row(
            name, task.text(monitored, task.compute(agreement.metrics).get(monitored)), *against, f"{speed:,.0f}", times
        )
    return grid
