"""convoy export: a run's network as a file for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from convoy.commands.declaration.run_verbs import TrainedRunVerb
from convoy.commands.declaration.verb import AtLeast
from convoy.config.faults import Fault
from convoy.runs.layout import EXPORT_SUFFIXES


@dataclass(frozen=True)
class Export(TrainedRunVerb):
    """Write a run's network to a file and verify the file.

    The file is read back and its predictions for the test images are compared
    with those of the trained network; if one differs, no file is written. The
    file contains the preparation of images and the names of the targets, so that
    convoy predict needs no other file. See docs/export.md.

      convoy export run=latest
      convoy export run=latest format=onnx
      convoy export run=outputs/resnet18/<run> output=clothes.pt2
    """

    format: Literal["safetensors", "onnx", "torch_export"] | None = None
    """safetensors (weights for Convoy), onnx, or torch_export (.pt2); null for
    the format of the suffix of output, or safetensors."""
    fold_bn: bool = True
    """Fold batch norms into the preceding layers."""
    output: Path | None = None
    """File to write; null for export/ in the run's folder."""
    images: Annotated[int, AtLeast(1)] | None = None
    """Number of test images to check; null for all."""

    @property
    def chosen_format(self) -> str:
        """Format given by the user, or that of the output's suffix."""
        suffix = "" if self.output is None else self.output.suffix
        by_suffix = {suffix: name for name, suffix in EXPORT_SUFFIXES.items()}
        return self.format or by_suffix.get(suffix, "safetensors")

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of the run and of the output's suffix."""
        yield from super().faults()
        suffix = EXPORT_SUFFIXES[self.chosen_format]
        if self.output is not None and self.output.suffix != suffix:
            rule = f"a file of format={self.chosen_format} ends in {suffix}"
            yield Fault("output", rule, f"write output={self.output.with_suffix(suffix)}", str(self.output))


ARGUMENTS = Export


def run(given: Export) -> int:
    """Export the network."""
    from convoy.export.run_export import ExportRequest, export

    export(given.open(), ExportRequest(given.chosen_format, given.fold_bn, given.output, given.images))
    return 0
