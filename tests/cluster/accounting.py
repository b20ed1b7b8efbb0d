"""Slurm's database of accounts and their limits on this host: slurmdbd on loopback, and MariaDB on a Unix socket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.slurm_host import free_ports

PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db")

_SLURMDBD = """\
AuthType=auth/none
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""

_SLURM = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStorageEnforce=limits
"""


def why_no_accounting() -> str | None:
    """Return the reason why this machine can't run the database, or None if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no {', '.join(missing)}: apt-get install slurmdbd mariadb-server-core" if missing else None


@contextmanager
def accounting(folder: Path) -> Iterator[str]:
    """Run the database in a folder, and give the lines of slurm.conf that name it."""
    folder.mkdir()
    data, address, port = folder / "data", folder / "mariadb.sock", free_ports(1)[0]
    options = ["--no-defaults", f"--datadir={data}", "--user=root"]
    subprocess.run(
        ["mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    conf = folder / "slurmdbd.conf"
    conf.write_text(_SLURMDBD.format(host=socket.gethostname().partition(".")[0], port=port, folder=folder))
    conf.chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(conf), "MYSQL_UNIX_PORT": str(address)}
    commands = [
        ["mariadbd", *options, f"--socket={address}", "--skip-networking", "--skip-grant-tables"],
        ["slurmdbd", "-D"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "output.log").open("ab") as log:
            for command in commands:
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
                wait_for(lambda: address.exists() if len(running) == 1 else answers(port), folder / "output.log")
        yield _SLURM.format(port=port)
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(timeout=60)


def answers(port: int) -> bool:
    """Return whether a server listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(is_so: Callable[[], bool], log: Path, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
