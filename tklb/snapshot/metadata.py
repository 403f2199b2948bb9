"""SNAPSHOT METADATA: the text inside a snapshot beside the files; written before the engine runs, read after it.

duplicity loses part of what a delta needs (hard links, xattrs, nanoseconds, names of owners). So a folder of plain text
travels inside every snapshot, at var/lib/tklb/stage:

    manifest.mtree     every entry of the delta with its whole metadata and SHA-256
    deleted            paths of the install state that are gone, one escaped path a line
    hard-links         one group of escaped paths a line, separated by spaces
    scope              the rules that decided which files belong to the snapshot, one a line (optional)
    packages           what is installed; packages.base: what the install state had
    packages.local     those of them that no source offers; local-files: the paths in the snapshot because of them
    packages.relations what packages provide and exclude; packages.needed and others: see package_history.py
    local/             what dpkg knows of packages that no source offers: see package_records.py (may be absent)
    sources/           the extra apt sources and keyrings, as files below their own paths; sources.mtree lists them
    packaged.mtree     files of packages of which only the metadata differs: no content travels (may be absent)
    registries/        the owner's part of dpkg's and debconf's registries, in the forms of diff/registries/forms.py
    accounts/          passwd group shadow gshadow subuid subgid
    profile/           the profile that the delta was compared with
    databases.mtree    every file below databases/ with its SHA-256; sqlite: which copy belongs to which file
    databases/         the dumps of database servers, and copies of SQLite databases (not metadata: the listing is)
    key.json           when the key was made, and where copies of it went
    machine.json       whose snapshot it is, and which parts it holds
    README             how to use all this without tklb
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from tklb.base.fs import PRIVATE_FILE, file_sha256, private_folder
from tklb.diff import mtree
from tklb.diff.packages import format_packages, parse_packages
from tklb.diff.registries.forms import REGISTRIES, format_registries, parse_registries
from tklb.errors import TargetDamaged
from tklb.model.accounts import Accounts
from tklb.model.files import FileEntry
from tklb.model.packages import SourceFile
from tklb.model.snapshot_metadata import MachineFacts, SnapshotMetadata
from tklb.snapshot.package_history import format_history, read_history
from tklb.snapshot.package_records import format_records, read_records

MANIFEST = "manifest.mtree"
PACKAGED = "packaged.mtree"
PROFILE = "profile"
DUMPS = "databases"
DUMPS_LISTING = "databases.mtree"
KEY_HISTORY = "key.json"

_README = """\
This folder belongs to tklb. The files around it are the files of the machine, decoded by duplicity.
manifest.mtree lists them with their whole metadata (mtree(5)); `deleted` names what had been removed;
`packages`, `sources/` and `accounts/` are what they say. All of it is plain text.
`local/` has what dpkg knows of packages that no source offers, except their files, which are among the others.
`registries/` has diversions, overrides of owner and mode, alternatives and answers, as Debian's own tools write them.
`databases/` has the dumps of database servers: each database is a folder with a `load.sql` that the server's own
client reads from inside that folder. SQLite databases that were in use are in `databases/sqlite/`; `sqlite` says where
each belongs.
"""


def write(folder: Path, contents: SnapshotMetadata) -> None:
    """Write all metadata but the manifest and the dumps into an existing private folder."""
    _write(folder / "README", _README.encode())
    _write(folder / "machine.json", (json.dumps(asdict(contents.machine), indent=1, sort_keys=True) + "\n").encode())
    _write(folder / "deleted", path_lines(contents.deleted))
    _write(
        folder / "hard-links", b"".join(b" ".join(map(mtree.escape, group)) + b"\n" for group in contents.hard_links)
    )
    _write(folder / "packages", format_packages(contents.packages))
    _write(folder / "packages.base", format_packages(contents.packages_base))
    _write(folder / "packages.local", _join_lines(name.encode() for name in contents.local))
    _write(folder / "local-files", path_lines(contents.local_files))
    for name, text in format_history(contents.history).items():
        _write(folder / name, text)
    for name, text in format_records(contents.local_packages):
        _write(folder / name, text)
    if contents.scope is not None:
        _write(folder / "scope", _join_lines(contents.scope))
    for field in fields(Accounts):
        _write(folder / "accounts" / field.name, _join_lines(getattr(contents.accounts, field.name)))
    for name, text in format_registries(contents.registries).items():
        _write(folder / "registries" / name, text)
    _write(folder / "sqlite", _join_lines(mtree.escape(path) + b" " + name.encode() for path, name in contents.copies))
    _write(folder / PACKAGED, mtree.HEADER + b"".join(map(mtree.format_entry, contents.packaged)))
    for source in contents.sources:
        place = folder / "sources" / os.fsdecode(source.path.lstrip(b"/"))
        _write(place, source.content)
    listed = (FileEntry(s.path, "file", mode=s.mode, mtime_ns=s.mtime_ns) for s in contents.sources)
    _write(folder / "sources.mtree", mtree.HEADER + b"".join(map(mtree.format_entry, listed)))


def write_key_history(folder: Path, history: Mapping[str, object]) -> None:
    """Write the history of the key as JSON into an existing private folder."""
    _write(folder / KEY_HISTORY, (json.dumps(history, indent=1, sort_keys=True) + "\n").encode("ascii"))


def read(folder: Path) -> SnapshotMetadata:
    """Read the metadata of a decoded snapshot. Raises TargetDamaged where it is not whole."""
    try:
        return SnapshotMetadata(
            machine=_machine((folder / "machine.json").read_bytes()),
            deleted=read_paths(folder / "deleted"),
            hard_links=tuple(tuple(map(mtree.unescape, line.split(b" "))) for line in _lines(folder / "hard-links")),
            packages=parse_packages((folder / "packages").read_bytes()),
            packages_base=parse_packages((folder / "packages.base").read_bytes()),
            local=tuple(line.decode() for line in _lines(folder / "packages.local")),
            local_files=read_paths(folder / "local-files"),
            local_packages=read_records(folder),
            history=read_history(folder),
            sources=tuple(_sources(folder)),
            accounts=Accounts(**{field.name: _lines(folder / "accounts" / field.name) for field in fields(Accounts)}),
            registries=parse_registries({name: _read_optional(folder / "registries" / name) for name in REGISTRIES}),
            scope=_lines(folder / "scope") if (folder / "scope").exists() else None,
            copies=read_copies(folder),
            packaged=tuple(read_manifest(folder, PACKAGED)),
        )
    except (OSError, ValueError, TypeError) as exc:
        raise TargetDamaged(address="the snapshot", reason=f"its metadata cannot be read: {exc}") from exc


def path_lines(paths: Iterable[bytes]) -> bytes:
    """Paths as text, one a line."""
    return _join_lines(map(mtree.escape, paths))


def read_paths(file: Path) -> tuple[bytes, ...]:
    """Read the paths that path_lines() wrote into a file. Raises OSError, ValueError."""
    return tuple(map(mtree.unescape, _lines(file)))


def read_copies(folder: Path) -> tuple[tuple[bytes, str], ...]:
    """Read the copies of SQLite databases: path, name below databases/sqlite. Raises OSError, ValueError."""
    pairs = (line.rsplit(b" ", 1) for line in _lines(folder / "sqlite"))
    return tuple((mtree.unescape(path), name.decode("ascii")) for path, name in pairs)


def read_manifest(folder: Path, name: str = MANIFEST) -> Iterator[FileEntry]:
    """Stream the entries of the manifest, or of another listing, in path order; an absent one is empty."""
    path = folder / name
    if path.exists():
        with path.open("rb") as stream:
            yield from mtree.parse(stream)


def open_manifest(folder: Path | None, name: str = MANIFEST) -> BinaryIO:
    """Open the manifest, or another listing; an empty one where there is none."""
    path = folder and folder / name
    return path.open("rb") if path and path.exists() else BytesIO(mtree.HEADER)


def metadata_files(folder: Path) -> tuple[Path, ...]:
    """Every file of the metadata, sorted; dumps are not metadata."""
    tops = (top for top in folder.iterdir() if top.name != DUMPS)
    found = (path for top in tops for path in (top, *top.rglob("*")))
    return tuple(sorted(path for path in found if path.is_file() and not path.is_symlink()))


def write_dumps_listing(folder: Path, last: Path | None) -> int:
    """List the files below databases/; give their size in bytes.

    A file that is the same as in the `last` snapshot gets the time it had there, so that the engine need not read it.
    """
    known = {entry.path: entry for entry in read_manifest(last, DUMPS_LISTING)} if last else {}
    total = 0
    with open(_create(folder / DUMPS_LISTING), "wb") as listing:
        listing.write(mtree.HEADER)
        found = (path for path in (folder / DUMPS).rglob("*") if path.is_file() and not path.is_symlink())
        for path in sorted(found, key=os.fsencode):
            entry = _dump_entry(folder, path, known)
            listing.write(mtree.format_entry(entry))
            total += entry.size or 0
    return total


def _dump_entry(folder: Path, path: Path, known: Mapping[bytes, FileEntry]) -> FileEntry:
    name = b"/" + os.fsencode(path.relative_to(folder))
    with path.open("rb") as stream:
        status, sha256 = os.fstat(stream.fileno()), file_sha256(stream)
    before = known.get(name)
    mtime_ns = status.st_mtime_ns
    if before and before.mtime_ns and (before.size, before.sha256) == (status.st_size, sha256):
        mtime_ns = before.mtime_ns
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return FileEntry(name, "file", size=status.st_size, mtime_ns=mtime_ns, sha256=sha256)


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of the whole metadata: equal means the same snapshot."""
    total = hashlib.sha256()
    for path in metadata_files(folder):
        with path.open("rb") as stream:
            content = file_sha256(stream)
        total.update(os.fsencode(path.relative_to(folder)) + b"\0" + content.encode() + b"\n")
    return total.hexdigest()


