"""duplicity's local copy of manifests and signatures. It is used only while it is as the last sealed set left it.

duplicity compares names alone, so a copy that is old, torn or of another target would give wrong increments. Takes the
volumes of the chain; touches the archive folder and a note beside it.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from tklb.base.fs import private_folder, remove_tree
from tklb.base.json import read_state, write_state
from tklb.model.snapshot import Volume


def is_trusted(archive: Path, chain: Iterable[Volume]) -> bool:
    """Whether the archive is complete, unchanged and of this very chain."""
    return read_state(_note_file(archive), lambda noted: bool(noted == _state(archive, chain)), default=False)


def remember(archive: Path, chain: Iterable[Volume]) -> None:
    """Note what the archive holds now, and which volumes it belongs to."""
    write_state(_note_file(archive), _state(archive, chain))


def forget(archive: Path) -> None:
    """Leave an empty archive."""
    _note_file(archive).unlink(missing_ok=True)
    remove_tree(archive)
    private_folder(archive)


def _state(archive: Path, chain: Iterable[Volume]) -> dict[str, object]:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(archive.iterdir())}
    return {"files": files, "chain": sorted([volume.name, volume.sha256] for volume in chain)}


def _note_file(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.json")
