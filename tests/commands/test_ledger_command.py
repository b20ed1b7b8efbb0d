"""convoy ledger as one meets it: formats, overrides, comparisons and mistakes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Run

from convoy.config.options import Options

Convoy = Callable[..., Run]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_vgg16_matches_the_lecture_without_data(convoy: Convoy) -> None:
    done = convoy("ledger", "model=vgg16", "data=imagenet", "format=csv")
    assert done.code == 0, done.err
    rows = rows_of(done.out)
    assert rows[0]["layer"] == "INPUT"
    assert sum(int(row["params"]) for row in rows) == 138_357_544
    assert sum(int(row["params_without_bias"]) for row in rows) == 138_344_128
    assert sum(int(row["macs"]) for row in rows) == 15_470_264_320
    assert list(Path().iterdir()) == []


def test_json_has_the_same_rows_and_their_totals(convoy: Convoy) -> None:
    words = ("ledger", "model=resnet18", "data=imagenet")
    rows = rows_of(convoy(*words, "format=csv").out)
    content = json.loads(convoy(*words, "format=json").out)
    assert [list(row) for row in content["rows"]] == [list(row) for row in rows]
    assert [row["saved_bytes"] for row in content["rows"]] == [int(row["saved_bytes"]) for row in rows]
    for column in ("params", "output_bytes", "saved_bytes", "macs"):
        assert content["totals"][column] == sum(int(row[column]) for row in rows)
    assert content["totals"]["gradient_bytes"] == 4 * 11_689_512
    assert content["totals"]["optimizer_bytes"] == 4 * 11_689_512  # the momentum of SGD


def test_overrides_are_those_of_training(convoy: Convoy) -> None:
    words = ("ledger", "model=resnet18", "data=cifar10", "format=json")
    plain = json.loads(convoy(*words).out)
    assert plain["input_shape"] == [3, 32, 32]
    changed = json.loads(
        convoy(
            *words,
            "data.image_size=64",
            "optimizer=adamw",
            "trainer.global_batch_size=256",
            "trainer.precision=bf16-mixed",
        ).out
    )
    assert changed["input_shape"] == [3, 64, 64]
    assert changed["micro_batch_size"] == 256
    assert changed["totals"]["macs"] > 3.9 * plain["totals"]["macs"]
    assert changed["totals"]["optimizer_bytes"] > 1.99 * plain["totals"]["optimizer_bytes"]
    # Four times as many pixels in half the bytes, but for the indices of the pooling.
    floats = [run["totals"]["saved_bytes"] - run["totals"]["saved_index_bytes"] for run in (plain, changed)]
    assert floats[1] / floats[0] == pytest.approx(2, rel=0.05)
    assert changed["totals"]["weight_copy_bytes"] > 2 * 11_000_000


def test_a_card_brings_its_precision(convoy: Convoy) -> None:
    words = ("ledger", "model=lenet5", "format=json")
    assert json.loads(convoy(*words).out)["precision"] == "32"
    assert json.loads(convoy(*words, "hardware=v100").out)["precision"] == "16-mixed"
    assert json.loads(convoy(*words, "hardware=a100_40gb").out)["precision"] == "bf16-mixed"


NEEDED = {
    **dict.fromkeys(
        ("image_folder", "shards", "table", "huggingface", "keypoint_table", "coco_keypoints"), ("data.num_classes=7",)
    ),
    "torchvision": ("data.name=DTD",),
    "segmentation_folder": ("data.classes=[a,b,c]",),
    "restoration": ("data.degradation.noise=10",),
}
"""What an option can't know without its files."""


@pytest.mark.parametrize("data", [name for name in Options().of("data") if name != "dataset"])
def test_every_data_option_works_without_its_files(convoy: Convoy, data: str) -> None:
    done = convoy("ledger", "model=resnet18", f"data={data}", *NEEDED.get(data, ()))
    assert done.code == 0, done.err


def test_library_models_and_a_user_chain(convoy: Convoy) -> None:
    for words in (
        ("model=timm", "model.name=convnext_atto"),
        ("model=torchvision", "model.name=shufflenet_v2_x0_5", "model.pretrained=true"),
        ("model.layers=[CONV3-8 bn,POOL3/2,LOCAL3-4,MAXOUT2,L2POOL2,FC-10]",),
    ):
        done = convoy("ledger", *words, "data=fashion_mnist")
        assert done.code == 0, done.err


