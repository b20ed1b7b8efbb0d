"""What a row is: functions, modules used twice, parameters, windows, precision, and models that need data."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import timm
import timm.optim
import torch
from tests.ledger.real_step import RealStep
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from convoy.ledger.autocast import autocast
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.ledger_object import Ledger
from convoy.ledger.rows import Row, UntraceableError
from convoy.ledger.skeleton import without_weights
from convoy.models.fcn import FCN


class Residual(nn.Module):
    """One convolution used twice, with everything else called as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.aside = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        once = functional.relu(self.conv(images))
        twice = self.conv(once) * self.scale + once
        pooled = functional.max_pool2d(torch.cat([twice, images], 1), 2)
        return torch.flatten(pooled, 1)


def ledger_of(model: nn.Module, *shape: int, **options: object) -> Ledger:
    return build_ledger(model, shape, **options)  # type: ignore[arg-type]


def column(ledger: Ledger, name: str) -> list[object]:
    return [getattr(row, name) for row in ledger.rows]


def test_functions_have_rows_and_a_module_used_twice_counts_twice() -> None:
    ledger = ledger_of(Residual(), 4, 8, 8)
    names = ["INPUT", "CONV3-4", "RELU", "CONV3-4", "MUL", "ADD", "CAT", "POOL2", "FLATTEN", "UNUSED"]
    assert column(ledger, "layer") == names
    assert [row.call for row in ledger.rows if row.module == "conv"] == [1, 2]
    assert column(ledger, "params") == [0, 148, 0, 0, 4, 0, 0, 0, 0, 6]
    assert column(ledger, "params_without_bias") == [0, 144, 0, 0, 4, 0, 0, 0, 0, 4]
    assert column(ledger, "macs")[1] == column(ledger, "macs")[3] == 8 * 8 * 4 * 4 * 9
    assert [row.output_elements for row in ledger.rows[1:7]] == [256, 256, 256, 256, 256, 512]
    assert ledger.rows[8].storage == "view"


def test_the_model_is_not_changed() -> None:
    model = models.resnet18().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    random.seed(3)
    build_ledger(model, (3, 64, 64), optimizer=lambda one: torch.optim.Adam(one.parameters()))
    assert not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build_ledger(models.vgg11(init_weights=False), (3, 32, 32))
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("layer", "side", "note"),
    [
        (nn.Conv2d(1, 1, 3, stride=3), 7, "(7 - 3 + 2*0)/3 + 1 = 2.333: the last 1 row and 1 column are dropped"),
        (nn.MaxPool2d(2), 7, "(7 - 2 + 2*0)/2 + 1 = 3.5: the last 1 row and 1 column are dropped"),
        (nn.MaxPool2d(2, ceil_mode=True), 7, "(7 - 2 + 2*0)/2 + 1 = 3.5: rounded up, the last window reaches past"),
        (nn.AvgPool2d(3, 5), 7, "(7 - 3 + 2*0)/5 + 1 = 1.8: the last 4 rows and 4 columns are dropped"),
        (nn.Conv2d(1, 1, (3, 1), stride=(3, 1)), 7, "(7 - 3 + 2*0)/3 + 1 = 2.333: the last 1 row is dropped"),
        (
            nn.Conv2d(1, 1, 7, stride=2, padding=3),
            8,
            "(8 - 7 + 2*3)/2 + 1 = 4.5: the last 1 row and 1 column of padding",
        ),
        (nn.Conv2d(1, 1, 3, dilation=2, stride=3), 7, "(7 - 5 + 2*0)/3 + 1 = 1.667: the last 2 rows and 2 columns"),
        (nn.Conv2d(1, 1, 3, stride=2), 7, ""),
    ],
)
def test_windows_that_do_not_fit_are_reported(layer: nn.Module, side: int, note: str) -> None:
    row = ledger_of(nn.Sequential(layer), 1, side, side).rows[1]
    assert row.note.startswith(note)
    assert bool(row.note) == bool(note)


def test_receptive_fields_of_published_networks() -> None:
    """Araujo et al. 2019 (distill.pub/2019/computing-receptive-fields), table of networks: field and stride."""
    alexnet = ledger_of(without_weights(models.alexnet), 3, 224, 224)
    assert _last_field(alexnet, "POOL") == ("195", "32")
    # torchvision strides in a block's 3x3: 7, a pooling of 3, then blocks of one 3x3 at strides 4, 8, 16 and 32.
    resnet = ledger_of(without_weights(models.resnet50), 3, 224, 224)
    side = 7 + 2 * 2 + 3 * 2 * 4 + (2 * 4 + 3 * 2 * 8) + (2 * 8 + 5 * 2 * 16) + (2 * 16 + 2 * 2 * 32)
    assert _last_field(resnet, "RELU") == (str(side), "32")
    assert _last_field(ledger_of(nn.Sequential(nn.Conv2d(1, 2, (3, 1), stride=(2, 1))), 1, 9, 9), "CONV") == (
        "3x1",
        "2x1",
    )


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_the_field_after_a_transposed_convolution_is_that_of_the_gradients(kernel: int) -> None:
    upsampling = nn.ConvTranspose2d(1, 1, kernel, stride=2)
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AvgPool2d(2), upsampling, nn.Conv2d(1, 1, 3))
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    widest = 0
    for column in range(10, 14):
        images = torch.ones(1, 1, 1 + 40, 40, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(images)[0, 0, 12, column], images)
        widest = max(widest, int((gradient[0, 0].abs().sum(0) > 0).sum()))
    ledger = ledger_of(network, 1, 41, 40)
    assert _last_field(ledger, "CONV3") == (str(widest), "1")
    row = next(row for row in ledger.rows if row.layer.startswith("CONVT"))
    assert (row.stride, row.note) == ("1", "")


