"""Users, roles and their grants, as the statements that make them again; the way there and the way back.

Takes a session; gives names. The administrator's own accounts are of the machine and never among them. What a server
says about such a statement may hold a password's hash: it is cut off before anybody sees it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tklb.databases.dump_format import DumpFolder, write_json
from tklb.databases.mariadb.said import Notes
from tklb.databases.mariadb.session import ServerError, Session, decoded, quoted, text
from tklb.model.callbacks import Progress

ACCOUNTS = "accounts.json"
_OWN_NAMES = frozenset({"root", "mariadb.sys", "debian-sys-maint", "mysql.sys", "mysql.session", "mysql.infoschema"})
_PUBLIC = "PUBLIC"
_NOTHING_GRANTED = frozenset({1141, 1959})  # 1959: PUBLIC, before anything was granted to it


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    host: str
    is_role: bool

    @property
    def is_own(self) -> bool:
        """Whether it is the administrator's, or the server's."""
        return not self.is_role and (self.name in _OWN_NAMES or (self.name, self.host) == ("mysql", "localhost"))

    @property
    def shown(self) -> str:
        return f"role {text(self.name)}" if self.is_role else f"user {text(self.name)}@{text(self.host)}"

    @property
    def quoted(self) -> str:
        return quoted(self.name) if self.is_role else f"{text(self.name)}@{text(self.host)}"


def accounts(session: Session) -> tuple[Account, ...]:
    """All but the administrator's, roles first, sorted."""
    role = "is_role" if session.rows("SHOW COLUMNS FROM mysql.user LIKE 'is_role'") else "'N'"
    found = [
        Account(name, host, kind == "Y")
        for name, host, kind in session.names(f"SELECT User, Host, {role} FROM mysql.user")
    ]
    return tuple(sorted((each for each in found if not each.is_own), key=lambda a: (not a.is_role, a.name, a.host)))


def dump_accounts(session: Session, folder: Path, said: Notes) -> tuple[str, ...]:
    """Write accounts.json; the accounts taken as people write them."""
    entries = []
    for account in accounts(session):
        try:
            entries.append(_entry(session, account))
        except ServerError as exc:
            said.skip_thing(account.shown, exc.discreet)
    write_json(folder / ACCOUNTS, {"accounts": entries, "plugins": _plugins(session, said)})
    for what, all_of_them, query in (
        ("server", "servers", "SELECT Server_name FROM mysql.servers"),
        ("function of a plugin", "functions of plugins", "SELECT name FROM mysql.func"),
    ):
        for (name,) in _listed(session, all_of_them, query, said):
            said.skip_thing(f"{what} {text(name)}", f"a {what} is not taken")
    return tuple(entry["shown"] for entry in entries)


def _plugins(session: Session, said: Notes) -> dict[str, str]:
    """The libraries that were installed to check who somebody is, by the name of the plugin."""
    where = "PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_LIBRARY IS NOT NULL AND PLUGIN_STATUS = 'ACTIVE'"
    query = f"SELECT PLUGIN_NAME, PLUGIN_LIBRARY FROM information_schema.PLUGINS WHERE {where}"
    listed = _listed(session, "plugins for logins", query, said)
    return {name: library.removesuffix(".so") for name, library in listed}


def routine_grants(session: Session, database: str, said: Notes) -> list[str]:
    """The grants on routines of a database, as statements: they go with the routine."""
    there = re.compile(rf" ON (?:PROCEDURE|FUNCTION|PACKAGE|PACKAGE BODY) {re.escape(quoted(database))}\.")
    found = []
    for account in accounts(session):
        try:
            found += [line for line in _shown(session, account) if there.search(line)]
        except ServerError as exc:
            if exc.number not in _NOTHING_GRANTED:
                said.skip_thing(
                    account.shown, f"its grants on routines of {text(database)} may be lost: {exc.discreet}"
                )
    return found


def _shown(session: Session, account: Account) -> list[str]:
    """Its own grants; a role's are shown with those of the roles it has."""
    public = account.is_role and account.name == _PUBLIC
    shown = [decoded(row[0]) for row in session.rows(f"SHOW GRANTS FOR {_PUBLIC if public else account.quoted}")]
    if not account.is_role:
        return shown
    to = f" TO {_PUBLIC if public else quoted(account.name)}"
    return [line for line in shown if line.endswith((to, f"{to} WITH ADMIN OPTION", f"{to} WITH GRANT OPTION"))]


def _listed(session: Session, what: str, query: str, said: Notes) -> Sequence[tuple[str, ...]]:
    try:
        return session.names(query)
    except ServerError as exc:
        said.skip_thing(what, f"could not be listed, none is taken: {exc}")
        return ()


