"""The key on its whole way: a passphrase on one machine, a dead machine, another one; a new key under a living chain.

Takes the lab's machines, gpg and duplicity as Debian has them; touches clones.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.taken_backup import (
    SCOPE,
    TARGET,
    change_something,
    decoded,
    differences,
    done,
    facts_of,
    left_overs,
    note_facts,
    refused,
    server_b,
    snapshots,
    tklb,
)
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import Box
from tests.lab.checker import record
from tests.lab.fresh_server import identity
from tests.lab.roots import layer
from tests.lab.soak import SOAK, some

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PASSPHRASE = b"correct horse\n"


def passphrase_file(machine: Box, name: str = "pw", content: bytes = PASSPHRASE) -> str:
    path = machine.root / "root" / name
    path.touch(0o600)
    path.write_bytes(content)
    return f"/root/{name}"


def key_file(machine: Box) -> str:
    return (machine.root / "mnt/target/key.asc").read_text()


def put_back(machine: Box, objects: dict[str, bytes]) -> None:
    for name, content in objects.items():
        (machine.root / "mnt/target" / name).write_bytes(content)


def stored(machine: Box) -> dict[str, bytes]:
    top = machine.root / "mnt/target"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.fixture
def rescue() -> Iterator[Appliance]:
    with server_b() as machine:
        yield machine
        assert left_overs(machine) == []


def hand_over(a: Box, b: Box) -> None:
    """A is dead; its target and what its owner knew of it are all that is left."""
    b.run(["rm", "-rf", "/mnt/target"])
    b.run(["mkdir", "-m", "700", "/mnt/target", "/mnt/target/ledger", "/mnt/target/volumes"])
    put_back(b, stored(a))
    for facts in (a.root / "mnt").glob("facts-*"):
        (b.root / "mnt" / facts.name).write_bytes(facts.read_bytes())


def missing(b: Box) -> list[object]:
    """What B, a replacement, has otherwise than A had it; tklb itself is installed on each."""
    wanted, found = facts_of(b), record(b.root, SCOPE)
    found = {path: fact for path, fact in found.items() if path in wanted or path.startswith("/srv/")}
    return [each for each in differences(found, wanted, *identity()) if not re.match("/usr/local/.*tklb", each.path)]


# ---------------------------------------------------------------- passphrase


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; test_dead_server.py does the same with a bucket")
def test_address_and_passphrase_bring_a_dead_server_back(a: Appliance, rescue: Appliance) -> None:
    before = stored(a)
    done(a, "key", "passphrase", "--passphrase-file", passphrase_file(a))
    assert {name: content for name, content in stored(a).items() if name != "key.asc"} == before
    hand_over(a, rescue)
    wrong = passphrase_file(rescue, "wrong", b"Correct horse\n")
    refused(rescue, 40, "WrongPassphrase", "restore", "--target", TARGET, "--passphrase-file", wrong, "--yes")
    right = passphrase_file(rescue)
    done(rescue, "restore", "--target", TARGET, "--passphrase-file", right, "--yes")
    os.unlink(rescue.root / "root/pw")
    os.unlink(rescue.root / "root/wrong")
    assert missing(rescue) == []
    shown = done(rescue, "key", "show", "--json").value
    assert (shown["has_passphrase"], shown["target_copy"]) == (True, "this key")
    change_something(rescue)
    assert done(rescue, "backup", "--json").value["kind"] in ("full", "incremental")


def test_restored_machine_knows_how_old_the_key_is_and_where_its_copies_are(a: Appliance, rescue: Appliance) -> None:
    os.utime(a.root / "var/lib/tklb/secret", (1_700_000_000, 1_700_000_000))
    done(a, "key", "passphrase", "--passphrase-file", passphrase_file(a))
    done(a, "key", "escrow", "--no-passphrase", "/root/copy.key")
    done(a, "key", "kit", "--passphrase-file", passphrase_file(a, "sheet"), "/mnt/sheet")
    change_something(a)
    done(a, "backup")
    done(a, "key", "escrow", "--no-passphrase", "/mnt/late.key")
    assert done(a, "backup", "--json").value["kind"] == "none"
    before = done(a, "key", "show", "--json").value
    hand_over(a, rescue)
    (rescue.root / "mnt/late.key").write_bytes((a.root / "mnt/late.key").read_bytes())
    done(rescue, "restore", "--target", TARGET, "--key", "/mnt/late.key", "--yes")
    after = done(rescue, "key", "show", "--json").value
    assert after["made"] == before["made"] == "2023-11-14T22:13:20+00:00"
    where = {copy["where"]: copy for copy in after["copies"]}
    assert where.keys() >= {"/root/copy.key", "/mnt/sheet.pdf", "/mnt/late.key", TARGET}
    assert where["/root/copy.key"]["machine"] == a.hostname
    old = {copy["where"]: copy["time"] for copy in before["copies"]}
    assert all(where[place]["time"] == old[place] for place in ("/root/copy.key", "/mnt/sheet.pdf", TARGET))
    assert a.hostname in done(rescue, "key", "show").stdout


def test_forged_key_file_on_the_target_chooses_no_key(a: Appliance, rescue: Appliance) -> None:
    """The attacker owns the target: snapshots sealed with his key, and a key file that needs no passphrase."""
    done(a, "key", "passphrase", "--passphrase-file", passphrase_file(a))
    done(a, "key", "escrow", "--no-passphrase", "/mnt/bare.asc")
    hand_over(a, rescue)
    forged = rescue.root / "mnt/target/key.asc"
    right = passphrase_file(rescue)
    bare = (a.root / "mnt/bare.asc").read_text()
    for text in some((bare, "", "garbage", key_file(a)[:-40], key_file(a).replace("=\n", "\n")), 3):
        forged.write_text(text)
        refused(rescue, 41, "KeyUnusable", "restore", "--target", TARGET, "--passphrase-file", right, "--yes")
    forged.unlink()
    refused(rescue, 41, "KeyUnusable", "restore", "--target", TARGET, "--passphrase-file", right, "--yes")
    assert not (rescue.root / "var/lib/tklb/secret").exists()


def test_backup_brings_the_key_file_that_the_target_lacks(a: Appliance) -> None:
    target = a.root / "mnt/target"
    a.run(["mv", "/mnt/target", "/mnt/away"])
    done(a, "key", "passphrase", "--passphrase-file", passphrase_file(a), status=30)
    a.run(["mv", "/mnt/away", "/mnt/target"])
    assert not (target / "key.asc").exists()
    assert done(a, "backup", "--json").value["kind"] in ("none", "incremental")
    assert key_file(a) == (a.root / "var/lib/tklb/key.asc").read_text()
    before = (target / "key.asc").stat()
    done(a, "backup")
    assert (target / "key.asc").stat().st_mtime_ns == before.st_mtime_ns
    (target / "key.asc").write_text("spoilt")
    done(a, "backup")
    assert key_file(a) == (a.root / "var/lib/tklb/key.asc").read_text()


def test_init_with_a_passphrase_says_where_the_key_is() -> None:
    with clone("core", tklb=True) as machine:
        done(machine, "init", "--target", TARGET, "--passphrase-file", passphrase_file(machine))
        shown = done(machine, "key", "show", "--json").value
        assert (shown["has_passphrase"], shown["target_copy"]) == (True, "this key")
        assert left_overs(machine) == []


# ---------------------------------------------------------------- a new key


def test_new_key_starts_a_chain_and_opens_the_old_one_too(a: Appliance, rescue: Appliance) -> None:
    old_file = passphrase_file(a, "old", b"old one")
    done(a, "key", "passphrase", "--passphrase-file", old_file)
    wrapped = key_file(a)
    old = snapshots(a)
    new_file = passphrase_file(a, "new", b"new one")
    assert done(a, "key", "rotate", "--passphrase-file", new_file, "--json").value["snapshots"] == old
    assert key_file(a) == wrapped
    change_something(a)
    assert done(a, "backup", "--json").value["kind"] == "full"
    os.unlink(a.root / "root/old")
    os.unlink(a.root / "root/new")
    note_facts(a)
    assert key_file(a) != wrapped
    assert [each["snapshot"] for each in done(a, "list", "--json").value] == snapshots(a)
    shown = done(a, "key", "show", "--json").value
    assert [older["snapshots"] for older in shown["older"]] == [old]
    assert shown["problems"] == []
    assert differences(decoded(a, old[0]), facts_of(a, old[0])) == []
    hand_over(a, rescue)
    right = passphrase_file(rescue, "pw", b"new one")
    stale = passphrase_file(rescue, "stale", b"old one")
    refused(rescue, 40, "WrongPassphrase", "restore", "--target", TARGET, "--passphrase-file", stale, "--yes")
    into = tklb(rescue, "restore", old[0], "--target", TARGET, "--passphrase-file", right, "--into", "/var/cache/look")
    assert into.status == 0, into
    done(rescue, "restore", "--target", TARGET, "--passphrase-file", right, "--yes")
    for name in ("pw", "stale"):
        os.unlink(rescue.root / "root" / name)
    assert missing(rescue) == []


# ---------------------------------------------------------------- the recovery sheet


def install_duplicity(box: Box) -> None:
    box.run(["apt-get", "update", "-qq"], timeout=300)
    box.run(["apt-get", "install", "-qqy", "--no-install-recommends", "duplicity", "gnupg"], timeout=300)


def commands_of(sheet: str) -> list[str]:
    """The lines to be typed, but for the pager and what is for other volumes."""
    lines = [line.strip() for line in sheet.split("\n") if line.startswith("     ") and not set(line) & set("▀▄█")]
    return [line for line in lines if not line.startswith(("less ", "apt-get "))]


@pytest.mark.parametrize("stock", some(["core", "trixie-core"], 2))
def test_stranger_follows_the_sheet_with_stock_tools(a: Appliance, stock: str) -> None:
    done(a, "key", "passphrase", "--passphrase-file", passphrase_file(a))
    done(a, "key", "kit", "/mnt/sheet")
    os.unlink(a.root / "root/pw")
    sheet = (a.root / "mnt/sheet.txt").read_text()
    key = re.search(r"-----BEGIN PGP MESSAGE-----.*-----END PGP MESSAGE-----\n", sheet, re.DOTALL)
    assert key
    newest = snapshots(a)[-1]
    bare = layer(f"stock duplicity {stock}", stack(stock, "rescue"), install_duplicity, "rescue")
    with clone(stock, hostname="rescue", layers=[bare]) as machine:
        hand_over_plain(a, machine)
        home = machine.root / "root/way-back"
        home.mkdir(0o700)
        (home / "key.asc").write_text(key[0])
        (machine.root / "root/pw").write_bytes(PASSPHRASE)
        restore, export, duplicity, other = commands_of(sheet)
        assert shlex.split(restore)[:3] == ["tklb", "restore", "--target"]
        assert "--file-prefix" in other
        # nobody is at a terminal here: the passphrase is handed to gpg where it would ask
        export = export.replace("gpg ", "gpg --batch --pinentry-mode loopback --passphrase-file /root/pw ")
        machine.run(["sh", "-euc", f"cd /root/way-back; {export}; {duplicity}"], timeout=300)
        wanted = {path: fact["content"] for path, fact in facts_of(a, newest).items() if fact["kind"] == "file"}
        found = record(home / "files", SCOPE)
        theirs = {path: fact["content"] for path, fact in found.items() if fact["kind"] == "file"}
        assert theirs
        assert {path for path in theirs if path in wanted and theirs[path] != wanted[path]} == set()
        assert {path for path in wanted if path.startswith("/srv/")} <= theirs.keys()


def hand_over_plain(a: Box, b: Box) -> None:
    b.run(["mkdir", "-p", "/mnt/target/ledger", "/mnt/target/volumes"])
    put_back(b, stored(a))


def test_key_of_the_sheet_restores_with_tklb(a: Appliance, rescue: Appliance) -> None:
    done(a, "key", "kit", "--passphrase-file", passphrase_file(a), "/mnt/sheet")
    os.unlink(a.root / "root/pw")
    hand_over(a, rescue)
    sheet = (a.root / "mnt/sheet.txt").read_text()
    # saved with all that stands around it, as somebody who selects too much would
    (rescue.root / "root/key.asc").write_text(sheet)
    words = shlex.split(commands_of(sheet)[0])
    told = rescue.run([*words, "--yes", "--passphrase-file", passphrase_file(rescue)], cwd="/root", check=False)
    assert told.returncode == 0, told
    for name in ("pw", "key.asc"):
        os.unlink(rescue.root / "root" / name)
    assert missing(rescue) == []


# ---------------------------------------------------------------- for other owners


@pytest.mark.parametrize("stock", some(["core", "trixie-core"], 2, first=1))
def test_company_opens_its_copy_with_stock_gpg_and_tklb_takes_what_it_prints(stock: str) -> None:
    with clone(stock, tklb=True) as machine:
        done(machine, "init", "--target", TARGET)
        quick = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--status-fd", "1"]
        said = machine.run([*quick, "--quick-gen-key", "company", "future-default", "default", "0"]).stdout
        name = re.findall(r"KEY_CREATED \S+ (\S+)", said)[0]
        done(machine, "key", "escrow", "--to-public-key", name, "/mnt/company.asc")
        printed = machine.run(["gpg", "--batch", "--decrypt", "/mnt/company.asc"]).stdout
        assert printed == (machine.root / "var/lib/tklb/secret").read_text()
        machine.run(["gpgconf", "--kill", "all"])
        words = ["tklb", "restore", "--target", TARGET, "--key", "-", "--dry-run"]
        told = machine.run(words, input=printed, check=False)
        assert told.returncode == 32, told  # the key is taken; there is no snapshot yet
        refused(machine, 41, "KeyUnusable", "restore", "--target", TARGET, "--key", "/mnt/company.asc", "--yes")


@pytest.mark.parametrize("stock", some(["trixie-core", "core"], 2))
def test_wrapped_key_of_either_gpg_opens_with_the_other(stock: str, tmp_path: Path) -> None:
    with clone(stock, tklb=True) as machine:
        done(machine, "init", "--target", TARGET)
        pw = passphrase_file(machine)
        done(machine, "key", "escrow", "--passphrase-file", pw, "/mnt/key")
        secret = (machine.root / "var/lib/tklb/secret").read_text()
        text = (machine.root / "mnt/key").read_text()
    other = {"core": "trixie-core", "trixie-core": "core"}[stock]
    with clone(other, tklb=True) as machine:
        (machine.root / "mnt/key").write_text(text)
        words = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase-file", passphrase_file(machine)]
        assert machine.run([*words, "--decrypt", "/mnt/key"]).stdout == secret
