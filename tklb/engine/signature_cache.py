"""duplicity's local copy of manifests and signatures: believed only while it is what the last sealed set left behind.

duplicity compares names alone; a copy that is stale, torn or another target's would make wrong increments. Takes the
volumes of the chain; touches the archive folder and a note beside it.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from tklb.base.fs import private_folder, remove_tree, write_atomic
from tklb.model.snapshot import Volume


def is_trusted(archive: Path, chain: Iterable[Volume]) -> bool:
    """Whether the archive is complete, unchanged and of this very chain."""
    try:
        noted = json.loads(_note(archive).read_bytes())
        return bool(noted == _state(archive, chain))
    except (OSError, ValueError):
        return False


def remember(archive: Path, chain: Iterable[Volume]) -> None:
    """Note what the archive holds now, and which volumes it belongs to."""
    write_atomic(_note(archive), json.dumps(_state(archive, chain)).encode())


def forget(archive: Path) -> None:
    """Leave an empty archive."""
    _note(archive).unlink(missing_ok=True)
    remove_tree(archive)
    private_folder(archive)


def _state(archive: Path, chain: Iterable[Volume]) -> dict[str, object]:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(archive.iterdir())}
    return {"files": files, "chain": sorted([volume.name, volume.sha256] for volume in chain)}


def _note(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.json")
