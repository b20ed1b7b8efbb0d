"""Metrics and losses of images against scikit-image and closed formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as ssim_of_skimage
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from convoy.config.faults import UserError
from convoy.data.batches.collate import Batch
from convoy.data.targets import IMAGE, Targets
from convoy.tasks.construction import build_task
from convoy.tasks.image_quality import levels
from convoy.tasks.image_to_image import ImageToImage
from convoy.training.preflight import read

GRAY, RGB = Targets(IMAGE, ("gray",)), Targets(IMAGE, ("red", "green", "blue"))
PHOTOS = np.stack([photo[100:160, 200:273] for photo in load_sample_images().images])


def task_of(targets: Targets, *overrides: str) -> ImageToImage:
    task = build_task(read(["task=image_to_image", "logger=csv", *overrides]), targets)
    assert isinstance(task, ImageToImage)
    return task


def evaluated(task: ImageToImage, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Over batches of one image."""
    metrics = task.metrics("val")
    for part, wanted in zip(outputs.split(1), targets.split(1), strict=True):
        task.update_metrics(metrics, part, wanted)
    return task.compute(metrics)


def as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def expected(outputs: NDArray[np.float64], targets: NDArray[np.float64], border: int) -> tuple[float, float]:
    """Return the mean PSNR and SSIM of images [N, H, W, C] in 0..255 by scikit-image."""
    cut = slice(border, -border) if border else slice(None)
    pairs = [(one[cut, cut], other[cut, cut]) for one, other in zip(targets, outputs, strict=True)]
    psnr = [peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    ssim = [ssim_of_skimage(*pair, channel_axis=2, **settings) for pair in pairs]
    return float(np.mean(psnr)), float(np.mean(ssim))


@pytest.mark.parametrize("border", [0, 3])
@pytest.mark.parametrize("deviation", [2, 25])
def test_metrics_of_color_images_are_those_of_scikit_image(border: int, deviation: float) -> None:
    noise = deviation * np.random.default_rng(1).standard_normal(PHOTOS.shape)
    noisy = np.clip(np.round(PHOTOS + noise), 0, 255).astype(np.uint8)
    outputs, targets = as_tensor(noisy), as_tensor(PHOTOS)

    values = evaluated(task_of(RGB, "task.color=rgb", f"task.crop_border={border}"), outputs, targets)
    psnr, ssim = expected(noisy.astype(float), PHOTOS.astype(float), border)
    assert values["psnr"] == pytest.approx(psnr, abs=1e-4)
    assert values["ssim"] == pytest.approx(ssim, abs=1e-5)
    assert values["loss"] == pytest.approx(np.abs(noisy.astype(float) - PHOTOS).mean() / 255, rel=1e-5)

    values = evaluated(task_of(RGB, f"task.crop_border={border}"), outputs, targets)
    lumas = [np.round(rgb2ycbcr(images)[..., :1]) for images in (noisy, PHOTOS)]
    psnr, ssim = expected(*lumas, border)
    assert values["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert values["ssim"] == pytest.approx(ssim, abs=1e-4)


def test_the_luma_of_gray_images_is_that_of_color_images() -> None:
    gray = PHOTOS[..., :1]
    colored = as_tensor(gray.repeat(3, 3))
    assert torch.equal(levels(as_tensor(gray), "y", 2), levels(colored, "y", 2))
    ends = levels(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), "y", 0)
    assert ends.flatten().tolist() == [16, 235]


def test_a_constant_difference_has_its_closed_psnr_and_equal_images_an_infinite_one() -> None:
    targets = torch.full((2, 1, 16, 16), 100 / 255)
    task = task_of(GRAY, "task.color=rgb")
    values = evaluated(task, targets + 10 / 255, targets)
    assert values["psnr"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-4)
    values = evaluated(task, targets, targets)
    assert values == {"loss": 0, "psnr": math.inf, "ssim": 1}
    assert task.severity(targets, targets).tolist() == [0, 0]
    # Values are measured as they would be stored: clipped, and rounded to 256 levels.
    white = torch.ones(1, 1, 16, 16)
    assert evaluated(task, white + 3, white)["psnr"] == math.inf
    assert evaluated(task, white - 0.4 / 255, white)["psnr"] == math.inf


def test_an_image_smaller_than_the_window_of_ssim_is_one_window() -> None:
    targets, outputs = torch.rand(2, 1, 1, 7, 5).unbind()
    assert 0 < evaluated(task_of(GRAY, "task.crop_border=0"), targets, targets)["ssim"] <= 1
    assert evaluated(task_of(GRAY, "task.crop_border=0"), outputs, targets)["ssim"] < 1


def test_severity_orders_by_psnr() -> None:
    targets = as_tensor(PHOTOS)
    noisy = targets + torch.tensor([0.1, 0.2])[:, None, None, None] * torch.randn_like(targets)
    task = task_of(RGB)
    values = [evaluated(task, noisy[index : index + 1], targets[index : index + 1])["psnr"] for index in (0, 1)]
    severity = task.severity(noisy, targets)
    assert values[0] > values[1]
    assert severity[0] < severity[1]
    assert [20 * math.log10(255 / one) for one in severity.tolist()] == pytest.approx(values, abs=1e-3)


def test_charbonnier_is_its_formula_and_l1_without_epsilon() -> None:
    outputs, targets = torch.rand(2, 3, 1, 9, 9, generator=torch.Generator().manual_seed(1)).unbind()
    loss = task_of(GRAY, "loss=charbonnier", "loss.epsilon=0.1").loss
    wanted = np.sqrt((outputs - targets).double().numpy() ** 2 + 0.01)
    assert loss(outputs, targets).item() == pytest.approx(wanted.mean(), rel=1e-6)
    assert loss.per_sample(outputs, targets).shape == outputs.shape
    plain = task_of(GRAY, "loss=charbonnier", "loss.epsilon=0").loss
    assert plain(outputs, targets).item() == pytest.approx((outputs - targets).abs().mean().item())


def test_the_ssim_loss_is_scikit_images_and_has_gradients() -> None:
    outputs, targets = as_tensor(PHOTOS).requires_grad_(), as_tensor(PHOTOS[::-1].copy())
    loss = task_of(RGB, "loss=ssim").loss
    value = loss(outputs, targets)
    _, ssim = expected(PHOTOS[::-1].astype(float), PHOTOS.astype(float), 0)
    assert value.item() == pytest.approx(1 - ssim, abs=1e-5)
    value.backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert outputs.grad.abs().sum() > 0
    assert loss(targets, targets).item() == pytest.approx(0, abs=1e-6)
    mixed = task_of(RGB, "loss=ssim", "loss.share=0.84").loss
    wanted = 0.84 * (1 - ssim) + 0.16 * (outputs - targets).abs().mean().item()
    assert mixed(outputs, targets).item() == pytest.approx(wanted, abs=1e-5)
    assert mixed.per_sample(outputs, targets).mean().item() == pytest.approx(wanted, abs=1e-5)


@pytest.fixture
def vgg_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(torchvision.models.vgg11().features[:4].state_dict(prefix="features."), tmp_path / "vgg11.pt")
    return tmp_path / "vgg11.pt"


def test_the_perceptual_loss_compares_feature_maps_of_a_frozen_network(vgg_file: Path) -> None:
    words = ["loss=perceptual", "loss.network=vgg11", "loss.layer=3", f"loss.weights={vgg_file}"]
    task = task_of(GRAY, *words, "loss.pixel_weight=2")
    assert task.resident_bytes == 0
    config = read(["logger=csv"])
    task.prepare(config.data)
    # Convolutions of 3 to 64 and 64 to 128 channels, in float32.
    assert task.resident_bytes == 4 * (3 * 64 * 9 + 64 + 64 * 128 * 9 + 128)
    assert not list(task.parameters())
    assert not task.state_dict()

    outputs, targets = torch.rand(2, 2, 1, 16, 16, generator=torch.Generator().manual_seed(1)).unbind()
    outputs.requires_grad_()
    state = torch.load(vgg_file)
    layers = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1))
    layers.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    mean, std = (torch.tensor(one)[:, None, None] for one in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    maps = [layers((images.repeat(1, 3, 1, 1) - mean) / std) for images in (outputs, targets)]
    wanted = (maps[0] - maps[1]).abs().mean() + 2 * (outputs - targets).abs().mean()
    loss = task.training_losses(nn.Identity(), Batch(outputs, targets))["image"]
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().sum() > 0
    assert task.loss.per_sample(outputs, targets).mean().item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["loss.network=resnet18"],
            r"loss\.network=resnet18: is no network of torchvision with a sequence",
        ),
        (["loss.layer=99"], r"loss\.layer=99: vgg11 has the layers 0 to 20"),
        (["loss.weights=none.pt"], r"loss\.weights=none\.pt: no such file"),
        (["loss.layer=6"], r"loss\.weights=.*: has no weights of vgg11 for features\.6\.weight"),
    ],
)
def test_a_wrong_network_of_the_perceptual_loss_is_refused(vgg_file: Path, words: list[str], message: str) -> None:
    given = ["loss=perceptual", "loss.network=vgg11", "loss.layer=3", f"loss.weights={vgg_file}", *words]
    task = task_of(GRAY, *given)
    with pytest.raises(UserError, match=message):
        task.prepare(read(["logger=csv"]).data)


