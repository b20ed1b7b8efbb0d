"""A real Slurm on this host: one slurmctld and five slurmd on loopback, with stand-ins for cards.

All its files are in one folder; the daemons are stopped by their process ids.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = ("slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")

NODES = {
    "a01": ("gpu:a100:2", "a100,a100-40gb"),
    "a02": ("gpu:a100:2", "a100,a100-80gb"),
    "b01": ("gpu:a40:2", "a40"),
    "d01": ("gpu:v100:2", "v100"),
    "e01": ("gpu:p100:2,gpu:l40s:2", "p100,l40s"),
}
"""Each node's gres and features. A partition `debug` holds e01, `gpu` all, and jobs of `urgent` push others out."""

_CARDS = ("/dev/null,/dev/zero", "/dev/full,/dev/random")

_CONF = """\
ClusterName=convoy
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=10
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=3600
KillWait=5
InactiveLimit=0
MaxArraySize={max_array_size}
MaxJobCount={max_job_count}
NodeName=DEFAULT CPUs=64 RealMemory=256000
{nodes}
PartitionName=DEFAULT DefaultTime=01:00:00 MaxTime=48:00:00 State=UP DefMemPerCPU=2048
PartitionName=gpu Nodes={all_nodes} Default=YES PriorityTier=1 GraceTime=10
PartitionName=debug Nodes=e01 MaxTime=01:00:00 PriorityTier=1
PartitionName=urgent Nodes={all_nodes} PriorityTier=20 PreemptMode=OFF
"""


def why_not() -> str | None:
    """Return the reason why Slurm can't run on this machine, or None if it can."""
    missing = [name for name in (*DAEMONS, *COMMANDS) if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client"
    return None if os.geteuid() == 0 else "slurmd must be started by root"


@dataclass
class SlurmHost:
    """Daemons of a Slurm cluster.

    Attributes:
        folder: Folder of their configuration, state and logs.
        max_array_size: MaxArraySize; the largest index of an array is one less.
        max_job_count: MaxJobCount; jobs and tasks of arrays that slurmctld knows, ended ones included, are fewer.
        accounting: lines of slurm.conf that name a database for accounts and their limits; empty for none.
        processes: by name: "slurmctld", or a node's.
    """

    folder: Path
    max_array_size: int = 5001
    max_job_count: int = 10_000
    accounting: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Environment for Slurm's commands. Node names don't resolve, so ranks use loopback."""
        return {"SLURM_CONF": str(self.conf), "MASTER_ADDR": "127.0.0.1"}

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        ports = free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} Gres={gres} Feature={features}"
            for port, (name, (gres, features)) in zip(ports[1:], NODES.items(), strict=True)
        ]
        values = {"host": host, "user": "root", "port": ports[0], "folder": self.folder, "nodes": "\n".join(nodes)}
        values |= {"max_array_size": self.max_array_size, "max_job_count": self.max_job_count}
        self.conf.write_text(_CONF.format(**values, all_nodes=",".join(NODES)) + self.accounting)
        # A file stands for a card, a node's each their own; Slurm only counts them.
        gres = [
            f"NodeName={name} Name=gpu Type={kind} File={files}"
            for name, (cards, _) in NODES.items()
            for kind, files in zip(re.findall(r"gpu:(\w+):", cards), _CARDS, strict=False)
        ]
        (self.folder / "gres.conf").write_text("\n".join(gres) + "\n")
        if self.version() >= (23, 11):  # refused before, needed since where there are no cgroups
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        self._launch("slurmctld", ["slurmctld", "-D", "-i", "-f", str(self.conf)])
        for name in NODES:
            self.start_node(name)
        self.wait(lambda: self.states() == {"idle"}, 60, "nodes are not idle")

    def start_node(self, name: str) -> None:
        (self.folder / "spool" / name).mkdir(exist_ok=True)
        self._launch(name, ["slurmd", "-D", "-N", name, "-f", str(self.conf)])

    def restart_with(self, max_job_count: int) -> None:
        """Restart slurmctld with another MaxJobCount. It keeps its jobs."""
        process = self.processes.pop("slurmctld")
        process.terminate()
        process.wait(timeout=20)
        old = f"MaxJobCount={self.max_job_count}\n"
        self.conf.write_text(self.conf.read_text().replace(old, f"MaxJobCount={max_job_count}\n"))
        self.max_job_count = max_job_count
        self._launch("slurmctld", ["slurmctld", "-D", "-i", "-f", str(self.conf)])
        self.wait(lambda: "is UP" in self.call("scontrol", "ping"), 60, "slurmctld does not answer")

    def kill_node(self, name: str) -> None:
        """Kill the slurmd of a node without notice, as if the node were lost."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Cancel all jobs, then end the daemons, slurmctld last."""
        self.call("scancel", "--user=root")
        try:
            self.wait(lambda: not self.call("squeue", "--noheader").strip(), 30, "jobs don't end")
        finally:
            for name in sorted(self.processes, key=lambda name: name == "slurmctld"):
                process = self.processes[name]
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            self._end_what_is_left()

    def call(self, *words: str, check: bool = False) -> str:
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=check
        )
        return done.stdout + done.stderr

    def states(self) -> set[str]:
        """Return the states of the nodes."""
        return set(self.call("sinfo", "--noheader", "--Node", "--format=%T").split())

    def job(self, job_id: str) -> Mapping[str, str]:
        """Return the fields of a job as scontrol shows them."""
        text = self.call("scontrol", "show", "job", "-o", job_id).split("\n")[0]
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def state(self, job_id: str) -> str:
        return self.job(job_id).get("JobState", "")

    def wait(self, is_so: Callable[[], bool], seconds: float, otherwise: str) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                logs = "".join(f"\n--- {path.name}\n{_tail(path)}" for path in sorted(self.folder.glob("slurm*.log")))
                raise TimeoutError(f"{otherwise} after {seconds} s{logs}")
            time.sleep(0.1)

    def version(self) -> tuple[int, int]:
        found = re.search(r"(\d+)\.(\d+)", self.call("slurmctld", "-V"))
        assert found
        return int(found[1]), int(found[2])

    def _launch(self, name: str, words: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **self.environment}
            )

    def _end_what_is_left(self) -> None:
        """End the job steps that outlive a killed slurmd, found by this folder's SLURM_CONF in their environment."""
        mark = f"SLURM_CONF={self.conf}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except OSError:
                continue


def free_ports(count: int) -> list[int]:
    """Return unused ports on loopback."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


@contextmanager
def running(
    folder: Path, max_array_size: int = 5001, max_job_count: int = 10_000, accounting: str = ""
) -> Iterator[SlurmHost]:
    host = SlurmHost(folder, max_array_size, max_job_count, accounting)
    try:
        host.start()
        yield host
    finally:
        host.stop()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])
