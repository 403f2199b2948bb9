"""Keep a copy of the profile in use below /var/lib/tklb."""

import shutil
from pathlib import Path

from tklb.base.fs import remove_tree
from tklb.config.paths import Paths


def adopt_profile(paths: Paths, folder: Path) -> None:
    """Replace the copy of the profile in use. The install state must not change while a chain uses it."""
    fresh = paths.profile.with_name("profile.new")
    remove_tree(fresh)
    shutil.copytree(folder, fresh, symlinks=True)
    remove_tree(paths.profile)
    fresh.rename(paths.profile)
