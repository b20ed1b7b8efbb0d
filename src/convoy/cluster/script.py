"""The text of batch scripts: pure functions of a request and a cluster, with golden files beside their test.

Two kinds of text, two rules. What stands in an #SBATCH line has no quoting that all versions of sbatch agree on,
so it is held to a set of harmless characters. What stands in bash is quoted.
"""

from __future__ import annotations

import re
import shlex

from convoy.cluster.request import Request
from convoy.config.cluster_schema import ClusterConfig
from convoy.config.faults import Fault, UserError

_HARMLESS = re.compile(r"[A-Za-z0-9_.,:;@%&|*()\[\]/+= -]+")

_NOT_SEEN_AS_JOBS = ("bash", "interactive")
"""Names of jobs that Lightning takes for interactive ones, in which it starts no ranks of Slurm's."""

ENTRY = "-m convoy.commands.main slurm run"


def directives(request: Request, name: str, output: str, array: str | None = None) -> list[str]:
    """The #SBATCH lines.

    Args:
        request: the resources.
        name: of the job.
        output: path of the log, with sbatch's own %-patterns.
        array: indices of a job array with its limit, such as 0-5%2.

    Raises:
        UserError: a value could end its line or its word.
    """
    values: list[tuple[str, str | int | bool | None]] = [
        ("job-name", job_name(name)),
        ("account", request.account),
        ("partition", request.partition),
        ("qos", request.qos),
        ("nodes", request.nodes),
        ("ntasks-per-node", request.tasks_per_node),
        ("gres", f"gpu:{request.gres}:{request.tasks_per_node}"),
        ("constraint", request.constraint),
        ("cpus-per-task", request.cpus_per_task),
        ("mem", f"{request.memory_gib}G"),
        ("time", request.time),
        ("array", array),
        ("signal", f"USR1@{request.signal_s}"),
        ("requeue", True),
        ("open-mode", "append"),
        ("output", output),
        ("mail-user", request.mail),
        ("mail-type", "END,FAIL,REQUEUE" if request.mail else None),
    ]
    return [_directive(option, value) for option, value in values if value is not None]


def head(request: Request, name: str, what: str, cluster: ClusterConfig, folder: str) -> str:
    """A script that runs as it is: `sbatch slurm/a100.sbatch model=vgg16`.

    Args:
        request: the resources.
        name: the script's, without its ending.
        what: the card or partition in words.
        cluster: whose nodes they are.
        folder: where the shared part lies, from where sbatch is called.
    """
    path = f"{folder}/{name}.sbatch"
    one = f"--ntasks-per-node=1 --gres=gpu:{request.gres}:1 --mem={request.memory_gib // request.tasks_per_node}G"
    sources = f"conf/cluster/{cluster.name}.yaml and conf/hardware/{request.card}.yaml"
    lines = [
        "#!/bin/bash",
        f"# {what}: {_counted(request.tasks_per_node, 'GPU')} of one node of {cluster.name}.",
        f"# After {request.time} it is queued again and goes on, until the run is done. Overrides follow the script:",
        "#",
        f"#   sbatch {path} model=vgg16 data=cifar10",
        f"#   sbatch --account=name_1246 --time=1:00:00 {path} model=vgg16",
        f"#   sbatch {one} {path} model=vgg16",
        f"#   sbatch --nodes=2 {path} model=vgg16",
        "#",
        "# What is yours, once for all: export SBATCH_ACCOUNT=name_1246 in ~/.bashrc; or account, mail and time in",
        "# conf/cluster/local.yaml, and: convoy slurm render cluster=local folder=slurm/local",
        f"# Written by `convoy slurm render` from {sources}.",
        *directives(request, f"convoy-{name}", "outputs/%x-%j.log"),
        "",
        f"card={shlex.quote(request.card)}",
        f"if [ ! -f {shlex.quote(f'{folder}/_run.sh')} ]; then",
        f'    echo "error: {folder}/_run.sh is not in $PWD: call sbatch from the folder that holds {folder}/" >&2',
        "    exit 2",
        "fi",
        f". {shlex.quote(f'{folder}/_run.sh')}",
    ]
    return "\n".join(lines) + "\n"


