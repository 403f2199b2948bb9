"""Find the versions of configuration files that dpkg and ucf put beside a file which they do not replace.

Takes a root; gives paths; changes nothing. Endings: dpkg(1), ucf(1). A `.dpkg-new` is of a package that still waits
for its configuration: dpkg needs it.
"""

import os

_TOP = b"etc"
_ENDINGS = (b".dpkg-dist", b".ucf-dist", b".ucf-new")


def list_leftovers(root: bytes) -> frozenset[bytes]:
    """List such files below /etc."""
    top = os.path.join(root, _TOP)
    found = (os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)
    return frozenset(b"/" + os.path.relpath(path, root) for path in found if path.endswith(_ENDINGS))


def name_of_kept(path: bytes) -> bytes:
    """Give the path of the file that stayed, of a path that list_leftovers() gave."""
    return path.rpartition(b".")[0]
