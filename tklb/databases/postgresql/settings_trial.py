"""Settings of another cluster, brought into one of this machine as far as its server runs with them.

Takes a login and settings; writes a configuration file as the account of the cluster and restarts the cluster. First
PostgreSQL's own program checks each setting. Where the server does not start with all the others together, halves of
them are tried, and halves of those. Meanwhile the file that was there waits beside, so that a killed trial can be
undone. Sources: "Setting Parameters" and postgres(1) of PostgreSQL's manual.
"""

import glob
import os
import re
from collections.abc import Mapping, Sequence

from tklb.base.process import run
from tklb.databases.data_folders import DataMove
from tklb.databases.locales import SETTINGS as LOCALES
from tklb.databases.locales import make_absent_locales
from tklb.databases.postgresql import ADMINISTRATOR, Login
from tklb.databases.postgresql.connection import ServerConnection
from tklb.databases.postgresql.locations import SETTINGS, read_settings
from tklb.databases.postgresql.settings import find_reason, restart_server, split_cluster
from tklb.errors import ProgramFailed, ProgramMissing

AUTO = "postgresql.auto.conf"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_MOST_TRIALS = 40  # restarts
_SECONDS = 60
_WAITING, _NEW = ".tklb-waiting", ".tklb-new"
# they say where this cluster is and what it is called
_OWN = ("cluster_name", "config_file", "data_directory", "external_pid_file", "hba_file", "ident_file")

Setting = tuple[str, str]
Refusals = tuple[tuple[str, str], ...]  # names, and why the server does not take them


def dump_settings(connection: ServerConnection) -> tuple[Setting, ...]:
    """Give what ALTER SYSTEM has set, by name."""
    rows = connection.fetch_rows(
        "SELECT name, setting FROM pg_file_settings WHERE name IS NOT NULL"
        " AND sourcefile = current_setting('data_directory') || '/postgresql.auto.conf' ORDER BY seqno"
    )
    return tuple(sorted({str(name): setting or "" for name, setting in rows}.items()))


def load_settings(login: Login, settings: Sequence[Setting]) -> Refusals:
    """Set for the cluster what ALTER SYSTEM had set for another one; give what it does not take."""
    return _try_settings(login, f"{login.data}/{AUTO}", settings)


def carry_settings(login: Login, files: Sequence[str], old: str) -> tuple[str, tuple[str, ...], Refusals]:
    """Bring settings of files that no server reads into a file of the cluster.

    `old` is the cluster that they were of. Give that file, the names of what it has, and what the server does not take.
    """
    version, _, name = login.name.partition("/")
    here = read_settings(f"{SETTINGS}/{version}/{name}/postgresql.conf")
    found: dict[str, str] = {}
    for file in files:
        found |= read_settings(file, follows=False)
    wanted = [(key, value) for key, value in found.items() if here.get(key) != value and key not in _OWN]
    place = f"{SETTINGS}/{version}/{name}/conf.d/tklb-from-{old.replace('/', '-')}.conf"
    refused = _try_settings(login, place, wanted)
    missed = {key for key, _ in refused}
    return place, tuple(key for key, _ in wanted if key not in missed), refused


def recover_settings(login: Login) -> None:
    """Bring back the files of the cluster that wait beside settings which a killed trial left."""
    if "/" not in login.name:
        return
    carried = glob.escape(f"{SETTINGS}/{login.name}/conf.d/tklb-from-") + "*.conf"
    places = [glob.escape(f"{login.data}/{AUTO}"), carried]
    for waiting in (path for place in places for path in glob.glob(place + _WAITING)):
        run(["mv", "-fT", "--", waiting, waiting.removesuffix(_WAITING)], user=_account(login), timeout=_SECONDS)
    for new in (path for place in places for path in glob.glob(place + "*" + _NEW)):
        run(["rm", "-f", "--", new], user=_account(login), timeout=_SECONDS)


def describe_carried(login: Login, files: Sequence[bytes]) -> str:
    """Carry over the settings of files that no server reads, and say what became of them."""
    names = [name for file in files if (name := split_cluster(file))]
    wanted = [os.fsdecode(file) for file in files if b"/postgresql.conf" in file or b"/conf.d/" in file]
    if not names or not wanted or "/" not in login.name:
        return ""
    place, taken, refused = carry_settings(login, sorted(wanted, key=lambda file: "/conf.d/" in file), names[0])
    parts = [f"{place} has {', '.join(taken)}"] if taken else []
    parts += [f"{name} is not carried over: {reason}" for name, reason in refused]
    return "; ".join(parts)


