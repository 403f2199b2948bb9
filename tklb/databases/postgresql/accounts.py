"""Roles, memberships, their settings and privileges: as JSON out of the server, and back.

Takes connections with any database; gives plain values. A password's hash goes from catalogue to file to catalogue, and
into no message: connections log nothing, and errors come without the statement. Sources: pg_authid, pg_auth_members and
pg_parameter_acl of PostgreSQL's manual; dumputils.c of pg_dump for settings and privileges as statements.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tklb.databases.dump_format import DumpFolder, write_json
from tklb.databases.postgresql import ENGINE
from tklb.databases.postgresql.cluster.role_settings import (
    give_setting,
    make_setting_locales,
    quote_setting_name,
    split_setting,
)
from tklb.databases.postgresql.cluster.tablespaces import list_tablespaces, make_tablespace
from tklb.databases.postgresql.connection import ServerConnection, ServerError, quote_name, quote_text
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Progress

__all__ = ["dump_accounts", "load_accounts"]

ROLES = "roles.json"

_PRIVILEGE = re.compile(r"[A-Z]+( [A-Z]+)*")
FLAGS = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
_OTHERS = "oid <> 10 AND rolname !~ '^pg_|^tklb_loader_[0-9a-f]{16}$'"  # 10 is the administrator of initdb
ACL_AS_JSON = (
    "coalesce((SELECT json_agg(json_build_array(pg_get_userbyid(a.grantor),"
    " CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable))"
    " FROM aclexplode({acl}) a), CASE WHEN {acl} IS NOT NULL THEN '[]'::json END)"
)  # null where the access control list is the default one
# ---------------------------------------------------------------- privileges and settings as statements


@dataclass(frozen=True, slots=True)
class Grant:
    """One privilege. `grantee` None is PUBLIC."""

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool


def read_grants(value: object) -> tuple[Grant, ...] | None:
    """Read what ACL_AS_JSON gave."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError("no list of grants")
    if not all(_PRIVILEGE.fullmatch(str(privilege)) for _, _, privilege, _ in value):
        raise ValueError("a privilege is none")
    return tuple(Grant(str(g), None if r is None else str(r), str(p), bool(o)) for g, r, p, o in value)


def format_grants(thing: str, owner: str, grants: tuple[Grant, ...] | None) -> tuple[str, ...]:
    """The statements that give `thing` (`DATABASE "x"`) these privileges and no others. None: leave the default."""
    if grants is None:
        return ()
    statements = [f"REVOKE ALL ON {thing} FROM PUBLIC", f"REVOKE ALL ON {thing} FROM {quote_name(owner)}"]
    for grant in sorted(grants, key=lambda grant: grant.grantor != owner):
        to = "PUBLIC" if grant.grantee is None else quote_name(grant.grantee)
        option = " WITH GRANT OPTION" if grant.grantable else ""
        statement = f"GRANT {grant.privilege} ON {thing} TO {to}{option}"
        if grant.grantor != owner:
            statement = (
                f"SET SESSION AUTHORIZATION {quote_name(grant.grantor)}; {statement}; RESET SESSION AUTHORIZATION"
            )
        statements.append(statement)
    return tuple(statements)


# ---------------------------------------------------------------- out of the server


def dump_accounts(connection: ServerConnection, folder: Path) -> tuple[str, ...]:
    """Write roles.json: all roles but those that come with the server; of the administrator name and password alone.

    Return the names of the others.
    """
    roles = list(_list_roles(connection))
    name, password = _read_administrator(connection)
    value = {
        "administrator": name,
        "administrator_password": password,
        "roles": roles,
        "settings": [
            split_setting(role or "", line or "")
            for role, line in connection.fetch_rows(
                "SELECT coalesce(r.rolname, ''), unnest(setconfig) FROM pg_db_role_setting s LEFT JOIN pg_authid r"
                " ON r.oid = s.setrole WHERE setdatabase = 0 AND s.setrole <> 10 ORDER BY 1, 2"
            )
        ],
        "memberships": list(_list_memberships(connection)),
        "parameters": [
            {"name": name, "grants": json.loads(grants or "null")}
            for name, grants in connection.fetch_rows(
                f"SELECT parname, {ACL_AS_JSON.format(acl='paracl')} FROM pg_parameter_acl ORDER BY 1"
            )
        ],
    }
    if spaces := list_tablespaces(connection, ACL_AS_JSON.format(acl="spcacl")):
        value["tablespaces"] = spaces
    write_json(folder / ROLES, value)
    return tuple(str(role["name"]) for role in roles)


