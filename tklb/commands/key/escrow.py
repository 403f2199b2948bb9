"""Write a copy of the key, to keep away from this machine."""

from pathlib import Path

from tklb.config.paths import Paths
from tklb.crypto.key_copies import KeyCopy
from tklb.crypto.protection import Protection, write_copy
from tklb.crypto.secret import read_secret
from tklb.model.callbacks import Clock


def escrow(paths: Paths, clock: Clock, file: Path, protection: Protection, homedir: Path) -> KeyCopy:
    """Write a copy of the key to a new file, and note it. `homedir` has the keyring with public keys.

    Raises UsageWrong, KeyUnusable, ProgramFailed.
    """
    return write_copy(paths, file, read_secret(paths.secret), protection, homedir, clock())
