"""Memory plans of a command line, for one card or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.api.calls import alone, options_of, words_of
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options
from convoy.config.run_overrides import run_key_faults
from convoy.config.schema import Config
from convoy.planner.calibration import Calibration, calibration_of
from convoy.training import preflight

if TYPE_CHECKING:
    from convoy.planner.memory_plan import Plan
    from convoy.planner.plan_list import Plans


def plan(*overrides: str, hardware: str | None = None, config_dir: str | Path | None = None) -> Plan:
    """Return the predicted peak GPU memory of a training, as `convoy plan` does. No data or GPU is needed.

    Args:
        overrides: words of `convoy train`, such as `"model=vgg16"`.
        hardware: a card, instead of `"hardware=…"`.
        config_dir: folder of options, as in `--config-dir`.

    Raises:
        UserError: if the config has faults, or names several cards.
    """
    with alone():
        words, options = _words(overrides, hardware), options_of(config_dir)
        if named_cards(words, options) is not None:
            raise UserError(Fault("hardware", "names several cards", "write convoy.plans(…) for a list"))
        return plan_of(words, options)


def plans(*overrides: str, hardware: str | Sequence[str] = "*", config_dir: str | Path | None = None) -> Plans:
    """Return the plans of a training for several cards.

    Args:
        overrides: words of `convoy train`, such as `"model=vgg16"`.
        hardware: cards, as a list or separated by commas, or * for all.
        config_dir: folder of options, as in `--config-dir`.

    Raises:
        UserError: if the config has faults on each card.
    """
    hardware = hardware if isinstance(hardware, str) else ",".join(hardware)
    with alone():
        words, options = _words(overrides, hardware), options_of(config_dir)
        return plans_of(words, options, named_cards(words, options) or [hardware])


def named_cards(overrides: Sequence[str], options: Options) -> list[str] | None:
    """Return the cards if several are given, or None for one.

    Raises:
        UserError: if there is no such card, or a key does not apply to a plan.
    """
    found, faults = None, run_key_faults(overrides, "the planner")
    for key, _, value in (text.partition("=") for text in overrides):
        if key == "hardware" and ("," in value or value == "*"):
            found = list(_cards(options)) if value == "*" else value.split(",")
            faults += _unknown(found, options)
    if faults:
        raise UserError(*faults)
    return found


def plan_of(overrides: Sequence[str], options: Options) -> Plan:
    """Return the plan for one card."""
    config = _config(overrides, options)
    # Imported here, since torch takes seconds to import.
    from convoy.optim.build_optimizer import check_targets
    from convoy.planner.memory_plan import predicted

    check_targets(config)
    return predicted(config, _calibration(config, overrides))


def plans_of(overrides: Sequence[str], options: Options, cards: Sequence[str]) -> Plans:
    """Return the plans for several cards. A fault of a single card, such as an unsupported precision, is its result."""
    configs: dict[str, Config | UserError] = {}
    for card in cards:
        try:
            configs[card] = _config(_with_card(overrides, card), options)
        except UserError as error:
            configs[card] = error
    able = [config for config in configs.values() if isinstance(config, Config)]
    if not able:
        raise UserError(
            *dict.fromkeys(fault for one in configs.values() if isinstance(one, UserError) for fault in one.faults)
        )
    from convoy.optim.build_optimizer import check_targets
    from convoy.planner.memory_plan import Planner
    from convoy.planner.plan_list import Plans

    check_targets(able[0])
    planner = Planner(able[0])
    return Plans(
        tuple(
            (card, planner.plan(one.hardware, _calibration(one, overrides)) if isinstance(one, Config) else one)
            for card, one in configs.items()
        )
    )


def _words(overrides: Sequence[str], hardware: str | None) -> list[str]:
    words = words_of(overrides)
    return words if hardware is None else [*words, f"hardware={hardware}"]


def _config(words: Sequence[str], options: Options) -> Config:
    config = preflight.read(words, options, to_run=False)
    faults = []
    if config.trainer.compile:
        rule = "changes the memory of a training unpredictably"
        faults.append(
            Fault("trainer.compile", rule, "plan with trainer.compile=false", str(config.trainer.compile).lower())
        )
    if config.hardware.usable_bytes is not None and config.hardware.context_bytes is None:
        rule = "is required with hardware.usable_bytes"
        faults.append(
            Fault("hardware.context_bytes", rule, "write the memory of the CUDA context, such as 500000000", "null")
        )
    if faults:
        raise UserError(*faults)
    return config


def _calibration(config: Config, words: Sequence[str]) -> Calibration:
    """Return the calibration of the card, unless its memory was given on the command line."""
    if any(word.startswith(("hardware.usable_bytes=", "hardware.context_bytes=")) for word in words):
        return Calibration()
    return calibration_of(config.output_root, config.hardware.name)


def _with_card(overrides: Sequence[str], card: str) -> list[str]:
    return [f"hardware={card}" if word.startswith("hardware=") else word for word in overrides]


def _unknown(names: Sequence[str], options: Options) -> list[Fault]:
    there = options.of("hardware")
    listed = f"one of {', '.join(there)}"
    return [
        Fault("hardware", "no such option", did_you_mean(name, there, listed), name)
        for name in names
        if name not in there
    ]


def _cards(options: Options) -> Iterator[str]:
    """Yield the options of hardware that describe one card, which have an architecture."""
    from omegaconf import OmegaConf

    for name in options.of("hardware"):
        for folder in options.folders:
            path = folder / "hardware" / f"{name}.yaml"
            if path.is_file() and "architecture" in OmegaConf.load(path):
                yield name