def _read_administrator(connection: ServerConnection) -> tuple[str, str | None]:
    ((name, password),) = connection.fetch_rows("SELECT rolname, rolpassword FROM pg_authid WHERE oid = 10")
    return name or "", password


def _list_roles(connection: ServerConnection) -> Iterator[dict[str, Any]]:
    rows = connection.fetch_rows(
        f"SELECT rolname, rolconnlimit, rolpassword, rolvaliduntil, shobj_description(oid, 'pg_authid'),"
        f' {", ".join(FLAGS)} FROM pg_authid WHERE {_OTHERS} ORDER BY rolname COLLATE "C"'
    )
    for name, limit, password, until, comment, *flags in rows:
        words = [word if flag == "t" else f"NO{word}" for word, flag in zip(FLAGS.values(), flags, strict=True)]
        yield {
            "name": name,
            "limit": int(limit or -1),
            "password": password,
            "until": until,
            "comment": comment,
            "attributes": words,
        }


def _list_memberships(connection: ServerConnection) -> Iterator[dict[str, Any]]:
    options = "inherit_option, set_option" if connection.version >= 160000 else "NULL, NULL"
    rows = connection.fetch_rows(
        "SELECT pg_get_userbyid(roleid), pg_get_userbyid(member), pg_get_userbyid(grantor), admin_option,"
        f" {options}, m.grantor = 10 FROM pg_auth_members m JOIN pg_authid a ON a.oid = m.member"
        " WHERE NOT (a.rolname ~ '^pg_') ORDER BY 1, 2, 3"
    )
    for role, member, grantor, admin, inherit, set_role, is_administrators in rows:
        yield {
            "role": role,
            "member": member,
            "grantor": None if is_administrators == "t" else grantor,
            "admin": admin == "t",
            "inherit": None if inherit is None else inherit == "t",
            "set": None if set_role is None else set_role == "t",
        }


# ---------------------------------------------------------------- and back


def load_accounts(connection: ServerConnection, dump: DumpFolder, progress: Progress, report: DatabaseReport) -> None:
    """Bring the saved roles: the saved one wins, others stay. Raises DatabaseFailed, ServerError."""
    progress(f"{ENGINE}: roles", 0, 0)
    value = dump.read_json(ROLES)
    try:
        _RoleLoad(connection, value, report).run()
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DatabaseFailed(item=ENGINE, reason=f"{ROLES} of its dump is not as it should be") from exc


