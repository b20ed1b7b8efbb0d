"""Targets written by the user, as opposed to targets in saved files.

A `_target_` names code that Convoy imports and calls. A target is declared if the user wrote it: in a YAML file of
the config folders in use (Convoy's own `conf/` and `--config-dir`) or on the command line. A declared target may be any
importable class or function. Everything else is data: a run folder, a checkpoint, an exported file, a file given to
`--from`. Targets found there must be declared too, or be built in (see `builtin_targets`). Paths found there may not
lead out of the run's folder, unless the user wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convoy.config.faults import Fault
from convoy.config.options import CONF, PACKAGE
from convoy.config.output_paths import leads_out, output_texts, texts
from convoy.config.schema import GROUPS, Config

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def nested_targets(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each mapping with a `_target_` in `node`, `node` included, with its full key."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node
        for name, child in node.items():
            yield from nested_targets(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from nested_targets(child, f"{key}[{index}]")


class Trust:
    """Declared targets of this process, and the folders with their modules.

    Composing a config declares targets. Undeclared targets are refused by default, so new code that reads saved data
    needs no additional check.
    """

    def __init__(self) -> None:
        self._config_folders: list[Path] = [CONF]
        self._targets: set[str] = set()
        self._paths: set[str] = set()
        self._words: list[str] = []

    def add_folder(self, folder: Path | None) -> None:
        """Use a folder of the user's options (`--config-dir`); None is ignored."""
        if folder is not None and folder.absolute() not in self._config_folders:
            self._config_folders.append(folder.absolute())

    def add_composed(self, config: DictConfig) -> None:
        """Declare the targets and paths of a config composed from option files and the command line only."""
        for key, _ in nested_targets(OmegaConf.to_container(config), ""):
            try:
                self._targets.add(str(OmegaConf.select(config, f"{key}._target_")))
            except OmegaConfBaseException:
                continue  # an interpolation without an end is reported when the config is resolved
        for key, _ in output_texts(OmegaConf.to_container(config)):
            with suppress(OmegaConfBaseException):
                self._paths.add(str(OmegaConf.select(config, key)))

    def add_typed(self, overrides: Sequence[Override]) -> None:
        """Declare the targets and paths in overrides of the command line."""
        for override in overrides:
            word, key = str(override.input_line), override.key_or_group
            if override.is_delete():
                continue
            value = override.value()
            paths = {text for place, text in output_texts(value, key) if leads_out(place, text)}
            self._paths |= paths
            if ((paths and "." in key) or "_target_" in word) and word not in self._words:
                self._words.append(word)
            if "_target_" not in word:
                continue
            if key.rpartition(".")[2] == "_target_":
                value = {"_target_": value}
            self._targets.update(str(node["_target_"]) for _, node in nested_targets(value, key))

    def declares(self, target: str) -> bool:
        """Return whether the user wrote `target` as a `_target_`."""
        if target not in self._targets and any(_names(path, target) for path in self._option_files()):
            self._targets.add(target)
        return target in self._targets

    def path_faults(self, config: Config, *, is_new: bool) -> list[Fault]:
        """Return a fault for each path out of the run's folder that the user did not write.

        Args:
            config: config of a run that is about to start.
            is_new: whether `folder` or `output_root` determines the run's folder; False for a resumed run.
        """
        values: dict[str, Any] = {"logger": {"other": config.logger.other}, "callback": config.callback}
        if is_new:
            values |= {"output_root": config.output_root} if config.folder is None else {"folder": config.folder}
        rule = "comes from a saved file, and leads out of the run's folder"
        return [
            Fault(key, rule, "to trust it, write it on the command line", text)
            for key, text in output_texts(values)
            if leads_out(key, text) and not self.wrote(text)
        ]

    def wrote(self, path: str) -> bool:
        """Return whether the user wrote a path, on the command line or in an option file."""
        return path in self._paths or any(_has_text(file, path) for file in self._option_files())

    @property
    def module_folders(self) -> list[Path]:
        """Folders that are searched for modules of declared targets before the installed packages.

        These are the working folder and the parent of each config folder, except the parent of the options inside an
        installed Convoy, which is the package.
        """
        parents = [folder.parent for folder in reversed(self._config_folders) if folder.parent != PACKAGE]
        return list(dict.fromkeys([Path.cwd(), *parents]))

    @property
    def words(self) -> list[str]:
        """Command-line words that declare the same targets in another Convoy process."""
        flags = [word for folder in self._config_folders[1:] for word in ("--config-dir", str(folder))]
        return [*flags, *self._words]

    def _option_files(self) -> Iterator[Path]:
        # Options only: with --config-dir=. the folder also contains runs and data, which others may have written.
        for folder in self._config_folders:
            for group in GROUPS:
                yield from (folder / group).glob("*.yaml")


def _names(path: Path, target: str) -> bool:
    """Return whether a YAML file has `target` as a `_target_`."""
    return any(node["_target_"] == target for _, node in nested_targets(_content(path, target), ""))


def _has_text(path: Path, text: str) -> bool:
    """Return whether a YAML file has `text` as a value."""
    return any(value == text for _, value in texts(_content(path, text)))


def _content(path: Path, text: str) -> Any:
    """Return the content of a YAML file, or None if it can't be read or doesn't have `text`."""
    try:
        content = path.read_text(encoding="utf-8")
        return yaml.load(content, _LOADER) if text in content else None
    except (OSError, ValueError, yaml.YAMLError):
        return None


TRUST = Trust()
"""Trust of this process: one command, with one set of config folders."""