def test_the_task_checks_the_size_of_outputs_and_makes_targets_for_the_planner() -> None:
    task, images = task_of(RGB, "task.scale=3"), torch.zeros(2, 3, 5, 6)
    assert task.example_targets(2, (5, 6)).shape == (2, 3, 15, 18)
    assert task.output_fault(torch.zeros(2, 3, 15, 18), images) is None
    fault = task.output_fault(torch.zeros(2, 3, 10, 12), images)
    assert fault == "returns shape (2, 3, 10, 12) for (2, 3, 5, 6); the task expects (2, 3, 15, 18)"
    assert "returns tuple" in (task.output_fault((images,), images) or "")


def test_predictions_describe_an_image() -> None:
    task = task_of(GRAY)
    (record,) = task.predictions(torch.full((1, 1, 4, 6), 0.25), 5)
    assert record == {"width": 6, "height": 4, "means": {"gray": 0.25}}
    assert task.prediction_rows(record) == [("size", "6x4"), ("mean of gray", "0.2500")]
    assert task.target_texts(torch.zeros(2, 1, 4, 6)) == ["6x4", "6x4"]


def test_an_unknown_color_is_refused() -> None:
    with pytest.raises(UserError, match=r"task\.color=lab: no such color; choose from y, rgb"):
        task_of(GRAY, "task.color=lab")
