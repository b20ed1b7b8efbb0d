"""convoy slurm render: one script per card, one per further partition, and their shared part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convoy.cluster import script
from convoy.cluster.checks import check_words
from convoy.cluster.request import job_keys, request_of, the_cluster
from convoy.cluster.times import seconds_of
from convoy.commands.declaration.arguments import Arguments
from convoy.config.cluster_schema import ClusterConfig
from convoy.config.compose import compose, to_config
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config

SHARED = "_run.sh"


def render(parsed: Arguments) -> int:
    """Write the scripts and print their names."""
    folder, words = "slurm", []
    for text in parsed.overrides:
        key, _, value = text.partition("=")
        if key == "folder":
            folder = value
        else:
            words.append(f"cluster.job.{text}" if key in job_keys() else text)
    if not any(text.startswith("cluster=") for text in words):
        words.insert(0, "cluster=carc")
    texts = scripts(words, parsed.options, folder)
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (path / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            Fault("folder", f"can't be written ({error.strerror})", "choose another folder", folder)
        ) from error
    print(" ".join(f"{folder}/{name}" for name in texts))
    return 0


def scripts(overrides: Sequence[str], options: Options, folder: str) -> dict[str, str]:
    """Return the text of each file by its name.

    Args:
        overrides: the cluster and other overrides.
        options: folders of the options.
        folder: destination folder, relative to the folder from which sbatch is called.

    Raises:
        UserError: if the cluster's file or an override has a fault.
    """
    cluster = the_cluster(_composed([*overrides], options))
    faults = list(check_words(cluster))
    unknown = [card for card in cluster.cards if card not in options.of("hardware")]
    faults += [
        Fault(f"cluster.cards.{card}", "is not an option of hardware", f"add conf/hardware/{card}.yaml")
        for card in unknown
    ]
    if faults:
        raise UserError(*faults)
    texts = {}
    for card in cluster.cards:
        config = _composed([*overrides, f"hardware={card}"], options)
        texts[f"{card}.sbatch"] = _head(config, card, _called(card, options), cluster, folder)
    for partition, card in _further_partitions(cluster):
        words = [*overrides, f"hardware={card}", f"cluster.job.partition={partition}"]
        limit = seconds_of(cluster.partitions[partition].max_time) or 0
        if (seconds_of(cluster.job.time) or 0) > limit:
            words.append(f"cluster.job.time='{cluster.partitions[partition].max_time}'")
        what = f"Partition {partition}, {_called(card, options)}"
        texts[f"{partition}.sbatch"] = _head(_composed(words, options), partition, what, cluster, folder)
    texts[SHARED] = script.body(cluster)
    return texts


def _head(config: Config, name: str, what: str, cluster: ClusterConfig, folder: str) -> str:
    return script.head(request_of(config), name, what, cluster, folder)


def _composed(overrides: Sequence[str], options: Options) -> Config:
    return to_config(compose(overrides, options))


def _further_partitions(cluster: ClusterConfig) -> list[tuple[str, str]]:
    """Return the partitions that are not the first of any card, each with the first card that has it."""
    firsts = {card.partitions[0] for card in cluster.cards.values()}
    return [
        (partition, next(name for name, card in cluster.cards.items() if partition in card.partitions))
        for partition in cluster.partitions
        if partition not in firsts and any(partition in card.partitions for card in cluster.cards.values())
    ]


def _called(card: str, options: Options) -> str:
    """Return the title of a card's option in conf/hardware/, up to its colon."""
    return options.head("hardware", card).partition(":")[0].rstrip(".")
