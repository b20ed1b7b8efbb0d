"""Accuracy against complexity: what was published, what is counted, and a picture whose labels can be read."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import TINY, Run
from torchvision.models import get_model_weights

from convoy.commands.compare import _columns
from convoy.config.cards import FAMILIES, POSE, SEGMENTATION, SUPER_RESOLUTION
from convoy.evaluation.comparison import Entry, family_of, published_on
from convoy.report.complexity import draw, save

Convoy = Callable[..., Run]


def test_most_networks_have_a_published_accuracy() -> None:
    assert len(published_on("imagenet")) >= 55
    assert len(published_on("cifar10")) >= 9


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg16_bn", "googlenet", "resnet50", "mobilenet_v3_large", "efficientnet_b7"]
)
def test_accuracies_of_torchvisions_weights_are_those_in_its_metadata(name: str) -> None:
    published = published_on("imagenet")[name].published_on("imagenet")
    assert published is not None
    assert published.source == "torchvision's weights"
    meta = next(iter(get_model_weights(name))).meta
    assert published.accuracy == pytest.approx(meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, abs=5e-5)


def test_errors_and_other_sizes_are_read_too() -> None:
    resnet20, resnet200 = published_on("cifar10")["resnet20"], published_on("imagenet")["resnet200"]
    assert [(each.data, each.accuracy, each.image_size) for each in resnet20.published] == [("cifar10", 0.9125, 32)]
    assert [(each.accuracy, each.image_size) for each in resnet200.published] == [(0.782, 320)]


@pytest.mark.slow
def test_counts_are_those_that_torchvision_publishes(convoy: Convoy) -> None:
    names = ["vgg11", "resnet18", "mobilenet_v2", "efficientnet_b1"]
    done = convoy("compare", *names, "format=json")
    assert done.code == 0, done.err
    for entry in json.loads(done.out):
        meta = next(iter(get_model_weights(entry["name"]))).meta
        assert entry["params"] == meta["num_params"]
        # torchvision's "GFLOPS" are multiply-accumulates; EfficientNet-B1's are of 240 pixels, as here.
        assert entry["macs"] / 1e9 == pytest.approx(meta["_ops"], rel=0.02)


def entry(name: str, macs: float, params: float, top1: float) -> Entry:
    return Entry(name, family_of(name), 224, int(params), int(macs), 1000, "top-1", top1, True, "a test")


def everyone() -> list[Entry]:
    """Return an entry of each network with an accuracy published on ImageNet, from its card."""
    cards = published_on("imagenet").items()
    return [entry(name, card.macs, card.parameters, card.published[0].accuracy) for name, card in cards]


@pytest.mark.slow
def test_no_label_of_the_whole_zoo_covers_another_or_leaves_the_picture() -> None:
    entries = everyone()
    figure = draw(entries, "all")
    figure.canvas.draw()
    axes = figure.axes[0]
    names = {one.name for one in entries}
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text() in names}
    assert set(boxes) == names
    for (one, first), (other, second) in itertools.combinations(boxes.items(), 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(width, height) < 0.5, f"{one} and {other}"  # pixels
    key = axes.get_legend()
    assert key is not None
    assert max(text.get_window_extent().x1 for text in key.get_texts()) < figure.bbox.x1
    frame = axes.get_window_extent().padded(0.01)
    for name, box in boxes.items():
        assert frame.x0 <= box.x0, name
        assert box.x1 <= frame.x1, name
        assert frame.y0 <= box.y0, name
        assert box.y1 <= frame.y1, name


def test_the_area_of_a_circle_is_in_proportion_to_the_parameters() -> None:
    figure = draw([entry("vgg16", 15e9, 120e6, 0.7), entry("resnet50", 4e9, 30e6, 0.76)], "two")
    sizes = [collection.get_sizes()[0] for collection in figure.axes[0].collections]
    assert max(sizes) / min(sizes) == pytest.approx(4)


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save(draw(everyone()[:20], "twenty"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_every_published_network_has_a_family() -> None:
    families = {family_of(name) for data in ("imagenet", "cifar10", "mnist") for name in published_on(data)}
    assert families == set(FAMILIES) - {"baseline", SEGMENTATION, SUPER_RESOLUTION, POSE}
    assert family_of("convnext_tiny") == "others"


@pytest.fixture
def run(convoy: Convoy, tmp_path: Path) -> Path:
    assert convoy("train", *TINY, f"folder={tmp_path / 'run'}").code == 0
    return tmp_path / "run"


def test_runs_are_compared_by_their_measurements(convoy: Convoy, run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "mine.png"
    done = convoy("compare", f"runs=[{run}]", f"output={picture}", "format=csv")
    assert done.code == 0, done.err
    summary = json.loads((run / "summary.json").read_text())
    (row,) = csv.DictReader(done.out.splitlines())
    assert (row["metric"], float(row["value"])) == ("top1", summary["test/top1"])
    assert int(row["params"]) == summary["parameters"]
    # One convolution of 8 filters of 3x3 on 32x32, then 8x8x8 to 32 and 32 to 10.
    assert int(row["macs"]) == 8 * 9 * 32 * 32 + 8 * 8 * 8 * 32 + 32 * 10
    assert row["source"] == "digits test"
    with Image.open(picture) as image:
        assert image.size == (1560, 1040)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models=[vgg166]"], "models=vgg166: no such model; did you mean vgg16?"),
        (["outputs/lenet5"], "models=outputs/lenet5: no such model; write runs=[outputs/lenet5] for a run"),
        (["models=[resnet20]"], "models=resnet20: has no accuracy published on ImageNet; it has one on CIFAR-10"),
        (["output=zoo.jpg"], "output=zoo.jpg: has no supported image format; choose from .png, .svg, .pdf"),
        (["output=nowhere/zoo.png"], "there is no folder nowhere"),
        (["publishd=cifar10"], "did you mean published?"),
        (["published=cifar"], "did you mean cifar10?"),
        (["runs=[nowhere]"], "runs=nowhere: no such run"),
        (["models=[vgg16]", "runs=[latest]"], "can't be combined with runs"),
        (["format=html"], "no such format"),
    ],
)
def test_a_mistake_is_reported(convoy: Convoy, words: list[str], message: str) -> None:
    done = convoy("compare", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_existing_figure_is_not_overwritten(convoy: Convoy, tmp_path: Path) -> None:
    (tmp_path / "zoo.png").write_bytes(b"mine")
    done = convoy("compare", "models=[vgg11]", "output=zoo.png")
    assert done.code == 2
    assert "exists already" in done.err
    assert (tmp_path / "zoo.png").read_bytes() == b"mine"


def test_a_long_source_is_wrapped_in_a_narrow_terminal() -> None:
    head, rows = ["", "top-1", "source"], [["net", "1.00%", "the paper, table 2"], ["other", "2.00%", "a test"]]
    wide = ["       top-1  source", "net    1.00%  the paper, table 2", "other  2.00%  a test"]
    assert list(_columns(head, rows, 0)) == wide
    assert list(_columns(head, rows, 80)) == wide
    below = " " * 14 + "table 2"
    assert list(_columns(head, rows, 26)) == [wide[0], "net    1.00%  the paper,", below, wide[2]]
