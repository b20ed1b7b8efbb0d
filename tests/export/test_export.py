"""A trained network in every format: the same classes for each image of the test set, from files alone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Run
from tests.export.conftest import Trained

from convoy.export import run_export as exporting
from convoy.export.batch_norm_folding import Pair, fold
from convoy.export.formats import FORMATS
from convoy.runs.layout import EXPORT_SUFFIXES

Convoy = Callable[..., Run]


def needs(name: str) -> None:
    for package in FORMATS[name].to_write:
        pytest.importorskip(package)


def predicted(convoy: Convoy, trained: Trained, checkpoint: str, top: int = 10) -> list[dict[str, Any]]:
    key = "run" if Path(checkpoint).is_dir() else "checkpoint"
    words = (f"{key}={checkpoint}", f"top={top}", "format=jsonl")
    done = convoy("predict", *words, *trained.images)
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["image"] for record in records] == trained.images
    return records


def confusion(records: list[dict[str, Any]], labels: list[int]) -> list[list[int]]:
    matrix = [[0] * 10 for _ in range(10)]
    for record, label in zip(records, labels, strict=True):
        matrix[label][int(record["classes"][0]["class"])] += 1
    return matrix


def evaluated(convoy: Convoy, trained: Trained) -> tuple[float, list[list[int]]]:
    assert convoy("evaluate", f"run={trained.folder}").code == 0
    record = json.loads((trained.folder / "evaluation-digits-test.json").read_text())
    with (trained.folder / "evaluation-digits-test-confusion_matrix.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return record["test/top1"], [[int(count) for count in row[1:]] for row in rows]


def test_the_formats_are_those_of_the_suffixes() -> None:
    assert list(FORMATS) == list(EXPORT_SUFFIXES)


def test_predictions_of_image_files_are_those_of_evaluate(convoy: Convoy, trained: Trained) -> None:
    top1, matrix = evaluated(convoy, trained)
    assert top1 > 0.5
    for checkpoint in (trained.folder, trained.folder / "checkpoints" / "best.ckpt"):
        records = predicted(convoy, trained, str(checkpoint))
        assert confusion(records, trained.labels) == matrix
    for record in records:
        probabilities = [each["probability"] for each in record["classes"]]
        assert sum(probabilities) == pytest.approx(1, abs=1e-9)
        assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("fold_bn", ["true", "false"])
@pytest.mark.parametrize("name", list(FORMATS))
def test_an_exported_file_predicts_like_the_run(
    convoy: Convoy, trained: Trained, tmp_path: Path, name: str, fold_bn: str
) -> None:
    needs(name)
    output = tmp_path / f"digits{EXPORT_SUFFIXES[name]}"
    done = convoy("export", f"run={trained.folder}", f"format={name}", f"output={output}", f"fold_bn={fold_bn}")
    assert done.code == 0, done.err
    assert ("batch norm: 3 folded into the layer before, 1 could not be (features." in done.out) == (fold_bn == "true")
    assert "359 test images" in done.out
    assert [path.name for path in tmp_path.iterdir()] == [output.name]

    _, matrix = evaluated(convoy, trained)
    records = predicted(convoy, trained, str(output))
    assert confusion(records, trained.labels) == matrix
    before = predicted(convoy, trained, str(trained.folder))
    for record, other in zip(records, before, strict=True):
        assert record["classes"][0]["class"] == other["classes"][0]["class"]
        assert record["classes"][0]["probability"] == pytest.approx(other["classes"][0]["probability"], abs=1e-5)
    # One image by itself: the batch's size is no part of the file.
    (alone,) = convoy("predict", f"checkpoint={output}", trained.images[7], "format=jsonl").out.splitlines()
    assert json.loads(alone)["classes"] == [
        {"class": each["class"], "probability": pytest.approx(each["probability"], abs=1e-6)}
        for each in records[7]["classes"][:5]
    ]


@pytest.mark.slow
def test_a_residual_network_of_torchvision_is_folded_and_exported(convoy: Convoy, tmp_path: Path) -> None:
    needs("onnx")
    words = ("model=resnet18", "model.stem=small", "trainer.gpus=0", "trainer.precision=32", "data.image_size=8")
    assert (
        convoy(
            "train", *words, "data.augment.pad_crop=1", "trainer.max_steps=2", "logger=csv", "hardware.cpu_threads=1"
        ).code
        == 0
    )
    for name in EXPORT_SUFFIXES:
        done = convoy("export", "run=run", f"format={name}", "images=100")
        assert done.code == 0, done.err
        assert "batch norm: 20 folded into the layer before\n" in done.out
        assert "100 test images" in done.out
    assert sorted(path.name for path in (tmp_path / "run" / "export").iterdir()) == [
        "best.onnx",
        "best.pt2",
        "best.safetensors",
    ]


def test_a_safetensors_file_describes_its_content(convoy: Convoy, trained: Trained, tmp_path: Path) -> None:
    from safetensors import safe_open

    assert convoy("export", f"run={trained.folder}", f"output={tmp_path / 'digits.safetensors'}").code == 0
    with safe_open(tmp_path / "digits.safetensors", "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert json.loads(metadata["names"]) == [str(digit) for digit in range(10)]
    assert metadata["fold_bn"] == "true"
    assert json.loads(metadata["config"])["data"]["name"] == "digits"
    preprocessing = json.loads(metadata["preprocessing"])
    assert (preprocessing["mean"], preprocessing["std"]) == ([0.3057], [0.3237])  # conf/data/digits.yaml
    assert (preprocessing["image_size"], preprocessing["channels"], preprocessing["fit"]) == (32, 1, "resize")
    state = torch.load(trained.folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert {name for name in names if "running_mean" in name} < {
        name.removeprefix("network.") for name in state if "running_mean" in name
    }


def test_onnx_and_torch_export_files_can_be_run_without_convoy(
    convoy: Convoy, trained: Trained, tmp_path: Path
) -> None:
    needs("onnx")
    import onnx
    import onnxruntime

    for suffix in (".onnx", ".pt2"):
        assert convoy("export", f"run={trained.folder}", f"output={tmp_path / f'digits{suffix}'}").code == 0
    onnx.checker.check_model(str(tmp_path / "digits.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "digits.onnx"))
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.shape[1:], given.name, given.shape[1:]) == ("images", [1, 32, 32], "logits", [10])
    program = torch.export.load(tmp_path / "digits.pt2").module()
    for size in (1, 5):
        images = torch.randn(size, 1, 32, 32)
        (logits,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(program(images), torch.from_numpy(logits), rtol=1e-4, atol=1e-4)


def test_a_file_with_another_prediction_is_not_written(
    convoy: Convoy, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(network: torch.nn.Module, pairs: Sequence[Pair]) -> None:
        fold(network, pairs)
        with torch.no_grad():
            network.get_parameter("features.0.weight").neg_()

    monkeypatch.setattr(exporting, "fold", wrong)
    before = sorted(trained.folder.rglob("*"))
    done = convoy("export", f"run={trained.folder}", "output=digits.safetensors")
    assert done.code == 2
    assert done.err.startswith("error: fold_bn=true: the predictions of folded differ from those as trained for ")
    assert "nothing was written; write fold_bn=false" in done.err
    assert sorted(trained.folder.rglob("*")) == before
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("format=onyx",), "format=onyx: no such format; did you mean onnx?"),
        (("checkpont=last",), "checkpont=last: export has no such key; did you mean checkpoint?"),
        (("checkpoint=lst",), "checkpoint=lst: no such file; choose best or last"),
        (("format=onnx", "output=a.pt2"), "a file of format=onnx ends in .onnx; write output=a.onnx"),
        (("output=nowhere/a.pt2",), "there is no folder"),
        (("fold_bn=yes",), "fold_bn=yes: must be true or false"),
        (("images=0",), "images=0: must be a whole number of at least 1"),
        (("output=taken.onnx",), "output=taken.onnx: exists already; remove it, or choose another"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_reported_and_nothing_is_written(
    convoy: Convoy, trained: Trained, words: tuple[str, ...], says: str
) -> None:
    Path("taken.onnx").write_text("mine")
    before = sorted(trained.folder.rglob("*"))
    done = convoy("export", f"run={trained.folder}", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert says in done.err
    assert sorted(trained.folder.rglob("*")) == before
    assert (list(Path().iterdir()), Path("taken.onnx").read_text()) == ([Path("taken.onnx")], "mine")


def test_a_missing_library_is_answered_with_the_command_that_installs_it(
    convoy: Convoy, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = convoy("export", f"run={trained.folder}", "format=onnx")
    assert done.code == 2
    assert "format=onnx: onnxscript is not installed" in done.err
    assert done.err.endswith("; pip install onnx onnxscript onnxruntime\n")


def test_unreadable_images_are_listed_and_the_others_predicted(convoy: Convoy, trained: Trained) -> None:
    Path("broken.png").write_bytes(Path(trained.images[0]).read_bytes()[:60])
    images = [trained.images[0], "broken.png", "nowhere.png", trained.images[1]]
    done = convoy("predict", f"run={trained.folder}", *images, "top=2")
    assert done.code == 2
    lines = done.out.splitlines()
    assert lines[0].split() == ["image", "prediction", "value"]
    assert [line.split()[0] for line in lines[1::2]] == [trained.images[0], trained.images[1]]
    assert len(lines) == 5
    assert done.err.startswith("2 errors:\n  broken.png: can't be read (")
    assert "\n  nowhere.png: can't be read (" in done.err

    done = convoy("predict", f"run={trained.folder}", *images, "format=jsonl")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, [record["image"] for record in records]) == (2, images)
    assert ["error" in record for record in records] == [False, True, True, False]
    alone = convoy("predict", f"run={trained.folder}", "nowhere.png")
    assert (alone.code, alone.out) == (2, "")


def test_predict_reads_odd_files_and_names(trained: Trained, convoy: Convoy, tmp_path: Path) -> None:
    """A 16-bit image is like the same one of 8 bits; a pipe is never opened; names may hold any bytes."""
    pixels = np.asarray(Image.open(trained.images[0]).convert("L"))
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(folder / "b.png")
    Image.fromarray(pixels).save(folder / os.fsdecode(b"c\n\xff.png"))
    os.mkfifo(folder / "d.png")
    for form in ("table", "jsonl"):
        done = convoy("predict", f"run={trained.folder}", str(folder), f"format={form}", "top=1")
        assert done.code == 2
        assert done.err.strip() == f"error: {folder}/d.png: can't be read (is a named pipe)"
        lines = [line for line in done.out.splitlines() if ".png" in line and "error" not in line]
        assert len(lines) == 3
        assert len({line.partition("png")[2].split('"')[-1].split()[-1] for line in lines}) == 1
        assert r"c\n\udcff.png" in done.out


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".pt2", ".ckpt", ".txt"])
def test_a_damaged_file_is_refused_by_name(convoy: Convoy, trained: Trained, suffix: str) -> None:
    damaged = Path(f"damaged{suffix}")
    damaged.write_bytes(b"not a network" * 100)
    done = convoy("predict", f"checkpoint={damaged}", trained.images[0])
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: checkpoint={damaged}: ")
    assert "Traceback" not in done.err


def test_a_file_of_weights_that_convoy_did_not_write_is_refused(convoy: Convoy, trained: Trained) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, "other.safetensors")
    done = convoy("predict", "checkpoint=other.safetensors", trained.images[0])
    assert done.code == 2
    assert "was not written by convoy export" in done.err


def test_a_run_that_was_never_tested_has_its_classes_from_its_data(
    convoy: Convoy, trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "untested")
    (tmp_path / "untested" / "summary.json").unlink()
    done = convoy("predict", "run=untested", *trained.images[:3])
    assert (done.code, done.out) == (0, convoy("predict", f"run={trained.folder}", *trained.images[:3]).out)


def test_a_copied_checkpoint_predicts_without_its_run(
    convoy: Convoy, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("elsewhere") / "mine.ckpt"
    copy.write_bytes((trained.folder / "checkpoints" / "best.ckpt").read_bytes())
    assert predicted(convoy, trained, str(copy)) == predicted(convoy, trained, str(trained.folder))


def test_a_run_of_another_format_is_refused(convoy: Convoy, trained: Trained, tmp_path: Path) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "old")
    environment = json.loads((run / "environment.json").read_text())
    del environment["format"]
    (run / "environment.json").write_text(json.dumps(environment))
    for words in (["evaluate"], ["export"], ["features"]):
        done = convoy(*words, f"run={run}", folder=None)
        assert done.code == 2
        assert "was written by an early version of Convoy; this version reads format 2" in done.err
