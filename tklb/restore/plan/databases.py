"""Plan the restore of databases: which ones, under which names, and what this machine's servers do not support.

Takes the saved databases and the features of this machine's servers; gives a PlanPart. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from tklb.databases.filter import DatabaseFilter, build_filter, spell_item
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import (
    ENGINES,
    DatabaseLoad,
    SavedDatabase,
    SavedServer,
    SavedTable,
    ServerFeatures,
    find_configured,
    find_engine,
)
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.part import PlanPart, join_parts

DATABASES = (StepKind.DATABASE_ACCOUNTS, StepKind.DATABASE, StepKind.DATABASE_SETTINGS)
_FILES = frozenset((StepKind.MOVE, StepKind.WRITE, StepKind.LINK, StepKind.METADATA, StepKind.DELETE))
_NUMBER = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True, slots=True)
class RowGaps:
    """Tables (`mysql:DB/TABLE`) without rows in the snapshot. `here` says of those on this machine: has it rows.

    `named` are items that the plan names already.
    """

    here: Mapping[bytes, bool] = field(default_factory=dict)
    named: frozenset[bytes] = frozenset()


_NO_GAPS = RowGaps()


def plan_databases(
    servers: Iterable[SavedServer],
    offers: Mapping[str, ServerFeatures],
    choice: RestoreFilter,
    broken: frozenset[bytes],
    gaps: RowGaps = _NO_GAPS,
) -> PlanPart:
    """Plan for every saved server. `offers` lacks the engines whose servers do not answer.

    `broken` are the items (`mysql:DB`) whose dumps are not whole.
    """
    return join_parts(_plan_server(server, offers.get(server.engine), choice, broken, gaps) for server in servers)


def _plan_server(
    server: SavedServer, offer: ServerFeatures | None, choice: RestoreFilter, broken: frozenset[bytes], gaps: RowGaps
) -> PlanPart:
    scope = build_filter(server.engine, choice.limit, limited=choice.is_limited)
    wanted = [database for database in server.databases if scope.has_database(database.name)]
    parts = []
    if server.accounts and not choice.is_limited and not scope.is_empty():
        step = Step(StepKind.DATABASE_ACCOUNTS, server.engine.encode(), f"{len(server.accounts)} accounts")
        parts.append(PlanPart((step,)))
    if wanted:
        parts.append(PlanPart(warnings=tuple(_compare_versions(server, offer))))
    for database in wanted:
        if spell_item(database.engine, database.name) in broken:
            item = spell_item(database.engine, database.name)
            parts.append(PlanPart(skipped=(Skipped(item, "its dump is not whole in the snapshot"),)))
        else:
            parts.append(_plan_database(database, scope, choice, offer, gaps))
    if server.settings and not choice.is_limited:
        names = ", ".join(printable(name) for name, _ in server.settings)
        step = Step(StepKind.DATABASE_SETTINGS, server.engine.encode(), names, settings=server.settings)
        parts.append(PlanPart((step,)))
    return join_parts(parts)


def find_settings(step: Step) -> str:
    """Give the word of the engine whose configuration a step changes; empty where it changes none."""
    return find_configured(step.item) if step.kind in _FILES else ""


def split_settings(files: PlanPart) -> tuple[PlanPart, PlanPart]:
    """Keep apart the steps on configuration of database servers: they come after the databases."""
    late = PlanPart(tuple(step for step in files.steps if find_settings(step)))
    return PlanPart(tuple(s for s in files.steps if not find_settings(s)), files.warnings, files.skipped), late


def find_first_restarts(steps: Sequence[Step]) -> list[Step]:
    """Give the restarts of database servers that come before the databases, for the sake of data in memory.

    A server that is to try another configuration restarts with it, and afterwards.
    """
    trials = {word for step in steps if (word := find_settings(step))}
    names = {name.encode() for engine in ENGINES.values() if engine.word not in trials for name in engine.services}
    return [step for step in steps if step.kind is StepKind.SERVICE and step.item in names]


def split_restarts(servers: PlanPart, settings: PlanPart) -> tuple[PlanPart, PlanPart]:
    """Keep apart the restarts of database servers that come before the databases."""
    first = find_first_restarts((*servers.steps, *settings.steps))
    late = tuple(step for step in servers.steps if step not in first)
    return PlanPart(tuple(first)), PlanPart(late, servers.warnings, servers.skipped)


def list_items(servers: Iterable[SavedServer]) -> Iterator[bytes]:
    """Give every item that a user can name: databases, and tables in all spellings."""
    for database in (database for server in servers for database in server.databases):
        yield spell_item(database.engine, database.name)
        for table in database.tables:
            yield from (spell_item(database.engine, database.name, name) for name in spellings(database.engine, table))


def spellings(engine: str, table: SavedTable) -> tuple[str, ...]:
    """Give the spellings of a table: where the engine has schemas, with and without its schema."""
    found = find_engine(engine)
    bare = table.name.partition(".")[2] if found and found.has_schemas else ""
    return (table.name, bare) if bare else (table.name,)


def _plan_database(
    saved: SavedDatabase,
    scope: DatabaseFilter,
    choice: RestoreFilter,
    offer: ServerFeatures | None,
    gaps: RowGaps,
) -> PlanPart:
    item = spell_item(saved.engine, saved.name)
    rows = [table for table in saved.tables if scope.has_rows(saved.name, *spellings(saved.engine, table))]
    if choice.is_limited and not scope.is_whole(saved.name):
        tables = tuple(table.name for table in rows if table.rows is not None)
        load = DatabaseLoad(saved, choice.name_of(saved.engine, saved.name), tables)
        rowless = PlanPart(skipped=tuple(_name_rowless(saved, rows, gaps)))
        return join_parts((_plan_load(load, item, offer, gaps), rowless)) if tables else rowless
    kept = tuple(table.name for table in saved.tables if table.rows is None or table not in rows)
    return _plan_load(DatabaseLoad(saved, choice.name_of(saved.engine, saved.name), None, kept), item, offer, gaps)


def _name_rowless(saved: SavedDatabase, tables: Iterable[SavedTable], gaps: RowGaps) -> Iterator[Skipped]:
    """Name the tables that were asked for, and whose rows an override left out of the backup."""
    for table in tables:
        item = spell_item(saved.engine, saved.name, table.name)
        if table.rows is None and item not in gaps.named:
            yield Skipped(item, "the backup left out its rows, as an override says")


def _plan_load(load: DatabaseLoad, item: bytes, offer: ServerFeatures | None, gaps: RowGaps) -> PlanPart:
    needs = _find_unmet_needs(load.saved, offer) if offer else []
    return PlanPart(
        steps=(Step(StepKind.DATABASE, item, _describe_load(load, offer, gaps), load=load),),
        warnings=tuple(f"{printable(item)} needs {printable(need)}, which this server has not" for need in needs),
    )


def _describe_load(load: DatabaseLoad, offer: ServerFeatures | None, gaps: RowGaps) -> str:
    there = {database.name for database in offer.databases} if offer else set()
    count = len(load.saved.tables if load.tables is None else load.tables)
    words = ["1 table" if count == 1 else f"{count} tables", f"{load.saved.bytes} bytes"]
    if load.into != load.saved.name:
        words.append(f"as {printable(load.into)}")
    if load.into in there:
        words.append("replaces the one here" if load.tables is None else "replaces those here")
    return ", ".join((*words, *_describe_kept(load, gaps, is_here=load.into in there)))


def _describe_kept(load: DatabaseLoad, gaps: RowGaps, *, is_here: bool) -> Iterator[str]:
    """Say what becomes of the tables whose rows do not come: only a table that is here can keep its own."""
    rowless = {table.name for table in load.saved.tables if table.rows is None}
    has_rows = {name: gaps.here.get(spell_item(load.saved.engine, load.saved.name, name)) for name in rowless}
    stays = [name for name in load.kept if is_here and (name not in rowless or has_rows[name])]
    empty = [name for name in load.kept if name not in stays]
    if stays:
        yield f"the rows of {', '.join(map(printable, stays))} stay as they are here"
    if empty:
        yield f"without the rows of {', '.join(map(printable, empty))}"


def _find_unmet_needs(saved: SavedDatabase, offer: ServerFeatures) -> list[str]:
    kinds = {feature.partition(":")[0] for feature in offer.features}
    return [need for need in saved.needs if need.partition(":")[0] in kinds and need not in offer.features]


def _compare_versions(server: SavedServer, offer: ServerFeatures | None) -> Iterator[str]:
    """Give a warning if the server here does not answer, or has another version."""
    if offer is None:
        starts = "starts it, or makes it by Debian's tools," if "@" in server.engine else "starts it"
        yield (
            f"no {server.engine} server answers here: the restore {starts} before it loads the databases, "
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
