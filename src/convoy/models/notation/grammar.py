"""Parser of the layer notation (see `tokens`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convoy.config.faults import Fault, UserError, closest, did_you_mean
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
    Pair,
    Pool,
    Token,
)


@dataclass(frozen=True)
class _Form:
    """Syntax of a kind of token: pattern of its first word, an example, and the words allowed after it."""

    pattern: str
    example: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Defaults:
    """Default settings of the network's tokens."""

    activation: Activation
    batch_norm: bool
    pooling: str


class _TokenError(Exception):
    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


_COUNT = r"[1-9]\d*"
_SIDES = rf"{_COUNT}(?:x{_COUNT})?"
_UNITS = rf"(?P<units>{_COUNT}|\{{num_classes\}})"
_STRIDE = rf"(?:/(?P<stride>{_SIDES}))?"
_SHARE = r"0?\.\d+"

_WEIGHTED = ("CONV", "LOCAL", "FC")
_FORMS = {
    "CONV": _Form(
        rf"CONV(?P<size>{_SIDES})-{_UNITS}{_STRIDE}",
        "CONV3-64, CONV3x1-64 or CONV11-64/4 (size-filters/stride)",
        ("padding", "groups", "bias", "norm", "activation"),
    ),
    "LOCAL": _Form(
        rf"LOCAL(?P<size>{_SIDES})-{_UNITS}{_STRIDE}",
        "LOCAL3-64 or LOCAL3-64/2 (size-filters/stride)",
        ("padding", "bias", "norm", "activation"),
    ),
    "FC": _Form(f"FC-{_UNITS}", "FC-4096 or FC-{num_classes}", ("bias", "norm", "activation")),
    "POOL": _Form(rf"POOL(?P<size>{_SIDES}){_STRIDE}", "POOL2 or POOL3/2 (size/stride)", ("padding",)),
    "AVGPOOL": _Form(rf"AVGPOOL(?P<size>{_SIDES}){_STRIDE}", "AVGPOOL2 or AVGPOOL3/2 (size/stride)", ("padding",)),
    "L2POOL": _Form(rf"L2POOL(?P<size>{_SIDES}){_STRIDE}", "L2POOL2 or L2POOL3/2 (size/stride)", ("padding",)),
    "GAP": _Form("GAP", "GAP"),
    "BN": _Form("BN", "BN"),
    "LRN": _Form(f"LRN(?P<size>{_COUNT})", "LRN5 (channels)"),
    "DROPOUT": _Form(f"DROPOUT(?P<share>{_SHARE})", "DROPOUT0.5 (share of units dropped, below 1)"),
    "RELU": _Form("RELU", "RELU"),
    "LEAKYRELU": _Form(f"LEAKYRELU{_SHARE}", "LEAKYRELU0.1 (slope below zero)"),
    "ELU": _Form("ELU", "ELU"),
    "SIGMOID": _Form("SIGMOID", "SIGMOID"),
    "TANH": _Form("TANH", "TANH"),
    "MAXOUT": _Form(f"MAXOUT{_COUNT}", "MAXOUT2 (filters per unit, 2 or more)"),
}
_LONGEST_FIRST = sorted(_FORMS, key=len, reverse=True)

ACTIVATION_WORDS = ("relu", "leakyrelu0.1", "elu", "sigmoid", "tanh", "maxout2", "linear")
_ACTIVATION = re.compile(rf"(relu|elu|sigmoid|tanh|linear)|(leakyrelu)({_SHARE})|(maxout)({_COUNT})")
_WORDS = {
    "padding": re.compile(r"p(\d+(?:x\d+)?)"),
    "groups": re.compile(rf"g({_COUNT})"),
    "bias": re.compile("nobias"),
    "norm": re.compile("bn|nobn"),
    "activation": _ACTIVATION,
}
_WORD_EXAMPLES = {
    "padding": ("p1",),
    "groups": ("g2",),
    "bias": ("nobias",),
    "norm": ("bn", "nobn"),
    "activation": ACTIVATION_WORDS,
}


POOLINGS = {"max": "POOL", "average": "AVGPOOL", "l2": "L2POOL"}
"""Meanings of POOL, and the token of each."""


def parse_layers(
    layers: Any, *, num_classes: int, activation: str = "relu", batch_norm: bool = False, pooling: str = "max"
) -> tuple[Token, ...]:
    """Return the tokens of a network with the network's defaults filled in.

    Args:
        layers: list of texts from the config.
        num_classes: value of `{num_classes}`.
        activation: default activation after CONV, LOCAL and FC.
        batch_norm: if True, CONV and LOCAL have batch norm before their activation by default.
        pooling: kind of POOL: max, average or l2.

    Raises:
        UserError: if tokens are invalid; one fault per token, with its index as the key (`model.layers[3]`).
    """
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise UserError(
            Fault("model.layers", "must be a list of layers", 'such as [CONV3-64, POOL2, "FC-{num_classes}"]')
        )
    faults = []
    default = parse_activation(activation)
    if default is None:
        remedy = did_you_mean(str(activation), ACTIVATION_WORDS, f"choose from {', '.join(ACTIVATION_WORDS)}")
        faults.append(Fault("model.activation", "no such activation", remedy, str(activation)))
    if pooling not in POOLINGS:
        remedy = did_you_mean(str(pooling), POOLINGS, f"choose from {', '.join(POOLINGS)}")
        faults.append(Fault("model.pooling", "no such pooling", remedy, str(pooling)))
    pool = POOLINGS.get(pooling, "POOL")
    defaults = _Defaults(default or LINEAR, batch_norm, pool)
    logits = _Defaults(LINEAR, batch_norm=False, pooling=pool)
    weighted = [index for index, text in enumerate(layers) if _kind(text) in _WEIGHTED]
    tokens = []
    for index, text in enumerate(layers):
        try:
            layer = _parse(text, num_classes, logits if index in weighted[-1:] else defaults)
        except _TokenError as error:
            faults.append(Fault(f"model.layers[{index}]", error.rule, error.remedy, str(text)))
        else:
            tokens.append(Token(index, text.replace("{num_classes}", str(num_classes)), layer))
    if not weighted and not faults:
        faults.append(Fault("model.layers", "has no layer with weights", "end it with FC-{num_classes}"))
    if faults:
        raise UserError(*faults)
    return tuple(tokens)


