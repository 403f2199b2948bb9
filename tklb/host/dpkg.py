"""Installed packages, and the files that dpkg knows of them.

Takes the root of a file system (this machine's or another one); gives packages and file entries. Reads /var/lib/dpkg,
/var/lib/apt/extended_states and the status of files below that root. Starts no program, changes nothing. Formats:
deb-control(5), dpkg-divert(1), dpkg-statoverride(1), dpkg's lib/dpkg/dump.c for Conffiles.
"""

import functools
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tklb.base.fs import read_existing, read_existing_link
from tklb.host.registries.stat_overrides import read_stat_overrides
from tklb.model.files import FileEntry
from tklb.model.packages import Package

_GONE = (b"not-installed", b"config-files", b"half-installed")  # a package in these states is not installed
_MD5 = re.compile(rb"[0-9a-f]{32}")
_WRITING_NS = 5_000_000_000  # between the writing of a file list and its renaming
_MERGED = (b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32", b"libo32")  # usr-merge: links into /usr


class DpkgRecord(NamedTuple):
    """One installed package as the status file of dpkg describes it."""

    package: Package
    base: bool  # essential, required, important or standard: part of every Debian
    relations: bytes  # Pre-Depends and Depends, as written
    provides: bytes
    conffiles: tuple[tuple[bytes, str, bool], ...]  # path, MD5 as shipped ("" unknown), obsolete
    conflicts: bytes  # Conflicts and Breaks, as written
    source: str  # name of the source package
    essential: bool  # dpkg or apt refuse to remove it


def list_installed(root: bytes = b"/") -> tuple[Package, ...]:
    """List the installed packages, also held ones, but not those of which only configuration is left. Sorted."""
    return tuple(sorted(record.package for record in read_status(root)))


def read_status(root: bytes = b"/") -> Iterator[DpkgRecord]:
    """Give each installed package of the status file, in the order of the file."""
    yield from _parse_status(_read_status_file(root), _read(root, b"var/lib/apt/extended_states"))


@functools.lru_cache(maxsize=2)
def _parse_status(status: bytes, extended: bytes) -> tuple[DpkgRecord, ...]:
    """Parse the contents of both files. A run asks up to five times, and mostly they are the same."""
    return tuple(_parse_records(status, _parse_automatic(extended)))


def _parse_records(status: bytes, automatic: dict[str, set[str]]) -> Iterator[DpkgRecord]:
    for stanza in status.split(b"\n\n"):
        want, _, state = _field(stanza, b"Status").partition(b" ")
        if not state or state.split()[-1] in _GONE:
            continue
        name, architecture = (_field(stanza, key).decode("utf-8", "replace") for key in (b"Package", b"Architecture"))
        auto = name in automatic.get(architecture, ()) or (architecture == "all" and name in automatic["all"])
        version = _field(stanza, b"Version").decode("utf-8", "replace")
        yield DpkgRecord(
            Package(name, version, architecture, auto, want == b"hold"),
            _field(stanza, b"Priority") in (b"required", b"important", b"standard")
            or _field(stanza, b"Essential") == b"yes",
            b",".join(filter(None, (_field(stanza, key) for key in (b"Pre-Depends", b"Depends")))),
            _field(stanza, b"Provides"),
            tuple(parse_conffiles(stanza)),
            b",".join(filter(None, (_field(stanza, key) for key in (b"Conflicts", b"Breaks")))),
            _field(stanza, b"Source").decode("utf-8", "replace").partition(" ")[0] or name,
            any(_field(stanza, key) == b"yes" for key in (b"Essential", b"Protected", b"Important")),
        )


def find_stanza(root: bytes, package: Package) -> bytes:
    """Give the stanza of a package in the status file of dpkg, b"" if it has none."""
    wanted = (package.name.encode(), package.architecture.encode())
    stanzas = _read_status_file(root).split(b"\n\n")
    found = (one for one in stanzas if (_field(one, b"Package"), _field(one, b"Architecture")) == wanted)
    return next(found, b"")


def _read_status_file(root: bytes) -> bytes:
    return _read(root, b"var/lib/dpkg/status")


def _parse_automatic(extended: bytes) -> dict[str, set[str]]:
    """Give the names of automatically installed packages by architecture, and under "all" those of every one.

    apt lists a package of architecture `all` under the native architecture.
    """
    marked: dict[str, set[str]] = {"all": set()}
    for stanza in extended.split(b"\n\n"):
        if _field(stanza, b"Auto-Installed") == b"1":
            name = _field(stanza, b"Package").decode("utf-8", "replace")
            marked.setdefault(_field(stanza, b"Architecture").decode("utf-8", "replace"), set()).add(name)
            marked["all"].add(name)
    return marked


def parse_conffiles(stanza: bytes) -> Iterator[tuple[bytes, str, bool]]:
    """Give each conffile of a stanza: its path, its MD5 as shipped ("" unknown), and whether it is obsolete."""
    start = stanza.find(b"\nConffiles:\n")
    if start < 0:
        return
    for line in stanza[start + len(b"\nConffiles:\n") :].split(b"\n"):
        if not line.startswith(b" "):
            return
        words = line[1:].split(b" ")
        flags = 0
        while len(words) - flags > 2 and words[-1 - flags] in (b"obsolete", b"remove-on-upgrade"):
            flags += 1
        path, digest = b" ".join(words[: -1 - flags]), words[-1 - flags]
        if b"remove-on-upgrade" not in words[len(words) - flags :]:
            yield path, digest.decode() if _MD5.fullmatch(digest) else "", b"obsolete" in words[len(words) - flags :]


def list_unfinished(root: bytes = b"/") -> tuple[str, ...]:
    """List the packages that dpkg started to install, configure, trigger or remove and did not finish. Sorted."""
    return _list_in_states(root, rb"half-|unpacked|triggers-")


def list_unconfigured(root: bytes = b"/") -> tuple[str, ...]:
    """List those of list_unfinished() whose own installation is not complete; others wait for triggers only."""
    return _list_in_states(root, rb"half-|unpacked")


def _list_in_states(root: bytes, states: bytes) -> tuple[str, ...]:
    status = rb"(?m)^Package: (\S+)\n(?:.+\n)*?Status: \S+ (?:\S+ (?:" + states + rb")|reinstreq )"
    return tuple(sorted(name.decode("ascii", "replace") for name in re.findall(status, _read_status_file(root))))


def list_absent_holds(root: bytes = b"/") -> tuple[str, ...]:
    """List the packages that are held and not installed: the owner does not want them. Sorted."""
    states = rb"(?:not-installed|config-files)"
    found = re.findall(rb"(?m)^Package: (\S+)\n(?:.+\n)*?Status: hold \S+ " + states, _read_status_file(root))
    return tuple(sorted({name.decode("ascii", "replace") for name in found}))


def read_excluded_paths(root: bytes = b"/") -> dict[bytes, tuple[str, ...]]:
    """Give the patterns of paths that dpkg does not install, by file: `path-exclude` of dpkg.cfg(5)."""
    folder = b"/etc/dpkg/dpkg.cfg.d"
    names = os.listdir(_join_root(root, folder)) if os.path.isdir(_join_root(root, folder)) else []
    files = [b"/etc/dpkg/dpkg.cfg", *(folder + b"/" + name for name in sorted(names))]
    lines = {path: _read(_join_root(root, path)).decode("utf-8", "replace") for path in files}
    found = {path: re.findall(r"(?m)^\s*(?:--)?path-exclude\s*[=\s]\s*(\S+)", text) for path, text in lines.items()}
    return {path: tuple(patterns) for path, patterns in found.items() if patterns}


def list_broken(root: bytes = b"/", *, only_new: bool = False) -> tuple[str, ...]:
    """List the packages that dpkg wants reinstalled, as `name:architecture`; `only_new`: never configured before."""
    found = []
    for stanza in _read_status_file(root).split(b"\n\n"):
        words = _field(stanza, b"Status").split()
        is_chosen = words[1:2] == [b"reinstreq"] and not (only_new and _field(stanza, b"Config-Version"))
        if is_chosen and not (only_new and words[2] != b"half-installed"):
            name, architecture = _field(stanza, b"Package"), _field(stanza, b"Architecture")
            found.append((name if architecture == b"all" else name + b":" + architecture).decode("ascii", "replace"))
    return tuple(sorted(found))


def list_base_packages(root: bytes = b"/") -> tuple[Package, ...]:
    """List the packages of every Debian: required, important and standard ones, and their dependencies. Sorted."""
    every = tuple(read_status(root))
    providers = {record.package.name.encode(): record for record in every}
    for record in every:
        for name in _parse_names(record.provides):
            providers.setdefault(name, record)
    reached: dict[Package, None] = {}
    waiting = [record for record in every if record.base]
    while waiting:
        record = waiting.pop()
        if record.package not in reached:
            reached[record.package] = None
            waiting += _find_providers(record.relations, providers)
    return tuple(sorted(reached))


def _find_providers(relations: bytes, providers: dict[bytes, DpkgRecord]) -> Iterator[DpkgRecord]:
    """Give for each relation the package that satisfies it: the first of the alternatives that is installed."""
    for alternatives in relations.split(b","):
        name = next((name for name in _parse_names(alternatives) if name in providers), None)
        if name is not None:
            yield providers[name]


def _parse_names(relations: bytes) -> Iterator[bytes]:
    """Give the package names in a relation field, with all alternatives."""
    for word in relations.replace(b"|", b",").split(b","):
        yield word.strip().partition(b" ")[0].partition(b":")[0].partition(b"(")[0]


def listed_files(root: bytes, labels: Iterable[str]) -> tuple[bytes, ...]:
    """List the existing files of some packages (`name` or `name:architecture`), without folders. Sorted."""
    chosen = set(labels)
    translator = PathTranslator(root)
    found: set[bytes] = set()
    for package in list_installed(root):
        if package.name in chosen or f"{package.name}:{package.architecture}" in chosen:
            found.update(_list_existing(root, package, translator))
    return tuple(sorted(found))


def _list_existing(root: bytes, package: Package, translator: "PathTranslator") -> Iterator[bytes]:
    for path in _read(locate_info(root, package) + b".list").split(b"\n"):
        here = translator.locate(path, package.name)
        if path[:1] == b"/" and _is_no_folder(_join_root(root, here)):
            yield here


def _is_no_folder(path: bytes) -> bool:
    return os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path))


