"""The layer notation: what each token means, and how each wrong one is answered."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convoy.config.faults import Fault, UserError
from convoy.models.notation.grammar import ACTIVATION_WORDS, parse_layers
from convoy.models.notation.tokens import (
    LINEAR,
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAveragePool,
    Layer,
    LocalResponseNorm,
    Pool,
)

RELU = Activation("relu")


def parse_one(text: str, **defaults: object) -> Layer:
    """The layer of one token that is not the last with weights."""
    return parse_layers([text, "FC-{num_classes}"], num_classes=10, **defaults)[0].layer  # type: ignore[arg-type]


def faults_of(layers: object, **defaults: object) -> tuple[Fault, ...]:
    with pytest.raises(UserError) as caught:
        parse_layers(layers, num_classes=10, **defaults)  # type: ignore[arg-type]
    return caught.value.faults


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("CONV3-64", Conv((3, 3), 64, (1, 1), (1, 1), 1, True, False, RELU, True)),
        ("CONV11-64/4 p2", Conv((11, 11), 64, (4, 4), (2, 2), 1, True, False, RELU, True)),
        ("CONV3x1-64", Conv((3, 1), 64, (1, 1), (1, 0), 1, True, False, RELU, True)),
        ("CONV5-{num_classes}/2x1", Conv((5, 5), 10, (2, 1), (2, 2), 1, True, False, RELU, True)),
        ("CONV2-8/2 p0", Conv((2, 2), 8, (2, 2), (0, 0), 1, True, False, RELU, True)),
        ("CONV3-64 g2 nobias bn elu", Conv((3, 3), 64, (1, 1), (1, 1), 2, False, True, Activation("elu"), True)),
        ("LOCAL3-64/1 p1x0", Conv((3, 3), 64, (1, 1), (1, 0), 1, True, False, RELU, False)),
        ("FC-4096", Dense(4096, True, False, RELU)),
        ("FC-{num_classes} nobias bn tanh", Dense(10, False, True, Activation("tanh"))),
        ("POOL2", Pool("POOL", (2, 2), (2, 2), (0, 0))),
        ("POOL3/2 p1", Pool("POOL", (3, 3), (2, 2), (1, 1))),
        ("AVGPOOL2x1", Pool("AVGPOOL", (2, 1), (2, 1), (0, 0))),
        ("L2POOL3/2", Pool("L2POOL", (3, 3), (2, 2), (0, 0))),
        ("GAP", GlobalAveragePool()),
        ("BN", BatchNorm()),
        ("LRN5", LocalResponseNorm(5)),
        ("DROPOUT0.5", Dropout(0.5)),
        ("DROPOUT.25", Dropout(0.25)),
        ("RELU", RELU),
        ("LEAKYRELU0.1", Activation("leakyrelu", 0.1)),
        ("ELU", Activation("elu")),
        ("SIGMOID", Activation("sigmoid")),
        ("TANH", Activation("tanh")),
        ("MAXOUT4", Activation("maxout", 4)),
    ],
)
def test_token_means(text: str, layer: Layer) -> None:
    assert parse_one(text) == layer


@pytest.mark.parametrize(
    ("word", "activation"),
    zip(
        ACTIVATION_WORDS,
        [
            RELU,
            Activation("leakyrelu", 0.1),
            Activation("elu"),
            Activation("sigmoid"),
            Activation("tanh"),
            Activation("maxout", 2),
            LINEAR,
        ],
        strict=True,
    ),
)
def test_activation_word_follows_a_layer_or_the_whole_network(word: str, activation: Activation) -> None:
    for layer in (parse_one(f"CONV3-8 {word}", activation="sigmoid"), parse_one("CONV3-8", activation=word)):
        assert isinstance(layer, Conv)
        assert layer.activation == activation


def test_defaults_hold_for_all_but_the_logits() -> None:
    texts = ["CONV3-8", "LOCAL3-8", "CONV3-8 nobn", "FC-20", "FC-{num_classes}"]
    layers = [token.layer for token in parse_layers(texts, num_classes=10, activation="tanh", batch_norm=True)]
    assert [(layer.batch_norm, layer.activation.kind) for layer in layers if isinstance(layer, Conv | Dense)] == [
        (True, "tanh"),
        (True, "tanh"),
        (False, "tanh"),
        (False, "tanh"),
        (False, "linear"),
    ]


def test_logits_can_have_an_activation_and_a_norm() -> None:
    (token,) = parse_layers(["CONV1-{num_classes} bn relu"], num_classes=10)
    assert isinstance(token.layer, Conv)
    assert (token.layer.batch_norm, token.layer.activation) == (True, RELU)


def test_a_token_has_its_index_and_the_number_of_classes() -> None:
    tokens = parse_layers(["POOL2", "FC-{num_classes}"], num_classes=7)
    assert [(token.key, token.text) for token in tokens] == [
        ("model.layers[0]", "POOL2"),
        ("model.layers[1]", "FC-7"),
    ]


@pytest.mark.parametrize(
    ("token", "rule", "remedy"),
    [
        ("CNV3-64", "no such layer", "did you mean CONV? write CONV3-64"),
        ("conv3-64", "no such layer", "did you mean CONV? write CONV3-64"),
        ("MAXPOOL2", "no such layer", "did you mean POOL? write POOL2"),
        ("L2POL2", "no such layer", "did you mean L2POOL? write L2POOL2"),
        ("WARP9", "no such layer", "write one of CONV, LOCAL, FC"),
        ("", "no such layer", "write one of CONV"),
        (5, "no such layer", "write one of CONV"),
        ({"FC-{num_classes}": None}, "no such layer", "must be quoted"),
        ("CONV3", "is not a valid CONV layer", "write CONV3-64"),
        ("CONV3-64/0", "is not a valid CONV layer", "write CONV3-64"),
        ("CONV0-64", "is not a valid CONV layer", "write CONV3-64"),
        ("FC4096", "is not a valid FC layer", "write FC-4096"),
        ("FC-{classes}", "is not a valid FC layer", "FC-{num_classes}"),
        ("POOL", "is not a valid POOL layer", "write POOL2"),
        ("LRN", "is not a valid LRN layer", "write LRN5"),
        ("DROPOUT", "is not a valid DROPOUT layer", "write DROPOUT0.5"),
        ("DROPOUT1.5", "is not a valid DROPOUT layer", "below 1"),
        ("LEAKYRELU", "is not a valid LEAKYRELU layer", "write LEAKYRELU0.1"),
        ("MAXOUT1", "is not a valid MAXOUT layer", "write MAXOUT2"),
        ("GAP2", "is not a valid GAP layer", "write GAP"),
        ("CONV3-64 rlu", "CONV takes no 'rlu'", "did you mean relu?"),
        ("CONV3-64 s2", "CONV takes no 's2'", "it takes p1, g2, nobias"),
        ("CONV3-64 g0", "CONV takes no 'g0'", "it takes p1"),
        ("CONV3-64 maxout1", "CONV takes no 'maxout1'", "did you mean maxout2?"),
        ("CONV3-64 p1 p2", "contains both p1 and p2", "remove one"),
        ("CONV3-64 bn nobn", "contains both bn and nobn", "remove one"),
        ("CONV3-64 relu tanh", "contains both relu and tanh", "remove one"),
        ("CONV4-64", "no padding keeps", "write its padding"),
        ("LOCAL3-64 g2", "LOCAL takes no 'g2'", "it takes p1"),
        ("FC-10 p1", "FC takes no 'p1'", "it takes nobias"),
        ("POOL2 relu", "POOL takes no 'relu'", "it takes p1"),
        ("POOL3 p2", "pads with more than half", "at most p1"),
        ("GAP 2", "GAP takes no '2'", "write GAP alone"),
    ],
)
def test_a_wrong_token_is_reported_with_its_index_and_a_remedy(token: object, rule: str, remedy: str) -> None:
    (fault,) = faults_of(["CONV3-8", token, "FC-{num_classes}"])
    assert (fault.key, fault.value) == ("model.layers[1]", str(token))
    assert rule in fault.rule
    assert remedy in fault.remedy


def test_all_wrong_tokens_and_a_wrong_default_are_found_at_once() -> None:
    faults = faults_of(["CONV3", "POOL2", "FC-ten"], activation="reul")
    assert [fault.key for fault in faults] == ["model.activation", "model.layers[0]", "model.layers[2]"]
    assert faults[0].remedy == "did you mean relu?"


@pytest.mark.parametrize("layers", [None, [], "CONV3-64", 3])
def test_layers_must_be_a_list(layers: object) -> None:
    (fault,) = faults_of(layers)
    assert (fault.key, fault.rule) == ("model.layers", "must be a list of layers")


def test_network_without_weights_is_refused() -> None:
    (fault,) = faults_of(["POOL2", "GAP"])
    assert fault.rule == "has no layer with weights"


def test_reading_and_checking_a_chain_imports_no_torch() -> None:
    code = "import sys, convoy.models.building.build; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