def parse_activation(word: Any) -> Activation | None:
    """Return the activation of a word such as `leakyrelu0.1`, or None if there is none."""
    match = _ACTIVATION.fullmatch(str(word))
    if not match or word == "maxout1":
        return None
    plain, leaky, slope, maxout, filters = match.groups()
    return Activation(plain or leaky or maxout, float(slope or filters or 0))


def _kind(text: Any) -> str | None:
    """Return the kind of a token, such as CONV of 'CONV3-64 p1'; None if it begins with no kind of layer."""
    return next((kind for kind in _LONGEST_FIRST if isinstance(text, str) and text.startswith(kind)), None)


def _parse(text: Any, num_classes: int, defaults: _Defaults) -> Layer:
    kind = _kind(text)
    if kind is None:
        raise _TokenError("no such layer", _layer_remedy(text))
    form = _FORMS[kind]
    head, *rest = text.split()
    match = re.fullmatch(form.pattern, head)
    if not match:
        raise _TokenError(f"is not a valid {kind} layer", f"write {form.example}")
    words = _parse_words(kind, rest)
    fields = match.groupdict()
    match kind:
        case "CONV" | "LOCAL":
            size = _pair(fields["size"])
            return Conv(
                size=size,
                filters=_units(fields["units"], num_classes),
                stride=_pair(fields["stride"] or "1"),
                padding=_pair(words["padding"][1:]) if "padding" in words else _keeping_padding(size),
                groups=int(words["groups"][1:]) if "groups" in words else 1,
                bias="bias" not in words,
                batch_norm=words["norm"] == "bn" if "norm" in words else defaults.batch_norm,
                activation=parse_activation(words.get("activation")) or defaults.activation,
                shared=kind == "CONV",
            )
        case "FC":
            return Dense(
                units=_units(fields["units"], num_classes),
                bias="bias" not in words,
                batch_norm=words.get("norm") == "bn",
                activation=parse_activation(words.get("activation")) or defaults.activation,
            )
        case "POOL" | "AVGPOOL" | "L2POOL":
            size = _pair(fields["size"])
            kind = defaults.pooling if kind == "POOL" else kind
            return Pool(kind, size, _pair(fields["stride"] or fields["size"]), _pool_padding(size, words))
        case "GAP":
            return GlobalAveragePool()
        case "BN":
            return BatchNorm()
        case "LRN":
            return LocalResponseNorm(int(fields["size"]))
        case "DROPOUT":
            return Dropout(float(fields["share"]))
    activation = parse_activation(head.lower())
    if activation is None:
        raise _TokenError(f"is not a valid {kind} layer", f"write {form.example}")
    return activation


def _parse_words(kind: str, words: Sequence[str]) -> dict[str, str]:
    """Return the words after a token's first, by the setting that they change."""
    allowed = _FORMS[kind].words
    examples = [example for settled in allowed for example in _WORD_EXAMPLES[settled]]
    found: dict[str, str] = {}
    for word in words:
        settled = next((name for name in allowed if _WORDS[name].fullmatch(word)), None)
        if settled is None or word == "maxout1":
            choice = f"it takes {', '.join(examples)}" if examples else f"write {kind} alone"
            raise _TokenError(f"{kind} takes no {word!r}", did_you_mean(word, examples, choice))
        if settled in found:
            raise _TokenError(f"contains both {found[settled]} and {word}", "remove one of them")
        found[settled] = word
    return found


def _layer_remedy(text: Any) -> str:
    everything = f"write one of {', '.join(_FORMS)}"
    if not isinstance(text, str):
        return f'{everything}; a text with braces in a [list] must be quoted: "FC-{{num_classes}}"'
    head = text.strip().partition(" ")[0].upper()
    kind = _kind(head) or closest(re.sub(r"[^A-Z2].*", "", head), _FORMS)
    return f"did you mean {kind}? write {_FORMS[kind].example}" if kind else everything


def _pair(text: str) -> Pair:
    """Return height and width: '3' is 3x3, '3x1' is 3 high and 1 wide."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def _units(text: str, num_classes: int) -> int:
    return num_classes if text == "{num_classes}" else int(text)


def _keeping_padding(size: Pair) -> Pair:
    """Return the padding that keeps the spatial size at stride 1: (F - 1) / 2 zeros per side for a window of F."""
    if size[0] % 2 == 0 or size[1] % 2 == 0:
        rule = "no padding keeps the spatial size with an even window"
        raise _TokenError(rule, "write its padding, such as p0")
    return (size[0] - 1) // 2, (size[1] - 1) // 2


def _pool_padding(size: Pair, words: dict[str, str]) -> Pair:
    padding = _pair(words["padding"][1:]) if "padding" in words else (0, 0)
    if 2 * padding[0] > size[0] or 2 * padding[1] > size[1]:
        raise _TokenError("pads with more than half its window", f"at most p{min(size) // 2}")
    return padding
