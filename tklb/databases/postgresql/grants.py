"""Privileges as statements: what an access control list says, granted anew. Pure, but for the question it asks."""

from dataclasses import dataclass

from tklb.databases.postgresql.session import ident


@dataclass(frozen=True, slots=True)
class Grant:
    """One privilege. `grantee` None is PUBLIC."""

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool


EXPLODED = (
    "coalesce((SELECT json_agg(json_build_array(pg_get_userbyid(a.grantor),"
    " CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable))"
    " FROM aclexplode({acl}) a), CASE WHEN {acl} IS NOT NULL THEN '[]'::json END)"
)  # JSON: null where the list is the default one


def grants_of(value: object) -> tuple[Grant, ...] | None:
    """Read what EXPLODED gave."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError("no list of grants")
    return tuple(Grant(str(g), None if r is None else str(r), str(p), bool(o)) for g, r, p, o in value)


def grant_statements(thing: str, owner: str, grants: tuple[Grant, ...] | None) -> tuple[str, ...]:
    """Make the list of `thing` (`DATABASE "x"`) that one. None: leave the default. As dumputils.c of pg_dump does."""
    if grants is None:
        return ()
    told = [f"REVOKE ALL ON {thing} FROM PUBLIC", f"REVOKE ALL ON {thing} FROM {ident(owner)}"]
    for grant in sorted(grants, key=lambda grant: grant.grantor != owner):
        to = "PUBLIC" if grant.grantee is None else ident(grant.grantee)
        option = " WITH GRANT OPTION" if grant.grantable else ""
        statement = f"GRANT {grant.privilege} ON {thing} TO {to}{option}"
        if grant.grantor != owner:
            told.append(f"SET SESSION AUTHORIZATION {ident(grant.grantor)}; {statement}; RESET SESSION AUTHORIZATION")
        else:
            told.append(statement)
    return tuple(told)
