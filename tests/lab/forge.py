"""Forged targets: what somebody can make of a target who owns the storage, kept every old object, and has no key.

Takes the folder of a target and the loot, changes that folder. Formats are written here by hand, from their
descriptions (RFC 4880, ARCHITECTURE.md), and share no code with tklb: an attacker reads the same pages.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.entry_names import snapshot_in_name

LATER = "20990101T000000Z"
_LABEL = re.compile(r"\d{8}T\d{6}Z")


@dataclass(frozen=True)
class Loot:
    """What lies in the attacker's own folders.

    `states` are the target as it was, oldest first. `twin` is the target of a copied machine: same key, another host
    id. `fork` is what the machine itself would have had, had it gone on from an older state: same key, same host id.
    `stranger` is a target of the attacker's own, made by tklb, `secret` its key. `plain` is an unencrypted set.
    """

    states: tuple[Path, ...]
    twin: Path
    fork: Path
    stranger: Path
    plain: Path
    secret: str


Forgery = Callable[[Path, Loot], object]

# ---------------------------------------------------------------- finding one's way


def entries(target: Path) -> list[Path]:
    """The entries of the ledger, oldest first."""
    return sorted((target / "ledger").iterdir())


def volumes(target: Path, pattern: str) -> list[Path]:
    """Volumes by a pattern of the shell, the oldest label first."""
    found = (target / "volumes").glob(pattern)
    return sorted(found, key=lambda path: (_LABEL.findall(path.name)[-1], path.name))


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def replace_all(target: Path, source: Path) -> None:
    """The whole target is another one."""
    shutil.rmtree(target)
    shutil.copytree(source, target)


def take_in(target: Path, source: Path, *folders: str) -> None:
    """Another target's objects beside, or in the place of, those that are there."""
    for folder in folders:
        shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)


def relabelled(name: str, old: str, new: str) -> str:
    return name.replace(old, new)


# ---------------------------------------------------------------- OpenPGP by hand


def packet(tag: int, body: bytes) -> bytes:
    """A packet of the new form with a length of five bytes."""
    return bytes((0xC0 | tag, 0xFF)) + len(body).to_bytes(4, "big") + body


def literal(content: bytes) -> bytes:
    """A message that is neither encrypted nor signed; `gpg --decrypt` prints its content, and status 0."""
    return packet(11, b"b\x00\x00\x00\x00\x00" + content)


@functools.cache
def bomb(megabytes: int = 64) -> bytes:
    """A compressed message, a thousandth as long as what is in it."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    size = megabytes << 20
    head = bytes((0xCB, 0xFF)) + (size + 6).to_bytes(4, "big") + b"b\x00\x00\x00\x00\x00"
    parts = [squeeze.compress(head)] + [squeeze.compress(bytes(1 << 20)) for _ in range(megabytes)]
    return packet(8, b"\x01" + b"".join(parts) + squeeze.flush())


def armoured(message: bytes, comment: str) -> bytes:
    crc = 0xB704CE
    for byte in message:
        crc ^= byte << 16
        for _ in range(8):
            crc = crc << 1 ^ (0x1864CFB if crc & 0x800000 else 0)
    lines = base64.encodebytes(message).decode()
    check = base64.b64encode((crc & 0xFFFFFF).to_bytes(3, "big")).decode()
    text = f"-----BEGIN PGP MESSAGE-----\nComment: {comment}\n\n{lines}={check}\n-----END PGP MESSAGE-----\n"
    return text.encode()


def locked(content: bytes, passphrase: str, *words: str) -> bytes:
    """What gpg encrypts with a passphrase of the attacker's."""
    with tempfile.TemporaryDirectory(prefix="forge-") as home:
        Path(home, "passphrase").write_text(passphrase)
        command = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-options", "--no-keyring", "--no-autostart"]
        command += ["--pinentry-mode=loopback", f"--passphrase-file={home}/passphrase"]
        command += ["--s2k-mode=3", "--s2k-count=65536", *words, "--symmetric"]
        return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def sealed_to_somebody(content: bytes) -> bytes:
    """What gpg encrypts to a public key, made for this."""
    with tempfile.TemporaryDirectory(prefix="forge-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase="]
        made = [*gpg, "--quick-generate-key", "attacker@example.org", "future-default", "default", "never"]
        subprocess.run(made, check=True, capture_output=True)
        command = [*gpg, "--trust-model=always", "--recipient=attacker@example.org", "--encrypt"]
        message = subprocess.run(command, input=content, capture_output=True, check=True).stdout
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True, capture_output=True)
        return message


# ---------------------------------------------------------------- the ledger