def body(cluster: ClusterConfig) -> str:
    """The part that the scripts of a folder share: the environment, then `convoy slurm run` in the batch step."""
    lines = [
        "# What all scripts of this folder do; they source it, with $card set and the overrides in $@.",
        f"# Written by `convoy slurm render` from conf/cluster/{cluster.name}.yaml.",
        "",
        *environment(cluster, cluster.python),
        "",
        "# Holds the allocation against the overrides, finds the run's folder by the job's id, starts the ranks",
        "# with srun, and requeues the job where that is right. docs/cluster.md tells how.",
        f'exec "$python" {ENTRY} --card "$card" {_settings(cluster)} -- "$@"',
    ]
    return "\n".join(lines) + "\n"


def job(
    request: Request,
    cluster: ClusterConfig,
    name: str,
    python: str,
    start_folder: str,
    submission: str,
    array: str | None = None,
) -> str:
    """The script of `convoy submit`, whole in itself: what is edited later does not reach a job that waits.

    Args:
        request: the resources.
        cluster: whose they are.
        name: of the job.
        python: the interpreter.
        start_folder: from which relative paths are taken.
        submission: the folder with the resolved config of each task.
        array: as in `directives`.
    """
    log = "%A_%a.log" if array else "%j.log"
    lines = [
        "#!/bin/bash",
        "# Written by `convoy submit`.",
        *directives(request, name, f"{submission.replace('%', '%%')}/{log}", array),
        "",
        f"cd -- {shlex.quote(start_folder)} || exit 2",
        *environment(cluster, python),
        "",
        f'exec "$python" {ENTRY} --submission {shlex.quote(submission)} {_settings(cluster)}',
    ]
    return "\n".join(lines) + "\n"


def environment(cluster: ClusterConfig, python: str | None) -> list[str]:
    """Lines of bash that make a node ready for Convoy.

    Args:
        cluster: the node's.
        python: the interpreter; None: of the environments that `make install` makes, the card's own if it is there.
    """
    lines = [
        "export PYTHONUNBUFFERED=1 # the log grows line by line",
        "export SLURM_EXPORT_ENV=ALL # srun hands this environment on, also after sbatch --export=NONE",
    ]
    if not cluster.network:
        lines.append("export WANDB_MODE=offline # nodes have no network; convoy sync sends the records")
    lines += [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment.items()]
    lines += cluster.setup
    if python is None:
        lines += [
            "python=.venv/bin/python",
            'if [ -x ".venv-$card/bin/python" ]; then # make install TORCH=v100',
            '    python=".venv-$card/bin/python"',
            "fi",
        ]
    else:
        lines.append(f"python={shlex.quote(python)}")
    lines += [
        'if ! command -v "$python" >/dev/null; then',
        '    echo "error: no $python in $PWD: run make install there, or set cluster.python" >&2',
        "    exit 2",
        "fi",
    ]
    return lines


def job_name(name: str) -> str:
    """A name of letters, digits and . _ + @ - that Lightning does not take for an interactive job's."""
    plain = re.sub(r"[^A-Za-z0-9_.+@-]", "-", name)
    return f"{plain}-run" if plain in _NOT_SEEN_AS_JOBS else plain


def _settings(cluster: ClusterConfig) -> str:
    text = f"--max-restarts {cluster.job.max_restarts} --hang-s {cluster.job.hang_s}"
    if cluster.fast_disk is not None:
        # In double quotes: $TMPDIR is the node's to fill in.
        escaped = re.sub(r'(["\\`])', r"\\\1", cluster.fast_disk).replace("$(", r"\$(")
        text += f' --fast-disk "{escaped}"'
    return text


def _directive(option: str, given: str | int | bool) -> str:
    if given is True:
        return f"#SBATCH --{option}"
    value = str(given)
    if not _HARMLESS.fullmatch(value):
        rule = "can't stand in an #SBATCH line"
        raise UserError(Fault(option, rule, "letters, digits and . , : ; _ - + = @ % & | / only", repr(value)))
    return f'#SBATCH --{option}="{value}"' if " " in value else f"#SBATCH --{option}={value}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
