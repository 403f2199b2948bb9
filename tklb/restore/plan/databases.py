"""Plan the return of databases: which go where, what of them stays, and what this machine's servers will not take.

Takes what the snapshot has and what this machine's servers offer; gives steps, warnings and what is skipped. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tklb.databases.filter import DatabaseFilter, filter_for, item_of
from tklb.errors import printable
from tklb.model.databases import DatabaseLoad, SavedDatabase, SavedServer, SavedTable, ServerFeatures
from tklb.model.plan import Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.filter import RestoreFilter

DATABASES = (StepKind.DATABASE_ACCOUNTS, StepKind.DATABASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)*")


@dataclass(slots=True)
class DatabasePlan:
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def plan_databases(
    servers: Iterable[SavedServer],
    offers: Mapping[str, ServerFeatures],
    choice: RestoreFilter,
    broken: frozenset[bytes],
) -> DatabasePlan:
    """Plan for every saved server; `offers` lacks the engines whose server cannot be asked yet.

    `broken` are the items (`mysql:DB`) whose dumps are not whole.
    """
    plan = DatabasePlan()
    for server in servers:
        wish = filter_for(server.engine, choice.limit, limited=choice.is_limited)
        wanted = [database for database in server.databases if wish.database(database.name)]
        if server.accounts and not choice.is_limited and not wish.wants_none():
            detail = f"{len(server.accounts)} accounts"
            plan.steps.append(Step(StepKind.DATABASE_ACCOUNTS, server.engine.encode(), detail))
        if wanted:
            _compare_versions(plan, server, offers.get(server.engine))
        for database in wanted:
            _plan_database(plan, database, wish, choice, offers.get(server.engine), broken)
    return plan


def list_items(servers: Iterable[SavedServer]) -> Iterator[bytes]:
    """All that can be asked for by name: databases, and tables in every way to spell them."""
    for server in servers:
        for database in server.databases:
            yield item_of(server.engine, database.name)
            for table in database.tables:
                yield from (item_of(server.engine, database.name, name) for name in spellings(server.engine, table))


def spellings(engine: str, table: SavedTable) -> tuple[str, ...]:
    """The ways to name a table: in PostgreSQL with and without its schema."""
    bare = table.name.partition(".")[2] if engine == "pgsql" else ""
    return (table.name, bare) if bare else (table.name,)


def _plan_database(
    plan: DatabasePlan,
    saved: SavedDatabase,
    wish: DatabaseFilter,
    choice: RestoreFilter,
    offer: ServerFeatures | None,
    broken: frozenset[bytes],
) -> None:
    item = item_of(saved.engine, saved.name)
    if item in broken:
        plan.skipped.append(Skipped(item, "its dump is not whole in the snapshot"))
        return
    into = choice.name_of(saved.engine, saved.name)
    rows = [table for table in saved.tables if wish.rows(saved.name, *spellings(saved.engine, table))]
    is_whole = not choice.is_limited or wish.is_whole(saved.name)
    load = DatabaseLoad(
        saved=saved,
        into=into,
        tables=None if is_whole else tuple(table.name for table in rows),
        kept=tuple(table.name for table in saved.tables if table.rows is None or table not in rows) if is_whole else (),
    )
    plan.steps.append(Step(StepKind.DATABASE, item, _describe_load(load, offer), load=load))
    if offer:
        plan.warnings += [
            f"{printable(item)} needs {printable(need)}, which this server has not"
            for need in _find_unmet_needs(saved, offer)
        ]


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


def _compare_versions(plan: DatabasePlan, server: SavedServer, offer: ServerFeatures | None) -> None:
    if offer is None:
        plan.warnings.append(
            f"no {server.engine} server answers here: it is started when its databases are due, "
            "and what it will not take is known only then"
        )
        return
    if (found := _NUMBER.search(server.version)) and offer.number:
        number = tuple(map(int, found[0].split(".")))[: len(offer.number)]
        if number > offer.number:
            plan.warnings.append(f"the databases are of {server.version}, newer than {offer.version} here")
        elif number < offer.number:
            plan.warnings.append(f"the databases are of {server.version}; this server is {offer.version}")