def find_listed(root: bytes, paths: Iterable[bytes], names: frozenset[str] | None = None) -> frozenset[bytes]:
    """Give those of `paths` that installed packages ship: all packages, or those with some `names`."""
    translator = PathTranslator(root)
    wanted = {name: path for path in paths for name in translator.list_names(translator.locate(path, ""))}
    found: set[bytes] = set()
    packages = list_installed(root) if wanted else ()
    for package in (package for package in packages if names is None or package.name in names):
        listed = wanted.keys() & set(_read(locate_info(root, package) + b".list").split(b"\n"))
        found.update(wanted[name] for name in listed)
    return frozenset(found)


def package_files(
    root: bytes = b"/",
    packages: Iterable[Package] | None = None,
    below: Iterable[bytes] = (b"/",),
    wanted: Callable[[bytes], bool] = lambda _path: True,
) -> Iterator[FileEntry]:
    """Give the entries that dpkg shipped, of all packages or of some, if they are in `below` and wanted.

    Sorted, and no path twice. A file has its MD5, and every entry its kind; mode and owner names only where a package
    overrides them. The ctime is when dpkg had put all files of the package in place, where that is known. Entries that
    dpkg cannot vouch for are left out: a file without a digest, an obsolete conffile that is gone, and a link that is
    younger than the package. (dpkg records no targets of links.) What is gone from /etc comes as a link.
    """
    chosen = None if packages is None else {(package.name, package.architecture) for package in packages}
    translator = PathTranslator(root)
    search = _FileSearch(translator, below)
    lines: list[bytes] = []
    for record in read_status(root):
        if chosen is None or (record.package.name, record.package.architecture) in chosen:
            shipped = search.find(root, record)
            lines += (path + b"\0" + known for path, known in shipped if wanted(path))
    lines.sort()
    yield from _make_entries(root, lines)


