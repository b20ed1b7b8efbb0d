"""Runs as objects: trained or opened, with their records, their network, and what can be done with it."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convoy.api.calls import alone, deliver, undisturbed
from convoy.api.images import image_files
from convoy.config.faults import Fault, UserError
from convoy.config.run_overrides import check_run_overrides
from convoy.runs.layout import RunFolder, shown
from convoy.runs.lookup import find_run
from convoy.runs.records import metric_text, read_summary

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from convoy.config.schema import Config

Views = Literal["none", "flip", "tencrop", "multiscale"]


def train(*overrides: str, config_dir: str | Path | None = None) -> Run:
    """Train, validate and test a run, as `convoy train` does.

    A run of one process is trained in this process, and a run of several ranks by a process `convoy train`. Ctrl-C, or
    the interruption of a notebook's cell, saves a checkpoint and then raises KeyboardInterrupt;
    `convoy.open_run("latest").resume()` continues the run.

    Args:
        overrides: words of `convoy train`, such as `"model=vgg16"`.
        config_dir: folder of options, as in `--config-dir`.

    Returns:
        The finished run.

    Raises:
        UserError: a mistake, with the text of the command; nothing is written.
        RunError: the run began and did not finish.
        KeyboardInterrupt: the run was interrupted.
    """
    return _trained(overrides, config_dir)


def open_run(run: str | Path = "latest", output_root: str | Path = "outputs") -> Run:
    """Return a run that was trained before.

    Args:
        run: folder of a run, its name (the newest run of that name), the six characters at the end of its folder, or
            latest.
        output_root: folder in which latest and names are looked up.

    Raises:
        UserError: if there is no such run.
    """
    return Run(find_run(str(run), output_root).path)


@dataclass(frozen=True)
class Run:
    """Run in a folder. Its records are read each time that they are asked for.

    Attributes:
        path: folder of the run.
    """

    path: Path

    @property
    def state(self) -> str:
        """State of the run, as in `convoy runs`."""
        from convoy.cluster.run_states import list_run

        return list_run(self.path, shown(self.path)).state

    @property
    def summary(self) -> dict[str, Any]:
        """Content of summary.json; empty before the run has ended."""
        return read_summary(RunFolder(self.path).summary)

    @property
    def config(self) -> Config:
        """Config of the run.

        Raises:
            UserError: if it can't be read.
        """
        from convoy.config.compose import from_saved, to_config

        return to_config(from_saved(RunFolder(self.path).saved_config()))

    @property
    def metrics(self) -> pd.DataFrame:
        """Rows of metrics.csv. A metric that a row does not have is NaN.

        Raises:
            UserError: if pandas is not installed, or the run has no metrics.
        """
        from convoy.runs.data_frames import data_frame
        from convoy.runs.records import read_metrics

        rows = read_metrics(RunFolder(self.path).metrics)
        if not rows:
            raise UserError(Fault("run", "has no metrics yet", "train it longer", str(self.path)))
        return data_frame(rows).apply(_numbers)

    @property
    def network(self) -> nn.Module:
        """Network with the weights of best.ckpt, on the CPU and in evaluation mode. Each access builds another.

        Raises:
            UserError: if the run has no checkpoint, or it can't be used.
        """
        return self.load()

    def load(self, checkpoint: str = "best") -> nn.Module:
        """Return the network with the weights of a checkpoint, on the CPU and in evaluation mode.

        Args:
            checkpoint: best, last, or a file.

        Raises:
            UserError: if there is no such checkpoint, or it can't be used.
        """
        from convoy.evaluation.trained_run import TrainedRun

        with alone(), undisturbed(collects=False):
            return TrainedRun.open(str(self.path), checkpoint).network

    def evaluate(
        self,
        *overrides: str,
        split: Literal["train", "val", "test"] = "test",
        checkpoint: str = "best",
        tta: Views | Sequence[float | Literal["flip"]] = "none",
    ) -> dict[str, float]:
        """Return the metrics of a split of the run's data or of another set, and write them to the run's folder.

        Args:
            overrides: overrides of data, trainer, hardware and seed.
            split: train (without augmentation), val or test.
            checkpoint: best, last, or a file.
            tta: test-time augmentation, as in `convoy evaluate`; a list such as `[0.75, 1, "flip"]` is one of multiples
                of the sides.

        Raises:
            UserError: if the network can't be opened, or the data doesn't fit.
        """
        from convoy.evaluation.run_evaluation import evaluate
        from convoy.evaluation.trained_run import TrainedRun

        check_run_overrides(overrides, "evaluate")
        views = tta if isinstance(tta, str) else ",".join(map(str, tta))
        with alone(), undisturbed():
            trained = TrainedRun.open(str(self.path), checkpoint)
            return evaluate(trained, split, overrides, tta=views, speaking=False).values

    def predict(self, images: Any, *, top: int = 5, checkpoint: str = "best") -> Any:
        """Return the prediction for an image, or a list of them for several.

        Images are prepared like those of the run's val split. A prediction is a dictionary, as a line of
        `convoy predict format=jsonl` without the name of the image.

        Args:
            images: an image, or a sequence or batch of them. An image is a path, a PIL image, an array [H, W] or
                [H, W, C] or a tensor [H, W] or [C, H, W], of uint8 or of floating-point values from 0 to 1.
            top: largest number of classes per image, the most probable first.
            checkpoint: best, last, or a file.

        Raises:
            UserError: if an image can't be read; all are reported.
        """
        from convoy.export.predictor import open_predictor

        with alone(), undisturbed(collects=False), image_files(images) as (paths, is_single):
            found = list(open_predictor(str(self.path), checkpoint).predict(paths, top))
        if bad := [one for one in found if one.reason is not None]:
            raise UserError(*(Fault(one.image, f"can't be read ({one.reason})") for one in bad))
        records = [dict(one.record) for one in found]
        return records[0] if is_single else records

    def resume(self, *overrides: str, config_dir: str | Path | None = None) -> Run:
        """Continue the run after its last checkpoint, and return it when it is finished.

        Args:
            overrides: overrides of the config, such as `"trainer.max_epochs=20"`.
            config_dir: folder of options, as in `--config-dir`.

        Raises:
            UserError: the run can't be resumed; the text is that of the command.
            RunError: the run did not finish.
            KeyboardInterrupt: the run was interrupted.
        """
        return _trained([f"resume={json.dumps(str(self.path))}", *overrides], config_dir)

    def report(self, output: str | Path | None = None) -> Path:
        """Write the page of the run, as `convoy report` does, and return its path.

        Args:
            output: file; None for report.html in the run's folder.

        Raises:
            UserError: if the run has no config that can be read.
        """
        from convoy.report.pages.run_page import write_report

        with alone(), undisturbed(collects=False):
            return write_report(RunFolder(self.path), None if output is None else Path(output))

    def __repr__(self) -> str:
        return f"Run({', '.join(text for _, text in self._facts())})"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in self._facts()
        )
        return f"<table>{cells}</table>"

    def _facts(self) -> Sequence[tuple[str, str]]:
        """Return the folder, the state and the monitored metric of val and test."""
        summary = self.summary
        monitor, percent = str(summary.get("monitor", "")), summary.get("percent", ())
        facts = [("folder", shown(self.path)), ("state", self.state)]
        for name in (monitor, monitor.replace("val/", "test/", 1)):
            if isinstance(summary.get(name), int | float):
                facts.append((name, f"{name} {metric_text(name, summary[name], percent)}"))
        return facts


class RunError(UserError):
    """Error for a run that began and did not finish, such as one whose loss is not finite.

    Attributes:
        run: the run, with everything that it has written.
    """

    def __init__(self, run: Run, status: str) -> None:
        self.run = run
        super().__init__(Fault("run", f"ended: {status}", "its run.log has the reason", str(run.path)))


def _trained(words: Sequence[str], config_dir: str | Path | None) -> Run:
    """Return the finished run of the words of `convoy train`."""
    from convoy.api.training import trained

    with alone():
        folder, exit_code = trained(words, config_dir)
        run = Run(folder)
        if exit_code > 128:
            deliver(exit_code - 128)
        elif exit_code:
            raise RunError(run, str(run.summary.get("status", "failed")))
        return run


def _numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    return pd.to_numeric(column.replace("", None), errors="coerce")
