"""Parts of Apache and PHP that package scripts switch on, and the markers that say who switched them last.

Takes a root file system; gives the links and markers of its install state; reads, changes nothing. a2enmod(8) and
phpenmod(8) keep an empty file for each part in a folder enabled_by_maint, enabled_by_admin, disabled_by_maint or
disabled_by_admin. A part that the administrator switched off is in the last one, so it was on before.
"""

import hashlib
import os
import re
from collections.abc import Iterator

from tklb.host.dpkg import find_listed
from tklb.host.registries.database import join_root, list_names, read_file
from tklb.model.files import FileEntry

_PHP = b"/var/lib/php/modules"
_SITE = b"000-default"  # the script of the package enables it as an administrator would
_EMPTY = hashlib.sha256().hexdigest()
# What a2enmod(8) and its relatives switch: registry, folder, the ends of names
_APACHE = (
    (b"module", b"mods", (b".load", b".conf")),
    (b"conf", b"conf", (b".conf",)),
    (b"site", b"sites", (b".conf",)),
)


def list_switched(root: bytes) -> Iterator[FileEntry]:
    """Give the links that package scripts make, also those that the administrator took away again."""
    yield from _list_apache_links(root)
    yield from _list_php_links(root)


def list_markers(root: bytes) -> Iterator[FileEntry]:
    """Give the markers of package scripts as they were before an administrator switched anything."""
    for kind, short, ends in _APACHE:
        registry = b"/var/lib/apache2/" + kind
        names = _list_apache_names(root, kind, short, ends[0])
        by_admin = {name for name in names if kind == b"site" and name == _SITE}
        yield from _list_states(root, registry, {*names} - by_admin, by_admin)
    yield from _make_folders(root, _PHP, *(_PHP + b"/" + version for version in list_names(root, _PHP)))
    for version, interface in _list_interfaces(root):
        states = b"/".join((_PHP, version, interface))
        yield from _list_states(root, states, _list_modules(root, states), set())


def _list_states(root: bytes, registry: bytes, names: set[bytes], by_admin: set[bytes]) -> Iterator[FileEntry]:
    """Give the folders and markers of one registry."""
    off = list_names(root, registry + b"/disabled_by_maint")
    states = ((b"enabled_by_maint", names), (b"enabled_by_admin", by_admin), (b"disabled_by_maint", off))
    yield from _make_folders(root, registry, registry + b"/enabled_by_maint")
    for state, parts in ((registry + b"/" + state, parts) for state, parts in states if parts):
        yield from _make_folders(root, state)
        for part in parts:
            yield FileEntry(state + b"/" + part, "file", 0o644, 0, 0, b"root", b"root", 0, sha256=_EMPTY)


def _make_folders(root: bytes, *paths: bytes) -> Iterator[FileEntry]:
    for path in (path for path in paths if _exists(root, path)):
        yield FileEntry(path, "dir", 0o755, 0, 0, b"root", b"root")


def _list_apache_links(root: bytes) -> Iterator[FileEntry]:
    """Give the links that package scripts make, also those that the administrator took away again."""
    for kind, short, ends in _APACHE:
        names = _list_apache_names(root, kind, short, ends[0])
        available = b"/etc/apache2/" + short + b"-available/"
        files = (name + end for name in names for end in ends)
        for file in (file for file in files if _exists(root, available + file)):
            target = b"../" + short + b"-available/" + file
            yield FileEntry(b"/etc/apache2/" + short + b"-enabled/" + file, "link", link=target)


def _list_apache_names(root: bytes, kind: bytes, short: bytes, end: bytes) -> list[bytes]:
    registry = b"/var/lib/apache2/" + kind
    names = list_names(root, registry + b"/enabled_by_maint")
    if kind == b"site" and _exists(root, b"/etc/apache2/sites-available/" + _SITE + end):
        names.append(_SITE)
    gone = {b"/etc/apache2/" + short + b"-available/" + name + end: name for name in _list_disabled(root, registry)}
    shipped = find_listed(root, gone) if gone else ()
    return [*names, *(gone[path] for path in shipped)]


def _list_disabled(root: bytes, registry: bytes) -> list[bytes]:
    return list_names(root, registry + b"/disabled_by_admin")


def _list_php_links(root: bytes) -> Iterator[FileEntry]:
    for version, interface in _list_interfaces(root):
        folder = b"/etc/php/%s/%s/conf.d/" % (version, interface)
        found = {name.removesuffix(b".ini").partition(b"-")[2]: name for name in list_names(root, folder)}
        for module in _list_modules(root, b"/".join((_PHP, version, interface))):
            target = b"/etc/php/%s/mods-available/%s.ini" % (version, module)
            name = found.get(module) or b"%d-%s.ini" % (_read_priority(read_file(root, target)), module)
            yield from [FileEntry(folder + name, "link", link=target)] if _exists(root, target) else []


def _list_interfaces(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give version and interface of each part of PHP that loads modules."""
    for version in list_names(root, _PHP):
        names = list_names(root, _PHP + b"/" + version)
        yield from ((version, name) for name in names if name != b"registry")


def _list_modules(root: bytes, states: bytes) -> set[bytes]:
    return {*list_names(root, states + b"/enabled_by_maint"), *_list_disabled(root, states)}


def _read_priority(settings: bytes) -> int:
    """Give the number at the start of the name of a module's link, as phpenmod(8) does."""
    found = re.search(rb"^;\s*priority\s*=\s*([0-9]{1,4})", settings, re.MULTILINE)
    return int(found[1]) if found else 20


def _exists(root: bytes, path: bytes) -> bool:
    return os.path.lexists(join_root(root, path))