def list_shipped_by(root: bytes, below: Iterable[bytes] = (b"/",)) -> dict[bytes, tuple[str, ...]]:
    """Give for every path in `below` the packages that shipped it, as sorted names."""
    search = _FileSearch(PathTranslator(root), below)
    found: dict[bytes, set[str]] = {}
    for record in read_status(root):
        for path, _ in search.find(root, record):
            found.setdefault(path, set()).add(record.package.name)
    return {path: tuple(sorted(names)) for path, names in found.items()}


class _FileSearch:
    """Finds paths in the file lists of dpkg. It uses a pattern: of a hundred thousand lines few are wanted."""

    def __init__(self, translator: "PathTranslator", below: Iterable[bytes]) -> None:
        self._translator = translator
        names = sorted({name.strip(b"/") for path in below for name in translator.list_names(path)})
        chosen = b"(?:%s)" % b"|".join(b"%s(?:/.*)?" % re.escape(name) if name else b".+" for name in names)
        self._listed = re.compile(b"^/" + chosen + b"$", re.MULTILINE)
        self._summed = re.compile(rb"^([0-9a-f]{32})  (?:\./)?(" + chosen + b")$", re.MULTILINE)

    def find(self, root: bytes, record: DpkgRecord) -> Iterator[tuple[bytes, bytes]]:
        """Give each path, the MD5 or else the time when the package was installed (ns), and the time of its files."""
        stem = locate_info(root, record.package)
        paths = [path for path in self._listed.findall(_read(stem + b".list")) if path != b"/."]
        if not paths:
            return
        status = os.stat(stem + b".list")
        born, placed = b"%d" % status.st_mtime_ns, b" %d" % _find_placing(status)
        digests = {path: digest.encode() for path, digest, _ in record.conffiles}
        if not digests.keys() >= set(paths) - {path.rpartition(b"/")[0] for path in paths}:
            summed = self._summed.findall(_read(stem + b".md5sums"))
            digests = {b"/" + path: digest for digest, path in summed} | digests
        obsolete = {path for path, _, is_obsolete in record.conffiles if is_obsolete}
        for path in paths:
            here = self._translator.locate(path, record.package.name)
            if path not in obsolete or os.path.lexists(_join_root(root, here)):
                yield here, digests.get(path, born) + placed


