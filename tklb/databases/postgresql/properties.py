"""What a database is beside its contents: encoding, locale, owner, privileges, settings, comment.

Takes sessions; gives and takes plain JSON values, checked when read. Makes an empty database that is as the saved one,
and gives an own one the saved one's properties. Sources: CREATE DATABASE and ALTER DATABASE of PostgreSQL's manual;
how settings are written is dumputils.c (makeAlterConfigCommand).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tklb.databases.postgresql.grants import EXPLODED, Grant, grant_statements, grants_of
from tklb.databases.postgresql.session import Refused, Session, ident, literal

_LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)


@dataclass(frozen=True, slots=True)
class Properties:
    """`provider` is libc, icu or builtin; `settings` are role ("" for all), name and value; `limit` -1 is none."""

    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str
    rules: str
    owner: str
    limit: int
    is_template: bool
    comment: str | None
    grants: tuple[Grant, ...] | None
    settings: tuple[tuple[str, str, str], ...]


def ask_properties(session: Session, database: str) -> Properties:
    """Of a database of the session's server."""
    locale = "datlocale" if session.version >= 170000 else "daticulocale"
    rules = "daticurules" if session.version >= 160000 else "NULL"
    rows = session.ask(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider,"
        f" coalesce({locale}, ''), coalesce({rules}, ''), pg_get_userbyid(datdba), datconnlimit, datistemplate,"
        f" shobj_description(oid, 'pg_database'), {EXPLODED.format(acl='datacl')} FROM pg_database WHERE datname = $1",
        database,
    )
    if not rows:
        raise Refused(f'database "{database}" does not exist')
    encoding, collate, ctype, provider, place, rule, owner, limit, template, comment, grants = rows[0]
    settings = session.ask(
        "SELECT coalesce(r.rolname, ''), unnest(setconfig) FROM pg_db_role_setting s"
        " LEFT JOIN pg_authid r ON r.oid = s.setrole WHERE setdatabase ="
        " (SELECT oid FROM pg_database WHERE datname = $1) ORDER BY 1, 2",
        database,
    )
    return Properties(
        encoding or "",
        collate or "",
        ctype or "",
        {"i": "icu", "b": "builtin"}.get(provider or "", "libc"),
        place or "",
        rule or "",
        owner or "",
        int(limit or -1),
        template == "t",
        comment,
        grants_of(json.loads(grants)) if grants else None,
        tuple(split_setting(role or "", line or "") for role, line in settings),
    )


def split_setting(role: str, line: str) -> tuple[str, str, str]:
    """`name=value` as pg_db_role_setting has it."""
    name, _, value = line.partition("=")
    return role, name, value


def search_path(properties: Properties) -> str:
    """The path that sessions with the database have, as SET wants it."""
    for role, name, value in properties.settings:
        if not role and name == "search_path":
            return setting_value(name, value)
    return "public"


def properties_from(value: Mapping[str, Any]) -> Properties:
    """Read what asdict and JSON made. Raises KeyError, TypeError, ValueError."""
    grants = value["grants"]
    return Properties(
        **{name: str(value[name]) for name in ("encoding", "collate", "ctype", "provider", "locale", "rules", "owner")},
        limit=int(value["limit"]),
        is_template=bool(value["is_template"]),
        comment=None if value["comment"] is None else str(value["comment"]),
        grants=None
        if grants is None
        else grants_of([[g["grantor"], g["grantee"], g["privilege"], g["grantable"]] for g in grants]),
        settings=tuple((str(role), str(name), str(text)) for role, name, text in value["settings"]),
    )


def needs_of(properties: Properties) -> tuple[str, ...]:
    """The locales and providers that a server must have."""
    locales = {locale_word(name) for name in (properties.collate, properties.ctype)} - {"C", "POSIX"}
    provider = () if properties.provider == "libc" else (f"provider:{properties.provider}",)
    return (*(f"locale:{name}" for name in sorted(locales)), *provider)


def locale_word(name: str) -> str:
    """One spelling of a libc locale: en_US.UTF-8 and en_US.utf8 are the same one."""
    place, dot, codeset = name.partition(".")
    codeset, at, variant = codeset.partition("@")
    return place + dot + codeset.lower().replace("-", "") + at + variant


def create(session: Session, name: str, properties: Properties) -> str | None:
    """Make an empty database; what it could not have of the saved one's locale, None where it has all."""
    try:
        session.tell(_creation(name, properties, session.version))
        return None
    except Refused as exc:
        first = exc
    try:
        session.tell(f"CREATE DATABASE {ident(name)} TEMPLATE template0 ENCODING {literal(properties.encoding)}")
        kept = "this cluster's default"
    except Refused:
        session.tell(
            f"CREATE DATABASE {ident(name)} TEMPLATE template0 ENCODING {literal(properties.encoding)} LOCALE 'C'"
        )
        kept = "C"
    return f"its locale ({properties.locale or properties.collate}) cannot be had here, it has {kept}: {first}"


def _creation(name: str, properties: Properties, version: int) -> str:
    words = [
        f"CREATE DATABASE {ident(name)} TEMPLATE template0 ENCODING {literal(properties.encoding)}",
        f"LC_COLLATE {literal(properties.collate)} LC_CTYPE {literal(properties.ctype)}",
        f"LOCALE_PROVIDER {properties.provider}",
    ]
    if properties.provider != "libc":
        words.append(f"{properties.provider.upper()}_LOCALE {literal(properties.locale)}")
    if properties.rules and version >= 160000:
        words.append(f"ICU_RULES {literal(properties.rules)}")
    return " ".join(words)


def property_statements(name: str, properties: Properties) -> Iterator[tuple[str, str]]:
    """What gives database `name` the saved properties, each with what it is about."""
    this = f"DATABASE {ident(name)}"
    yield "owner", f"ALTER {this} OWNER TO {ident(properties.owner)}"
    for statement in grant_statements(this, properties.owner, properties.grants):
        yield "privileges", statement
    yield "comment", f"COMMENT ON {this} IS {'NULL' if properties.comment is None else literal(properties.comment)}"
    for role, setting, value in properties.settings:
        target = f"ROLE {ident(role)} IN {this}" if role else this
        yield f"setting {setting}", f"ALTER {target} SET {setting_name(setting)} TO {setting_value(setting, value)}"
    template = "true" if properties.is_template else "false"
    yield "limits", f"ALTER {this} CONNECTION LIMIT {properties.limit} IS_TEMPLATE {template}"


def setting_name(name: str) -> str:
    return ".".join(ident(part) for part in name.split("."))


def setting_value(name: str, value: str) -> str:
    """A setting's text as SET wants it: lists of names one by one."""
    if name.lower() not in _LISTS:
        return literal(value)
    return ", ".join(literal(part) for part in _listed(value)) or "''"


def _listed(value: str) -> Iterator[str]:
    """Cut a list of names at its commas, as SplitGUCList of varlena.c does."""
    part, in_quotes, place = "", False, 0
    while place < len(value):
        sign = value[place]
        if sign == '"' and in_quotes and value[place + 1 : place + 2] == '"':
            part, place = part + sign, place + 1
        elif sign == '"':
            in_quotes = not in_quotes
        elif sign == "," and not in_quotes:
            yield part
            part = ""
        elif in_quotes or not sign.isspace():
            part += sign
        place += 1
    yield part
