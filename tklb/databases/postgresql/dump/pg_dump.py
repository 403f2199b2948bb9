"""pg_dump and pg_restore of the server's own release: the definitions of a database as the two sections of a script.

One pg_dump reads the definitions, in the snapshot of the dump, while rows are copied; pg_restore cuts what it gave into
the sections. A short script of well-known kinds we cut ourselves: two starts of pg_restore would take longer than all
rows of a small database. Takes a connection; gives scripts.
"""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tklb.base.concurrency import Background, map_side_by_side
from tklb.base.process import run
from tklb.databases.postgresql.catalogue import Table
from tklb.databases.postgresql.connection import ServerConnection, quote_name
from tklb.databases.postgresql.script import END, cut_script
from tklb.databases.postgresql.session_settings import format_login
from tklb.errors import Interrupted, ProgramFailed
from tklb.lazy_dataclass import dataclass

__all__ = ["DefinitionsDump", "PgDump"]

_GUARD = re.compile(rb"\A(--\n-- PostgreSQL database dump\n--\n\n)\\restrict ([A-Za-z0-9]+)\n\n")
_SECTIONS = ("pre-data", "post-data")
# whether there are security labels; whether so few objects that a script of them is cut sooner than pg_restore starts
_FACTS = """
SELECT EXISTS (SELECT FROM pg_seclabel) OR EXISTS (SELECT FROM pg_shseclabel),
  (SELECT count(*) FROM pg_class WHERE oid >= 16384) + (SELECT count(*) FROM pg_proc WHERE oid >= 16384) < 300"""
_ATTEMPTS = 3
_LOOK = 0.5  # seconds between two looks at others who wait


class DefinitionsDump:
    """The definitions of one database, read by a pg_dump that runs beside other work from `start` on.

    `snapshot` may be empty: pg_dump then takes a moment of its own. The thread is gone after `close`. The connection
    must be idle when this is made.
    """

    def __init__(self, connection: ServerConnection, snapshot: str, without: Sequence[tuple[str, str]]) -> None:
        self._connection = connection
        self._program = replace(find_choices(connection), watch=self._check)
        self._choice = (snapshot, without)
        self._thread: Background | None = None
        self._sections = b"", b""
        self._failure: BaseException | None = None
        self._is_over = False

    def start(self) -> None:
        self._thread = Background(self._work)

    def check(self) -> None:
        """Raise the failure of a pg_dump that has found no room already."""
        if isinstance(self._failure, ProgramFailed) and is_without_room(self._failure):
            raise self._failure

    def watch(self) -> None:
        """Look at those who wait for a lock while pg_dump works; the connection must be idle."""
        if self._thread and not self._thread.has_ended:
            _end_long_waits(self._connection)

    def finish(self) -> tuple[bytes, bytes]:
        """Wait for pg_dump; the sections before and after the rows. Raises ProgramFailed, ProgramMissing.

        A pg_dump that failed gets a second chance, now that no session of ours takes its place.
        """
        self._wait()
        if isinstance(self._failure, ProgramFailed) and not is_lock_timeout(self._failure):
            self._failure = None
            self.start()
            self._wait()
        if self._failure:
            raise self._failure
        return self._sections

    def close(self) -> None:
        self._is_over = True
        while self._thread and not self._thread.has_ended:
            self._thread.wait(_LOOK)

    def _wait(self) -> None:
        while self._thread and not self._thread.has_ended:
            self._thread.wait(_LOOK)
            self.watch()

    def _work(self) -> None:
        try:
            self._sections = self._program.dump_sections(*self._choice)
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self._failure = exc

    def _check(self) -> None:
        if self._is_over:
            raise Interrupted


