"""The metadata of the newest snapshot, kept on this machine for the next comparison."""

from pathlib import Path

from tklb.base.fs import remove_tree, sync_folder
from tklb.config.paths import Paths
from tklb.snapshot import metadata


def keep_metadata(paths: Paths, folder: Path) -> None:
    """Keep the metadata of a sealed snapshot for the comparison of the next run; of dumps only the listing."""
    remove_tree(folder / metadata.DUMPS)
    remove_tree(paths.last)
    folder.rename(paths.last)
    sync_folder(paths.last.parent)