def _entry(session: Session, account: Account) -> dict[str, Any]:
    shown = _shown(session, account)
    created = (
        f"CREATE ROLE {account.quoted}" if account.is_role else session.value(f"SHOW CREATE USER {account.quoted}")
    )
    grants = [_bare(line, account) for line in shown if not line.startswith("SET DEFAULT ROLE ")]
    defaults = [line for line in shown if line.startswith("SET DEFAULT ROLE ")]
    return {
        "name": account.name,
        "host": account.host,
        "is_role": account.is_role,
        "shown": account.shown,
        "create": created,
        "grants": sorted(grants),
        "defaults": defaults,
    }


def _bare(grant: str, account: Account) -> str:
    """A grant without the password and the limits, which are of the account: SHOW CREATE USER has them."""
    head, to, tail = grant.partition(f" ON *.* TO {quoted(account.name)}@{quoted(account.host)}")
    if not to or account.is_role:
        return grant
    return head + to + (" WITH GRANT OPTION" if re.search(r" WITH GRANT OPTION($| MAX_)", tail) else "")


# ---------------------------------------------------------------- the way back

_NOT_YET = frozenset({1054, 1146, 1305, 1347, 1049, 1139, 1477})  # what the grant is about is not there
_ABOUT = re.compile(r" ON (?:(?:PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE|TABLE) )?(`(?:[^`]|``)+`)\.")


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant about something that is not there yet. `database` is what it is about."""

    account: str
    statement: str
    database: str


def load_accounts(session: Session, dump: DumpFolder, progress: Progress, said: Notes) -> list[Grant]:
    """Make users and roles, then grant; the grants that wait for their database are given back."""
    saved = dump.read_json(ACCOUNTS)
    _install(session, saved.get("plugins", {}), said)
    entries = [(entry, _account(entry)) for entry in saved["accounts"]]
    entries = [(entry, account) for entry, account in entries if not account.is_own]
    made = []
    for number, (entry, account) in enumerate(entries):
        progress("database accounts", number, len(entries))
        try:
            _make(session, account, str(entry["create"]))
            made.append((entry, account))
        except ServerError as exc:
            said.skip_thing(account.shown, exc.discreet)
    waiting: list[Grant] = []
    for key, word in (("grants", "GRANT "), ("defaults", "SET DEFAULT ROLE ")):
        for entry, account in made:
            for statement in map(str, entry[key]):
                waiting += _give(session, account.shown, _checked(statement, word), said)
    progress("database accounts", len(entries), len(entries))
    return waiting


def _install(session: Session, plugins: Mapping[str, str], said: Notes) -> None:
    """Install what the accounts need to be let in; the server takes libraries from its own folder of plugins only."""
    for name, library in plugins.items():
        if session.rows(f"SELECT 1 FROM information_schema.PLUGINS WHERE PLUGIN_NAME = {text(name)}"):
            continue
        try:
            session.run(f"INSTALL PLUGIN {quoted(name)} SONAME {text(library)}")
        except ServerError as exc:
            said.skip_thing(f"plugin {name}", str(exc))


def give_again(session: Session, waiting: Sequence[Grant], loaded: str, said: Notes) -> list[Grant]:
    """Try grants again after a database was loaded; those that go on waiting for another one."""
    still: list[Grant] = []
    for grant in waiting:
        left = _give(session, grant.account, grant.statement, said)
        if left and grant.database == loaded:
            said.skip_thing(grant.account, f"what it was granted is not there: {grant.statement}")
        else:
            still += left
    return still


def _account(entry: Mapping[str, Any]) -> Account:
    return Account(str(entry["name"]), str(entry["host"]), bool(entry["is_role"]))


def _make(session: Session, account: Account, statement: str) -> None:
    if account.is_role:
        name = _PUBLIC if account.name == _PUBLIC else account.quoted
        if name != _PUBLIC:
            session.run(f"CREATE ROLE IF NOT EXISTS {name}")
        _empty_role(session, account, name)
        return
    _checked(statement, "CREATE USER ")
    session.run(f"DROP USER IF EXISTS {account.quoted}")
    session.run(statement)


def _empty_role(session: Session, account: Account, name: str) -> None:
    """Take from a role what it was granted here: the saved one wins."""
    try:
        session.run(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {name}")
    except ServerError as exc:
        if exc.number not in _NOTHING_GRANTED:
            raise
    within = f"Host = '' AND User = {text(account.name)}"
    for (role,) in session.names(f"SELECT Role FROM mysql.roles_mapping WHERE {within}"):
        session.run(f"REVOKE {quoted(role)} FROM {name}")


def _checked(statement: str, word: str) -> str:
    if not statement.startswith(word):
        raise ServerError(0, f"its dump holds another statement than {word.strip()}")
    return statement


def _give(session: Session, account: str, statement: str, said: Notes) -> list[Grant]:
    give = session.run_as_oracle if " ON PACKAGE " in statement else session.run
    try:
        give(statement)
    except ServerError as exc:
        about = _ABOUT.search(statement)
        if about and exc.number in _NOT_YET:
            return [Grant(account, statement, about[1][1:-1].replace("``", "`"))]
        said.skip_thing(account, f"{exc.discreet} ({statement.partition(' IDENTIFIED ')[0]})")
    return []
