"""Figures of a run: the filters of its first layer and class activation maps."""

from __future__ import annotations

from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.evaluation.run_evaluation import open_images
from convoy.evaluation.trained_run import load_trained, locate
from convoy.report import activation_maps, filters
from convoy.report.complexity import save


def draw_run(
    *, run: str, checkpoint: str, images: int, split: str | None, output: Path | None, output_root: str
) -> list[Path]:
    """Draw filters.png and activation_maps.png of a run. Existing files are replaced.

    Args:
        run: folder of a run, or latest.
        checkpoint: best, last, or a file.
        images: number of images with an activation map; 0: none.
        split: split of the images; None: test, or val where there is no test.
        output: folder to write to; None: report/ in the run's folder.
        output_root: folder in which latest is looked up.

    Returns:
        Paths of the files.

    Raises:
        UserError: no such run, checkpoint or split, or a network without a convolution. Nothing is written.
    """
    folder, file = locate(run, checkpoint, output_root)
    trained = load_trained(folder, file)
    title = f"{trained.config.name}, {file.stem} of {folder.path.name}"
    pictures = {"filters.png": filters.draw(filters.first_convolution(trained.network), title)}
    if images:
        config = trained.config
        data = open_images(config)
        chosen = split or ("test" if data.sizes.get("test") else "val")
        if not data.sizes.get(chosen):
            there = ", ".join(name for name, count in data.sizes.items() if count)
            raise UserError(Fault("split", f"{config.data.name} has no such split", f"it has {there}", chosen))
        batches = data.evaluation_loader(chosen, device="cpu")
        found, layer = activation_maps.examples(trained.network, batches, images, data.num_classes)
        subtitle = f"evidence for the predicted class at {layer}: {config.data.name}, {chosen}"
        pictures["activation_maps.png"] = activation_maps.draw(
            found, data.classes, config.data.mean, config.data.std, title, subtitle
        )
    target = output or folder.path / "report"
    target.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        save(figure, target / name)
    return [target / name for name in pictures]
