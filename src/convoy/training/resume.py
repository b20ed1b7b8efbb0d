"""A run that is resumed: its folder, its config with the overrides, and its checkpoint."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convoy.cluster.run_lease import is_this_jobs
from convoy.config.compose import from_saved, overlay
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.run_length import RunLength
from convoy.config.schema import Config
from convoy.data.targets import listed, plural_of
from convoy.runs.layout import RunFolder, check_format, read_json
from convoy.runs.lock import RunLock
from convoy.runs.lookup import find_run
from convoy.runs.records import concluded_step
from convoy.runtime.ranks import is_first_rank, is_launched, shared_run_folder
from convoy.training.preflight import checked, read

if TYPE_CHECKING:
    from convoy.training.lightning_module import TrainingModule

_LOOKUP = ("resume", "name", "output_root")
"""Keys that say which run is resumed."""


@dataclass(frozen=True)
class Resumed:
    """Run that is resumed.

    Attributes:
        run: its folder.
        checkpoint: to resume from.
        config: as it was saved, with the overrides.
        environment: record of its last start.
        lock: held by the first rank, so that the run's files stay as they were read.
    """

    run: RunFolder
    checkpoint: Path
    config: Config
    environment: Mapping[str, Any]
    lock: RunLock


def is_resume(overrides: Sequence[str]) -> bool:
    """Return whether a command line resumes a run."""
    return any(text.startswith("resume=") and text not in ("resume=", "resume=null") for text in overrides)


def resume(overrides: Sequence[str], options: Options | None = None) -> Resumed:
    """Find the run that `resume=` names, lock its folder and read its config. Imports no torch.

    Args:
        overrides: of the command line; they override what the run saved.
        options: where options are looked up.

    Raises:
        UserError: no such run or checkpoint, another process trains it, or the config doesn't hold with the overrides.
    """
    # The other overrides are checked on top of the run's config, not of the defaults.
    lookup = [text for text in overrides if text.partition("=")[0] in _LOOKUP]
    fresh = read(lookup, options, to_run=False)
    assert fresh.resume is not None
    name = fresh.name if any(text.startswith("name=") for text in lookup) else None
    shared = shared_run_folder()
    if is_launched() and not shared and not _is_path(fresh.resume, fresh.output_root):
        rule = "has several answers, since each rank that a launcher starts looks for the run alone"
        raise UserError(Fault("resume", rule, "name the run's folder or its checkpoint", fresh.resume))
    run = RunFolder(shared) if shared else find_run(fresh.resume, fresh.output_root, "resume", name=name, is_idle=True)
    lock = RunLock(run.path)
    # A Slurm job's folder has a lease instead: a rank of an earlier start leaves when a later one has it.
    if is_first_rank() and not is_this_jobs(run.path):
        with suppress(OSError):  # a read-only folder is reported where the start is recorded
            lock.acquire()
    try:
        return _locked(run, lock, fresh, overrides, options)
    except BaseException:
        lock.release()
        raise


def _is_path(text: str, output_root: str) -> bool:
    """Return whether `resume=` is the path of a run or a checkpoint, and not a name or `latest`."""
    paths = (Path(text), Path(output_root) / text)
    return any(path.is_file() or (path / "config.yaml").is_file() for path in paths)


def _locked(run: RunFolder, lock: RunLock, fresh: Config, overrides: Sequence[str], options: Options | None) -> Resumed:
    """Read the config and find the checkpoint of a run whose folder is locked."""
    assert fresh.resume is not None
    checkpoint = Path(fresh.resume).absolute() if fresh.resume.endswith(".ckpt") else run.last
    if not checkpoint.is_file():
        if run.best.is_file():
            remedy = f"start a new run from its weights with model.pretrained={run.best}"
            raise UserError(Fault("resume", "has no last.ckpt, which convoy runs clean removes", remedy, fresh.resume))
        raise UserError(
            Fault("resume", "has no checkpoint yet", "the run ended before its first; start it anew", fresh.resume)
        )
    typed = [text for text in overrides if text.partition("=")[0] not in _LOOKUP]
    for folder in (text.partition("=")[2] for text in typed if text.startswith("folder=")):
        remedy = "omit it, or start a new run from its weights with model.pretrained=<run>"
        raise UserError(Fault("folder", "can't be changed: a resumed run stays in its folder", remedy, folder))
    saved = from_saved(run.saved_config())
    saved.folder = None
    config = checked(overlay(saved, typed, options))
    return Resumed(run, checkpoint, config, read_json(run.environment), lock)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint of plain containers onto the CPU.

    Raises:
        UserError: the file is damaged, or no checkpoint that Convoy wrote.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, KeyError) as error:
        said = str(error).strip()
        # What is no checkpoint at all may end in a KeyError, whose text is the key alone.
        # PyTorch advises to unpickle anything else without a check.
        is_told = said and not isinstance(error, KeyError | pickle.UnpicklingError)
        reason = said.splitlines()[0] if is_told else "it is no checkpoint"
        raise UserError(Fault("checkpoint", f"can't be read ({reason})", "name another", str(path))) from error
    if not isinstance(content, dict) or "state_dict" not in content or "global_step" not in content:
        raise UserError(Fault("checkpoint", "was not written by Convoy", "name a run's best.ckpt", str(path)))
    check_format((content.get("convoy") or {}).get("format"), str(path), "checkpoint")
    return content


def load_weights(network: Any, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Load a checkpoint's network (the averaged weights, where the run averaged them).

    Raises:
        UserError: it is another model's; names the first parameters that differ.
    """
    prefix = "network."
    state = {
        name.removeprefix(prefix): value for name, value in checkpoint["state_dict"].items() if name.startswith(prefix)
    }
    own = network.state_dict()
    wrong = [name for name in own if name not in state] + [name for name in state if name not in own]
    wrong += [name for name in own if name in state and own[name].shape != state[name].shape]
    if wrong:
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        rule = f"holds another model's weights (they differ in {shown})"
        remedy = "choose the model, data and channels with which it was trained"
        raise UserError(Fault("checkpoint", rule, remedy, str(path)))
    network.load_state_dict(state)