def _try_settings(login: Login, file: str, settings: Sequence[Setting]) -> Refusals:
    recover_settings(login)
    before = read_settings(file)
    make_absent_locales(value for key, value in settings if key in LOCALES)
    reasons = {key: reason for key, value in settings if (reason := _check(login, key, value))}
    wanted = {key: value for key, value in settings if key not in reasons and before.get(key) != value}
    if wanted:
        _keep_waiting(login, file, before)
        reasons |= _find_refused(login, file, before, wanted)
        run(["rm", "-f", "--", file + _WAITING], user=_account(login), timeout=_SECONDS)
    return tuple(reasons.items())


def _find_refused(login: Login, file: str, before: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Leave in a file the settings that the server runs with; give the others, each with the reason."""
    reason = _restart_with(login, file, {**before, **wanted})
    if not reason:
        return {}
    search = _SettingSearch(login, file, dict(before))
    search.add(tuple(wanted.items()), reason)
    _restart_with(login, file, search.taken)
    return search.reasons


class _SettingSearch:
    """Adds settings to those `taken` as long as the server runs with them: halves of them, and halves of those."""

    def __init__(self, login: Login, file: str, taken: dict[str, str]) -> None:
        self.taken = taken
        self.reasons: dict[str, str] = {}
        self._login, self._file, self._trials = login, file, 0

    def add(self, settings: Sequence[Setting], reason: str) -> None:
        """Take what can be of some settings, which are not possible all at once for a reason."""
        if len(settings) == 1 or self._trials >= _MOST_TRIALS:
            self.reasons |= {key: reason for key, _ in settings}
            return
        middle = len(settings) // 2
        for half in (settings[:middle], settings[middle:]):
            self._trials += 1
            more = {**self.taken, **dict(half)}
            if why := _restart_with(self._login, self._file, more):
                self.add(half, why)
            else:
                self.taken = more


def _check(login: Login, name: str, value: str) -> str:
    """Give why the program of the server refuses a setting; nothing where it takes it. It starts no server."""
    version, _, cluster = login.name.partition("/")
    if not _NAME.fullmatch(name) or "\n" in value or "\0" in value:
        return "its name or value is not valid"
    argv = [f"/usr/lib/postgresql/{version}/bin/postgres", "-D", login.data, "-C", "max_connections"]
    options = (f"config_file={SETTINGS}/{version}/{cluster}/postgresql.conf", f"{name}={value}")
    try:
        words = [word for option in options for word in ("-c", option)]
        result = run([*argv, *words], user=_account(login), accept=range(256), timeout=_SECONDS)
    except (ProgramFailed, ProgramMissing) as exc:
        return str(exc)
    text = result.stderr.decode("utf-8", "backslashreplace")
    return (find_reason(text) or text.strip() or "the server refuses it") if result.status else ""


def _keep_waiting(login: Login, file: str, before: Mapping[str, str]) -> None:
    """Keep the file that is there beside its place, or one without settings for none."""
    if not os.path.exists(file):
        _write(login, file + _WAITING, before)
        return
    run(["cp", "-pT", "--", file, file + _NEW], user=_account(login), timeout=_SECONDS)
    run(["mv", "-fT", "--", file + _NEW, file + _WAITING], user=_account(login), timeout=_SECONDS)


def _restart_with(login: Login, file: str, settings: Mapping[str, str]) -> str:
    """Write settings; give why the server does not run with them."""
    _write(login, file, settings)
    return restart_server(login, _note_nothing).reason


def _write(login: Login, file: str, settings: Mapping[str, str]) -> None:
    """Put a whole file in place, as the account of the cluster, which can plant links there."""
    text = "# Do not edit this file manually!\n" if AUTO in file else "# Of another cluster: see tklb(1).\n"
    text += "".join(f"{key} = {_quote(value)}\n" for key, value in settings.items())
    content = text.encode("utf-8", "surrogateescape")
    run(["tee", "--", file + _NEW], stdin=content, user=_account(login), timeout=_SECONDS)
    run(["mv", "-fT", "--", file + _NEW, file], user=_account(login), timeout=_SECONDS)


def _note_nothing(_move: DataMove) -> None:
    """No setting here says where data are."""


def _quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _account(login: Login) -> str:
    return login.account or ADMINISTRATOR
