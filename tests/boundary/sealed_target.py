"""A target with snapshots of a small machine, made by the real engine: two chains, two shards, volumes of 1 MB.

`make_sealed_target()` makes it. SealedTarget knows, beside what is sealed, what every snapshot has and, by duplicity's
own reading of each volume's headers, which parts of which names lie where. Touches the folder it is given.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from tklb.config.schema import Config
from tklb.crypto.secret import make_secret
from tklb.engine.duplicity import EncodeOrder, Engine, encode_all, select_restore_volumes
from tklb.ledger.read import Ledger, read_ledger
from tklb.ledger.seal import seal
from tklb.model.snapshot import Counts, Kind, LedgerEntry, Shard, snapshot_id
from tklb.storage.kinds import make_backend

SECRET = make_secret(lambda count: bytes(reversed(range(count))))
STAGE = "var/lib/tklb/stage"
SHARDS = ("", "b-")
_START = datetime(2024, 5, 1, 12, tzinfo=UTC)


@dataclass
class SealedTarget:
    """`records` as sealed, oldest first; `trees`: what each snapshot has, path below the root to content."""

    folder: Path
    records: list[LedgerEntry] = field(default_factory=list)
    trees: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"file://{self.folder}/target"

    @property
    def state(self) -> Path:
        return self.folder / "ledger"

    def objects(self) -> dict[str, bytes]:
        top = self.folder / "target"
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}

    def copy(self, folder: Path) -> SealedTarget:
        """The same once more, for a test to break."""
        shutil.copytree(self.folder / "target", folder / "target")
        return SealedTarget(folder, self.records, self.trees)


def make_sealed_target(folder: Path) -> SealedTarget:
    """A full and two increments, then a new chain of a full and one increment."""
    folder.mkdir(mode=0o700)
    sealed, source = SealedTarget(folder), folder / "source"
    make_backend(sealed.address, Config())
    for step in range(5):
        _live(source, step)
        _date(source, step)
        _back_up(sealed, source, full=step in (0, 3))
    return sealed


def _live(source: Path, step: int) -> None:
    """One day in the life of the machine: files come, change, become something else and go."""
    chance = random.Random(step)
    _write(source / STAGE / "manifest.mtree", b"#mtree v2.0\n# %d\n" % step + chance.randbytes(2000))
    _write(source / STAGE / "machine.json", b"{}\n")
    _write(source / STAGE / "databases/mysql/shop/rows/prices", chance.randbytes(30_000))
    if step in (0, 3):
        shutil.rmtree(source / "srv", ignore_errors=True)
        for number in range(40):
            _write(source / f"srv/data/{number:02}", chance.randbytes(chance.randrange(20_000)))
        for number in range(2 if step else 3):
            _write(source / f"srv/big/{number}", chance.randbytes(1_200_000 if number else 200_000))
        for name in (b"new\nline", b"\xff\xfe", b"back\\slash", b"'q\"", b" space ", b"signature", b"deleted"):
            _write(source / "srv/odd" / os.fsdecode(name), name * 50 + b"%d" % step)
        _link(source / "srv/link", f"data/{step}")
    elif step == 1:
        _write(source / "srv/big/0", (source / "srv/big/0").read_bytes()[:-1000] + chance.randbytes(100_000))
        _write(source / "srv/data/03", b"grown" + (source / "srv/data/03").read_bytes())
        (source / "srv/data/04").unlink()
        _link(source / "srv/data/05", "06")
        (source / "srv/data/07").unlink()
        _write(source / "srv/data/07/now-a-folder", chance.randbytes(500))
        _write(source / "srv/big/new", chance.randbytes(1_200_000))
        _link(source / "srv/link", "elsewhere")
    else:
        _write(source / "srv/data/03", b"once more" + (source / "srv/data/03").read_bytes())
        _write(source / "srv/data/05", chance.randbytes(40_000))
        _write(source / "srv/data/04", chance.randbytes(10_000))
        (source / "srv/big/1").unlink()
        _write(source / "srv/big/0", (source / "srv/big/0").read_bytes() + chance.randbytes(100))


def _date(source: Path, step: int) -> None:
    """Date what was written today: two edits within a second would pass for none."""
    for path in source.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mtime > _START.timestamp():
            os.utime(path, (1_700_000_000 + step, 1_700_000_000 + step))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _link(path: Path, goal: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(goal)


def _back_up(sealed: SealedTarget, source: Path, full: bool) -> None:
    target = make_backend(sealed.address, Config())
    assert target.spool is not None
    last = None if full else sealed.records[-1]
    time = _START + timedelta(hours=len(sealed.records))
    tree = tree_of(source)
    orders = []
    for number, prefix in enumerate(SHARDS):
        names = sealed.folder / f"names-{number}"
        wanted = [n for n in tree if number == (0 if _is_record(n) else zlib.crc32(n) % len(SHARDS))]
        names.write_bytes(b"".join(name + b"\0" for name in wanted))
        base = last.volumes if last else ()
        orders.append(EncodeOrder(target.spool, names, time, base, bytes(source), None, prefix, volume_megabytes=1))
    encoded = encode_all(Engine(sealed.folder / "cache", SECRET, patience=60), orders)
    own = tuple(volume for one in encoded for volume in one.volumes)
    record = LedgerEntry(
        sequence=len(sealed.records) + 1,
        snapshot=snapshot_id(time),
        kind=Kind.FULL if full else Kind.INCREMENTAL,
        previous="",
        host="0" * 32,
        hostname="a",
        profile="debian",
        profile_digest="",
        release="debian-12",
        stage=STAGE,
        volumes=(*(last.volumes if last else ()), *own),
        own_volumes=tuple(volume.name for volume in own),
        shards=tuple(Shard(prefix, time) for prefix in SHARDS),
        counts=Counts(delta_files=len(tree), delta_bytes=sum(map(len, tree.values()))),
        content_digest="",
    )
    sealed.records.append(seal(target, SECRET, sealed.state, record))
    sealed.trees[record.snapshot] = tree


def _is_record(path: bytes) -> bool:
    return path.startswith(STAGE.encode()) and b"/databases/" not in path


def tree_of(folder: Path) -> dict[bytes, bytes]:
    """Files by their content, links by their goal, below a folder; sorted."""
    top = bytes(folder)
    found = {}
    for place, folders, files in os.walk(top):
        for path in (os.path.join(place, name) for name in (*folders, *files)):
            if os.path.islink(path):
                found[path[len(top) + 1 :]] = b"-> " + os.readlink(path)
            elif os.path.isfile(path):
                found[path[len(top) + 1 :]] = Path(os.fsdecode(path)).read_bytes()
    return dict(sorted(found.items()))


# ---------------------------------------------------------------- what lies where, by the volumes themselves


@dataclass(frozen=True)
class Piece:
    """What a volume has of a name: a whole state, a change to the state before, or that it is gone."""

    volume: str
    path: bytes
    kind: str  # snapshot diff deleted folder


def pieces(sealed: SealedTarget) -> dict[str, tuple[Piece, ...]]:
    """The headers of every volume of content, opened with gpg alone, by the volume's name."""
    spool = sealed.folder / "target/volumes"
    return {path.name: tuple(_headers(path)) for path in sorted(spool.iterdir()) if ".difftar" in path.name}