@dataclass(frozen=True, slots=True)
class PgDump:
    """pg_dump for the database of a connection. `watch` is called while it runs, and may raise.

    `has_labels`: something there may have a security label. `is_short`: its script is short enough for `cut_script`.
    """

    connection: ServerConnection
    watch: Callable[[], None] | None = None
    has_labels: bool = True
    is_short: bool = False

    def dump_sections(self, snapshot: str, without: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
        """The sections `pre-data` and `post-data`, without some relations. Raises ProgramFailed, ProgramMissing."""
        found = cut_script(self.dump_script(snapshot, without)) if self.is_short else None
        return found or self.cut_sections(self.dump_archive(snapshot, without))

    def dump_archive(self, snapshot: str, without: Sequence[tuple[str, str]]) -> bytes:
        """All definitions, without some relations, in a form that `cut_sections` reads.

        Raises ProgramFailed, ProgramMissing.
        """
        return self._dump("--format=custom", "--compress=0", snapshot=snapshot, without=without)

    def dump_script(self, snapshot: str, without: Sequence[tuple[str, str]]) -> bytes:
        """All definitions, without some relations, as one script. Raises ProgramFailed, ProgramMissing."""
        return _strip_guard(self._dump("--no-tablespaces", snapshot=snapshot, without=without))

    def _dump(self, *form: str, snapshot: str, without: Sequence[tuple[str, str]]) -> bytes:
        return self._run(
            *form,
            "--section=pre-data",
            "--section=post-data",
            *([f"--snapshot={snapshot}"] if snapshot else []),
            *([] if self.has_labels else ["--no-security-labels"]),  # to find none takes a seventh of its time
            f"--lock-wait-timeout={self.connection.login.lock_seconds * 1000}",
            *(f"--exclude-table={quote_name(*relation)}" for relation in without),
        )

    def dump_sections_alone(self, without: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
        """Both sections as they are at this moment, without any other session. Raises ProgramFailed, ProgramMissing."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(ProgramFailed):  # the server may still end a session that we have closed
                return self.dump_sections("", without)
            time.sleep(_LOOK)
        return self.dump_sections("", without)

    def cut_sections(self, archive: bytes) -> tuple[bytes, bytes]:
        """The sections `pre-data` and `post-data` of an archive, as scripts. Raises ProgramFailed, ProgramMissing."""
        before, after = map_side_by_side(lambda name, _: self._cut_section(name, archive), _SECTIONS, len(_SECTIONS))
        return before, after

    def _cut_section(self, name: str, archive: bytes) -> bytes:
        program = self.connection.login.make_command("pg_restore", self.connection.version // 10000)
        command = [*program, f"--section={name}", "--no-tablespaces", "--file=-"]
        return _strip_guard(run(command, stdin=archive, user=self.connection.login.account).stdout)

    def dump_table(self, section: str, table: Table) -> bytes:
        """A section of one table alone, as a script."""
        return _strip_guard(
            self._run(f"--section={section}", "--no-tablespaces", f"--table={quote_name(table.schema, table.table)}")
        )

    def _run(self, *choice: str) -> bytes:
        connection = self.connection
        major = connection.version // 10000
        words = format_login(connection.login, connection.database, major)
        encoding = f"--encoding={connection.copy_encoding}"
        fixed = ("--no-password", "--no-blobs", "--quote-all-identifiers", encoding)
        command = [*connection.login.make_command("pg_dump", major), *fixed, *choice, f"--dbname={words}"]
        return run(command, user=connection.login.account, watch=self.watch).stdout


def find_choices(connection: ServerConnection) -> PgDump:
    """pg_dump for the database of a connection, as is best for what it has now."""
    ((labels, few),) = connection.fetch_rows(_FACTS)
    return PgDump(connection, has_labels=labels == "t", is_short=few == "t")


def is_lock_timeout(failure: Exception) -> bool:
    """Whether a pg_dump failed because somebody had something locked; our sessions have the server's own words."""
    return any(f"canceling statement due to {cause}" in str(failure) for cause in ("lock timeout", "user request"))


def is_without_room(failure: Exception) -> bool:
    """Whether the server had no session for a client program, or not enough locks for it beside our own session."""
    return any(words in str(failure) for words in ("connection to server", "out of shared memory"))


def _strip_guard(output: bytes) -> bytes:
    """The output without the two lines that guard psql: their key is another one each time. Raises ProgramFailed."""
    guard = _GUARD.match(output)
    tail = END + b"\n"
    if guard:
        tail += b"\\unrestrict " + guard[2] + b"\n\n"
        output = output[guard.end() :]
    if not output.endswith(tail):
        raise ProgramFailed(program="pg_dump", reason="it ended early, although its exit status is that of success")
    head = guard[1] if guard else b""
    return head + output[: -len(tail)] + END


def _end_long_waits(connection: ServerConnection) -> None:
    """Cancel statements of our own in this database that have waited for a lock for too long.

    pg_dump's own limit holds for the locks of its start only, not for those that describing a view takes.
    """
    connection.fetch_rows("SELECT pg_stat_clear_snapshot()")
    connection.fetch_rows(
        "SELECT pg_cancel_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT l.granted AND a.datname = current_database() AND a.application_name = 'tklb'"
        f" AND l.waitstart < clock_timestamp() - interval '{connection.login.lock_seconds} seconds'"
    )
