"""Plan the restore of databases: which ones, under which names, and what this machine's servers do not support.

Takes the saved databases and the features of this machine's servers; gives a PlanPart. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from tklb.databases.filter import DatabaseFilter, build_filter, spell_item
from tklb.errors import printable
from tklb.model.databases import (
    ENGINES,
    DatabaseLoad,
    SavedDatabase,
    SavedServer,
    SavedTable,
    ServerFeatures,
    find_configured,
)
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.part import PlanPart, join_parts

DATABASES = (StepKind.DATABASE_ACCOUNTS, StepKind.DATABASE)
_FILES = frozenset((StepKind.MOVE, StepKind.WRITE, StepKind.LINK, StepKind.METADATA, StepKind.DELETE))
_NUMBER = re.compile(r"\d+(?:\.\d+)*")


def plan_databases(
    servers: Iterable[SavedServer],
    offers: Mapping[str, ServerFeatures],
    choice: RestoreFilter,
    broken: frozenset[bytes],
) -> PlanPart:
    """Plan for every saved server. `offers` lacks the engines whose servers do not answer.

    `broken` are the items (`mysql:DB`) whose dumps are not whole.
    """
    return join_parts(_plan_server(server, offers.get(server.engine), choice, broken) for server in servers)


def _plan_server(
    server: SavedServer, offer: ServerFeatures | None, choice: RestoreFilter, broken: frozenset[bytes]
) -> PlanPart:
    scope = build_filter(server.engine, choice.limit, limited=choice.is_limited)
    wanted = [database for database in server.databases if scope.has_database(database.name)]
    parts = []
    if server.accounts and not choice.is_limited and not scope.is_empty():
        step = Step(StepKind.DATABASE_ACCOUNTS, server.engine.encode(), f"{len(server.accounts)} accounts")
        parts.append(PlanPart((step,)))
    if wanted:
        parts.append(PlanPart(warnings=tuple(_compare_versions(server, offer))))
    parts += [_plan_database(database, scope, choice, offer, broken) for database in wanted]
    return join_parts(parts)


def find_settings(step: Step) -> str:
    """Give the word of the engine whose configuration a step changes; empty where it changes none."""
    return find_configured(step.item) if step.kind in _FILES else ""


def split_settings(files: PlanPart) -> tuple[PlanPart, PlanPart]:
    """Keep apart the steps on configuration of database servers: they come after the databases."""
    late = PlanPart(tuple(step for step in files.steps if find_settings(step)))
    return PlanPart(tuple(s for s in files.steps if not find_settings(s)), files.warnings, files.skipped), late


def list_items(servers: Iterable[SavedServer]) -> Iterator[bytes]:
    """Give every item that a user can name: databases, and tables in all spellings."""
    for database in (database for server in servers for database in server.databases):
        yield spell_item(database.engine, database.name)
        for table in database.tables:
            yield from (spell_item(database.engine, database.name, name) for name in spellings(database.engine, table))


def spellings(engine: str, table: SavedTable) -> tuple[str, ...]:
    """Give the spellings of a table: where the engine has schemas, with and without its schema."""
    bare = table.name.partition(".")[2] if engine in ENGINES and ENGINES[engine].has_schemas else ""
    return (table.name, bare) if bare else (table.name,)


def _plan_database(
    saved: SavedDatabase,
    scope: DatabaseFilter,
    choice: RestoreFilter,
    offer: ServerFeatures | None,
    broken: frozenset[bytes],
) -> PlanPart:
    item = spell_item(saved.engine, saved.name)
    if item in broken:
        return PlanPart(skipped=(Skipped(item, "its dump is not whole in the snapshot"),))
    rows = [table for table in saved.tables if scope.has_rows(saved.name, *spellings(saved.engine, table))]
    is_whole = not choice.is_limited or scope.is_whole(saved.name)
    load = DatabaseLoad(
        saved=saved,
        into=choice.name_of(saved.engine, saved.name),
        tables=None if is_whole else tuple(table.name for table in rows),
        kept=tuple(table.name for table in saved.tables if table.rows is None or table not in rows) if is_whole else (),
    )
    needs = _find_unmet_needs(saved, offer) if offer else []
    return PlanPart(
        steps=(Step(StepKind.DATABASE, item, _describe_load(load, offer), load=load),),
        warnings=tuple(f"{printable(item)} needs {printable(need)}, which this server has not" for need in needs),
    )


def _describe_load(load: DatabaseLoad, offer: ServerFeatures | None) -> str:
    there = {database.name for database in offer.databases} if offer else set()
    count = len(load.saved.tables if load.tables is None else load.tables)
    words = ["1 table" if count == 1 else f"{count} tables", f"{load.saved.bytes} bytes"]
    if load.into != load.saved.name:
        words.append(f"as {printable(load.into)}")
    if load.into in there:
        words.append("replaces the one here" if load.tables is None else "replaces those here")
    if load.tables is None and load.kept:
        words.append(f"the rows of {', '.join(map(printable, load.kept))} stay as they are here")
    return ", ".join(words)


def _find_unmet_needs(saved: SavedDatabase, offer: ServerFeatures) -> list[str]:
    kinds = {feature.partition(":")[0] for feature in offer.features}
    return [need for need in saved.needs if need.partition(":")[0] in kinds and need not in offer.features]


def _compare_versions(server: SavedServer, offer: ServerFeatures | None) -> Iterator[str]:
    """Give a warning if the server here does not answer, or has another version."""
    if offer is None:
        yield (
            f"no {server.engine} server answers here: the restore starts it before it loads the databases, "
            "and only then knows what it does not support"
        )
        return
    found = _NUMBER.search(server.version)
    if not found or not offer.number:
        return
    number = tuple(map(int, found[0].split(".")))[: len(offer.number)]
    if number > offer.number:
        yield f"the databases are of {server.version}, newer than {offer.version} here"
    elif number < offer.number:
        yield f"the databases are of {server.version}; this server is {offer.version}"
