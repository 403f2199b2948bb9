"""Which databases are wanted, and of which tables the rows. Pure: overrides and names in, decisions out.

All are wanted but what an override leaves out. The deeper override decides: one about a table beats one about its
database; at the same depth leaving out beats taking in. A database that is left out but for some tables is taken with
all its definitions and with the rows of those tables only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tklb.diff.rules import Override, Rules

_SIGNS = str.maketrans({"/": "%2F", "%": "%25"})


def _spell(name: str) -> bytes:
    """A name as overrides have it, no two alike: / is written %2F, % is %25, each dot of the names `.` and `..` %2E."""
    if name in (".", ".."):
        return name.replace(".", "%2E").encode()
    return name.translate(_SIGNS).encode("utf-8", "surrogateescape")


def spell_item(engine: str, database: str, table: str = "") -> bytes:
    """What a database or table is called in reports, and how an override would name it."""
    return engine.encode() + b":" + _spell(database) + (b"/" + _spell(table) if table else b"")


@dataclass(frozen=True, slots=True)
class DatabaseFilter:
    """The overrides about one engine. `default` is what counts where none says anything."""

    overrides: tuple[Override, ...]
    default: bool = True
    _rules: Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", Rules(override.rule for override in self.overrides))

    def has_database(self, name: str) -> bool:
        """Whether the database is wanted, be it for some of its tables only."""
        return self.is_whole(name) or self._holds(name)

    def has_rows(self, database: str, *names: str) -> bool:
        """Whether the rows of a table are wanted; `names` are the ways to spell it."""
        paths = [b"/" + _spell(database) + b"/" + _spell(name) for name in names]
        decisions = [self._rules.decide(path) for path in paths]
        about_table = [d.included for d in decisions if d.rule and d.rule.pattern.count(b"/") > 1]
        if about_table:
            return all(about_table)
        return self.is_whole(database)

    def is_whole(self, name: str) -> bool:
        """Whether the database is wanted as such, not only for some of its tables."""
        said = self._says(b"/" + _spell(name))
        return self.default if said is None else said

    def is_empty(self) -> bool:
        """Whether the engine is left out as a whole: by `*`, and nothing is taken in again."""
        return not any(o.include for o in self.overrides) and any(o.value in (b"*", b"**") for o in self.overrides)

    def _says(self, path: bytes) -> bool | None:
        decision = self._rules.decide(path)
        return None if decision.rule is None else decision.included

    def _holds(self, name: str) -> bool:
        """Whether an override takes in a table of it by name."""
        folder = self._rules.root().enter(_spell(name))
        return any(rule.include for rule in folder.rules_below())


def build_filter(engine: str, overrides: Iterable[Override], *, limited: bool = False) -> DatabaseFilter:
    """The wish about one engine. `limited`: the overrides are limits, which take in nothing but what they name."""
    own = tuple(override for override in overrides if override.kind == engine)
    return DatabaseFilter(own, default=not limited)
