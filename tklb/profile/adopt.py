"""Keep a copy of the profile in use."""

import shutil
from pathlib import Path

from tklb.base.fs import remove_tree
from tklb.config.paths import Paths


def adopt_profile(paths: Paths, folder: Path) -> None:
    """Keep a copy of the profile in use: the install state must not change under a chain."""
    fresh = paths.profile.with_name("profile.new")
    remove_tree(fresh)
    shutil.copytree(folder, fresh, symlinks=True)
    remove_tree(paths.profile)
    fresh.rename(paths.profile)
