"""convoy evaluate: metrics of one run, or of several runs and their ensemble."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from convoy.commands.declaration.run_verbs import TrainedRunVerb
from convoy.commands.declaration.verb import AtLeast, Call, Split
from convoy.config.faults import Fault
from convoy.config.run_overrides import RUN_OVERRIDES


@dataclass(frozen=True)
class Evaluate(TrainedRunVerb):
    """Evaluate a run on any split or another data set.

    The metrics are printed and written to evaluation-<data>-<split>.json in the
    run's folder. Several runs are evaluated separately and as the mean of their
    predictions.

      convoy evaluate run=latest split=val
      convoy evaluate run=outputs/lenet5/<run> data=mnist
      convoy evaluate run=latest tta=tencrop
      convoy evaluate run=latest bootstrap=1000
      convoy evaluate run=latest per_image=true
      convoy evaluate runs=[outputs/a,outputs/b] weights=val
    """

    runs: list[str] = field(default_factory=list)
    """Several runs, evaluated separately and as an ensemble."""
    split: Split = "test"
    """train (without augmentation), val or test."""
    tta: Literal["none", "flip", "tencrop", "multiscale"] | list[str] = "none"
    """Test-time augmentation: mean of the predictions of the image and its mirror
    image (flip), of ten crops (tencrop), of three sizes (multiscale), or of a
    list of multiples of the sides and flip, such as [0.75,1,1.25,flip]."""
    bootstrap: Annotated[int, AtLeast(0)] = 0
    """Number of samples of the images, drawn with replacement, for a 95% interval
    of each metric; 1000 is usual; 0: no intervals."""
    reliability: bool = False
    """Whether to draw accuracy by the probability of the predicted class, to
    evaluation-<data>-<split>-reliability.png."""
    per_image: bool = False
    """Whether to write the error of each image, the largest first, to
    evaluation-<data>-<split>-images.csv; without test-time augmentation."""
    weights: Literal["equal", "val"] = "equal"
    """Weights of the ensemble: equal, or optimized on the val split."""
    format: Literal["table", "json"] = "table"
    """With runs: a table, or JSON."""

    overrides = RUN_OVERRIDES

    @property
    def views(self) -> str:
        """`tta` as one text."""
        return self.tta if isinstance(self.tta, str) else ",".join(self.tta)

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of combinations of keys."""
        listed = ",".join(self.runs)
        if not self.runs:
            yield from super().faults()
        if self.run is not None and self.runs:
            yield Fault("run", "can't be combined with runs", "omit one of them", self.run)
        elif self.run is not None and "," in self.run:
            yield Fault("run", "must be one run", f"write runs=[{self.run.strip('[]')}]", self.run)
        elif self.run is not None and self.weights != "equal":
            yield Fault("weights", "needs several runs", "omit weights, or write runs=[a,b,c]", self.weights)
        elif self.run is not None and self.format != "table":
            remedy = "omit format; the run's folder contains the metrics in evaluation-<data>-<split>.json"
            yield Fault("format", "needs several runs", remedy, self.format)
        elif self.runs and self.tta != "none":
            yield Fault("tta", "needs one run", "write run=… instead of runs", self.views)
        elif not self.tta:
            yield Fault("tta", "is an empty list", "write a list such as [0.75,1,1.25,flip]", "[]")
        elif self.runs and self.reliability:
            yield Fault("reliability", "needs one run", "write run=… instead of runs", "true")
        elif self.runs and self.per_image:
            yield Fault("per_image", "needs one run", "write run=… instead of runs", "true")
        elif self.runs and self.bootstrap:
            yield Fault("bootstrap", "needs one run", "write run=… instead of runs", str(self.bootstrap))
        elif self.runs and len(self.runs) < 2:
            yield Fault("runs", "needs at least two runs", "write runs=[a,b,c], or run=… for one", listed)
        elif len(set(self.runs)) < len(self.runs):
            yield Fault("runs", "contains a run twice", "list each run once", listed)


ARGUMENTS = Evaluate


def run(given: Evaluate, call: Call) -> int:
    """Evaluate the run, or the runs."""
    if not given.runs:
        from convoy.evaluation.image_errors import image_errors, write_image_errors
        from convoy.evaluation.run_evaluation import evaluate
        from convoy.report.reliability import check_task, draw_reliability
        from convoy.runs.layout import shown

        trained = given.open()
        if given.reliability:
            check_task(trained)
        found = evaluate(trained, given.split, call.overrides, call.options, given.views, given.bootstrap)
        if given.reliability:
            print(shown(draw_reliability(found.files, trained.title)))
        if given.per_image:
            path = found.files.with_name(f"{found.files.name}-images.csv")
            write_image_errors(image_errors(trained, given.split, call.overrides, call.options), path)
            print(shown(path))
        return 0
    from convoy.evaluation.ensemble import as_data, evaluate_together, print_ensemble
    from convoy.evaluation.trained_run import TrainedRun

    runs = [TrainedRun.open(text, given.checkpoint, given.output_root, key="runs") for text in given.runs]
    ensemble = evaluate_together(runs, given.split, given.weights, call.overrides, call.options)
    if given.format == "json":
        print(json.dumps(as_data(ensemble), indent=2))
    else:
        print_ensemble(ensemble)
    return 0
