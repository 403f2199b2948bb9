"""Code of the owners runs while rows are loaded: what it must not change, the definitions and the roles.

Another fingerprint of all definitions means that somebody changed one. Roles are compared and put back. Takes a
connection; changes roles only.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from tklb.databases.postgresql.accounts import FLAGS
from tklb.databases.postgresql.cluster.role_settings import quote_setting, quote_setting_name, split_setting
from tklb.databases.postgresql.connection import ServerConnection, ServerError, quote_name, quote_text
from tklb.lazy_dataclass import dataclass

__all__ = ["FINGERPRINT"]

log = logging.getLogger(__name__)

_DEFINITIONS = tuple(
    "attrdef attribute cast constraint default_acl event_trigger extension foreign_server index inherits language"  # noqa: SIM905
    " namespace operator policy proc publication rewrite statistic_ext trigger type user_mapping".split()
)
# of a relation all but what says where its rows are, and how many
_RELATION = (
    "(to_jsonb(c) - '{relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid}'::text[])"
)
FINGERPRINT = "SELECT md5(string_agg(part, ' ')) FROM (" + " UNION ALL ".join(
    f"SELECT '{name} ' || count(*) || ' ' || coalesce(sum(hashtext({what}::text)::bigint), 0) AS part FROM pg_{name} c"
    for name, what in [*((name, "(xmin, ctid)") for name in _DEFINITIONS), ("class", _RELATION)]
) + ") parts"  # fmt: skip


@contextlib.contextmanager
def keep_roles(connection: ServerConnection) -> Iterator[None]:
    """Compare all roles before and after the block; put back what changed. Raises ServerError, which names it."""
    before = _read_roles(connection)
    try:
        yield
    except BaseException as exc:
        connection.settle()
        said = _restore_after_failure(connection, before)
        if said and isinstance(exc, ServerError):
            raise ServerError(f"{exc}; {said}", exc.state) from exc
        raise
    if changed := sorted(_put_back(connection, before, _read_roles(connection))):
        raise ServerError(_describe_changed(changed))


@dataclass(frozen=True, slots=True)
class _RoleFacts:
    """What there is to know of a role: attributes as statements have them, memberships, settings. The hash is in it."""

    attributes: str = field(repr=False)
    members: frozenset[tuple[str, str]]  # roles that it is in, and whether it may pass them on
    settings: tuple[str, ...]


def _read_roles(connection: ServerConnection) -> dict[str, _RoleFacts]:
    memberships: dict[str, set[tuple[str, str]]] = {}
    for member, role, admin in connection.fetch_rows(
        "SELECT pg_get_userbyid(member), pg_get_userbyid(roleid), admin_option FROM pg_auth_members"
    ):
        memberships.setdefault(member or "", set()).add((role or "", admin or ""))
    settings: dict[str, list[str]] = {}
    for role, line in connection.fetch_rows(
        "SELECT pg_get_userbyid(setrole), unnest(setconfig) FROM pg_db_role_setting WHERE setdatabase = 0 ORDER BY 1, 2"
    ):
        settings.setdefault(role or "", []).append(line or "")
    rows = connection.fetch_rows(
        f"SELECT rolname, rolpassword, rolvaliduntil, rolconnlimit, {', '.join(FLAGS)} FROM pg_authid"
        " WHERE rolname !~ '^tklb_loader_[0-9a-f]{16}$'"
    )
    return {
        name or "": _RoleFacts(
            _format_attributes(password, until, limit, flags),
            frozenset(memberships.get(name or "", ())),
            tuple(settings.get(name or "", ())),
        )
        for name, password, until, limit, *flags in rows
    }


def _format_attributes(password: str | None, until: str | None, limit: str | None, flags: Sequence[str | None]) -> str:
    words = [word if flag == "t" else f"NO{word}" for word, flag in zip(FLAGS.values(), flags, strict=True)]
    secret = "NULL" if password is None else quote_text(password)
    return f"{' '.join(words)} CONNECTION LIMIT {limit} PASSWORD {secret} VALID UNTIL {quote_text(until or 'infinity')}"


def _put_back(
    connection: ServerConnection, before: Mapping[str, _RoleFacts], after: Mapping[str, _RoleFacts]
) -> Iterator[str]:
    for name in before.keys() | after.keys():
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        yield name
        if was is None or now is None:
            continue
        connection.run("; ".join(_format_return(quote_name(name), was, now)))


def _restore_after_failure(connection: ServerConnection, before: Mapping[str, _RoleFacts]) -> str:
    """Put roles back; say which, or why they could not be compared or put back. "" where none changed."""
    try:
        changed = sorted(_put_back(connection, before, _read_roles(connection)))
    except ServerError as failure:
        log.warning("roles could not be compared or put back: %s", failure)
        return f"whether roles changed meanwhile is not known: {failure}"
    said = _describe_changed(changed) if changed else ""
    if said:
        log.warning("%s", said)
    return said


def _describe_changed(names: list[str]) -> str:
    return f"while its code ran, these roles changed, and were put back: {', '.join(names)}"


def _format_return(role: str, was: _RoleFacts, now: _RoleFacts) -> Iterator[str]:
    """Statements that make a role, whose name is quoted, as it was."""
    if was.attributes != now.attributes:
        yield f"ALTER ROLE {role} WITH {was.attributes}"
    for other, _ in now.members - was.members:
        yield f"REVOKE {quote_name(other)} FROM {role}"
    for other, admin in was.members - now.members:
        yield f"GRANT {quote_name(other)} TO {role}{' WITH ADMIN OPTION' if admin == 't' else ''}"
    if was.settings == now.settings:
        return
    yield f"ALTER ROLE {role} RESET ALL"
    for _, name, value in (split_setting("", line) for line in was.settings):
        yield f"ALTER ROLE {role} SET {quote_setting_name(name)} TO {quote_setting(name, value)}"