def test_the_terminal_table_marks_the_largest_values(convoy: Convoy) -> None:
    done = convoy("ledger", "model=vgg16", "data=imagenet")
    assert "Most memory is in early CONV" in done.out
    assert "Most parameters are in late FC" in done.out
    assert "138,357,544" in done.out
    assert "Not counted: loss" in done.out
    assert all(line == line.rstrip() for line in done.out.splitlines())


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("model", ["vgg16", "resnet50"])
def test_the_table_fits_the_terminal(columns: str, model: str) -> None:
    from io import StringIO

    from rich.console import Console

    from convoy.ledger.ledger_table import rendered
    from convoy.planner.config_ledger import ledger_of
    from convoy.training.preflight import read

    ledger = ledger_of(read([f"model={model}", "data=imagenet"], to_run=False))
    console = Console(file=StringIO(), width=int(columns), force_terminal=True, color_system=None)
    console.print(rendered(ledger, console.width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= int(columns)
    rows = [line for line in lines if line.startswith(("CONV", "BN", "POOL", "FC")) and " = " not in line]
    assert len(rows) == sum(row.layer.startswith(("CONV", "BN", "POOL", "FC")) for row in ledger.rows)
    # The figures are whole; only the beginning of a module's name may be left out.
    assert not any("…" in line.partition("…")[2] or line.endswith("…") for line in rows)


@pytest.mark.slow
def test_totals_side_by_side(convoy: Convoy) -> None:
    words = ("ledger", "model=vgg16,resnet50,mobilenet_v2", "data=imagenet", "compare=true")
    done = convoy(*words)
    assert done.code == 0, done.err
    for figure in ("138.4 M", "25.56 M", "3.50 M", "15.47 G"):
        assert figure in done.out
    rows = rows_of(convoy(*words, "format=csv").out)
    assert [row["model"] for row in rows] == ["vgg16", "resnet50", "mobilenet_v2"]
    assert [int(row["params"]) for row in rows] == [138_357_544, 25_557_032, 3_504_872]
    totals = json.loads(convoy(*words, "format=json").out)
    assert totals["resnet50"]["macs"] == int(rows[1]["macs"])
    assert convoy(*words, "format=md").out.count("\n| ") >= 4


def test_a_comparison_may_vary_anything(convoy: Convoy) -> None:
    done = convoy("ledger", "model=lenet5", "optimizer=sgd,adam", "compare=true", "format=csv")
    sgd, adam = rows_of(done.out)
    assert (sgd["model"], adam["model"]) == ("sgd", "adam")
    assert int(sgd["optimizer_bytes"]) == 4 * 61_706
    assert int(adam["optimizer_bytes"]) == 2 * 4 * 61_706 + 4 * 10  # and a step counter for each of ten tensors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("modle=vgg16",), "did you mean model?"),
        (("model=vgg16", "format=pdf"), "one of terminal, csv, json, md, html"),
        (("model=vgg16", "format=cvs"), "did you mean csv?"),
        (("model=vgg16", "--format"), "write format="),
        (("model=vgg16,resnet18",), "write compare=true"),
        (("model=vgg16", "compare=true"), "separate them with commas"),
        (("model=vgg16,vgg99", "compare=true"), "vgg99"),
        (("model=vgg16,vgg11", "compare=true", "format=html"), "format=html: can't be combined with compare=true"),
        (("data=image_folder",), "write data.num_classes=…"),
        (("data=image_folder", "data.root=nowhere"), "without the folder nowhere"),
        (("model=vgg16", "-m"), "write compare=true"),
        (("resume=latest",), "the ledger starts none"),
        (("model=vgg16", "data.image_size=28"), "data.image_size=32 is the smallest that works"),
        (("model=timm", "model.name=resnet1"), "timm has no such model"),
        (("model=timm", "model.name=vit_tiny_patch16_224"), "does not take images of 1x32x32"),
        (("optimizer.momentun=0.9",), "momentun"),
        (("optimizer=sgd", "+optimizer.momentun=0.9"), "did you mean momentum?"),
        (("trainer.precision=fp8",), "no such choice"),
        (("--colour",), "--colour"),
    ],
)
def test_a_mistake_ends_in_one_message_and_exit_code_2(convoy: Convoy, words: tuple[str, ...], said: str) -> None:
    done = convoy("ledger", *words)
    assert done.code == 2
    assert said in done.err
    assert done.err.startswith(("error: ", "2 errors:"))
    assert "Traceback" not in done.err + done.out
    assert done.out == ""
    assert list(Path().iterdir()) == []


def test_all_mistakes_are_reported_together(convoy: Convoy) -> None:
    done = convoy("ledger", "modle=vgg16", "data=image_folder", "format=pdf", "folder=x", "trainer.max_epochs=0")
    for key in ("modle", "data.num_classes", "format=pdf", "trainer.max_epochs"):
        assert key in done.err


@pytest.mark.slow
def test_a_model_that_needs_data_is_reported(convoy: Convoy) -> None:
    done = convoy("ledger", "model=timm", "model.name=csatv2", "data=imagenet")
    assert done.code == 2
    assert "does not grow linearly with the batch size" in done.err


def test_a_typo_is_answered_without_importing_torch() -> None:
    code = "import sys\nfrom convoy.commands.main import main\nmain(sys.argv[1:])\nprint('torch' in sys.modules)"
    words = ["ledger", "modle=vgg16", "format=csv"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_keys_of_measuring_are_explained(convoy: Convoy) -> None:
    text = convoy("train", "--help", "ledger").out
    assert "measure_steps = 20" in text
    assert "norms_every_steps = 0" in text


def test_help_fits_80_columns(convoy: Convoy) -> None:
    text = convoy("ledger", "--help").out
    assert "compare=true" in text
    assert max(map(len, text.splitlines())) <= 80
