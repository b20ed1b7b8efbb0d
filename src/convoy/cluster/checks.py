"""Checks of a job before it is queued; sbatch finds some of these faults late and some never."""

from __future__ import annotations

import re
from collections.abc import Iterator

from convoy.cluster import kernels
from convoy.cluster.request import Request, card_of, ranks_per_node, the_cluster
from convoy.cluster.times import seconds_of, shown
from convoy.config.cluster_schema import ClusterConfig, PartitionConfig
from convoy.config.faults import Fault, did_you_mean
from convoy.config.schema import Config

_NAMES = {
    "account": r"[A-Za-z0-9_][A-Za-z0-9_.-]*",
    "partition": r"[A-Za-z0-9_][A-Za-z0-9_.,-]*",
    "qos": r"[A-Za-z0-9_][A-Za-z0-9_.-]*",
    "mail": r"[A-Za-z0-9_.+%-]+@[A-Za-z0-9.-]+",
    "constraint": r"[A-Za-z0-9_.&|*()\[\]-]+",
}
"""Allowed values in an #SBATCH line: no character ends the line or the word."""

_AT_LEAST = {"cpus_per_gpu": 1, "memory_per_gpu_gib": 1, "signal_s": 10, "max_restarts": 0, "hang_s": 60}


def check_config(config: Config) -> Iterator[Fault]:
    """Yield the faults of a config that must be fixed before a request can be built from it."""
    cluster = the_cluster(config)
    yield from check_words(cluster)
    card = card_of(config, cluster)
    if ranks_per_node(config, card.gpus_per_node) < 1:
        rule = "a job on this cluster needs a GPU"
        yield Fault("trainer.gpus", rule, "write trainer.gpus=1, or run convoy train here", str(config.trainer.gpus))
    if config.folder is not None:
        yield Fault("folder", "a job's folder is named by its id", "omit it, or set output_root", config.folder)
    if config.resume is not None:
        rule = "a job resumes its own run by itself and cannot resume another run"
        yield Fault("resume", rule, "run convoy train resume=… on a node", config.resume)
    if re.search(r"[^\w./+=,@ -]", config.output_root):
        rule = "is written into the job's script and may contain letters, digits, spaces and . _ - + = , @ / only"
        yield Fault("output_root", rule, "choose another folder", config.output_root)


def check_words(cluster: ClusterConfig) -> Iterator[Fault]:
    """Yield the faults of values that are written into a script unchanged."""
    for name, pattern in _NAMES.items():
        value = getattr(cluster.job, name)
        if value is not None and not re.fullmatch(pattern, value):
            yield Fault(name, "is not allowed in a job's script", f"it must match {pattern}", value)
    for name, least in _AT_LEAST.items():
        value = getattr(cluster.job, name)
        if value < least:
            yield Fault(name, f"must be at least {least}", "", str(value))
    for line in cluster.setup:
        if "\n" in line:
            yield Fault("cluster.setup", "each entry is one line of bash", "write two entries", repr(line))
    for name in cluster.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            remedy = "use letters, digits and _, with no digit first"
            yield Fault("cluster.environment", "is not a variable name", remedy, name)
    if seconds_of(cluster.job.time) is None:
        remedy = "write HH:MM:SS or D-HH:MM:SS (in YAML in quotes: 4:00:00 alone is read as the number 14400)"
        yield Fault("time", "is not a wall time", remedy, cluster.job.time)


def check_request(
    request: Request, config: Config, torch_version: str | None, default_account: str | None
) -> Iterator[Fault]:
    """Yield the faults of a request against the cluster's resources and limits.

    Args:
        request: Request of one job, or of each task of an array.
        config: Config that names the cluster and the card.
        torch_version: Version of the installed torch; None if torch is not installed.
        default_account: Value of SBATCH_ACCOUNT, if set.
    """
    cluster = the_cluster(config)
    yield from _node_faults(request, config, cluster)
    if config.hardware.accelerator != "cpu":
        yield from kernel_faults(config, torch_version)
    if cluster.account_required and not (request.account or default_account):
        remedy = "write account=…, or set it in conf/cluster/local.yaml (sacctmgr show assoc user=$USER lists yours)"
        yield Fault("account", f"must be set on {cluster.name}", remedy)
    if request.partition not in cluster.partitions:
        listed = ", ".join(cluster.partitions)
        near = did_you_mean(request.partition, cluster.partitions, f"one of {listed}")
        yield Fault("partition", f"{cluster.name} has no such partition", near, request.partition)
        return
    if request.partition not in card_of(config, cluster).partitions:
        where = " or ".join(card_of(config, cluster).partitions)
        rule = f"has no {request.card}"
        yield Fault("partition", rule, f"write partition={where}", request.partition)
    yield from _limit_faults(request, cluster.partitions[request.partition])


def kernel_faults(config: Config, torch_version: str | None) -> Iterator[Fault]:
    """Yield a fault if the installed torch has no kernels for the config's card."""
    architecture = config.hardware.architecture
    if architecture is None or torch_version is None or kernels.has_kernels(architecture, torch_version) is not False:
        return
    rule = f"is {architecture}, for which torch {torch_version} has no kernels"
    yield Fault("hardware", rule, kernels.remedy(architecture), config.hardware.name)


def _node_faults(request: Request, config: Config, cluster: ClusterConfig) -> Iterator[Fault]:
    card = card_of(config, cluster)
    tasks = request.tasks_per_node
    if tasks > card.gpus_per_node:
        key = "trainer.processes" if config.hardware.accelerator == "cpu" else "trainer.gpus"
        rule = f"a node of {cluster.name} has {card.gpus_per_node} {request.card}"
        nodes = -(-tasks * request.nodes // card.gpus_per_node)
        yield Fault(key, rule, f"write {key}={card.gpus_per_node} trainer.nodes={nodes}", str(tasks))
        return
    if card.cpus_per_node is not None and tasks * request.cpus_per_task > card.cpus_per_node:
        rule = f"a node with {request.card} has {card.cpus_per_node} CPUs for {tasks} ranks"
        most = card.cpus_per_node // tasks
        yield Fault("cpus_per_gpu", rule, f"write cpus_per_gpu={most}", str(request.cpus_per_task))
    if card.memory_per_node_gib is not None and request.memory_gib > card.memory_per_node_gib:
        rule = f"a node with {request.card} has {card.memory_per_node_gib} GiB for {tasks} ranks"
        most = card.memory_per_node_gib // tasks
        yield Fault("memory_per_gpu_gib", rule, f"write memory_per_gpu_gib={most}", str(request.memory_gib // tasks))


def _limit_faults(request: Request, partition: PartitionConfig) -> Iterator[Fault]:
    limit = seconds_of(partition.max_time)
    if limit is not None and request.seconds > limit:
        rule = f"partition {request.partition} allows {shown(limit)}"
        yield Fault("time", rule, f"write time={shown(limit)}: the job is requeued after it and resumes", request.time)
    if request.seconds and request.seconds <= 2 * request.signal_s:
        rule = f"must exceed twice the {request.signal_s} s reserved for saving (signal_s)"
        yield Fault("time", rule, "request more time, or lower signal_s", request.time)
    if partition.max_gpus is not None and request.gpus > partition.max_gpus:
        rule = f"{request.gpus} GPUs exceed the {partition.max_gpus} allowed per user in {request.partition}"
        nodes = partition.max_gpus // request.tasks_per_node
        yield Fault("trainer.nodes", rule, f"write trainer.nodes={nodes}", str(request.nodes))
