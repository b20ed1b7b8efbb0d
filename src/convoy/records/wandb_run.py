"""Settings of a run's W&B record, without interactive prompts: online with a key, else offline in the run folder."""

from __future__ import annotations

import netrc
import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from convoy.config.faults import Fault
from convoy.config.schema import Config, WandbConfig
from convoy.records.wandb_record import WandbRecord
from convoy.runs.layout import RunFolder

_NOT_IN_PROJECTS = "/\\#?%:"
_LONGEST_PROJECT = 128
"""Limits of a project's name, as in `validate_project` of wandb.sdk.wandb_settings."""


def wandb_record(
    config: Config, settings: WandbConfig, run: RunFolder, saved: Mapping[str, Any], notify: Callable[[str], None]
) -> WandbRecord:
    """Return the W&B record of a new run, or that whose id is stored in the run folder, not yet open.

    Args:
        config: Config with name and tags of the run.
        settings: Settings of logger.wandb.
        run: Run folder, which stores the id and an offline record.
        saved: Resolved config as plain containers.
        notify: Function that prints a line.
    """
    options: dict[str, Any] = {
        "project": settings.project,
        "entity": settings.entity,
        "name": f"{config.name}-{run.path.name}" if run.path.name != config.name else config.name,
        "group": settings.group or os.environ.get("WANDB_RUN_GROUP"),
        "notes": settings.notes,
        "tags": list(config.tags) or None,
        "config": dict(saved),
        "dir": str(run.path.absolute()),
        "id": _run_id(run),
        "resume": "allow",
    }
    from urllib.request import getproxies  # imported here, since it takes long

    # Behind a proxy a direct connection says nothing.
    server = None if getproxies().keys() & {"http", "https", "all"} else _server()
    return WandbRecord(run, options, server, notify, online=_is_online(settings))


def check_wandb(settings: WandbConfig | None) -> list[Fault]:
    """Return the faults of a project that W&B refuses, or of a missing key online, before anything is written."""
    if settings is None:
        return []
    if (found := next((c for c in settings.project if c in _NOT_IN_PROJECTS), None)) is not None:
        remedy = "omit it; an entity is written as logger.wandb.entity"
        return [Fault("logger.wandb.project", f"must not contain {found}", remedy, settings.project)]
    if len(settings.project) > _LONGEST_PROJECT:
        rule = f"must have at most {_LONGEST_PROJECT} characters"
        return [Fault("logger.wandb.project", rule, "write a shorter name", settings.project)]
    if settings.mode != "online" or _has_key():
        return []
    remedy = "run wandb login once, set WANDB_API_KEY, or write logger.wandb.mode=offline"
    return [Fault("logger.wandb.mode", "there is no W&B key on this machine", remedy, "online")]


def _is_online(settings: WandbConfig) -> bool:
    wanted = os.environ.get("WANDB_MODE") if settings.mode == "auto" else settings.mode
    return wanted not in ("offline", "dryrun", "disabled") and _has_key()


def _has_key() -> bool:
    """Return True if there is a key in the environment or in the netrc file, where `wandb login` stores it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    file = os.environ.get("NETRC")
    try:
        return netrc.netrc(file).authenticators(_server()[0]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _server() -> tuple[str, int]:
    """Return host and port of the W&B server."""
    url = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    return url.hostname or "api.wandb.ai", url.port or (80 if url.scheme == "http" else 443)


def _run_id(run: RunFolder) -> str:
    if run.wandb_id.is_file():
        return run.wandb_id.read_text(encoding="utf-8").strip()
    # In a W&B sweep, wandb.init ignores other ids than that of the agent.
    in_sweep = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    run_id = in_sweep or os.urandom(4).hex()
    run.wandb_id.write_text(run_id + "\n", encoding="utf-8")
    return run_id
