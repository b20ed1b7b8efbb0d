"""Help of `convoy train`: groups, options and keys, read from conf/ and the schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from convoy.commands.declaration.verb import field_notes, wrapped
from convoy.config import cluster_schema, schema
from convoy.config.augment_schema import AugmentConfig
from convoy.config.cards import FAMILIES, ModelCard, read_cards
from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options
from convoy.config.schema import GROUPS

_FLAGS = """\
flags:
  -m, --multirun     run each combination of values given with commas, range(…),
                     glob(…) or zip(…); workers=2 runs two at a time
  --cfg job          show the composed config; with --resolve or -p <part>
  -cd, --config-dir  a folder of your own options with the layout of conf/
  --from FILE        use the config.yaml of a run, with overrides
  resume=latest      resume the last run; or resume=<folder or checkpoint>, also
                     the folder of a sweep
"""

_TYPED: dict[str, list[type]] = {
    "data": [DataConfig, AugmentConfig],
    "trainer": [schema.TrainerConfig],
    "hardware": [schema.HardwareConfig],
    "logger": [schema.WandbConfig, schema.TensorBoardConfig, schema.CsvConfig],
    "ledger": [schema.LedgerConfig],
    "debug": [schema.DebugConfig],
    "cluster": [
        cluster_schema.ClusterConfig,
        cluster_schema.CardConfig,
        cluster_schema.PartitionConfig,
        cluster_schema.SlurmJobConfig,
    ],
}

_PREFIXES: dict[type, str] = {
    AugmentConfig: "data.augment",
    schema.WandbConfig: "logger.wandb",
    schema.TensorBoardConfig: "logger.tensorboard",
    schema.CsvConfig: "logger.csv",
    cluster_schema.CardConfig: "cluster.cards.<card>",
    cluster_schema.PartitionConfig: "cluster.partitions.<partition>",
    cluster_schema.SlurmJobConfig: "cluster.job",
}

_REFERENCE = """\
Each key is written as `key=value` after `convoy train`, or in an option's YAML file. `convoy train --help GROUP` prints
the same text. Groups without a table of keys have those of the class that the option names as `_target_`."""


def text(words: Sequence[str], options: Options) -> str:
    """Return all groups with their options, or one group with descriptions of its options and keys.

    Raises:
        UserError: if there is no group of the name in `words`.
    """
    if not words:
        return _groups(options)
    group = words[0].partition("=")[0]
    if group in _TYPED and group not in GROUPS:
        return "\n".join([f"{group}.<key>=<value>:", *(line for kind in _TYPED[group] for line in _fields(kind))])
    if group not in GROUPS:
        raise UserError(Fault("--help", "no such group", did_you_mean(group, GROUPS, ", ".join(GROUPS)), group))
    return _group(group, options)


def configuration_reference(options: Options) -> str:
    """Return a Markdown page with all groups, their options, and the keys of the typed groups."""
    lines = ["# Configuration", "", _REFERENCE, ""]
    for group in (*GROUPS, *(name for name in _TYPED if name not in GROUPS)):
        lines += [f"## {group}", ""]
        if group in GROUPS:
            lines += ["| option | meaning |", "|---|---|"]
            lines += [f"| `{group}={name}` | {_cell(options.head(group, name))} |" for name in options.of(group)]
            lines.append("")
        for kind in _TYPED.get(group, []):
            lines += _key_table(kind, _PREFIXES.get(kind, group))
    return "\n".join(lines)


def _key_table(kind: type, prefix: str) -> list[str]:
    """Return a heading and a Markdown table of the keys of a schema class."""
    notes = field_notes(kind)
    lines = [f"### Keys of `{prefix}`", "", "| key | default | meaning |", "|---|---|---|"]
    for field in _plain_fields(kind):
        lines.append(f"| `{prefix}.{field.name}` | `{_default(field)}` | {_cell(notes[field.name])} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table, except for its code."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else re.sub(r"([<\[*_])", r"\\\1", part) for number, part in enumerate(parts))


def _plain_fields(kind: type) -> list[Any]:
    """Return the fields of a schema class that are not schema classes themselves."""
    fields = kind.__dataclass_fields__.values()  # type: ignore[attr-defined]
    return [
        field
        for field in fields
        if not isinstance(field.default_factory, type) or field.default_factory in (list, dict)
    ]


def _groups(options: Options) -> str:
    lines = ["usage: convoy train [group=option ...] [key=value ...]", ""]
    lines += ["  convoy train", "  convoy train model=vgg16 data=fashion_mnist trainer.max_epochs=5"]
    lines += ["  convoy train -m model=vgg16,resnet18 optimizer.lr=0.1,0.01", "", "groups and their options:"]
    width = max(len(group) for group in GROUPS)
    for group in GROUPS:
        if group == "model":
            lines += [f"  {group:<{width}}  networks by family; convoy models lists their size and accuracy:"]
            lines += _networks(options, indent=" " * (width + 4))
        else:
            lines += wrapped(f"  {group:<{width}}  ", options.of(group))
    lines += ["", "convoy train --help <group> explains a group's options and keys, and"]
    lines += ["convoy train --help ledger explains the measurements per layer.", "", _FLAGS.rstrip()]
    return "\n".join(lines)


def _group(group: str, options: Options) -> str:
    names = options.of(group)
    example = names[0]
    lines = [f"{group}=<option>:"]
    if group == "model":
        lines += [
            *_networks(options, indent="  "),
            "",
            "convoy models lists their size, cost and published accuracy.",
            "",
        ]
        names = [name for name in names if name not in read_cards(ModelCard, options)]
    width = max(map(len, names), default=0)
    lines += [f"  {name:<{width}}  {options.head(group, name)}" for name in names]
    for kind in _TYPED.get(group, []):
        lines += ["", f"{_PREFIXES.get(kind, group)}.<key>=<value>:"]
        lines += _fields(kind)
    if group not in _TYPED:
        lines += ["", f"convoy train --cfg job -p {group} {group}={example} shows an option's keys."]
    return "\n".join(lines)


def _networks(options: Options, indent: str) -> list[str]:
    """Return the options of conf/model by family, options without a card last."""
    families: dict[str, list[str]] = {family: [] for family in FAMILIES}
    cards = read_cards(ModelCard, options)
    for name, card in sorted(cards.items(), key=lambda item: (item[1].image_size, item[1].parameters)):
        families.setdefault(card.family, []).append(name)
    families["any network of a library or of the user"] = [name for name in options.of("model") if name not in cards]
    lines = []
    for family, names in families.items():
        lines += wrapped(f"{indent}{family}: ", names, hanging=f"{indent}  ") if names else []
    return lines


def _fields(kind: type) -> list[str]:
    """Return each field of a schema class with its default and its docstring."""
    notes, lines = field_notes(kind), []
    for field in _plain_fields(kind):
        lines.append(f"  {field.name} = {_default(field)}")
        lines += wrapped("      ", notes[field.name].split(), between=" ")
    return lines


def _default(field: Any) -> str:
    value = field.default if not isinstance(field.default_factory, type) else field.default_factory()
    if value == "???":
        return "(set by the option)"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
