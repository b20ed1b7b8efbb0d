"""convoy train: one run, or a sweep of them."""

from __future__ import annotations

from collections.abc import Sequence

from convoy.commands.declaration import arguments


def run(words: Sequence[str]) -> int:
    """Train the network of the overrides, print the config, or print the help."""
    parsed = arguments.parse(words)
    if parsed.help:
        from convoy.commands import train_help

        print(train_help.text(parsed.overrides, parsed.options))
        return 0
    if parsed.cfg:
        print(_config_text(parsed), end="")
        return 0
    if parsed.multirun or _resumes_a_sweep(parsed.overrides):
        from convoy.search.sweeps import sweep

        return sweep.run(parsed.overrides, parsed.options)
    from convoy.report.pages.page_at_end import print_page
    from convoy.runtime.rank_watch import WATCH
    from convoy.training.start import Start

    WATCH.follow_parent()
    try:
        start = Start.read(parsed.overrides, parsed.options, parsed.saved)
        outcome = start.run(restarts=True)
        print_page(start.config, outcome)
        return outcome.exit_code
    finally:
        WATCH.stop()


def _resumes_a_sweep(overrides: Sequence[str]) -> bool:
    if not any(text.startswith("resume=") for text in overrides):
        return False
    from convoy.search.sweeps.sweep_record import folder_to_resume

    return folder_to_resume(overrides) is not None


def _config_text(parsed: arguments.Arguments) -> str:
    """Return the composed config, or the part given by --package, as YAML."""
    from omegaconf import OmegaConf

    from convoy.config.compose import compose
    from convoy.config.faults import Fault, UserError, did_you_mean
    from convoy.config.hydra_errors import known_keys

    composed = compose(parsed.overrides, parsed.options)
    if parsed.package is None:
        return OmegaConf.to_yaml(composed, resolve=parsed.resolve)
    if parsed.resolve:
        OmegaConf.resolve(composed)
    node = OmegaConf.select(composed, parsed.package)
    if not OmegaConf.is_config(node):
        near = did_you_mean(parsed.package, known_keys(composed))
        raise UserError(Fault("--package", "no such part of the config", near, parsed.package))
    return OmegaConf.to_yaml(node)
