"""Decisions of the owner that Debian keeps in registries beside the files. Frozen values.

`packaged` says that the package which will be reinstalled makes the entry: then it is install state, and no snapshot
needs it. It never counts in a comparison.
"""

from dataclasses import field

from tklb.lazy_dataclass import dataclass
from tklb.model.secret import Secret


@dataclass(frozen=True, slots=True, order=True)
class Diversion:
    """dpkg-divert(1): the file of a package at `path` is put at `target` instead. `package` is empty for the owner."""

    path: bytes
    target: bytes
    package: bytes = b""


@dataclass(frozen=True, slots=True, order=True)
class StatOverride:
    """dpkg-statoverride(1): owner, group and mode that dpkg gives a path. `#NUMBER` is an id without a name."""

    path: bytes
    user: bytes
    group: bytes
    mode: int
    packaged: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, order=True)
class SlaveLink:
    """update-alternatives(1): a further link of a group, and the file that one choice gives it."""

    name: bytes
    link: bytes
    path: bytes


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """One choice of a group of alternatives."""

    path: bytes
    priority: int
    slaves: tuple[SlaveLink, ...] = ()
    packaged: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, order=True)
class AlternativeGroup:
    """A group of alternatives. `manual` is the path that the owner chose, None in automatic mode."""

    name: bytes
    link: bytes
    manual: bytes | None = None
    choices: tuple[Choice, ...] = ()

    def find_best(self) -> Choice | None:
        """Give the choice that automatic mode takes once the packages are installed."""
        return max((choice for choice in self.choices if choice.packaged), key=lambda one: one.priority, default=None)


@dataclass(frozen=True, slots=True, order=True)
class RemovedEntry:
    """An entry that a package makes and the owner removed. `name`: the group of alternatives, or the diverting package.

    `registry` is alternatives, diversions or stat-overrides.
    """

    registry: str
    name: bytes
    path: bytes


@dataclass(frozen=True, slots=True, order=True)
class FileFlags:
    """Flags of chattr(1) of a file that travels otherwise than as a file, such as /etc/passwd."""

    path: bytes
    flags: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to debconf(7) that the owner has seen. The value of a password is secret."""

    package: str
    question: str
    kind: str  # select, multiselect, boolean, string, password
    value: str | Secret = field(repr=False)

    def reveal(self) -> str:
        return self.value.reveal() if isinstance(self.value, Secret) else self.value


@dataclass(frozen=True, slots=True)
class Registries:
    """The registries of a machine, or the owner's part of them. Each is sorted."""

    architectures: tuple[str, ...] = ()  # foreign ones: dpkg --print-foreign-architectures
    diversions: tuple[Diversion, ...] = ()
    stat_overrides: tuple[StatOverride, ...] = ()
    alternatives: tuple[AlternativeGroup, ...] = ()
    answers: tuple[Answer, ...] = ()
    removed: tuple[RemovedEntry, ...] = ()
    flags: tuple[FileFlags, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistryItem:
    """One decision, for people: `registry` names where it is kept."""

    registry: str
    item: bytes
    detail: str = ""
    is_removed: bool = False  # the owner removed an entry of a package
