"""What is said of a dump or load while it is made: what was skipped, what else should be known. Values only."""

from dataclasses import dataclass, field

from tklb.databases.filter import spell_item
from tklb.databases.mariadb.catalogue import ENGINE
from tklb.model.report import Skipped


@dataclass(slots=True)
class Notes:
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def skip(self, database: str, name: str, reason: str) -> None:
        self.skipped.append(Skipped(spell_item(ENGINE, database, name), reason))

    def skip_whole(self, database: str, reason: str) -> None:
        """Skip a database with all that is in it: what was said of it, or of a part, says nothing any more."""
        item = spell_item(ENGINE, database)
        self.skipped = [each for each in self.skipped if each.item != item and not each.item.startswith(item + b"/")]
        self.skip(database, "", reason)

    def skip_thing(self, what: str, reason: str) -> None:
        """Skip what is no database: an account, a plugin; it is called as people call it."""
        self.skipped.append(Skipped(f"{ENGINE}:{what}".encode("utf-8", "surrogateescape"), reason))
