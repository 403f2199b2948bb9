"""The configuration of the clusters, and whether their servers run with it.

Takes a login; restarts clusters by postgresql-common, and reads what they add to their logs. Sources:
pg_ctlcluster(1), postgresql-common(7), "Server Configuration" of PostgreSQL's manual.
"""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from tklb.base.fs import open_plain
from tklb.base.process import run
from tklb.databases.postgresql import Login
from tklb.databases.postgresql.catalogue import open_maintenance
from tklb.databases.postgresql.connection import ServerError
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing

__all__ = ["restart_server"]

SETTINGS = "/etc/postgresql"
_OF_CLUSTER = re.compile(rb"/etc/postgresql/([0-9.]+)/([^/]+)(?:/.*)?")
_STOP, _START, _LOGIN, _LOOK = 300, 300, 5, 0.2  # seconds
_MOST_LOG = 1 << 16
_ERROR = re.compile(r"(?:^|[\] ])(?:FATAL|PANIC|ERROR): +(.+)$", re.MULTILINE)
_CAUSE = re.compile(
    r"(?:^|[\] ])LOG: +(.*(?:unrecognized|invalid|syntax error|could not|cannot|must|outside|line \d+).*)$",
    re.MULTILINE,
)


def restart_server(login: Login, changed: Sequence[bytes]) -> str:
    """Restart the clusters that `changed` belongs to; give why one does not run, in its own words, or nothing."""
    names = {(found[1].decode(), found[2].decode()) for path in changed if (found := _OF_CLUSTER.fullmatch(path))}
    version, _, name = login.name.partition("/")
    every = sorted(names or {(version, name)})
    reasons = (_restart(version, name, login) for version, name in every if _has_cluster(version, name))
    return next((reason for reason in reasons if reason), "")


def _has_cluster(version: str, name: str) -> bool:
    """Whether the cluster has a configuration and its release is installed."""
    has_program = os.access(f"/usr/lib/postgresql/{version}/bin/postgres", os.X_OK)
    return has_program and os.path.exists(f"{SETTINGS}/{version}/{name}/postgresql.conf")


def _restart(version: str, name: str, login: Login) -> str:
    path = f"/var/log/postgresql/postgresql-{version}-{name}.log"
    start = os.path.getsize(path) if os.path.exists(path) else 0
    try:
        chatter = _start(version, name)
    except (ProgramFailed, ProgramMissing) as exc:
        return str(exc.facts.get("reason", exc))
    if chatter:
        return find_reason(_read_log(path, start)) or find_reason(chatter) or chatter.strip().replace("\n", " ")
    return _wait_for_answer(login) if login.name == f"{version}/{name}" else ""


def _start(version: str, name: str) -> str:
    """Start a cluster anew; give what the programs print where that fails, and leave nothing of it then."""
    has_systemd, unit = os.path.isdir("/run/systemd/system"), f"postgresql@{version}-{name}.service"
    own = ["pg_ctlcluster", "--force", version, name]
    run(["systemctl", "stop", unit] if has_systemd else [*own, "stop"], timeout=_STOP, accept=range(256))
    command = ["systemctl", "start", unit] if has_systemd else [*own, "start"]
    result = run(command, timeout=_STOP, accept=range(256), may_leave_server=True)
    if not result.status:
        return ""
    run([*own, "stop"], timeout=_STOP, accept=range(256))  # a server that is still about to start
    return (result.stderr or result.stdout).decode("utf-8", "backslashreplace") or "it does not start"


def _read_log(path: str, start: int) -> str:
    try:
        with open_plain(Path(path)) as stream:
            stream.seek(start)
            return stream.read(_MOST_LOG).decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def find_reason(text: str) -> str:
    """Find why a server ended in what it added to its log: the cause, where it tells one, else the first error."""
    causes = [line.strip() for line in _CAUSE.findall(text)]
    errors = [line.strip() for line in _ERROR.findall(text)]
    return "; ".join(dict.fromkeys((*causes[:2], *errors[:1])))


def _wait_for_answer(login: Login) -> str:
    begin = time.monotonic()
    while reason := _try_login(login):
        patience = _START if "starting up" in reason else _LOGIN
        if time.monotonic() > begin + patience:
            return f"its administrator cannot log in: {reason}"
        time.sleep(_LOOK)
    return ""


def _try_login(login: Login) -> str:
    try:
        with open_maintenance(login):
            return ""
    except ServerError as exc:
        return str(exc)
    except DatabaseFailed as exc:
        return str(exc.facts["reason"])