def test_the_field_of_a_network_for_pixels() -> None:
    """Long et al. 2014, table 1: the last layer of FCN-VGG16 has a field of 404 pixels and a stride of 32."""
    ledger = ledger_of(without_weights(lambda: FCN(8, 21)), 3, 64, 64)
    fields = {row.module: (row.receptive_field, row.stride) for row in ledger.rows}
    assert fields["scores.0"] == ("404", "32")
    assert (fields["upsampling.0"][1], fields["upsampling.1"][1], fields["last"][1]) == ("16", "8", "1")


def _last_field(ledger: Ledger, layer: str) -> tuple[str, str]:
    row = [row for row in ledger.rows if row.layer.startswith(layer) and row.receptive_field][-1]
    return row.receptive_field, row.stride


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Conv2d(8, 16, 3, padding=1), "CONV3-16"),
        (nn.Conv2d(8, 64, 11, stride=4, padding=2), "CONV11-64/4 p2"),
        (nn.Conv2d(8, 16, (3, 1), padding=(1, 0), groups=8), "CONV3x1-16 g8"),
        (nn.Conv2d(8, 16, 3, padding=2, dilation=2), "CONV3-16 d2"),
        (nn.ConvTranspose2d(8, 4, 2, stride=2), "CONVT2-4/2"),
        (nn.MaxPool2d(3, 2, 1), "POOL3/2 p1"),
        (nn.AvgPool2d(2), "AVGPOOL2"),
        (nn.AdaptiveAvgPool2d(1), "GAP"),
        (nn.BatchNorm2d(8), "BN"),
        (nn.GroupNorm(4, 8), "GN4"),
        (nn.LocalResponseNorm(5), "LRN5"),
        (nn.Dropout(0.5), "DROPOUT0.5"),
        (nn.LeakyReLU(0.1), "LEAKYRELU0.1"),
        (nn.SiLU(), "SILU"),
        (nn.Linear(28, 10), "FC-10"),
    ],
)
def test_names_are_those_of_the_notation(layer: nn.Module, name: str) -> None:
    assert ledger_of(nn.Sequential(layer), 8, 28, 28).rows[1].layer == name


def test_layers_of_the_notation_that_torch_lacks_agree_with_a_real_step() -> None:
    from convoy.models.chain import Chain

    tokens = ["CONV3-8 maxout2 bn", "L2POOL2", "LRN5", "LOCAL3-4", "POOL3/2", "FC-12 tanh", "FC-5"]
    chain = Chain(tokens, num_classes=5, in_channels=1, image_size=20)
    ledger = ledger_of(chain, 1, 20, 20)
    assert ledger.total("params") == sum(parameter.numel() for parameter in chain.parameters())
    names = [row.layer for row in ledger.rows]
    assert {"CONV3-16", "MAXOUT2", "L2POOL2", "LRN5", "LOCAL3-4", "POOL3/2", "FC-12", "FC-5"} <= set(names)
    assert kept_by_module(ledger, 3) == RealStep(chain, (1, 20, 20), 3).kept


def kept_by_module(ledger: Ledger, batch: int) -> Counter[str]:
    kept: Counter[str] = Counter()
    for row in ledger.rows:
        kept[row.module] += batch * row.saved_bytes + row.saved_fixed_bytes
    return +kept


