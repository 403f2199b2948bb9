"""Users, roles and their grants, as the statements that make them again: out of the server and back.

Takes a connection; gives names. The administrator's own accounts belong to the machine and are never among them. The
server's answer to such a statement may hold a password's hash: it is cut off before anybody sees it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tklb.databases.dump_format import DumpFolder, write_json
from tklb.databases.mariadb.connection import ServerConnection, ServerError, decode, quote_name, quote_text
from tklb.databases.report import DatabaseReport
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress

__all__ = ["dump_accounts", "load_accounts"]

ACCOUNTS = "accounts.json"
_ADMINISTRATOR = "root"
_OWN_NAMES = frozenset({"mariadb.sys", "mysql.sys", "mysql.connection", "mysql.infoschema", "mysql.session"})
_OF_THIS_MACHINE = frozenset({(_ADMINISTRATOR, "localhost"), ("mysql", "localhost")})
_PUBLIC = "PUBLIC"
_NOTHING_GRANTED = frozenset({1141, 1959})  # 1959: PUBLIC, before anything was granted to it
_NO_ROUTINE = frozenset({1305})
_NOT_YET = frozenset({1054, 1146, 1305, 1347, 1049, 1139, 1477})  # the object of the grant is not there
_ABOUT = re.compile(r" ON (?:(?:PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE|TABLE) )?(`(?:[^`]|``)+`)\.")


@dataclass(frozen=True, slots=True)
class Account:
    """A user or a role."""

    name: str
    host: str
    is_role: bool

    @property
    def is_own(self) -> bool:
        """Whether it is the administrator's on this very machine, or the server's."""
        return not self.is_role and (self.name in _OWN_NAMES or (self.name, self.host) in _OF_THIS_MACHINE)

    @property
    def label(self) -> str:
        """The account as people write it."""
        return f"role {quote_text(self.name)}" if self.is_role else f"user {self.sql}"

    @property
    def sql(self) -> str:
        return quote_name(self.name) if self.is_role else f"{quote_text(self.name)}@{quote_text(self.host)}"


@dataclass(frozen=True, slots=True)
class WaitingGrant:
    """A grant about something that is not there yet. `database` is the one that the thing is in."""

    account: str
    statement: str
    database: str


# ---------------------------------------------------------------- out of the server


def dump_accounts(connection: ServerConnection, folder: Path, report: DatabaseReport) -> tuple[str, ...]:
    """Write accounts.json; return the accounts in it, as people write them."""
    entries = []
    for account in _list_accounts(connection):
        try:
            entries.append(_describe(connection, account))
        except ServerError as exc:
            report.skip_other(account.label, exc.discreet)
    write_json(folder / ACCOUNTS, {"accounts": entries, "plugins": _list_plugins(connection, report)})
    for what, all_of_them, query in (
        ("server", "servers", "SELECT Server_name FROM mysql.servers"),
        ("function of a plugin", "functions of plugins", "SELECT name FROM mysql.func"),
    ):
        for (name,) in _try_list(connection, all_of_them, query, report):
            report.skip_other(f"{what} {quote_text(name)}", f"a {what} is not taken")
    return tuple(entry["shown"] for entry in entries)


def _list_accounts(connection: ServerConnection) -> tuple[Account, ...]:
    """All but the administrator's on this machine, roles first, sorted. Files log in as debian-sys-maint: it is one."""
    role = "is_role" if connection.fetch_rows("SHOW COLUMNS FROM mysql.user LIKE 'is_role'") else "'N'"
    found = [
        Account(name, host, kind == "Y")
        for name, host, kind in connection.fetch_texts(f"SELECT User, Host, {role} FROM mysql.user")
    ]
    return tuple(sorted((each for each in found if not each.is_own), key=lambda a: (not a.is_role, a.name, a.host)))


def _list_plugins(connection: ServerConnection, report: DatabaseReport) -> dict[str, str]:
    """The libraries that were installed to authenticate accounts, by the name of the plugin."""
    where = "PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_LIBRARY IS NOT NULL AND PLUGIN_STATUS = 'ACTIVE'"
    query = f"SELECT PLUGIN_NAME, PLUGIN_LIBRARY FROM information_schema.PLUGINS WHERE {where}"
    found = _try_list(connection, "plugins for logins", query, report)
    return {name: library.removesuffix(".so") for name, library in found}


