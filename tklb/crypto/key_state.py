"""What `tklb key show` reports, as values."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from tklb.crypto.key_copies import KeyCopy
from tklb.lazy_dataclass import dataclass

UNKNOWN, NONE, THIS_KEY, ANOTHER_KEY = "?", "none", "this key", "another key"


@dataclass(frozen=True, slots=True)
class OlderKey:
    """A key before the present one, and the snapshots that only it opens; None where the target did not answer."""

    fingerprint: str
    snapshots: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class KeyState:
    """`copies` are of the present key. `target_copy` says which key file the target has: none, this key, another, ?."""

    fingerprint: str
    made: datetime
    has_passphrase: bool
    target: str
    target_copy: str
    copies: tuple[KeyCopy, ...]
    older: tuple[OlderKey, ...]
    problems: tuple[str, ...] = ()

    @property
    def has_left(self) -> bool:
        """Whether a copy is known to be anywhere but on this machine."""
        return any(copy.is_away for copy in self.copies)


@dataclass(frozen=True, slots=True)
class KeysAtTarget:
    """What the target has: which key file, and the snapshots of each key, by fingerprint."""

    address: str
    key_file: str = UNKNOWN
    snapshots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def list_snapshots_of(self, name: str) -> tuple[str, ...] | None:
        return None if self.key_file == UNKNOWN else self.snapshots.get(name, ())
