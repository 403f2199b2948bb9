"""The state of pam-auth-update(8): which profiles are enabled in /etc/pam.d/common-*.

Takes a root; gives the files of its install state; reads, changes nothing. They are install state while exactly those
profiles of packages are enabled that are so by default. Otherwise they are the owner's, like /etc/pam.d: without them
pam-auth-update would take the restored files for changed by hand, and never adapt them again.
"""

import hashlib
import re
from collections.abc import Iterator

from tklb.host.dpkg import find_listed
from tklb.host.registries.database import list_names, read_file
from tklb.model.files import FileEntry

_STATE, _PROFILES = b"/var/lib/pam", b"/usr/share/pam-configs"
_MODULE = re.compile(rb"^Module: (\S+)$", re.MULTILINE)
_DEFAULT = re.compile(rb"^Default:\s*yes\s*$", re.MULTILINE)


def list_pam_state(root: bytes) -> Iterator[FileEntry]:
    """Give the folder, and its files where they are as packages make them."""
    files = {_STATE + b"/" + name: read_file(root, _STATE + b"/" + name) for name in list_names(root, _STATE)}
    if not files:
        return
    yield FileEntry(_STATE, "dir", 0o755, 0, 0, b"root", b"root")
    enabled = {name for content in files.values() for name in _MODULE.findall(content)} - {b"null"}
    if enabled == _list_defaults(root):
        for path, content in files.items():
            yield FileEntry(path, "file", 0o644, 0, 0, b"root", b"root", sha256=hashlib.sha256(content).hexdigest())


def _list_defaults(root: bytes) -> set[bytes]:
    names = {_PROFILES + b"/" + name: name for name in list_names(root, _PROFILES)}
    return {names[path] for path in find_listed(root, names) if _DEFAULT.search(read_file(root, path))}