def list_routine_grants(connection: ServerConnection, database: str, report: DatabaseReport) -> list[str]:
    """The grants on routines of a database, as statements: a grant goes when its routine is dropped."""
    found = []
    for account in _list_accounts(connection):
        try:
            found += _select_routine_grants(connection, account, database)
        except ServerError as exc:
            report.skip_other(
                account.label, f"its grants on routines of {quote_text(database)} may be lost: {exc.discreet}"
            )
    return found


def _select_routine_grants(connection: ServerConnection, account: Account, database: str) -> list[str]:
    is_about = re.compile(rf" ON (?:PROCEDURE|FUNCTION|PACKAGE|PACKAGE BODY) {re.escape(quote_name(database))}\.")
    try:
        return [line for line in _show_grants(connection, account) if is_about.search(line)]
    except ServerError as exc:
        if exc.number in _NOTHING_GRANTED:
            return []
        raise


def _show_grants(connection: ServerConnection, account: Account) -> list[str]:
    """The account's own grants; the server shows a role's with those of the roles that it has."""
    is_public = account.is_role and account.name == _PUBLIC
    lines = connection.fetch_rows(f"SHOW GRANTS FOR {_PUBLIC if is_public else account.sql}")
    shown = [decode(row[0]) for row in lines]
    if not account.is_role:
        return shown
    to = f" TO {_PUBLIC if is_public else quote_name(account.name)}"
    return [line for line in shown if line.endswith((to, f"{to} WITH ADMIN OPTION", f"{to} WITH GRANT OPTION"))]


def _try_list(connection: ServerConnection, what: str, query: str, report: DatabaseReport) -> Sequence[tuple[str, ...]]:
    try:
        return connection.fetch_texts(query)
    except ServerError as exc:
        report.skip_other(what, f"could not be listed, none is taken: {exc}")
        return ()


def _describe(connection: ServerConnection, account: Account) -> dict[str, Any]:
    shown = _show_grants(connection, account)
    is_role = account.is_role
    created = f"CREATE ROLE {account.sql}" if is_role else connection.fetch_value(f"SHOW CREATE USER {account.sql}")
    grants = [_strip_password(line, account) for line in shown if not line.startswith("SET DEFAULT ROLE ")]
    defaults = [line for line in shown if line.startswith("SET DEFAULT ROLE ")]
    return {
        "name": account.name,
        "host": account.host,
        "is_role": is_role,
        "shown": account.label,
        "create": created,
        "grants": sorted(grants),
        "defaults": defaults,
    }


def _strip_password(grant: str, account: Account) -> str:
    """A grant without password and limits, which belong to the account: SHOW CREATE USER has them."""
    head, to, tail = grant.partition(f" ON *.* TO {quote_name(account.name)}@{quote_name(account.host)}")
    if not to or account.is_role:
        return grant
    return head + to + (" WITH GRANT OPTION" if re.search(r" WITH GRANT OPTION($| MAX_)", tail) else "")


# ---------------------------------------------------------------- and back


SavedEntry = tuple[Mapping[str, Any], Account]  # as the dump has it, and what it is about


def load_accounts(
    connection: ServerConnection, dump: DumpFolder, progress: Progress, report: DatabaseReport
) -> list[WaitingGrant]:
    """Make users and roles, then grant; return the grants that wait for their database."""
    saved = dump.read_json(ACCOUNTS)
    _install_plugins(connection, saved.get("plugins", {}), report)
    entries = [(entry, _read_account(entry)) for entry in saved["accounts"]]
    present = {*connection.fetch_texts(f"SELECT User, Host FROM mysql.user WHERE User = {quote_text(_ADMINISTRATOR)}")}
    entries = [(entry, a) for entry, a in entries if not a.is_own and (a.is_role or (a.name, a.host) not in present)]
    progress("database accounts", 0, len(entries))
    made = _make_all(connection, entries, report)
    statements = [
        (account, _check_statement(statement, word))
        for key, word in (("grants", "GRANT "), ("defaults", "SET DEFAULT ROLE "))
        for entry, account in made
        for statement in map(str, entry[key])
    ]
    given = [_grant(connection, account.label, statement, report) for account, statement in statements]
    progress("database accounts", len(entries), len(entries))
    return [grant for grant in given if grant]


