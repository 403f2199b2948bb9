"""The metadata of the newest snapshot, kept on this machine for the next comparison."""

from pathlib import Path

from tklb.base.fs import remove_tree, sync_folder
from tklb.config.paths import Paths
from tklb.snapshot import metadata


def keep_metadata(paths: Paths, stage: Path) -> None:
    """Make the records of a sealed snapshot those the next run compares with; of dumps, their listing is enough."""
    remove_tree(stage / metadata.DUMPS)
    remove_tree(paths.last)
    stage.rename(paths.last)
    sync_folder(paths.last.parent)