def _headers(path: Path) -> list[Piece]:
    found: dict[Piece, None] = {}
    with tempfile.TemporaryFile() as plain:
        gpg_opened(path, plain)
        plain.seek(0)
        for member in tarfile.TarFile(fileobj=plain, encoding="utf-8", errors="surrogateescape"):
            word, _, name = os.fsencode(member.name).partition(b"/")
            if word.startswith(b"multivol_"):
                word, name = word.removeprefix(b"multivol_"), name.rpartition(b"/")[0]
            kind = "folder" if member.isdir() else word.decode()
            found[Piece(path.name, b"/" + name, kind)] = None
    return list(found)


def gpg_opened(path: Path, out: IO[bytes]) -> None:
    """Plain gpg, the secret as passphrase."""
    home = tempfile.mkdtemp(prefix="tklb-")
    words = ["gpg", "--homedir", home, "--batch", "--no-autostart", "--pinentry-mode=loopback", "--passphrase-fd=0"]
    subprocess.run(
        [*words, "-qd", path], input=SECRET.reveal().encode(), stdout=out, check=True, stderr=subprocess.DEVNULL
    )
    shutil.rmtree(home)


def lost_by(sealed: SealedTarget, where: Mapping[str, tuple[Piece, ...]], gone: str) -> dict[bytes, set[str]]:
    """The names that snapshots lose with an object, told from the headers of all volumes: an oracle of its own."""
    lost: dict[bytes, set[str]] = {}
    for record in sealed.records:
        names = [volume.name for volume in select_restore_volumes(record.volumes)]
        if gone not in names:
            continue
        for prefix in SHARDS:
            for path, needed in _needed(names, where, prefix).items():
                label = gone.rpartition(".manifest")[0] or gone.rpartition(".vol")[0]
                alone = {gone} if ".vol" in gone else {n for n in names if n.startswith(f"{label}.vol")}
                if needed & alone:
                    lost.setdefault(path, set()).add(record.snapshot)
    return lost


def _needed(names: list[str], where: Mapping[str, tuple[Piece, ...]], prefix: str) -> dict[bytes, set[str]]:
    """For every name of a shard that is there in the end: the volumes its last state is put together from."""
    needed: dict[bytes, set[str]] = {}
    content = [name for name in names if name in where and name.partition("duplicity-")[0] == prefix]
    for label in sorted({_label(name) for name in content}):
        fresh: dict[bytes, tuple[str, set[str]]] = {}
        for name in (name for name in content if _label(name) == label):
            for piece in where[name]:
                fresh.setdefault(piece.path, (piece.kind, set()))[1].add(name)
        for path, (kind, volumes) in fresh.items():
            if kind in ("deleted", "folder"):
                needed.pop(path, None)
            else:
                needed[path] = volumes | (needed.get(path, set()) if kind == "diff" else set())
    return needed


def _label(name: str) -> str:
    """The time a set was made, whatever its kind."""
    return name.partition(".vol")[0].rpartition(".")[2]


def ledger_of(sealed: SealedTarget) -> Ledger:
    return read_ledger(make_backend(sealed.address, Config()), SECRET, sealed.state)
