"""convoy train: one run, or a sweep of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from convoy.commands import arguments, train_help
from convoy.runtime.allocator_settings import use_allocator
from convoy.runtime.cpu_cores import CoreTimes
from convoy.runtime.garbage_collection import without_collector
from convoy.runtime.rank_watch import WATCH
from convoy.runtime.ranks import is_first_rank
from convoy.training import preflight
from convoy.training.resume import is_resume, resume


def run(words: Sequence[str]) -> int:
    """Train the network of the overrides, print the config, or print the help."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(train_help.text(parsed.overrides, parsed.options))
        return 0
    if parsed.cfg:
        print(_config_text(parsed), end="")
        return 0
    if parsed.multirun:
        from convoy.commands import sweep

        return sweep.run(parsed.overrides, parsed.options)
    WATCH.follow_parent()
    try:
        return _train(parsed)
    finally:
        WATCH.stop()


def _train(parsed: arguments.Arguments) -> int:
    resumed = resume(parsed.overrides, parsed.options) if is_resume(parsed.overrides) else None
    config = resumed.config if resumed else preflight.read(parsed.overrides, parsed.options, parsed.saved)
    preflight.check_launch(config)
    use_allocator(config.hardware)
    if config.debug.profile_steps:
        os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # torch reads it when imported; below, its profiler prints
    # From here on torch is needed, which takes seconds to import: long enough to see what else the machine does.
    since = CoreTimes.now()
    # These make 700,000 objects that stay; looking through them for garbage takes a fifth of that time.
    with without_collector():
        from convoy.training.run import train
    outcome = train(config, parsed.overrides, resumed, restarts=True, since=since)
    if config.report and is_first_rank() and outcome.summary.get("status") in ("finished", "not finite"):
        from convoy.report.pages.run_page import write_at_end

        print(write_at_end(outcome.run))
    return outcome.exit_code


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
