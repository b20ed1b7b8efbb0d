"""What is refused before data is opened: images too small for a network, seen on a network without values."""

from __future__ import annotations

import pytest

from convoy.config.faults import UserError
from convoy.training.preflight import check_images, read


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (
            ["model=densenet121", "data.image_size=28"],
            "data.image_size=29 is the smallest that works, or 28 with model.stem=small",
        ),
        (["model=googlenet", "data.image_size=14", "model.aux_logits=false"], "data.image_size=15 is the smallest"),
    ],
)
def test_too_small_images_are_refused_with_the_smallest_size(words: list[str], remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        check_images(read([*words, "data.channels=1", "logger=csv"]))
    assert caught.value.faults[0].remedy.startswith(remedy)


@pytest.mark.parametrize(
    "words",
    [
        ["model=densenet121", "data.image_size=28", "model.stem=small"],
        ["model=densenet121", "data.image_size=29"],
        # Takes one size only: the run itself tells which.
        ["model=timm", "model.name=vit_tiny_patch16_224"],
    ],
)
def test_other_images_go_on(words: list[str]) -> None:
    check_images(read([*words, "logger=csv"]))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["model=googlenet", "trainer.global_batch_size=1"], "trainer.global_batch_size"),
        (["model.layers=[FC-8 bn,FC-10]", "trainer.micro_batch_size=1"], "trainer.micro_batch_size"),
    ],
)
def test_a_batch_that_batch_norm_cannot_normalize_is_refused(words: list[str], key: str) -> None:
    with pytest.raises(UserError, match="more than 1 value per channel") as caught:
        check_images(read([*words, "logger=csv"]))
    assert caught.value.faults[0].key == key
    check_images(read(["model=resnet20", "trainer.global_batch_size=1", "logger=csv"]))