def _make_all(connection: ServerConnection, entries: Sequence[SavedEntry], report: DatabaseReport) -> list[SavedEntry]:
    """Make accounts, and give those that are made. In MySQL, one that names a role comes after that role."""
    left, reasons = list(entries), [""]
    while left:
        reasons = [_try_make(connection, entry, account) for entry, account in left]
        refused = [pair for pair, reason in zip(left, reasons, strict=True) if reason]
        if len(refused) == len(left):
            break
        left = refused
    for (_, account), reason in zip(left, filter(None, reasons), strict=True):
        report.skip_other(account.label, reason)
    return [pair for pair in entries if pair not in left]


def _try_make(connection: ServerConnection, entry: Mapping[str, Any], account: Account) -> str:
    """Make an account; give why the server refuses it, or nothing."""
    try:
        _make(connection, account, str(entry["create"]))
    except ServerError as exc:
        return exc.discreet
    return ""


def _install_plugins(connection: ServerConnection, plugins: Mapping[str, str], report: DatabaseReport) -> None:
    """Install the plugins that authenticate the accounts; the server takes libraries from its own folder only."""
    for name, library in plugins.items():
        if connection.fetch_rows(f"SELECT 1 FROM information_schema.PLUGINS WHERE PLUGIN_NAME = {quote_text(name)}"):
            continue
        try:
            connection.run(f"INSTALL PLUGIN {quote_name(name)} SONAME {quote_text(library)}")
        except ServerError as exc:
            report.skip_other(f"plugin {name}", str(exc))


def retry_grants(
    connection: ServerConnection, waiting: Sequence[WaitingGrant], loaded: str, report: DatabaseReport
) -> list[WaitingGrant]:
    """Try grants again after the database `loaded` came; return those that wait for another one."""
    still: list[WaitingGrant] = []
    for grant in waiting:
        left = _grant(connection, grant.account, grant.statement, report)
        if left and grant.database == loaded:
            report.skip_other(grant.account, f"what it was granted is not there: {grant.statement}")
        elif left:
            still.append(left)
    return still


def restore_grants(connection: ServerConnection, database: str, grants: Iterable[str], report: DatabaseReport) -> None:
    """Grant again what was granted on routines of a database. A grant goes with its routine, which is worth a note."""
    for grant in grants:
        _restore_grant(connection, database, grant, report)


def _restore_grant(connection: ServerConnection, database: str, grant: str, report: DatabaseReport) -> None:
    try:
        connection.run_as_oracle(grant)
    except ServerError as exc:
        if exc.number in _NO_ROUTINE:
            report.note(f"{printable(database)} has no such routine any more: {printable(grant)}")
        else:
            report.skip(database, "", f"not granted again: {grant}: {exc.discreet}")


def _read_account(entry: Mapping[str, Any]) -> Account:
    return Account(str(entry["name"]), str(entry["host"]), bool(entry["is_role"]))


def _make(connection: ServerConnection, account: Account, statement: str) -> None:
    if account.is_role:
        name = _PUBLIC if account.name == _PUBLIC else account.sql
        if name != _PUBLIC:
            connection.run(f"CREATE ROLE IF NOT EXISTS {name}")
        _empty_role(connection, account, name)
        return
    _check_statement(statement, "CREATE USER ")
    connection.run(f"DROP USER IF EXISTS {account.sql}")
    connection.run(statement)


def _empty_role(connection: ServerConnection, account: Account, name: str) -> None:
    """Take from a role what it was granted here: the saved one wins."""
    try:
        connection.run(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {name}")
    except ServerError as exc:
        if exc.number not in _NOTHING_GRANTED:
            raise
    within = f"Host = '' AND User = {quote_text(account.name)}"
    for (role,) in connection.fetch_texts(f"SELECT Role FROM mysql.roles_mapping WHERE {within}"):
        connection.run(f"REVOKE {quote_name(role)} FROM {name}")


def _check_statement(statement: str, word: str) -> str:
    if not statement.startswith(word):
        raise ServerError(0, f"its dump holds another statement than {word.strip()}")
    return statement


def _grant(connection: ServerConnection, account: str, statement: str, report: DatabaseReport) -> WaitingGrant | None:
    """Grant; return the grant where it waits for its database."""
    run = connection.run_as_oracle if " ON PACKAGE " in statement else connection.run
    try:
        run(statement)
    except ServerError as exc:
        about = _ABOUT.search(statement)
        if about and exc.number in _NOT_YET:
            return WaitingGrant(account, statement, about[1][1:-1].replace("``", "`"))
        report.skip_other(account, f"{exc.discreet} ({statement.partition(' IDENTIFIED ')[0]})")
    return None
