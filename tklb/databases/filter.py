"""The filter of databases: which databases a run includes, and the rows of which tables. Pure.

All are included but those that an override leaves out. The deeper override decides: one about a table beats one about
its database; at the same depth leaving out beats taking in. A database that is left out but for some tables is included
with all its definitions, and with the rows of those tables only.
"""

from collections.abc import Iterable
from dataclasses import field

from tklb.diff.rules import Override, Rules
from tklb.lazy_dataclass import dataclass

_SIGNS = str.maketrans({"/": "%2F", "%": "%25"})


def spell_item(engine: str, database: str, table: str = "") -> bytes:
    """Spell a database or table as reports have it and as an override takes it: `ENGINE:DB` or `ENGINE:DB/TABLE`."""
    return engine.encode() + b":" + _spell(database) + (b"/" + _spell(table) if table else b"")


def _spell(name: str) -> bytes:
    """A name as overrides have it, no two alike: / is written %2F, % is %25, each dot of the names `.` and `..` %2E."""
    if name in (".", ".."):
        return name.replace(".", "%2E").encode()
    return name.translate(_SIGNS).encode("utf-8", "surrogateescape")


def parse_item(item: bytes) -> tuple[str, str, str]:
    """Read what spell_item() wrote: engine, database and table, which is empty for a database."""
    engine, _, names = item.partition(b":")
    database, _, table = names.partition(b"/")
    return engine.decode("utf-8", "surrogateescape"), _read_name(database), _read_name(table)


def _read_name(spelled: bytes) -> str:
    name = spelled.decode("utf-8", "surrogateescape")
    for sign in "/.%":
        name = name.replace(f"%{ord(sign):02X}", sign)
    return name


@dataclass(frozen=True, slots=True)
class DatabaseFilter:
    """The overrides about one engine. `default` decides where no override does."""

    overrides: tuple[Override, ...]
    default: bool = True
    _rules: Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", Rules(override.rule for override in self.overrides))

    def has_database(self, name: str) -> bool:
        """Whether the database is included, be it for some of its tables only."""
        return self.is_whole(name) or self._has_table(name)

    def has_rows(self, database: str, *names: str) -> bool:
        """Whether the rows of a table are included; `names` are the ways to spell it."""
        paths = [b"/" + _spell(database) + b"/" + _spell(name) for name in names]
        decisions = [self._rules.decide(path) for path in paths]
        about_table = [d.included for d in decisions if d.rule and d.rule.pattern.count(b"/") > 1]
        if about_table:
            return all(about_table)
        return self.is_whole(database)

    def is_whole(self, name: str) -> bool:
        """Whether the database is included as such, not only for some of its tables."""
        decision = self._rules.decide(b"/" + _spell(name))
        return self.default if decision.rule is None else decision.included

    def has_any(self) -> bool:
        """Whether any database may be included."""
        return not self.is_empty() and (self.default or any(override.include for override in self.overrides))

    def is_empty(self) -> bool:
        """Whether the engine is left out as a whole: by `*`, and nothing is taken in again."""
        return not any(o.include for o in self.overrides) and any(o.value in (b"*", b"**") for o in self.overrides)

    def _has_table(self, name: str) -> bool:
        """Whether an override takes in a table of the database by name."""
        folder = self._rules.root().enter(_spell(name))
        return any(rule.include for rule in folder.rules_below())


def build_filter(engine: str, overrides: Iterable[Override], *, limited: bool = False) -> DatabaseFilter:
    """Build the filter of one engine. `limited`: the overrides are limits, which take in only the items they spell."""
    own = tuple(override for override in overrides if override.kind == engine)
    return DatabaseFilter(own, default=not limited)
