"""Best network of a study as an option of the group `model`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial

from convoy.runs.whole_files import replace_shared
from convoy.search.architecture.candidate import TEXT
from convoy.search.study_config import StudyConfig, overrides_of

NAME = "best_model"


def write_best_model(
    folder: Path, trial: FrozenTrial, study: StudyConfig, words: Sequence[str]
) -> tuple[Path, list[str]]:
    """Write `model/best_model.yaml` in a study's folder, which is then a folder of options.

    Args:
        folder: of the study.
        trial: the best one.
        study: its config.
        words: overrides of the command line.

    Returns:
        The file, and the arguments of `convoy train` that train its network as the trial did.
    """
    saved: dict[str, Any] = yaml.safe_load((folder / "trials" / f"{trial.number:04d}" / "config.yaml").read_text())
    model = {key: value for key, value in saved["model"].items() if key not in ("card", "name")}
    text = yaml.safe_dump({"name": NAME, **model}, sort_keys=False, allow_unicode=True, width=120)
    path = folder / "model" / f"{NAME}.yaml"
    path.parent.mkdir(exist_ok=True)
    content = f"# Best network of {folder.name}, trial {trial.number}: {trial.user_attrs[TEXT]}\n{text}"
    replace_shared(path, content.encode())
    others = [(one.key, trial.params[one.key]) for one in study.space if one.key in trial.params]
    overrides = overrides_of(study, others, words)
    kept = [word for word in overrides if not word.startswith(("model=", "model.name="))]
    return path, ["--config-dir", str(folder), f"model={NAME}", *kept]
