"""How long copies of SQLite databases may hold up one run: a sum for each owner, and one for all users.

A user can lock databases, or stop the process that copies them, because it runs with that user's rights. Root does not
work against the backup: on a slow machine its many databases must not use up what is meant for one user.
"""

_EACH, _ALL = 10.0, 60.0  # seconds for one user; for all users together, and once more for root
_START = 0.5  # seconds that any copy may take
_SLOWEST = 4 << 20  # bytes a second

Seconds = float


class CopyPatience:
    """Counts the seconds that copies took beyond what their size explains."""

    def __init__(self) -> None:
        self._used: dict[int, Seconds] = {}

    def count_left(self, owner: int) -> Seconds:
        """How long the next copy for `owner` (a user id) may wait. Not more than 0: no copy should be made."""
        of_root = self._used.get(0, 0.0)
        if owner == 0:
            return min(_EACH, _ALL - of_root)
        return min(_EACH - self._used.get(owner, 0.0), _ALL - sum(self._used.values()) + of_root)

    def spend(self, owner: int, seconds: Seconds, size: int) -> None:
        """Note that a copy of `size` bytes took so many seconds, or failed after them."""
        self._used[owner] = self._used.get(owner, 0.0) + max(0.0, seconds - expect_seconds(size))


def expect_seconds(size: int) -> Seconds:
    """How long a copy of so many bytes may take on a slow machine if nobody holds it up."""
    return _START + size / _SLOWEST
