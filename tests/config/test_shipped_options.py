"""Each file of conf/: it says what it is, composes, passes every rule, and fits what it builds."""

from __future__ import annotations

from pathlib import Path

import pytest

from convoy.config.options import CONF, Options
from convoy.config.schema import GROUPS
from convoy.config.targets import signature_faults
from convoy.optim.build_optimizer import check_scheduler
from convoy.training.preflight import read

OPTIONS = Options()
ALL = [(group, option) for group in GROUPS for option in OPTIONS.of(group)]
GIVEN = {
    "model": frozenset({"num_classes", "in_channels", "image_size", "name"}),
    "optimizer": frozenset({"params"}),
}


def folder_of_images(root: Path) -> Path:
    from PIL import Image

    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(folder / "0.png")
    return root


def packed_images(root: Path) -> Path:
    from convoy.data.listing.folders import list_images
    from convoy.data.shards.packing import Packing, pack

    folder, classes = folder_of_images(root / "images"), ("cat", "dog")
    pack(Packing(classes, {name: list_images(folder / name, classes) for name in ("train", "val")}, root / "packed"))
    return root / "packed"


POINTS = ("keypoints", "keypoint_table", "mouse_keypoints")
"""Options whose data are a table of key points."""

MASKED = ("segmentation", "segmentation_folder", "camvid", "camvid_unet", "camvid_fcn8s")
"""Options whose data are images and masks."""


def folder_of_masks(root: Path) -> Path:
    from PIL import Image

    for folder in ("train/images", "train/masks"):
        (root / folder).mkdir(parents=True)
        Image.new("L", (40, 40)).save(root / folder / "0.png")
    return root


def published_layout(option: str, root: Path) -> Path:
    from PIL import Image

    names = {
        "cityscapes": ("leftImg8bit/train/ulm/ulm_0_leftImg8bit.png", "gtFine/train/ulm/ulm_0_gtFine_labelIds.png"),
        "voc_segmentation": ("JPEGImages/a.jpg", "SegmentationClass/a.png", "ImageSets/Segmentation/train.txt"),
    }
    for name in names[option]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("a")
        else:
            Image.new("L", (40, 40), 7).save(path)
    return root


def overrides_for(group: str, option: str, root: Path) -> list[str]:
    """The option, and what its users must say with it."""
    chosen = [f"{group}={option}"]
    if option in ("image_folder", "imagenet"):
        folder = folder_of_images(root)
        return [*chosen, f"data.root={folder}", "data.num_classes=2", "model=resnet18"]
    if option in ("restoration", "super_resolution"):
        return [*chosen, f"data.root={folder_of_images(root)}", "data.degradation.noise=10", "task=image_to_image"]
    if (group, option) == ("data", "dataset"):
        train = "data.train={_target_:torchvision.datasets.FakeData,size:20}"
        return [*chosen, train, "data.num_classes=10", "model=resnet18"]
    if (group, option) == ("data", "table"):
        file = root / "labels.csv"
        file.write_text("".join(f"{line}\n" for line in ("path,kind", "0.png,a", "1.png,b", "2.png,a", "3.png,b")))
        return [*chosen, f"data.file={file}", "data.image_column=path", "data.target_column=kind", "model=resnet18"]
    if option in POINTS:
        file = root / "points.csv"
        file.write_text("image,nose_x,nose_y\n" + "".join(f"{index}.png,1,2\n" for index in range(20)))
        given = {"keypoint_table": ["data.image_column=image", "model=stacked_hourglass"]}
        others = ["data=keypoint_table", *given["keypoint_table"]]
        return [*chosen, f"data.file={file}", *(others if group == "task" else given.get(option, []))]
    if option == "coco_keypoints":
        file = root / "annotations.json"
        file.write_text('{"images": [], "annotations": [], "categories": [{"keypoints": ["nose"]}]}')
        return [*chosen, f"data.file={file}", "model=stacked_hourglass"]
    if (group, option) == ("data", "torchvision"):
        return [*chosen, "data.name=Flowers102", "model=resnet18"]
    if (group, option) == ("data", "huggingface"):
        from datasets import load_dataset

        load_dataset("imagefolder", data_dir=folder_of_images(root / "images"), cache_dir=root).save_to_disk(
            root / "saved"
        )
        return [*chosen, f"data.root={root / 'saved'}", "model=resnet18"]
    if (group, option) == ("data", "shards"):
        return [*chosen, f"data.root={packed_images(root)}", "model=resnet18"]
    if (group, option) == ("task", "distillation"):
        chosen.append("task.teacher=outputs/teacher")
    if option in ("voc_segmentation", "cityscapes"):
        return [*chosen, f"data.root={published_layout(option, root)}", "task=segmentation", "model=unet"]
    if option in MASKED:
        chosen += {
            "segmentation": ["data=segmentation_folder", "model=unet", "data.classes=[a,b]"],
            "segmentation_folder": ["task=segmentation", "model=unet", "data.classes=[a,b]"],
            "camvid": ["task=segmentation", "model=unet"],
        }.get(option, [])
        chosen.append(f"data.root={folder_of_masks(root)}")
    if group == "model":
        chosen.append("data.image_size=224")
    if option in ("timm", "torchvision"):
        chosen.append("model.name=resnet18")
    if option in ("torchvision_segmentation", "segmentation_models"):
        chosen.append(f"model.name={'fcn_resnet50' if option.startswith('torchvision') else 'unet'}")
    if group == "experiment" and "imagenet" in option:
        folder = folder_of_images(root)
        chosen += [f"data.root={folder}", "data.num_classes=2"]
    if group == "experiment" and "t91" in option:
        chosen.append(f"data.root={folder_of_images(root)}")
    return chosen


@pytest.mark.parametrize(("group", "option"), ALL)
def test_an_option_composes_and_passes_every_rule(group: str, option: str, tmp_path: Path) -> None:
    config = read(overrides_for(group, option, tmp_path))
    for kind, given in GIVEN.items():
        node = getattr(config, kind)
        if kind == "model":  # of which Convoy reads some keys itself for a target that does not take them
            node = {key: value for key, value in node.items() if key not in ("name", "pretrained", "weights")}
        assert signature_faults(kind, node, given) == []
    assert check_scheduler(config.scheduler) == []


@pytest.mark.parametrize(("group", "option"), ALL)
def test_each_option_has_a_description(group: str, option: str) -> None:
    assert len(OPTIONS.head(group, option)) > 10


def test_an_experiment_is_called_after_its_file(tmp_path: Path) -> None:
    for option in OPTIONS.of("experiment"):
        (tmp_path / option).mkdir()
        assert read(overrides_for("experiment", option, tmp_path / option)).name == option


def test_every_group_is_a_folder_and_every_folder_a_group() -> None:
    studies = "search"  # files of convoy search, which are not options of a run
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*GROUPS, studies}
