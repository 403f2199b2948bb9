"""The configuration of the clusters, and whether their servers run with it.

Takes a login; restarts clusters by postgresql-common, and reads what they add to their logs. Sources:
pg_ctlcluster(1), postgresql-common(7), "Server Configuration" of PostgreSQL's manual.
"""

import contextlib
import glob
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tklb.base.fs import open_plain
from tklb.base.process import run
from tklb.databases.data_folders import NoteMove, make_folder, move_data, stop_servers
from tklb.databases.locales import SETTINGS as LOCALES
from tklb.databases.locales import make_absent_locales
from tklb.databases.postgresql import ADMINISTRATOR, ENGINE, Login
from tklb.databases.postgresql.catalogue import open_maintenance
from tklb.databases.postgresql.cluster.role_settings import find_lockout
from tklb.databases.postgresql.connection import ServerError
from tklb.databases.postgresql.locations import CLUSTERS, SETTINGS, read_settings
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass

__all__ = ["Restart", "recover_server", "restart_server"]

_OF_CLUSTER = re.compile(rb"/etc/postgresql/([0-9.]+)/([^/]+)(?:/.*)?")
_SYSTEMD = "/run/systemd/system"
_STOP, _START, _LOGIN, _LOOK = 300, 300, 5, 0.2  # seconds
_ASKS = "no password supplied"  # a message of libpq
_MOST_LOG, _MOST_LOGS = 1 << 16, 3
_MOST_OF_MEMORY = 0.9
_ON = ("on", "true", "yes", "1")
_ERROR = re.compile(r"(?:^|[\] ])(?:FATAL|PANIC|ERROR): +(.+)$", re.MULTILINE)
_CAUSE = re.compile(
    r"(?:^|[\] ])LOG: +(.*(?:unrecognized|invalid|syntax error|could not|cannot|must|outside|line \d+).*)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Restart:
    """How a restart ended. `reason`: why a cluster does not run, empty where all run. `data` is its folder."""

    login: Login
    data: str
    reason: str = ""


def restart_server(login: Login, note: NoteMove, changed: Sequence[bytes] = ()) -> Restart:
    """Restart the clusters that `changed` belongs to, else that of the login, with the data where settings say."""
    login = _note_password(login)
    names = {(found[1].decode(), found[2].decode()) for path in changed if (found := _OF_CLUSTER.fullmatch(path))}
    own, _, main = login.name.partition("/")
    reason = ""
    for version, name in sorted(names or {(own, main)}):
        if _has_cluster(version, name) and not reason:
            login, reason = _restart(version, name, login, note)
    return Restart(login, login.data, reason)


def recover_server(login: Login, note: NoteMove, changed: Sequence[bytes] = ()) -> Restart:
    """Restart clusters where a killed restore had begun with another configuration."""
    stop_servers({login.data})
    return restart_server(login, note, changed)


@contextlib.contextmanager
def explain_start(login: Login) -> Iterator[None]:
    """Where a start in the block fails, give the reason from the log of the cluster."""
    path = f"/var/log/postgresql/postgresql-{login.name.replace('/', '-')}.log"
    start = os.path.getsize(path) if os.path.exists(path) else 0
    try:
        yield
    except DatabaseFailed as exc:
        if reason := find_reason(_read_log(path, start)):
            failure = f"the cluster {login.name} does not start: {reason}"
            raise DatabaseFailed(item=ENGINE, reason=failure) from exc
        raise


def has_release(path: bytes) -> bool:
    """Whether this machine has the release of PostgreSQL whose cluster a configuration file belongs to."""
    found = _OF_CLUSTER.fullmatch(path)
    return found is None or os.access(f"/usr/lib/postgresql/{found[1].decode()}/bin/postgres", os.X_OK)


def split_cluster(path: bytes) -> str:
    """Give the cluster that a configuration file belongs to, as VERSION/NAME; empty where it belongs to none."""
    found = _OF_CLUSTER.fullmatch(path)
    return b"/".join(found.groups()).decode() if found else ""


def _has_cluster(version: str, name: str) -> bool:
    """Whether the cluster has a configuration and its release is installed."""
    has_program = os.access(f"/usr/lib/postgresql/{version}/bin/postgres", os.X_OK)
    return has_program and os.path.exists(f"{SETTINGS}/{version}/{name}/postgresql.conf")


def _restart(version: str, name: str, login: Login, note: NoteMove) -> tuple[Login, str]:
    """Give the login with the place of the data, and why the cluster does not run."""
    is_ours = login.name == f"{version}/{name}"
    try:
        if is_ours:
            _stop_at(version, login)
        _stop(version, name)
        data = _find_data(version, name)
        if is_ours and data != login.data and (reason := move_data(login.data, data, note)):
            return login, reason
        login = replace(login, data=data) if is_ours else login
        if reason := _check_memory(version, name, data):
            return login, reason
        before = _measure_logs(version, name, data)
        chatter = _start(version, name)
    except (ProgramFailed, ProgramMissing) as exc:
        return login, str(exc.facts.get("reason", exc))
    if chatter:
        added = "\n".join(_read_log(path, before.get(path, 0)) for path in _measure_logs(version, name, data))
        reason = find_reason(added) or find_reason(chatter) or chatter.strip().replace("\n", " ")
        return login, reason
    return login, _wait_for_answer(login) if is_ours else ""


def _find_data(version: str, name: str) -> str:
    """Give where the configuration says that the data are, and make the folders and locales that it names."""
    settings = read_settings(f"{SETTINGS}/{version}/{name}/postgresql.conf")
    make_absent_locales(settings.get(name, "") for name in LOCALES)
    make_folder(settings.get("log_directory", ""), ADMINISTRATOR, 0o700)
    for folder in settings.get("unix_socket_directories", "").split(","):
        make_folder(folder.strip(), ADMINISTRATOR, 0o755)
    return os.path.normpath(settings.get("data_directory", f"{CLUSTERS}/{version}/{name}"))


def _stop_at(version: str, login: Login) -> None:
    """Stop the server at its present data: its configuration may name others already."""
    account = login.account or ADMINISTRATOR
    argv = [f"/usr/lib/postgresql/{version}/bin/pg_ctl", "stop", "-D", login.data, "-m", "fast", "-w"]
    run([*argv, "-t", str(_STOP)], user=account, timeout=_STOP + 30, accept=range(256))


def _stop(version: str, name: str) -> None:
    command = ["pg_ctlcluster", "--force", version, name, "stop"]
    if os.path.isdir(_SYSTEMD):
        command = ["systemctl", "stop", f"postgresql@{version}-{name}.service"]
    run(command, timeout=_STOP, accept=range(256))


def _start(version: str, name: str) -> str:
    """Start a cluster; give what the programs print where that fails, and leave nothing of it then."""
    command = ["pg_ctlcluster", version, name, "start"]
    if os.path.isdir(_SYSTEMD):
        command = ["systemctl", "start", f"postgresql@{version}-{name}.service"]
    result = run(command, timeout=_STOP, accept=range(256), may_leave_server=True)
    if not result.status:
        return ""
    _stop(version, name)  # a server that is still about to start
    return (result.stderr or result.stdout).decode("utf-8", "backslashreplace") or "it does not start"


def _check_memory(version: str, name: str, data: str) -> str:
    """Say that the shared memory of a cluster does not fit: the kernel lends it, and ends programs when it is used."""
    argv = [f"/usr/lib/postgresql/{version}/bin/postgres", "-D", data, "-C", "shared_memory_size"]
    options = ["-c", f"config_file={SETTINGS}/{version}/{name}/postgresql.conf"]
    result = run([*argv, *options], user=ADMINISTRATOR, accept=range(256), timeout=_START)
    wanted = result.stdout.strip()
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if result.status or not wanted.isdigit() or int(wanted) < here * _MOST_OF_MEMORY:
        return ""  # a start says it better
    return f"its shared memory (shared_buffers) takes {int(wanted)} MB, and this machine has {here} MB"


def _measure_logs(version: str, name: str, data: str) -> dict[str, int]:
    """The sizes of the cluster's log, and of the newest files where its server collects messages."""
    settings = read_settings(f"{SETTINGS}/{version}/{name}/postgresql.conf")
    paths = [f"/var/log/postgresql/postgresql-{version}-{name}.log"]
    if settings.get("logging_collector", "off").lower() in _ON:
        folder = os.path.join(data, settings.get("log_directory", "log"))
        found = ((os.lstat(path).st_mtime, path) for path in glob.glob(f"{glob.escape(folder)}/*"))
        paths += [path for _, path in sorted(found)[-_MOST_LOGS:]]
    return {path: os.lstat(path).st_size for path in paths if os.path.lexists(path)}


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
        if login.has_password and _ASKS in reason:
            return ""  # whoever knows the password can log in
        patience = _START if "starting up" in reason else _LOGIN
        if time.monotonic() > begin + patience:
            return f"its administrator cannot log in: {reason}"
        time.sleep(_LOOK)
    return ""


def _note_password(login: Login) -> Login:
    """Note whether the administrator has a password, as long as it can be asked."""
    with contextlib.suppress(ServerError, DatabaseFailed), open_maintenance(login) as connection:
        found = connection.fetch_value("SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = current_user")
        return replace(login, has_password=found == "t")
    return login


def _try_login(login: Login) -> str:
    try:
        with open_maintenance(login) as connection:
            return find_lockout(connection)
    except ServerError as exc:
        return str(exc)
    except DatabaseFailed as exc:
        return str(exc.facts["reason"])
