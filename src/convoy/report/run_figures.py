"""Figures of a run: the filters of its first layer and class activation maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.evaluation.run_evaluation import open_images
from convoy.evaluation.trained_run import load_trained, locate
from convoy.report import activation_maps, filters
from convoy.report.complexity import save


@dataclass(frozen=True)
class Request:
    """Settings of `draw_run`.

    Attributes:
        run: a run's folder, or latest.
        checkpoint: best, last, or a file.
        images: number of images with an activation map; 0: none.
        split: split of the images; None: test, or val if there is no test split.
        output: folder of the figures; None: report/ in the run's folder.
        output_root: folder in which latest is searched.
    """

    run: str
    checkpoint: str = "best"
    images: int = 8
    split: str | None = None
    output: str | None = None
    output_root: str = "outputs"


def draw_run(request: Request) -> list[Path]:
    """Draw filters.png and activation_maps.png; existing files are replaced.

    Returns:
        Paths of the files.

    Raises:
        UserError: no such run, checkpoint or split, or a network without a convolution. Nothing is written.
    """
    run, checkpoint = locate(request.run, request.checkpoint, request.output_root)
    trained = load_trained(run, checkpoint)
    title = f"{trained.config.name}, {checkpoint.stem} of {run.path.name}"
    pictures = {"filters.png": filters.draw(filters.first_convolution(trained.network), title)}
    if request.images:
        config = trained.config
        data = open_images(config)
        split = request.split or ("test" if data.sizes.get("test") else "val")
        if not data.sizes.get(split):
            there = ", ".join(name for name, count in data.sizes.items() if count)
            raise UserError(Fault("split", f"{config.data.name} has no such split", f"it has {there}", split))
        batches = data.evaluation_loader(split, device="cpu")
        found, layer = activation_maps.examples(trained.network, batches, request.images, data.num_classes)
        subtitle = f"evidence for the predicted class at {layer}: {config.data.name}, {split}"
        pictures["activation_maps.png"] = activation_maps.draw(
            found, data.classes, config.data.mean, config.data.std, title, subtitle
        )
    folder = Path(request.output) if request.output else run.path / "report"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        save(figure, folder / name)
    return [folder / name for name in pictures]