@pytest.mark.parametrize("build", [models.resnet18, models.mobilenet_v2, lambda: timm.create_model("convnext_atto")])
def test_bfloat16_on_the_cpu_saves_the_bytes_of_a_real_step(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    with autocast("bf16-mixed", on_cuda=False):
        real = RealStep(build(), (3, 64, 64), 2).kept
    ledger = ledger_of(build(), 3, 64, 64, precision="bf16-mixed", on_cuda=False)
    total = ledger.total("saved_bytes") * 2 + ledger.total("saved_fixed_bytes") + ledger.total("weight_copy_bytes")
    assert total == sum(real.values())


def test_autocast_by_cudas_rules_is_cudas_and_ends_with_its_context() -> None:
    """Of the operations that torch's documentation lists for CUDA: these autocast to float32."""
    inputs = torch.ones(2, 4, 4, 4)
    norm = nn.GroupNorm(2, 4)

    def dtypes() -> list[torch.dtype]:
        half = functional.conv2d(inputs, torch.ones(4, 4, 1, 1))
        results = (half, norm(half), functional.softmax(half, 1), half.pow(2), functional.relu(half))
        return [result.dtype for result in results]

    half, full = torch.bfloat16, torch.float32
    with autocast("bf16-mixed", on_cuda=False):
        before = dtypes()
    with autocast("bf16-mixed", on_cuda=True):
        assert dtypes() == [half, full, full, full, half]
    with autocast("bf16-mixed", on_cuda=False):
        assert dtypes() == before
    with autocast("16-mixed", on_cuda=True):
        assert dtypes() == [torch.float16, full, full, full, torch.float16]


def test_weight_copies_have_half_the_weights_bytes() -> None:
    ledger = ledger_of(without_weights(models.vgg11), 3, 64, 64, precision="16-mixed")
    # The biases' copies are not needed for the backward pass.
    assert ledger.total("weight_copy_bytes") == 2 * ledger.total("params_without_bias")


class Counting(nn.Module):
    """Looks at values while it is built, as torchvision's RegNet does."""

    def __init__(self) -> None:
        super().__init__()
        widths = [int(width) for width in torch.linspace(4, 8, 3).round()]
        self.layers = nn.Sequential(*(nn.Conv2d(a, b, 3) for a, b in pairwise(widths)))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


def test_models_that_look_at_values_while_they_are_built() -> None:
    for build, shape in ((Counting, (4, 9, 9)), (models.regnet_y_400mf, (3, 64, 64))):
        with pytest.raises((RuntimeError, NotImplementedError)), torch.device("meta"):
            build()
        ledger = ledger_of(without_weights(build), *shape)
        assert ledger.total("params") == sum(parameter.numel() for parameter in build().parameters())


def test_models_that_cache_results_of_their_first_pass() -> None:
    model = without_weights(lambda: timm.create_model("convit_tiny"))
    ledger = ledger_of(model, 3, 224, 224)
    assert ledger.total("params") == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("model", [nn.Linear(3, 4), nn.Sequential(nn.Conv2d(1, 2, 3))])
def test_a_wrong_input_is_untraceable_with_a_reason(model: nn.Module) -> None:
    with pytest.raises(UntraceableError, match="can't be traced without data"):
        build_ledger(model, (5, 8, 8))


class Looking(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum() > 0 else -images


class Changing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.active = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.active(images) if len(images) < 3 else self.active(images).sin()  # type: ignore[no-any-return]


class Mixing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1).clone().requires_grad_()
        return (flat @ flat.t()).exp()


@pytest.mark.parametrize(
    ("model", "said"),
    [(Looking(), "without data"), (Changing(), "differ from one batch size to another"), (Mixing(), "grow linearly")],
)
def test_layers_that_need_data_or_mix_images_are_reported(model: nn.Module, said: str) -> None:
    with pytest.raises(UntraceableError, match=said):
        build_ledger(model, (1, 4, 4))


@pytest.mark.parametrize(
    ("make", "bytes_a_parameter", "bytes_a_tensor"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1), 0, 0),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9), 4, 0),
        (lambda parameters: torch.optim.Adam(parameters), 8, 4),
        (lambda parameters: torch.optim.AdamW(parameters, amsgrad=True), 12, 4),
        (lambda parameters: torch.optim.RMSprop(parameters, momentum=0.9), 8, 4),
        (lambda parameters: timm.optim.Lamb(parameters), 8, 0),
        (lambda parameters: timm.optim.Lars(parameters, momentum=0.9), 4, 0),
    ],
)
def test_optimizer_state_is_that_of_a_real_step(
    make: Callable[..., torch.optim.Optimizer], bytes_a_parameter: int, bytes_a_tensor: int
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))
    model[1].weight.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def trainable(one: nn.Module) -> torch.optim.Optimizer:
        return make([parameter for parameter in one.parameters() if parameter.requires_grad])

    ledger = build_ledger(model, (1, 8, 8), optimizer=trainable)
    assert ledger.state.trainable_params == sum(parameter.numel() for parameter in trained)
    assert ledger.state.gradient_bytes == 4 * ledger.state.trainable_params
    expected = bytes_a_parameter * ledger.state.trainable_params + bytes_a_tensor * len(trained)
    real = trainable(model)
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    real.step()
    tensors = [value for state in real.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert ledger.state.optimizer_bytes == expected == sum(one.numel() * one.element_size() for one in tensors)


def test_rows_are_plain_integers() -> None:
    for row in ledger_of(Residual(), 4, 8, 8).rows:
        assert isinstance(row, Row)
        assert all(type(getattr(row, name)) is int for name in ("output_elements", "params", "macs", "saved_bytes"))
