"""Folders above wanted files that the filter leaves out. Where this machine lacks one, it comes back too. Pure.

Made anew as a folder of root that all may enter, it would open what it closed on the backed-up machine. The same holds
for a folder of root that is another user's here.
"""

from tklb.model.files import FileEntry
from tklb.restore.plan.files.present import Present


class FoldersAbove:
    """Remembers folders of the manifest that are not wanted, as long as wanted files may come below them."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._waiting: dict[bytes, FileEntry] = {}

    def select(self, entry: FileEntry, *, is_wanted: bool) -> tuple[FileEntry, ...]:
        """Give a wanted entry after the folders above it that must come too; nothing for another entry.

        Entries come in path order.
        """
        if is_wanted:
            return *self._take(entry.path), entry
        self._note(entry)
        return ()

    def _note(self, entry: FileEntry) -> None:
        if entry.kind == "dir":
            path = entry.path
            kept = (folder for folder in self._waiting if path.startswith(folder + b"/") or path < folder + b"/")
            self._waiting = {folder: self._waiting[folder] for folder in kept} | {path: entry}

    def _take(self, path: bytes) -> tuple[FileEntry, ...]:
        above = [folder for folder in self._waiting if path.startswith(folder.rstrip(b"/") + b"/")]
        entries = [self._waiting.pop(folder) for folder in sorted(above)]
        return tuple(entry for entry in entries if self._is_needed(entry))

    def _is_needed(self, entry: FileEntry) -> bool:
        """Whether this machine lacks the folder, or somebody else has put one there in the place of root's."""
        have = self._present.entry(entry.path)
        return have is None or (have.kind == "dir" and entry.uid == 0 and have.uid != 0)
