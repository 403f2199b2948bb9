"""Rows and definitions that the server refused: tried again as long as that brings something, reported at the end.

Rows go again without the constraints that they do not hold. What is left after a load is tried once more when all
databases are in their place: it may have needed another one, or the final name of its own. Takes one load and its
connections; touches its database.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tklb.databases.postgresql import Login
from tklb.databases.postgresql.connection import ServerConnection, ServerError
from tklb.databases.postgresql.definitions import RefusedEntry, load_definitions, report_refusals
from tklb.databases.postgresql.load.compare_rows import Proof
from tklb.databases.postgresql.load.fingerprint import keep_roles
from tklb.databases.postgresql.load.load_rows import Job, Loaders, load_rows
from tklb.databases.postgresql.load.relax import lift_constraint
from tklb.databases.postgresql.load.scratch import LoadRun
from tklb.databases.postgresql.present_rows import has_rows
from tklb.databases.report import DatabaseReport
from tklb.errors import DatabaseFailed
from tklb.lazy_dataclass import dataclass

__all__ = ["Leftover", "LostRows", "finish_load", "load_jobs", "protect_rows", "repeat_rows", "split_jobs", "try_again"]

_TABLES = "SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r'"
_SIDE_BY_SIDE = 2
_FIRST_WITH_SWITCH = 170000  # of event triggers


@dataclass(frozen=True, slots=True)
class LostRows:
    """A table whose rows could not be loaded. `waits`: it is an extension's, which may want the final name."""

    job: Job
    reason: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a load could not bring."""

    loading: LoadRun
    refusals: tuple[RefusedEntry, ...] = ()
    lost: tuple[LostRows, ...] = ()


def split_jobs(
    connection: ServerConnection, jobs: Iterable[Job], refusals: Sequence[RefusedEntry]
) -> tuple[list[Job], list[LostRows]]:
    """The tables that are there, and those that could not be made."""
    there = set(connection.fetch_rows(_TABLES))
    tables = [one for one in refusals if one.entry.first.kind == "TABLE"]
    reasons = {one.entry.first.full_name: str(one.error) for one in reversed(tables)}
    found: list[Job] = []
    lost: list[LostRows] = []
    for job in jobs:
        table = job[0]
        if (table.schema, table.table) in there:
            found.append(job)
        else:
            reason = reasons.get(table.full_name, "its extension cannot be made")
            lost.append(LostRows(job, f"the table cannot be made: {reason}", table.full_name not in reasons))
    return found, lost


def load_jobs(
    loading: LoadRun, loaders: Loaders, jobs: Iterable[Job], last: Proof | None = None
) -> list[tuple[Job, ServerError]]:
    """Load the rows of each owner's tables in sessions that may do no more than that owner.

    `last` takes the comparison of the last owner's tables, which may go on after this.
    """
    saved = {job[0].full_name: job for job in jobs}
    refused = []
    groups = tuple(loaders.group(table for table, _ in saved.values()).values())
    for tables in groups:
        chosen = [saved[table.full_name] for table in tables]
        with loaders.lend(tables[0], _SIDE_BY_SIDE) as connections, Proof(has_helper=False) as own:
            for connection in connections:
                connection.run("SET synchronous_commit = off")
            proof = last if last and tables is groups[-1] else own
            refused += load_rows(loading.make_row_target(*connections), chosen, loading.progress, proof)
    return refused


def repeat_rows(
    loading: LoadRun, chief: ServerConnection, loaders: Loaders, refused: list[tuple[Job, ServerError]]
) -> tuple[list[RefusedEntry], list[LostRows]]:
    """Load refused rows again, without the constraints that are in their way, as long as that brings something.

    Gives the constraints, which come back with the other definitions, and the rows that are lost.
    """
    lifted: list[RefusedEntry] = []
    while refused:
        before = len(refused)
        found = [lift_constraint(chief, error) for _, error in refused]
        lifted += [one for one in found if one]
        jobs = [job for job, _ in refused]
        with loaders.let_insert([table for table, _ in jobs]):
            refused = load_jobs(loading, loaders, jobs)
        if len(refused) == before and not any(found):
            break
    return lifted, [LostRows(job, str(error)) for job, error in refused]


def protect_rows(loading: LoadRun, lost: Sequence[LostRows], database: str) -> None:
    """Refuse to go on where the old database has rows that would be lost for rows that did not come.

    Raises DatabaseFailed.
    """
    if not lost:
        return
    with loading.open(database) as live:
        there = set(live.fetch_rows(_TABLES))
        for one in lost:
            table = one.job[0]
            if (table.schema, table.table) not in there:
                continue
            if has_rows(live, table.sql):
                raise loading.refuse(f"rows of {one.job[1].name}: {one.reason}; those that are here would be lost")


# ---------------------------------------------------------------- after all loads


def finish_load(left: Leftover, login: Login) -> DatabaseReport:
    """Try once more what a load could not bring; report the rest. The server may have moved since: see `login`."""
    left.loading.use_login(login)
    left.loading.report = report = DatabaseReport(left.loading.report.engine)
    _report(try_again(left, report), report)
    return report


def try_again(left: Leftover, report: DatabaseReport) -> Leftover:
    """Try what a load could not bring in the database that is in its place now; give what is left of it."""
    try:
        with _open_quietly(left.loading) as connection, keep_roles(connection), Loaders(connection) as loaders:
            return _repeat_all(left, connection, loaders, report)
    except (ServerError, DatabaseFailed) as exc:
        report.note(f"{left.loading.item}: what is left of it could not be tried again: {exc}")
        return left


@contextmanager
def _open_quietly(loading: LoadRun) -> Iterator[ServerConnection]:
    """A connection with the loaded database, without its event triggers."""
    with loading.open(loading.load.into) as connection:
        has_switch = connection.version >= _FIRST_WITH_SWITCH
        connection.run("SET event_triggers = off" if has_switch else "SET session_replication_role = replica")
        yield connection


def _repeat_all(left: Leftover, connection: ServerConnection, loaders: Loaders, report: DatabaseReport) -> Leftover:
    loading = left.loading
    target = replace(loading.script_target, choose=loaders.choose)
    refusals = load_definitions(connection, b"", target, report, left.refusals)
    jobs, _ = split_jobs(connection, [one.job for one in left.lost], refusals)
    reasons = {one.job[0].full_name: one for one in left.lost}
    if not jobs:
        return replace(left, refusals=refusals)
    with loaders.let_insert([table for table, _ in jobs]):
        refused = load_jobs(loading, loaders, jobs)
    lifted, lost = repeat_rows(loading, connection, loaders, refused)
    came = {job[0].full_name for job in jobs} - {one.job[0].full_name for one in lost}
    still = tuple(one for name, one in reasons.items() if name not in came)
    return Leftover(loading, load_definitions(connection, b"", target, report, (*refusals, *lifted)), still)


def _report(left: Leftover, report: DatabaseReport) -> None:
    loading = left.loading
    names = {one.job[0].full_name for one in left.lost}
    for one in left.lost:
        saved = one.job[1]
        report.skip(loading.load.into, saved.name, f"its {saved.rows or 0} rows are not here: {one.reason}")
    others = [one for one in left.refusals if one.entry.first.kind != "TABLE" or one.entry.first.full_name not in names]
    report_refusals(others, loading.script_target, report)
