"""Find the files that package sources lean on: without them, apt cannot reach a source.

These are mirror lists, proxies and other settings, the certificates that these name, private CAs, and /etc/hosts if a
source is named there. Takes a root; gives files; changes nothing. Only files in folders of root's are read through a
link; others, such as those of the group staff below /usr/local, are not.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator

from tklb.base.fs import list_existing
from tklb.diff.apt_sources import AUTHORITIES, Stanza, is_authority, name_mirror_list
from tklb.host.files.openat import RootedTree
from tklb.model.packages import SourceFile

_SETTINGS, _SETTINGS_FOLDER, _HOSTS = b"/etc/apt/apt.conf", b"/etc/apt/apt.conf.d", b"/etc/hosts"
# scripts of packages write these, to keep some packages from being removed
_GENERATED = frozenset({b"01autoremove-kernels", b"02autoremove-postgresql"})
_MOST_BYTES = 4 << 20  # more is no setting, list or certificate
_SETTING = re.compile(rb"[A-Za-z0-9_-]+|[A-Za-z0-9_.-]+\.conf")  # apt.conf(5): names of other forms are ignored
_COMMENT = re.compile(r"(?m)^\s*(?://|#).*$|/\*.*?\*/", re.DOTALL)
# a program that a hook names may not be here yet, and apt fails without it
_HOOK = re.compile(r"invoke|pre-install-pkgs|AptCli::Hooks", re.IGNORECASE)
_NAMED = re.compile(
    r"(?:ca-?info|ca-?path|sslcert|sslkey|issuercert|crl-?file|proxy-?auto-?detect)\s+\"(/[^\"]+)\"", re.IGNORECASE
)
_HOST = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/@\s\"]*@)?\[?([^/:\s\"\]]+)", re.IGNORECASE)


def find_mirror_lists(stanzas: Iterable[Stanza]) -> set[bytes]:
    """Give the paths of the mirror lists that sources name."""
    return {path for stanza in stanzas for uri in stanza.words("uris") if (path := name_mirror_list(uri))}


def find_support_files(root: bytes, stanzas: Iterable[Stanza]) -> list[SourceFile]:
    """Read the files that these sources lean on, and the settings of apt. Also those that packages shipped."""
    places = [uri for stanza in stanzas for uri in (*stanza.words("uris"), *stanza.places)]
    settings = list(_read_settings(root))
    texts = [_COMMENT.sub("", file.content.decode("utf-8", "replace")) for file in settings]
    hosts = {host.encode() for text in (*places, *texts) for host in _HOST.findall(text)}
    named = sorted({os.fsencode(path) for text in texts for path in _NAMED.findall(text)})
    with RootedTree(root) as tree:
        found = [file for path in named if (file := _read_strictly(tree, path))]
        if any(re.match(r"(mirror\+|tor\+)?https:", place) for place in (*places, *_find_proxies(texts))):
            found += _read_authorities(tree, root)
    hosts_file = read_source_file(root, _HOSTS)
    if hosts_file and hosts & set(hosts_file.content.split()) - {b"localhost"}:
        found.append(hosts_file)
    return settings + found


def _find_proxies(texts: Iterable[str]) -> Iterator[str]:
    return (uri for text in texts for uri in re.findall(r"https?://\S+", text))


def _read_settings(root: bytes) -> Iterator[SourceFile]:
    found = {name for name in list_names(root, _SETTINGS_FOLDER) if _SETTING.fullmatch(name)}
    names = sorted(found - _GENERATED)
    for path in (_SETTINGS, *(_SETTINGS_FOLDER + b"/" + name for name in names)):
        file = read_source_file(root, path)
        if file and not _HOOK.search(_COMMENT.sub("", file.content.decode("utf-8", "replace"))):
            yield file


def _read_authorities(tree: RootedTree, root: bytes) -> list[SourceFile]:
    found = []
    top = os.path.join(root, AUTHORITIES.strip(b"/"))
    for folder, _, names in os.walk(top):
        inside = AUTHORITIES + os.path.relpath(folder, top) + b"/" if folder != top else AUTHORITIES
        paths = (inside + name for name in sorted(names) if is_authority(inside + name))
        found += [file for path in paths if (file := _read_strictly(tree, path))]
    return found


def read_source_file(root: bytes, path: bytes) -> SourceFile | None:
    """Read a file of root's own folders; a link stands for the file that it leads to."""
    place = os.path.join(root, path.lstrip(b"/"))
    try:
        if os.path.islink(place):
            target = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(place)))
            place = os.path.join(root, target.lstrip(b"/"))
        if os.path.isfile(place):
            with open(place, "rb") as stream:
                status = os.fstat(stream.fileno())
                return SourceFile(path, stream.read(), stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime_ns)
    except OSError:
        pass
    return None


def _read_strictly(tree: RootedTree, path: bytes) -> SourceFile | None:
    """Read a file through no link at all."""
    with contextlib.suppress(OSError, ValueError), os.fdopen(tree.open_file(path), "rb") as stream:
        status = os.fstat(stream.fileno())
        if status.st_size <= _MOST_BYTES:
            return SourceFile(path, stream.read(_MOST_BYTES), stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime_ns)
    return None


def list_names(root: bytes, folder: bytes) -> list[bytes]:
    return list_existing(os.path.join(root, folder.strip(b"/")))
