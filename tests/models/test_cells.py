"""Cells and residual stages: published networks in their notations, and what the notations refuse."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from convoy.config.faults import UserError
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.skeleton import without_weights
from convoy.models.cells import CellModule, CellNetwork, Inputs
from convoy.models.notation.cell_notation import Cell, parse_cell
from convoy.models.notation.stage_notation import parse_stage
from convoy.models.stages import StageNetwork

EFFICIENTNET_B0 = [
    "INVERTED3-16 se0.25",
    "INVERTED3-24/2 x2 e6 se0.25",
    "INVERTED5-40/2 x2 e6 se0.25",
    "INVERTED3-80/2 x3 e6 se0.25",
    "INVERTED5-112 x3 e6 se0.25",
    "INVERTED5-192/2 x4 e6 se0.25",
    "INVERTED3-320 e6 se0.25",
]
"""Tan & Le 2019, table 1."""
RESNET_50 = [
    "BOTTLENECK3-256 x3 e4",
    "BOTTLENECK3-512/2 x4 e4",
    "BOTTLENECK3-1024/2 x6 e4",
    "BOTTLENECK3-2048/2 x3 e4",
]
"""He et al. 2015, table 1."""


def costs(network: nn.Module) -> tuple[int, int]:
    ledger = build_ledger(network, (3, 224, 224))
    return ledger.total("params"), ledger.total("macs")


def test_efficientnet_b0_in_the_notation_of_stages_has_the_published_size() -> None:
    network = without_weights(lambda: StageNetwork(EFFICIENTNET_B0, 1000, activation="silu", head=1280))
    weights = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1
    reference = without_weights(torchvision.models.efficientnet_b0)
    assert costs(network) == costs(reference)
    assert costs(network)[0] == weights.meta["num_params"] == 5_288_548


def test_a_resnet_of_stages_computes_what_torchvisions_does() -> None:
    """The first convolution differs, so that the stages are compared alone, with the same weights."""
    torch.manual_seed(0)
    reference = torchvision.models.resnet50().eval()
    stages = StageNetwork(RESNET_50, 1000, stem_filters=64).stages.eval()
    theirs = nn.Sequential(reference.layer1, reference.layer2, reference.layer3, reference.layer4)
    by_shape = list(theirs.state_dict().values())
    assert sum(value.numel() for value in by_shape) == sum(value.numel() for value in stages.state_dict().values())
    ours = dict(stages.state_dict())
    # Convoy registers the shortcut after the branch, as torchvision does its downsample.
    for (name, value), other in zip(ours.items(), by_shape, strict=True):
        assert value.shape == other.shape, name
    stages.load_state_dict(dict(zip(ours, by_shape, strict=True)))
    maps = torch.randn(1, 64, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(stages(maps), theirs(maps), rtol=1e-3, atol=1e-3)


def test_the_default_output_of_a_cell_is_what_no_block_uses() -> None:
    blocks = ["max 0 + identity 1", "average 2 + separable3 0", "max 1 + max 1"]
    assert parse_cell(blocks, "model.normal", reduces=False).output == (3, 4)
    assert parse_cell([*blocks, "output 0 3"], "model.normal", reduces=False).output == (0, 3)
    assert parse_cell(["max 0 concat max 1", blocks[0]], "model.normal", reduces=False).concatenated == {2}
    assert parse_cell(blocks[:1], "model.normal", reduces=True) == Cell(((("max", 0), ("identity", 1)),), (2,))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("max 0 + max 1", "model.normal: must be a list of blocks; write a block such as"),
        (["max 0 + max"], "model.normal[0]=max 0 + max: is not a block"),
        (["max 0 + maxx 1"], "has no operation maxx; did you mean max?"),
        (["max 0 + max 2"], "there is no state 2 yet; choose from 0 to 1"),
        (["max 0 + max 1", "output 3"], "there is no state 3 yet; choose from 0 to 2"),
        (["max 0 + max 1", "output 1 2"], "states 0 and 1 are larger than the blocks of a reduction"),
    ],
)
def test_faults_of_a_cell_name_the_block(texts: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_cell(texts, "model.normal", reduces=True)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("INVERTED", "is not a stage; write a stage such as INVERTED3-24/2"),
        ("INVERTET3-8", "no such stage as INVERTET; did you mean INVERTED?"),
        ("BASIC2-8", "an even window"),
        ("BASIC3-8 y2", "has no meaning for 'y2'"),
        ("BASIC3-8 x2 x3", "has two values for blocks"),
        ("BASIC3-8 e2", "a BASIC block has no expansion"),
        ("INVERTED3-8 g2", "INVERTED has no groups of a given width"),
        ("BOTTLENECK3-12 g8", "groups of 8 don't divide the 12 filters inside"),
    ],
)
def test_faults_of_a_stage_say_what_to_write(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_stage(text, "model.stages[0]")
    assert message in str(error.value)


@pytest.mark.parametrize("text", [*EFFICIENTNET_B0, *RESNET_50, "BOTTLENECK5-48/2 g8 se0.5", "BASIC3-16 x3"])
def test_a_stage_is_written_as_it_is_read(text: str) -> None:
    assert parse_stage(text, "model.stages").text() == text


def test_blocks_that_concatenate_have_the_parameters_of_their_layers() -> None:
    """Counted by hand: a unit is a convolution without bias and a batch norm."""

    def unit(channels: int, filters: int, size: int = 1) -> int:
        return channels * filters * size**2 + 2 * filters

    normal = ["convolution3 0 concat identity 1", "average 2 + identity 2", "output 2 3"]
    reduction = ["max 0 concat convolution1 1"]
    network = CellNetwork(normal, reduction, 3, 1, cells=1, filters=4, stem="small", stem_filters=6)
    expected = unit(1, 6, 3) + (3 * 16 * 3 + 3)  # the stem, and the logits of the last cell's 3 times 16 channels
    before, last = 6, 6
    for filters, reduces in ((4, False), (8, True), (8, False), (16, True), (16, False)):
        expected += unit(last, filters) + unit(before, filters)  # the inputs
        # A reduction: the convolution. A normal cell: the convolution, then twice from 2 F to F channels.
        own = unit(filters, filters) if reduces else unit(filters, filters, 3) + 2 * unit(2 * filters, filters)
        expected += own
        before, last = last, 2 * filters if reduces else 3 * filters
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_a_block_that_concatenates_returns_both_results_in_order() -> None:
    cell = parse_cell(["identity 1 concat max 0"], "model.normal", reduces=False)
    module = CellModule(cell, Inputs(2, 3, width=4), reduces=False).eval()
    last, before = torch.randn(1, 2, 6, 6), torch.randn(1, 3, 6, 6)
    pooled = nn.functional.max_pool2d(module.last(last), 3, 1, 1)
    torch.testing.assert_close(module(last, before), torch.cat([module.before(before), pooled], 1))


def test_every_operation_of_a_cell_trains_at_both_strides() -> None:
    from convoy.models.notation.cell_notation import OPERATIONS

    for operation in OPERATIONS:
        blocks = [f"{operation} 0 + {operation} 1", f"{operation} 2 + {operation} 0"]
        network = CellNetwork(
            blocks, blocks, 3, 1, cells=1, filters=4, stem="small", stem_filters=6, project_stem=False
        )
        network(torch.randn(2, 1, 8, 8)).sum().backward()
        unused = {name for name, parameter in network.named_parameters() if parameter.grad is None}
        assert not unused, operation
