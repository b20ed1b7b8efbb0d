"""Lists of networks: every card is in them, sorted and filtered, and the page in docs is up to date."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision
from tests.conftest import Run

from convoy.config.cards import FAMILIES
from convoy.config.options import Options
from convoy.report.model_list import by_family, list_models, markdown

Convoy = Callable[..., Run]
PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_all_networks_with_a_card_are_listed_by_family(convoy: Convoy) -> None:
    text = convoy("models").out
    names = {line.split()[0] for line in text.splitlines() if line.strip()}
    by_name = {"timm", "torchvision", "torchvision_segmentation", "segmentation_models"}
    assert set(Options().of("model")) - names == by_name
    assert [line for line in text.splitlines() if line in FAMILIES] == list(FAMILIES)


def test_a_pattern_selects_and_a_key_sorts(convoy: Convoy) -> None:
    rows = json.loads(convoy("models", "resnet*", "sort=macs", "format=json").out)
    assert [row["name"] for row in rows if row["num_classes"] == 1000] == [
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
    ]
    assert sorted(row["macs"] for row in rows) == [row["macs"] for row in rows]
    by_accuracy = [model.published.accuracy for model in list_models("vgg*", "accuracy") if model.published]
    assert len(by_accuracy) == 8
    assert by_accuracy == sorted(by_accuracy)


def test_csv_has_the_figures_that_torchvision_publishes(convoy: Convoy) -> None:
    rows = {row["name"]: row for row in csv.DictReader(convoy("models", "format=csv").out.splitlines())}
    for name in ("vgg16", "resnet50", "mobilenet_v2", "densenet121"):
        meta = next(iter(torchvision.models.get_model_weights(name))).meta
        assert int(rows[name]["parameters"]) == meta["num_params"]
        assert int(rows[name]["macs"]) / 1e9 == pytest.approx(meta["_ops"], rel=0.01)
        assert float(rows[name]["top1"]) == pytest.approx(meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, abs=5e-5)


def test_the_page_in_docs_is_up_to_date() -> None:
    generated = PAGE.read_text(encoding="utf-8").partition("<!-- Generated")[2].partition("-->")[2]
    assert generated.strip() == markdown(list_models()), "run make docs"


def test_another_family_is_listed_last(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "card: {title: Mine, family: own, idea: One layer, parameters: 10, macs: 10, "
        "in_channels: 1, image_size: 8, num_classes: 10}\n"
    )
    assert list(by_family(list_models(options=Options(tmp_path)))) == [*FAMILIES, "own"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnt18"], "pattern=resnt18: matches no network; did you mean resnet18?"),
        (["srt=macs"], "srt=macs: models has no such key; did you mean sort?"),
        (["sort=size"], "sort=size: no such sort"),
        (["format=html"], "format=html: no such format; one of table, md, csv, json"),
        (["vgg*", "resnet*"], "patterns=resnet*: only one is allowed"),
    ],
)
def test_mistakes_are_reported(convoy: Convoy, words: list[str], message: str) -> None:
    done = convoy("models", *words)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


def test_listing_imports_no_torch() -> None:
    code = "import sys; from convoy.commands.main import main; main(['models']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