def is_same_metadata(one: Path, other: Path) -> bool:
    """Whether two folders hold the same metadata, manifest, listing of dumps and history of the key apart."""
    listings = (MANIFEST, DUMPS_LISTING, KEY_HISTORY)
    names = [
        tuple(path.relative_to(folder) for path in metadata_files(folder) if path.name not in listings)
        for folder in (one, other)
    ]
    return names[0] == names[1] and all((one / n).read_bytes() == (other / n).read_bytes() for n in names[0])


def _write(path: Path, content: bytes) -> None:
    # not made durable: the next run writes it again after a power cut
    private_folder(path.parent)
    with open(_create(path), "wb") as stream:
        stream.write(content)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE)


def _join_lines(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _lines(path: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes().split(b"\n")[:-1])


def _read_optional(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _machine(text: bytes) -> MachineFacts:
    values = json.loads(text)
    known = {field.name for field in fields(MachineFacts)}
    if not isinstance(values, dict) or values.get("format") != 1 or not known >= values.keys():
        raise ValueError("machine.json has a form that this version of tklb does not know")
    for name in ("services", "parts"):
        values[name] = tuple(map(str, values.get(name, ())))
    return MachineFacts(**values)


def _sources(folder: Path) -> Iterator[SourceFile]:
    for entry in mtree.parse((folder / "sources.mtree").read_bytes().splitlines(keepends=True)):
        content = (folder / "sources" / os.fsdecode(entry.path[1:])).read_bytes()
        yield SourceFile(entry.path, content, entry.mode or PRIVATE_FILE, entry.mtime_ns)