def altered(entry: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what an entry says in plain, and leave its seal."""
    first, seal = entry.read_bytes().split(b"\n", 1)
    plain = json.loads(first)
    change(plain)
    entry.write_bytes(_line(plain) + seal)


def resealed(entry: Path, secret: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what an entry says, and seal it anew with a key of the attacker's."""
    plain = json.loads(entry.read_bytes().split(b"\n")[0])
    key = hmac.digest(secret.encode(), b"tklb 1 ledger mac\x01", hashlib.sha256)
    plain["key"] = hmac.digest(key, b"name", hashlib.sha256).hex()[:16]
    change(plain)
    first = _line(plain)
    entry.write_bytes(first + _line({"mac": hmac.digest(key, first, hashlib.sha256).hex()}))


def put_raw(entry: Path, **texts: str) -> None:
    """Put JSON text in the place of values, as no JSON writer would write it."""
    first, seal = entry.read_bytes().split(b"\n", 1)
    plain = json.loads(first)
    marks = {name: f"@{name}@" for name in texts}
    text = json.dumps({**plain, **marks}, separators=(",", ":"), sort_keys=True)
    for name, value in texts.items():
        text = text.replace(f'"@{name}@"', value)
    entry.write_bytes(text.encode() + b"\n" + seal)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def replayed(number: int, sequence: int, label: str = "") -> Forgery:
    """An entry once more, under another name."""

    def forge(target: Path, _loot: Loot) -> None:
        entry = entries(target)[number]
        name = f"{sequence:08}-{label or entry.name.partition('-')[2]}"
        shutil.copy(entry, entry.with_name(name))

    return forge


def many_entries(count: int) -> Forgery:
    """Names without end, some with what looks like an entry in them."""

    def forge(target: Path, _loot: Loot) -> None:
        model = entries(target)[-1].read_bytes()
        for number in range(count):
            entry = target / f"ledger/{number + 100:08}-{LATER}"
            entry.write_bytes(model if number % 2 else b"{}\n{}\n")

    return forge


def giants(count: int, size: int) -> Forgery:
    """Entries of the largest size that is read, which take up no room on the attacker's disk."""

    def forge(target: Path, _loot: Loot) -> None:
        for number in range(count):
            entry = target / f"ledger/{number + 100:08}-{LATER}"
            entry.touch()
            os.truncate(entry, size)

    return forge


def giants_and_lists(target: Path, loot: Loot) -> None:
    """Half a gigabyte to be read, and an entry that is small as text and large in memory."""
    giants(8, 64 << 20)(target, loot)
    (target / f"ledger/{99:08}-{LATER}").write_bytes(b"[" + b"[]," * (10 << 20) + b"0]\n{}\n")


# ---------------------------------------------------------------- things in the place of files


def in_place_of(pick: Callable[[Path], Path], what: str, aim: str = "/etc/shadow") -> Forgery:
    """Something that is no plain file, under the name of an object."""

    def forge(target: Path, _loot: Loot) -> None:
        path = pick(target)
        path.unlink()
        match what:
            case "link":
                path.symlink_to(aim)
            case "fifo":
                os.mkfifo(path)
            case "device":
                os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero: it has no end
            case "socket":
                with socket.socket(socket.AF_UNIX) as end:
                    folder = os.open(path.parent, os.O_PATH)
                    end.bind(f"/proc/self/fd/{folder}/{path.name}")
                    os.close(folder)
            case "folder":
                path.mkdir()

    return forge


# ---------------------------------------------------------------- what nobody sealed


def plant_plain_set(target: Path, loot: Loot) -> None:
    """An unencrypted set, newer than all others."""
    for path in loot.plain.iterdir():
        shutil.copy(path, target / "volumes" / _LABEL.sub(LATER, path.name))


def plant_plain_set_named_gpg(target: Path, loot: Loot) -> None:
    for path in loot.plain.iterdir():
        name = _LABEL.sub(LATER, path.name).replace(".difftar.gz", ".difftar").replace(".sigtar.gz", ".sigtar")
        (target / "volumes" / f"{name}.gpg").write_bytes(path.read_bytes())


def plant_literal_increment(target: Path, loot: Loot) -> None:
    """The same as an increment of the newest snapshot, each volume a plain packet that gpg opens for anybody."""
    newest = snapshot_in_name(entries(target)[-1].name)
    for path in loot.plain.iterdir():
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = zlib.decompress(content, 31)
        (target / "volumes" / _increment(path.name, newest)).write_bytes(literal(content))


def plant_own_increment(target: Path, loot: Loot) -> None:
    """An increment, encrypted well, with the attacker's passphrase."""
    newest = snapshot_in_name(entries(target)[-1].name)
    for path in loot.plain.iterdir():
        (target / "volumes" / _increment(path.name, newest)).write_bytes(locked(path.read_bytes(), "mallory"))


def plant_own_set(target: Path, loot: Loot) -> None:
    """All volumes of a target of the attacker's own, and no word of it in the ledger."""
    take_in(target, loot.stranger, "volumes")


def plant_copies(target: Path, _loot: Loot) -> None:
    """True volumes once more: as a newer set, and as a shard that there never was."""
    label = _LABEL.findall(volumes(target, "duplicity-full.*")[0].name)[0]
    for path in volumes(target, f"duplicity-full*.{label}.*"):
        shutil.copy(path, path.with_name(relabelled(path.name, label, LATER)))
        shutil.copy(path, path.with_name(f"z-{path.name}"))


def plant_bomb(target: Path, _loot: Loot) -> None:
    (target / f"volumes/duplicity-full.{LATER}.vol1.difftar.gpg").write_bytes(bomb())


def plant_odd_names(target: Path, loot: Loot) -> None:
    """What is no name of an object, wherever objects are."""
    newest = entries(target)[-1]
    for name in (f"{newest.name}.new", f"00000099-{LATER}.bak", "-rf", "latest", "99999999999-x", "\n", "\udcff"):
        os.symlink("/etc/shadow", os.path.join(target, "ledger", name))
        (target / "volumes" / name).write_bytes(loot.secret.encode())
    (target / f"ledger/00000099-{LATER}").mkdir()


def _increment(name: str, newest: str) -> str:
    """The name that a volume of a full set would have as one of an increment that comes after all."""
    span = f"{newest}.to.{LATER}"
    name = name.replace("full-signatures.", "new-signatures.").replace("duplicity-full.", "duplicity-inc.")
    return f"{_LABEL.sub(span, name).removesuffix('.gz')}.gpg"
