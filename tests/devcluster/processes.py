"""Owns the life of the cluster's processes: start, recognise, stop, by one pid file each.

A pid alone names nobody: after a crash or a reboot the number belongs to someone else. So a pid
file carries the boot and the moment at which the process began, and only a process that matches
is ever signalled. It also carries a fingerprint of the command and of the files it reads at its
start, which tells a running process from one that should be running.
It refuses to know what is being run and in which order (`cluster`).
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .places import State, key_of

LARGEST_LOG_BYTES = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    name: str
    argv: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    """Files whose change asks for a restart."""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        present = [path for path in self.reads if path.exists()]
        return key_of(json.dumps([self.argv, sorted(self.env.items())]), *present)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    pid: int
    began: str
    fingerprint: str


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def beginning(pid: int) -> str | None:
    """Boot id and start time in ticks since boot; None if there is no such (living) process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself contain spaces and
    # brackets; proc(5) counts state as field 3 and starttime as field 22.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return None if state in "ZX" else f"{boot()}/{started}"


def is_alive(record: Record) -> bool:
    return beginning(record.pid) == record.began


def running(state: State, name: str) -> Record | None:
    """The record of the process that is running under this name, if one is."""
    try:
        record = Record(**json.loads(_pid_file(state, name).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        # A machine that went down in the middle of a write leaves an empty or partial file.
        return None
    return record if is_alive(record) else None


def start(state: State, command: Command) -> Record:
    log = log_file(state, command.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
        log.rename(log.with_suffix(".log.1"))
    # Before the start, so that a change during it is not missed.
    fingerprint = command.fingerprint
    with log.open("ab") as output, Path(os.devnull).open() as nothing:
        # Not Popen, which expects to be asked for the end of what it started.
        pid = os.posix_spawnp(
            command.argv[0],
            command.argv,
            {**os.environ, **command.env},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ],
            setsid=True,
            # Python ignores SIGPIPE, and a script in the background SIGINT; children would too.
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGHUP],
        )
    record = Record(pid=pid, began=beginning(pid) or "", fingerprint=fingerprint)
    file = _pid_file(state, command.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(record)))
    return record


def stop(state: State, name: str, *, grace_seconds: float = 10) -> bool:
    """SIGTERM, then SIGKILL; whether there was anything to stop."""
    record = running(state, name)
    if record is not None:
        _end(record, signal.SIGTERM, grace_seconds) or _end(record, signal.SIGKILL, 5)
    _pid_file(state, name).unlink(missing_ok=True)
    return record is not None


def log_file(state: State, name: str) -> Path:
    return state.log / f"{name}.log"


def log_tail(state: State, name: str, *, lines: int = 25) -> str:
    log = log_file(state, name)
    if not log.exists():
        return f"(there is no {log})"
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 50_000))
        text = handle.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def _pid_file(state: State, name: str) -> Path:
    return state.pids / f"{name}.json"


def _end(record: Record, number: signal.Signals, grace_seconds: float) -> bool:
    if not is_alive(record):
        return True
    try:
        os.kill(record.pid, number)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline:
        # A child of this very process stays a zombie until it is waited for.
        if not is_alive(record):
            return True
        time.sleep(0.05)
    return False
