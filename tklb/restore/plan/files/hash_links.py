"""Links by which OpenSSL finds a certificate in a folder: their names are hashes of what the file says. Pure.

A package may make such a link for a certificate of this machine, as ssl-cert does. Where the restore replaces the
certificate, the link has the hash of the old one, and is wrong (openssl-rehash(1)).
"""

import re
from collections.abc import Iterator

from tklb.restore.plan.files.present import Present, join_path, parent_of

_NAME = re.compile(rb"[0-9a-f]{8}\.r?[0-9]+")
_CERTIFICATE = (b".pem", b".crt", b".cer", b".crl")


class HashLinks:
    """The links in the folder that was asked for last."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._folder, self._links = b"", dict[bytes, bytes]()  # path of each link, and its target

    def find(self, path: bytes) -> Iterator[bytes]:
        """Give the links here whose name is the hash of the file at `path`."""
        if path.endswith(_CERTIFICATE):
            self._look_into(parent_of(path))
            name = path.rpartition(b"/")[2]
            yield from (link for link, target in self._links.items() if target in (name, path))

    def _look_into(self, folder: bytes) -> None:
        if folder == self._folder:
            return
        names = (name for name in self._present.names(folder) if _NAME.fullmatch(name))
        entries = (self._present.entry(join_path(folder, name)) for name in names)
        self._folder, self._links = folder, {entry.path: entry.link for entry in entries if entry and entry.link}