def check_optimizer(network: Any, config: Config, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Check that the optimizer of a config can continue from the state in a checkpoint.

    Raises:
        UserError: it is another optimizer, or it trains or groups other parameters.
    """
    from convoy.optim.build_optimizer import build_optimizer

    before, now = checkpoint["convoy"]["config"]["optimizer"]["_target_"], config.optimizer["_target_"]
    saved = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
    built = [len(group["params"]) for group in build_optimizer(config.optimizer, network).param_groups]
    remedy = f"or start a new run from its weights with model.pretrained={path}"
    if before != now:
        rule = f"{path.name} has the state of {before}"
        raise UserError(Fault("optimizer._target_", rule, f"omit it, {remedy}", str(now)))
    if saved != built:
        rule = "the optimizer of the run trains other parameters, or groups them otherwise"
        keys = "optimizer.layer_decay, optimizer.decay_norms_and_biases, model.freeze and model.unfreeze_epoch"
        raise UserError(Fault("resume", rule, f"leave {keys} as they were, {remedy}", str(path)))


def check_step(resumed: Resumed, module: TrainingModule) -> int:
    """Return the step of the checkpoint from which a run is resumed, whose weights and optimizer fit the module.

    Raises:
        UserError: they are of another model or optimizer, or were trained with other targets.
    """
    content = load(resumed.checkpoint)
    load_weights(module.network, content, resumed.checkpoint)
    names, found = content["convoy"]["target_names"], module.task.targets
    if names != list(found.names):
        rule = f"has the {plural_of(found.kind)} {listed(found.names)}; the run was trained with {listed(names)}"
        remedy = f"omit it, or start a new run from its weights with model.pretrained={resumed.checkpoint}"
        raise UserError(Fault("data", rule, remedy, module.config.data.name))
    check_optimizer(module.network, module.config, content, resumed.checkpoint)
    return int(content["global_step"])


def has_ended(resumed: Resumed, step: int, length: RunLength) -> bool:
    """Return whether a run has no step left and has its results.

    One that was stopped between its last step and the end of its test has the test left.
    """
    is_done = length.total_steps is not None and step >= length.total_steps
    return is_done and concluded_step(resumed.run.summary) == step


def lacks_page(resumed: Resumed) -> bool:
    """Return whether a run that has ended was killed before its page was written."""
    return resumed.config.report and not resumed.run.report.is_file()


def longer_end(resumed: Resumed, step: int, length: RunLength) -> Fault:
    """Return the fault of a run that has ended, with the overrides that let it train on."""
    limits, trainer = [], resumed.config.trainer
    if trainer.max_steps is not None and trainer.max_steps < 2 * step:
        limits.append(f"trainer.max_steps={2 * step}")
    if trainer.max_epochs is not None and trainer.max_epochs * length.steps_per_epoch < 2 * step:
        limits.append(f"trainer.max_epochs={2 * -(-step // length.steps_per_epoch)}")
    rule = f"has done all its {step} steps"
    return Fault("resume", rule, f"write a larger end with it, such as {' '.join(limits)}", str(resumed.checkpoint))
