"""Going on with a run: its folder, its config with what was typed on top, and its checkpoint."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convoy.config.compose import from_saved, overlay
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.runs.layout import RunFolder, check_format, read_json
from convoy.runs.lookup import find_run
from convoy.training.preflight import checked


@dataclass(frozen=True)
class Resumed:
    """Run that is resumed.

    Attributes:
        run: its folder.
        checkpoint: from which.
        config: as it was saved, with what was typed on top.
        environment: record of its last start.
    """

    run: RunFolder
    checkpoint: Path
    config: Config
    environment: Mapping[str, Any] = field(default_factory=dict)


def resume(fresh: Config, overrides: Sequence[str], options: Options | None = None) -> Resumed:
    """Find the run that `fresh.resume` names and read its config.

    Args:
        fresh: the config composed from the command line alone.
        overrides: what was typed; it wins over what the run saved.
        options: where options are looked for.

    Raises:
        UserError: no such run or checkpoint, or the config doesn't hold with what was typed.
    """
    assert fresh.resume is not None
    named = any(text.startswith("name=") for text in overrides)
    name = fresh.name if named else None
    run = find_run(fresh.resume, fresh.output_root, "resume", name=name, is_idle=True)
    checkpoint = Path(fresh.resume).absolute() if fresh.resume.endswith(".ckpt") else run.last
    if not checkpoint.is_file():
        raise UserError(
            Fault("resume", "has no checkpoint yet", "the run ended before its first; start it anew", fresh.resume)
        )
    typed = [text for text in overrides if text.partition("=")[0] not in ("resume", "name", "output_root")]
    saved = from_saved(run.saved_config())
    saved.folder = None
    config = checked(overlay(saved, typed, options))
    return Resumed(run, checkpoint, config, read_json(run.environment))


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
        reason = said.splitlines()[0] if said and not isinstance(error, KeyError) else "it is no checkpoint"
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