def _find_placing(status: os.stat_result) -> int:
    """Give the time (ns) when dpkg wrote a file list, which is after all files of the package; 0 if it was copied.

    dpkg renames each file into its place and then writes the list. A copy has another ctime than mtime.
    """
    return status.st_ctime_ns if 0 <= status.st_ctime_ns - status.st_mtime_ns < _WRITING_NS else 0


def _make_entries(root: bytes, lines: list[bytes]) -> Iterator[FileEntry]:
    """Make entries of lines `path NUL known placed`. They are sorted, and compact because there may be a million."""
    overrides = {one.path: one for one in read_stat_overrides(root) if one.packaged}
    folders = {line[: line.index(b"\0")].rpartition(b"/")[0] for line in lines}
    last = b""
    for line in lines:
        path, _, facts = line.partition(b"\0")
        if path == last:
            continue
        known, placed = facts.split(b" ")
        kind, digest = ("dir", None) if path in folders else _find_kind(root, path, known)
        if kind:
            last = path
            entry = FileEntry(path, kind, ctime_ns=int(placed) or None, md5=digest)
            over = overrides.get(path)
            yield entry._replace(mode=over.mode, uname=over.user, gname=over.group) if over else entry


def _find_kind(root: bytes, path: bytes, known: bytes) -> tuple[str, str | None]:
    if len(known) == 32:
        return "file", known.decode()
    try:
        found = os.lstat(_join_root(root, path))
    except (FileNotFoundError, NotADirectoryError):
        return ("link" if path.startswith(b"/etc/") else ""), None
    if stat.S_ISDIR(found.st_mode):
        return "dir", None
    is_as_shipped = stat.S_ISLNK(found.st_mode) and known and found.st_mtime_ns <= int(known)
    return ("link", None) if is_as_shipped else ("", None)


