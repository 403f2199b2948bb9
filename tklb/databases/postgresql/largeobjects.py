"""Large objects without their contents, as statements. Takes a session; touches nothing."""

import json
from collections.abc import Iterator

from tklb.databases.postgresql.grants import EXPLODED, grant_statements, grants_of
from tklb.databases.postgresql.session import Session, ident, literal


def large_object_statements(session: Session) -> Iterator[str]:
    """Make every large object, empty, by its own number; with owner, privileges and comment."""
    acl = EXPLODED.format(acl="m.lomacl")
    rows = session.ask(
        f"SELECT m.oid, pg_get_userbyid(m.lomowner), {acl}, obj_description(m.oid, 'pg_largeobject')"
        " FROM pg_largeobject_metadata m ORDER BY m.oid"
    )
    for oid, owner, grants, comment in rows:
        thing = f"LARGE OBJECT {oid}"
        yield f"SELECT pg_catalog.lo_create({oid});\nALTER {thing} OWNER TO {ident(owner or '')};\n"
        told = grant_statements(thing, owner or "", grants_of(json.loads(grants)) if grants else None)
        yield "".join(f"{statement};\n" for statement in told)
        if comment is not None:
            yield f"COMMENT ON {thing} IS {literal(comment)};\n"
