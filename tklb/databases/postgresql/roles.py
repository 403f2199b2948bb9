"""Roles, memberships, their settings and the privileges on parameters: into JSON, and from it into a server.

Takes sessions with any database; gives plain values. A password's hash goes from catalogue to file to catalogue, and
into no message: sessions log nothing, and errors are told without the statement. Sources: pg_authid, pg_auth_members
and pg_parameter_acl of PostgreSQL's manual.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tklb.databases.dump_format import DumpFolder
from tklb.databases.postgresql.cluster import ENGINE
from tklb.databases.postgresql.grants import EXPLODED, grant_statements, grants_of
from tklb.databases.postgresql.properties import setting_name, setting_value, split_setting
from tklb.databases.postgresql.session import Refused, Session, ident, literal
from tklb.errors import DatabaseFailed
from tklb.model.report import Skipped

ROLES = "roles.json"
_FLAGS = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
_OTHERS = "oid <> 10 AND rolname !~ '^pg_'"  # 10 is the administrator of initdb


def ask_roles(session: Session) -> dict[str, Any]:
    """All but the administrator and those that come with the server, as JSON has it."""
    return {
        "administrator": session.value("SELECT rolname FROM pg_authid WHERE oid = 10"),
        "roles": list(_roles(session)),
        "settings": [
            split_setting(role or "", line or "")
            for role, line in session.ask(
                "SELECT coalesce(r.rolname, ''), unnest(setconfig) FROM pg_db_role_setting s LEFT JOIN pg_authid r"
                " ON r.oid = s.setrole WHERE setdatabase = 0 AND s.setrole <> 10 ORDER BY 1, 2"
            )
        ],
        "memberships": list(_memberships(session)),
        "parameters": [
            {"name": name, "grants": json.loads(grants or "null")}
            for name, grants in session.ask(
                f"SELECT parname, {EXPLODED.format(acl='paracl')} FROM pg_parameter_acl ORDER BY 1"
            )
        ],
    }


def _roles(session: Session) -> Iterator[dict[str, Any]]:
    rows = session.ask(
        f"SELECT rolname, rolconnlimit, rolpassword, rolvaliduntil, shobj_description(oid, 'pg_authid'),"
        f' {", ".join(_FLAGS)} FROM pg_authid WHERE {_OTHERS} ORDER BY rolname COLLATE "C"'
    )
    for name, limit, password, until, comment, *flags in rows:
        words = [word if flag == "t" else f"NO{word}" for word, flag in zip(_FLAGS.values(), flags, strict=True)]
        yield {
            "name": name,
            "limit": int(limit or -1),
            "password": password,
            "until": until,
            "comment": comment,
            "attributes": words,
        }


def _memberships(session: Session) -> Iterator[dict[str, Any]]:
    options = "inherit_option, set_option" if session.version >= 160000 else "NULL, NULL"
    rows = session.ask(
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


@dataclass(slots=True)
class RoleLoader:
    """Brings saved roles into a server; `skipped` has what it did not take."""

    session: Session
    saved: Mapping[str, Any]
    skipped: list[Skipped]
    notes: list[str]

    def load(self) -> None:
        """Raises KeyError, TypeError, ValueError where the saved values are none."""
        self.session.tell("SET pg_stat_statements.track_utility = off")  # it would keep the hashes
        asked = self.session.ask("SELECT rolname, rolvaliduntil FROM pg_authid")
        here = {name: until for name, until in asked}  # noqa: C416 - rows are of no fixed length
        for role in self.saved["roles"]:
            name = str(role["name"])
            created = () if name in here else (f"CREATE ROLE {ident(name)}",)
            self._try(name, [*created, *_role_statements(role, ends=here.get(name) is not None)])
        for role, setting, value in self.saved["settings"]:
            target = f"ROLE {ident(role)}" if role else "ROLE ALL"
            statement = f"ALTER {target} SET {setting_name(setting)} TO {setting_value(setting, value)}"
            self._try(role or "all", [statement], f"its setting {setting}: ")
        self._join(list(self.saved["memberships"]))
        owner = self.session.value("SELECT rolname FROM pg_authid WHERE oid = 10") or ""
        for parameter in self.saved["parameters"]:
            self._grant(str(parameter["name"]), owner, parameter["grants"])

    def _grant(self, name: str, owner: str, grants: object) -> None:
        was = self.saved["administrator"]
        ours = [[owner if who == was else who for who in grant[:2]] + grant[2:] for grant in grants or []]  # type: ignore[attr-defined]
        statements = grant_statements(f"PARAMETER {setting_name(name)}", owner, grants_of(ours))
        for statement in statements[2:]:  # others' privileges stay
            self._try("*", [statement], f"privileges on the parameter {name}: ")

    def _try(self, role: str, statements: Sequence[str], about: str = "") -> bool:
        try:
            self.session.tell("; ".join(statements))
        except Refused as exc:
            self.skipped.append(Skipped(_item(role), f"{about}{exc}"))
            return False
        return True

    def _join(self, memberships: list[Mapping[str, Any]]) -> None:
        """Grant roles to roles, as often as it takes: who grants must have been granted before."""
        refusals: dict[int, Refused] = {}
        left = list(memberships)
        while left:
            refusals.clear()
            failed = []
            for membership in left:
                if refusal := self._granted(membership, membership["grantor"]):
                    failed.append(membership)
                    refusals[id(membership)] = refusal
            if len(failed) == len(left):
                break
            left = failed
        for membership in left:
            self._join_otherwise(membership, refusals[id(membership)])

    def _join_otherwise(self, membership: Mapping[str, Any], refusal: Refused) -> None:
        role, member = str(membership["role"]), str(membership["member"])
        if membership["grantor"] and not self._granted(membership, None):
            self.notes.append(f"{ENGINE}:role {member}: granted {role} by the administrator instead: {refusal}")
        else:
            self.skipped.append(Skipped(_item(member), f"its membership in {role}: {refusal}"))

    def _granted(self, membership: Mapping[str, Any], grantor: str | None) -> Refused | None:
        words = [f"GRANT {ident(str(membership['role']))} TO {ident(str(membership['member']))}"]
        options = [("ADMIN", True)] if membership["admin"] else []
        if self.session.version >= 160000:
            chosen = (("INHERIT", membership["inherit"]), ("SET", membership["set"]))
            options += [(word, bool(value)) for word, value in chosen if value is not None]
            told = ", ".join(f"{word} {'TRUE' if value else 'FALSE'}" for word, value in options)
        else:
            told = "ADMIN OPTION" if options else ""
        words += [f"WITH {told}"] if told else []
        words += [f"GRANTED BY {ident(grantor)}"] if grantor else []
        try:
            self.session.tell(" ".join(words))
        except Refused as exc:
            return exc
        return None


def _role_statements(role: Mapping[str, Any], *, ends: bool) -> Iterator[str]:
    """What makes a role as the saved one. `ends`: the one here has an end, which nothing but another one takes away."""
    name = ident(str(role["name"]))
    attributes = [str(word) for word in role["attributes"]]
    if not {*_FLAGS.values(), *(f"NO{word}" for word in _FLAGS.values())}.issuperset(attributes):
        raise ValueError("an attribute of a role is none")
    password = "NULL" if role["password"] is None else literal(str(role["password"]))
    no_end = " VALID UNTIL 'infinity'" if ends else ""
    until = no_end if role["until"] is None else f" VALID UNTIL {literal(str(role['until']))}"
    limit = int(role["limit"])
    login = f"CONNECTION LIMIT {limit} PASSWORD {password}{until}"
    yield f"ALTER ROLE {name} WITH {' '.join(attributes)} {login}"
    comment = "NULL" if role["comment"] is None else literal(str(role["comment"]))
    yield f"COMMENT ON ROLE {name} IS {comment}"
    yield f"ALTER ROLE {name} RESET ALL"


def read_roles(dump: DumpFolder) -> Mapping[str, Any]:
    """Raises DatabaseFailed."""
    value = dump.read_json(ROLES)
    if not isinstance(value, dict):
        raise DatabaseFailed(item=dump.item, reason=f"{ROLES} of its dump is not as it should be")
    return value


def _item(role: str) -> bytes:
    return f"{ENGINE}:role {role}".encode("utf-8", "surrogateescape")