def find_owner(root: bytes, path: bytes) -> str | None:
    """Give the package that shipped `path`, or None. For a folder of several packages it is the first one."""
    translator = PathTranslator(root)
    names = [b"\n" + name + b"\n" for name in translator.list_names(path)]
    folder = os.path.join(root, b"var/lib/dpkg/info")
    files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for file in (file for file in files if file.endswith(b".list")):
        owner = file[: -len(b".list")].partition(b":")[0].decode()
        listed = b"\n" + _read(folder, file)
        if any(name in listed and translator.locate(name[1:-1], owner) == path for name in names):
            return owner
    return None


class PathTranslator:
    """Translates paths as packages ship them to paths on the machine: diversions, and the merged /usr."""

    def __init__(self, root: bytes) -> None:
        lines = _read(root, b"var/lib/dpkg/diversions").split(b"\n")
        self._diverted = {
            lines[at]: (lines[at + 1], lines[at + 2].decode()) for at in range(0, len(lines) - 2, 3) if lines[at]
        }
        self._merged = tuple(b"/" + name + b"/" for name in _MERGED if _leads_into_usr(root, name))

    def locate(self, path: bytes, package: str) -> bytes:
        target, by = self._diverted.get(path, (path, package))
        path = path if by == package else target
        return b"/usr" + path if path.startswith(self._merged) else path

    def list_names(self, path: bytes) -> Iterator[bytes]:
        """Give the paths under which packages may have shipped what is at or below `path`."""
        yield path
        below = path.rstrip(b"/") + b"/"
        for merged in self._merged:
            if (b"/usr" + merged).startswith(below):
                yield merged.rstrip(b"/")
            elif path.startswith(b"/usr" + merged):
                yield path.removeprefix(b"/usr")
        for original, (target, _) in self._diverted.items():
            if target == path or target.startswith(below):
                yield original


def _leads_into_usr(root: bytes, name: bytes) -> bool:
    return (read_existing_link(os.path.join(root, name)) or b"").lstrip(b"/") == b"usr/" + name


def locate_info(root: bytes, package: Package) -> bytes:
    """Give the start of the names of a package's files in dpkg's info folder; some have the architecture in it."""
    stem = os.path.join(root, b"var/lib/dpkg/info", package.name.encode())
    qualified = stem + b":" + package.architecture.encode()
    return qualified if os.path.exists(qualified + b".list") else stem


def _field(stanza: bytes, name: bytes) -> bytes:
    """Give the first line of a field, b"" if the field is absent."""
    at = 0 if stanza.startswith(name + b": ") else stanza.find(b"\n" + name + b": ") + 1
    if at == 0 and not stanza.startswith(name + b": "):
        return b""
    end = stanza.find(b"\n", at)
    return stanza[at + len(name) + 2 : end if end >= 0 else None].strip()


def _join_root(root: bytes, path: bytes) -> bytes:
    return os.path.join(root, path.lstrip(b"/"))


def _read(*parts: bytes) -> bytes:
    return read_existing(os.path.join(*parts))
