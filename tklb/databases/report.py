"""The report of a dump or load while it is made: what was skipped, and what else people should know."""

from typing import Self

from tklb.databases.filter import spell_item
from tklb.model.report import Skipped


class DatabaseReport:
    """Collects for one server. Threads may share it: an entry is added in one step."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []

    def add(self, other: Self) -> None:
        """Add all that another report of this server has."""
        self.skipped += other.skipped
        self.notes += other.notes

    def note(self, text: str) -> None:
        self.notes.append(text)

    def skip(self, database: str, table: str, reason: str) -> None:
        """Report a database as skipped, or one object in it; `table` is empty for the database itself."""
        self.skipped.append(Skipped(spell_item(self.engine, database, table), reason))

    def skip_database(self, database: str, reason: str) -> None:
        """Report a whole database as skipped, in the place of all that was reported about it before."""
        item = spell_item(self.engine, database)
        self.skipped = [each for each in self.skipped if each.item != item and not each.item.startswith(item + b"/")]
        self.skip(database, "", reason)

    def skip_other(self, label: str, reason: str) -> None:
        """Report something else than a database as skipped: an account, a plugin. `label` is how people write it."""
        self.skipped.append(Skipped(f"{self.engine}:{label}".encode("utf-8", "surrogateescape"), reason))