class _RoleLoad:
    """One load of roles. Raises KeyError, TypeError, ValueError where the saved values are not as they should be."""

    def __init__(self, connection: ServerConnection, saved: Mapping[str, Any], report: DatabaseReport) -> None:
        self._connection, self._saved, self._report = connection, saved, report

    def run(self) -> None:
        self._connection.run("SET pg_stat_statements.track_utility = off")  # it would keep the hashes
        rows = self._connection.fetch_rows("SELECT rolname, rolvaliduntil FROM pg_authid")
        here = {name: until for name, until in rows}  # noqa: C416 - rows are of no fixed length
        for role in self._saved["roles"]:
            name = str(role["name"])
            created = () if name in here else (f"CREATE ROLE {quote_name(name)}",)
            self._try(name, [*created, *_format_role(role, ends=here.get(name) is not None)])
        for space in self._saved.get("tablespaces", ()):
            self._make_space(space, *_read_administrator(self._connection)[:1])
        self._set([(str(role), str(name), str(value)) for role, name, value in self._saved["settings"]])
        self._join(list(self._saved["memberships"]))
        owner, password = _read_administrator(self._connection)
        self._set_password(owner, password)
        for parameter in self._saved["parameters"]:
            self._grant_parameter(str(parameter["name"]), owner, parameter["grants"])

    def _set(self, settings: Sequence[tuple[str, str, str]]) -> None:
        """Give roles, or all of them, their settings."""
        for note in make_setting_locales(self._connection, [setting[1:] for setting in settings]):
            self._report.note(note)
        for role, name, value in settings:
            target = f"ROLE {quote_name(role)}" if role else "ROLE ALL"
            if reason := give_setting(self._connection, target, name, value):
                self._report.skip_other(f"role {role or 'all'}", f"its setting {name}: {reason}")

    def _make_space(self, space: Mapping[str, Any], administrator: str) -> None:
        """Make a tablespace with its privileges, where it is not here."""
        was = self._saved["administrator"]
        owner = administrator if space["owner"] == was else str(space["owner"])
        label = f"tablespace {space['name']}"
        if reason := make_tablespace(self._connection, space, owner):
            self._report.skip_other(label, reason)
            return
        grants = self._read_grants(space["grants"], administrator)
        for statement in format_grants(f"TABLESPACE {quote_name(str(space['name']))}", owner, grants)[2:]:
            self._try("*", [statement], f"privileges on the {label}: ")

    def _read_grants(self, saved: Sequence[Any] | None, administrator: str) -> tuple[Grant, ...] | None:
        """Read saved privileges, with the administrator of this server in the place of the saved one."""
        names = {self._saved["administrator"]: administrator}
        return read_grants([[names.get(who, who) for who in grant[:2]] + grant[2:] for grant in saved or []])

    def _set_password(self, owner: str, here: str | None) -> None:
        """Give the administrator its saved password where it has none: the saved pg_hba.conf may ask for it."""
        saved = self._saved.get("administrator_password")
        if saved is None or saved == here:
            return
        if here is None and owner == self._saved["administrator"]:
            self._try(owner, [f"ALTER ROLE {quote_name(owner)} PASSWORD {quote_text(str(saved))}"], "its password: ")
        else:
            self._report.note(f"{ENGINE}:role {owner}: it keeps its own password, not that of the snapshot")

    def _grant_parameter(self, name: str, owner: str, grants: Sequence[Any] | None) -> None:
        statements = format_grants(f"PARAMETER {quote_setting_name(name)}", owner, self._read_grants(grants, owner))
        for statement in statements[2:]:  # others' privileges stay
            self._try("*", [statement], f"privileges on the parameter {name}: ")

    def _try(self, role: str, statements: Sequence[str], about: str = "") -> None:
        try:
            self._connection.run("; ".join(statements))
        except ServerError as exc:
            self._report.skip_other(f"role {role}", f"{about}{exc}")

    def _join(self, memberships: list[Mapping[str, Any]]) -> None:
        """Grant roles to roles, as often as it takes: a role that grants must have been granted before."""
        left, refusals = memberships, {}
        while left:
            results = {number: self._grant_role(each, each["grantor"]) for number, each in enumerate(left)}
            refusals = {number: refusal for number, refusal in results.items() if refusal}
            if len(refusals) == len(left):
                break
            left = [left[number] for number in refusals]
        for number, membership in enumerate(left):
            self._join_otherwise(membership, refusals[number])

    def _join_otherwise(self, membership: Mapping[str, Any], refusal: ServerError) -> None:
        role, member = str(membership["role"]), str(membership["member"])
        if membership["grantor"] and not self._grant_role(membership, None):
            self._report.note(f"{ENGINE}:role {member}: granted {role} by the administrator instead: {refusal}")
        else:
            self._report.skip_other(f"role {member}", f"its membership in {role}: {refusal}")

    def _grant_role(self, membership: Mapping[str, Any], grantor: str | None) -> ServerError | None:
        words = [f"GRANT {quote_name(str(membership['role']))} TO {quote_name(str(membership['member']))}"]
        options = [("ADMIN", True)] if membership["admin"] else []
        if self._connection.version >= 160000:
            chosen = (("INHERIT", membership["inherit"]), ("SET", membership["set"]))
            options += [(word, bool(value)) for word, value in chosen if value is not None]
            clause = ", ".join(f"{word} {'TRUE' if value else 'FALSE'}" for word, value in options)
        else:
            clause = "ADMIN OPTION" if options else ""
        words += [f"WITH {clause}"] if clause else []
        words += [f"GRANTED BY {quote_name(grantor)}"] if grantor else []
        try:
            self._connection.run(" ".join(words))
        except ServerError as exc:
            return exc
        return None


def _format_role(role: Mapping[str, Any], *, ends: bool) -> Iterator[str]:
    """Statements that make a role as the saved one. `ends`: the one here has an end, which only another end removes."""
    name = quote_name(str(role["name"]))
    attributes = [str(word) for word in role["attributes"]]
    if not {*FLAGS.values(), *(f"NO{word}" for word in FLAGS.values())}.issuperset(attributes):
        raise ValueError("an attribute of a role is none")
    password = "NULL" if role["password"] is None else quote_text(str(role["password"]))
    no_end = " VALID UNTIL 'infinity'" if ends else ""
    until = no_end if role["until"] is None else f" VALID UNTIL {quote_text(str(role['until']))}"
    limit = int(role["limit"])
    login = f"CONNECTION LIMIT {limit} PASSWORD {password}{until}"
    yield f"ALTER ROLE {name} WITH {' '.join(attributes)} {login}"
    comment = "NULL" if role["comment"] is None else quote_text(str(role["comment"]))
    yield f"COMMENT ON ROLE {name} IS {comment}"
    yield f"ALTER ROLE {name} RESET ALL"
