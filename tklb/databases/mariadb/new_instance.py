"""Start an instance of MariaDB, and make its data first where this machine has none.

Takes the login of an instance, whose groups option files of this machine have. Makes its data folder where root alone
decides what stands above it, and fills it by mariadb-install-db as the account of the server. Sources:
mariadb-install-db(1), mysqld_multi(1), systemd(1) of "mariadb@.service".
"""

import os
import time
from collections.abc import Mapping

from tklb.base.process import run
from tklb.databases.data_folders import make_folder
from tklb.databases.mariadb import DATA, ENGINE, Login, find_program
from tklb.databases.mariadb.instances import has_group
from tklb.databases.mariadb.locations import is_data_folder, read_group_options, read_options
from tklb.databases.mariadb.settings import ACCOUNT, explain_start, make_folders, wait_for_answer
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing

__all__ = ["start_instance"]

_DETACH = ("start-stop-daemon", "--start", "--background")
_INSTALL, _START, _ANSWER = 300, 180, 60  # seconds


def start_instance(login: Login) -> None:
    """Start an instance, and wait until it answers. Raises DatabaseFailed."""
    if not has_group(login.instance):
        raise DatabaseFailed(item=ENGINE, reason=f"it is down, and no option file has a group of {login.instance}")
    options = read_group_options(login.group_suffix)
    account = options.get("user", ACCOUNT)
    try:
        _make_data(login, options, account)
        make_folders(options)
        _start(login, account)
    except (ProgramFailed, ProgramMissing) as exc:
        raise DatabaseFailed(item=ENGINE, reason=f"the instance {login.instance}: {exc}") from exc
    if reason := wait_for_answer(login, time.monotonic() + _ANSWER):
        reason = explain_start(login) or reason
        raise DatabaseFailed(item=ENGINE, reason=f"the instance {login.instance} does not start: {reason}")


def _make_data(login: Login, options: Mapping[str, str], account: str) -> None:
    data = os.path.normpath(options.get("datadir", DATA))
    if is_data_folder(data):
        return
    if not data.startswith("/") or os.path.realpath(data) == os.path.realpath(read_options().get("datadir", DATA)):
        raise DatabaseFailed(item=ENGINE, reason=f"the instance {login.instance} has no datadir of its own")
    if os.path.isdir(data) and set(os.listdir(data)) - {"lost+found"}:
        raise DatabaseFailed(item=ENGINE, reason=f"{data} is not empty, and holds no data of a server")
    make_folder(data, account, 0o700)
    try:
        suffix = f"--defaults-group-suffix={login.group_suffix}"
        run(["mariadb-install-db", suffix, "--rpm", "--skip-test-db"], user=account, timeout=_INSTALL)
    except ProgramFailed:
        # what is there of it would look like somebody's data to the next restore
        rest = ["find", data, "-mindepth", "1", "-not", "-name", "lost+found", "-delete"]
        run(rest, user=account, accept=range(256), timeout=_INSTALL)
        raise


def _start(login: Login, account: str) -> None:
    if login.instance.isdecimal():
        run(["mysqld_multi", "start", login.instance], timeout=_START, may_leave_server=True)
    elif os.path.isdir("/run/systemd/system"):
        run(["systemctl", "start", "--", f"mariadb@{login.instance}.service"], timeout=_START)
    else:
        program = find_program("mariadbd", "mysqld") or "mariadbd"
        argv = [f"/usr/sbin/{program}", "--", f"--defaults-group-suffix={login.group_suffix}", f"--user={account}"]
        # by the name of the program it would take the default server for this one
        run([*_DETACH, "--pidfile", f"/run/tklb-{login.instance}.pid", "--startas", *argv], timeout=_START)
