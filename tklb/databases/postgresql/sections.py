"""The definitions of one database: what pg_dump says of them, checked and made the same every time.

Takes a cluster, a database and a snapshot that a session holds open; gives SQL. Source: pg_dump(1).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tklb.base.process import run
from tklb.databases.postgresql.cluster import Cluster, program
from tklb.databases.postgresql.session import Session, login
from tklb.errors import ProgramFailed

_END = b"--\n-- PostgreSQL database dump complete\n--\n"
_GUARD = re.compile(rb"\A(--\n-- PostgreSQL database dump\n--\n\n)\\restrict ([A-Za-z0-9]+)\n\n")


@dataclass(frozen=True, slots=True)
class Definer:
    """What runs pg_dump for one database. `watch` is called while it runs."""

    cluster: Cluster
    database: str
    encoding: str
    version: int
    lock_seconds: int
    watch: Callable[[], None] | None = None

    def section(self, name: str, snapshot: str, without: Sequence[tuple[str, str]] = ()) -> bytes:
        """The section `pre-data` or `post-data`, without some relations. Raises ProgramFailed, ProgramMissing."""
        return self._dumped(
            f"--section={name}",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={self.lock_seconds * 1000}",
            *(f"--exclude-table={_pattern(*relation)}" for relation in without),
        )

    def table(self, section: str, schema: str, table: str) -> bytes:
        """A section of one table alone."""
        return self._dumped(f"--section={section}", f"--table={_pattern(schema, table)}")

    def _dumped(self, *choice: str) -> bytes:
        encoding = "SQL_ASCII" if self.encoding == "SQL_ASCII" else "UTF8"
        words = login(self.cluster, self.database, self.lock_seconds, self.version // 10000)
        fixed = ("--no-password", "--no-blobs", "--no-tablespaces", "--quote-all-identifiers", f"--encoding={encoding}")
        command = [program("pg_dump", self.version // 10000), *fixed, *choice, f"--dbname={words}"]
        said = run(command, user=self.cluster.account, watch=self.watch).stdout
        return _plain(said)


def _pattern(schema: str, table: str) -> str:
    """A pattern of psql(1) that stands for one relation: within quotes no sign has a meaning."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in (schema, table))


def _plain(said: bytes) -> bytes:
    """Without the two lines of psql's that guard it, whose key is another one each time; whole, or ProgramFailed."""
    guard = _GUARD.match(said)
    tail = _END + b"\n"
    if guard:
        tail += b"\\unrestrict " + guard[2] + b"\n\n"
        said_rest = said[guard.end() :]
    else:
        said_rest = said
    if not said_rest.endswith(tail):
        raise ProgramFailed(program="pg_dump", reason="it ended early, although its exit status is that of success")
    head = guard[1] if guard else b""
    return head + said_rest[: -len(tail)] + _END


def free_waiting(session: Session, seconds: int) -> None:
    """Cancel what tools of ours in this database have been waiting for a lock for longer than `seconds`.

    pg_dump's own limit holds for the locks of its start only, not for those that describing a view takes.
    """
    session.ask("SELECT pg_stat_clear_snapshot()")
    session.ask(
        "SELECT pg_cancel_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT l.granted AND a.datname = current_database() AND a.application_name = 'tklb'"
        f" AND l.waitstart < clock_timestamp() - interval '{int(seconds)} seconds'"
    )
