"""VGG16 as its table is taught, against the taught figures and torchvision's own model."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torchvision import models

from convoy.config.options import CONF
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.ledger_object import Ledger
from convoy.ledger.rows import COLUMNS
from convoy.ledger.skeleton import without_weights
from convoy.ledger.text_formats import csv_text
from convoy.models.building.build import build_model

TAUGHT = """\
INPUT,224x224x3,150528,0
CONV3-64,224x224x64,3211264,1728
CONV3-64,224x224x64,3211264,36864
POOL2,112x112x64,802816,0
CONV3-128,112x112x128,1605632,73728
CONV3-128,112x112x128,1605632,147456
POOL2,56x56x128,401408,0
CONV3-256,56x56x256,802816,294912
CONV3-256,56x56x256,802816,589824
CONV3-256,56x56x256,802816,589824
POOL2,28x28x256,200704,0
CONV3-512,28x28x512,401408,1179648
CONV3-512,28x28x512,401408,2359296
CONV3-512,28x28x512,401408,2359296
POOL2,14x14x512,100352,0
CONV3-512,14x14x512,100352,2359296
CONV3-512,14x14x512,100352,2359296
CONV3-512,14x14x512,100352,2359296
POOL2,7x7x512,25088,0
FC-4096,1x1x4096,4096,102760448
FC-4096,1x1x4096,4096,16777216
FC-1000,1x1x1000,1000,4096000
"""
"""Layer, output, numbers in memory, weights: the slide's rows (Stanford CS231n, lecture on architectures)."""

WITH_BIASES, WITHOUT_BIASES, MACS = 138_357_544, 138_344_128, 15_470_264_320
"""torchvision's num_params of its VGG16, the sum of the slide's rows, and torchvision's "15.47 GFLOPS" in full."""


def vgg16(*, inplace: bool = True) -> nn.Module:
    option = OmegaConf.to_container(OmegaConf.load(Path(CONF) / "model" / "vgg16.yaml"))
    with torch.device("meta"):
        network = build_model(option, num_classes=1000, in_channels=3, image_size=224)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = inplace
    return network


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return build_ledger(vgg16(), (3, 224, 224), name="vgg16")


def test_every_row_of_the_taught_table_is_in_the_csv_in_its_order(ledger: Ledger) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(ledger))))
    taught = [line.split(",") for line in TAUGHT.splitlines()]
    found = [
        [row["layer"], row["output_shape"], row["output_elements"], row["params_without_bias"]]
        for row in rows
        if row["layer"].startswith(("INPUT", "CONV", "POOL", "FC"))
    ]
    assert found == taught
    between = {row["layer"] for row in rows} - {layer for layer, *_ in taught}
    assert between == {"RELU", "DROPOUT0.5", "FLATTEN"}


def test_columns_have_the_documented_order(ledger: Ledger) -> None:
    announced = "layer,module,output_shape,output_elements,output_bytes,params,params_without_bias,macs,saved_bytes"
    assert csv_text(ledger).splitlines()[0].startswith(announced + ",")
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_totals_are_the_published_ones(ledger: Ledger) -> None:
    assert ledger.total("params") == WITH_BIASES
    assert ledger.total("params_without_bias") == WITHOUT_BIASES
    assert ledger.total("macs") == MACS


def test_the_sums_of_the_slide_and_the_written_bytes(ledger: Ledger) -> None:
    """docs/ledger.md quotes these figures."""
    taught = [row for row in ledger.rows if row.layer.startswith(("INPUT", "CONV", "POOL", "FC"))]
    assert sum(row.output_elements for row in taught) == 15_237_608
    assert sum(row.output_bytes for row in taught) == 60_950_432
    apart = build_ledger(vgg16(inplace=False), (3, 224, 224))
    layers = [row for row in apart.rows if row.layer.startswith(("CONV", "POOL", "FC", "RELU"))]
    assert sum(row.written_bytes for row in layers) == 4 * 28_642_792


def test_relu_saves_the_same_in_place_or_not(ledger: Ledger) -> None:
    apart = build_ledger(vgg16(inplace=False), (3, 224, 224))
    assert apart.total("saved_bytes") == ledger.total("saved_bytes") == 73_254_912
    assert apart.total("written_bytes") - ledger.total("written_bytes") == 4 * 13_555_712  # the outputs of 15 ReLUs
    assert ledger.total("saved_index_bytes") == 8 * sum(
        row.output_elements for row in ledger.rows if row.layer == "POOL2"
    )


def test_torchvisions_vgg16_differs_only_in_adaptive_pooling(ledger: Ledger) -> None:
    theirs = build_ledger(without_weights(models.vgg16), (3, 224, 224))
    assert theirs.total("params") == WITH_BIASES
    assert theirs.total("macs") == MACS
    extra = [row for row in theirs.rows if row.module == "avgpool"]
    assert theirs.total("saved_bytes") - ledger.total("saved_bytes") == sum(row.saved_bytes for row in extra)


def test_receptive_fields_are_those_of_the_literature(ledger: Ledger) -> None:
    """212 pixels with stride 32 before the classifier of VGG16 (Araujo et al. 2019, distill.pub/2019/computing-
    receptive-fields)."""
    last = [row for row in ledger.rows if row.layer == "POOL2"][-1]
    assert (last.receptive_field, last.stride) == ("212", "32")
