"""See whether a server that loads rows still does something: one that hangs gives no error, and no end.

Takes a login; asks the server for its counters now and then.
"""

import time

from tklb.databases.mariadb import Login
from tklb.databases.mariadb.connection import ServerError, open_connection

__all__ = ["ServerWatch"]

# those of an idle server stay as they are, whoever asks for them
_COUNTERS = (
    "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Innodb_data_%' OR Variable_name LIKE 'Innodb_os_log_%'"
    " OR Variable_name LIKE 'Innodb_buffer_pool_%requests' OR Variable_name LIKE 'Key_%'"
    " OR Variable_name LIKE 'Aria_pagecache_%'"
)
_ANSWER_SECONDS = 20


class ServerWatch:
    """Compares counters from look to look. For one thread. `patience` is in seconds."""

    def __init__(self, login: Login, patience: float) -> None:
        self._login, self.patience = login, patience
        self._pause = min(30.0, patience / 3)
        self._seen: object = None
        self._changed = self._looked = time.monotonic()

    def is_hung(self, done: int) -> bool:
        """Say whether nothing has changed for too long; `done` is how many bytes the server has taken from us."""
        now = time.monotonic()
        if now - self._looked < self._pause:
            return False
        seen = (done, self._read_counters())
        self._looked = time.monotonic()
        if seen != self._seen:
            self._seen, self._changed = seen, self._looked
        return self._looked - self._changed > self.patience

    def _read_counters(self) -> tuple[tuple[str, ...], ...]:
        """The counters; none where the server does not answer."""
        try:
            with open_connection(self._login, seconds=_ANSWER_SECONDS) as connection:
                return connection.fetch_texts(_COUNTERS)
        except ServerError:
            return ()
