"""Figures of a run: the filters of its first layer and activation maps."""

from __future__ import annotations

from pathlib import Path

from convoy.evaluation.trained_run import TrainedRun
from convoy.report import activation_maps, filter_pictures
from convoy.report.complexity import save


def draw_run(run: TrainedRun, *, images: int, split: str | None, output: Path | None) -> list[Path]:
    """Draw filters.png and activation_maps.png of a run. Existing files are replaced.

    Args:
        run: the trained network.
        images: number of images with an activation map; 0: none.
        split: split of the images; None: test, or val where there is no test.
        output: folder to write to; None: report/ in the run's folder.

    Returns:
        Paths of the files.

    Raises:
        UserError: no such split, or a network without a convolution. Nothing is written.
    """
    title = f"{run.config.name}, {run.checkpoint.stem} of {run.folder.name}"
    pictures = {"filters.png": filter_pictures.draw(filter_pictures.first_convolution(run.network), title)}
    if images:
        data = run.open_data()
        chosen = split or ("test" if data.images.sizes.get("test") else "val")
        data.check_split(chosen)
        batches = data.images.evaluation_loader(chosen, device="cpu")
        found, layer = activation_maps.examples(run.network, run.task, batches, images)
        subtitle = f"evidence for the prediction at {layer}: {data.name}, {chosen}"
        settings = data.config.data
        pictures["activation_maps.png"] = activation_maps.draw(found, settings.mean, settings.std, title, subtitle)
    target = output or run.folder / "report"
    target.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        save(figure, target / name)
    return [target / name for name in pictures]
