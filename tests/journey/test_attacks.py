"""Storage that lies: whatever its owner makes of a target, nothing comes onto a machine but what the seal names.

S1 to S4 and what goes with them, each attack on a fresh machine that restores and on the old one that backs up. The
attacker has all objects there ever were, tklb itself, and no key: tests/lab/forge.py. How key files and gpg's words
are judged on their own (S2, K1 to K4) is in tests/unit/test_openpgp.py, test_keys.py and tests/journey/test_faults.py.
Touches clones.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journey.stolen_target import BY_PASSPHRASE, Scene, copy_over, scene
from tests.journey.taken_backup import (
    FROM_A,
    NOTES,
    check_replacement,
    done,
    left_overs,
    refused,
    server_b,
    tklb,
    untouched,
)
from tests.lab import forge
from tests.lab.appliance import Appliance
from tests.lab.forge import (
    LATER,
    Forgery,
    altered,
    armoured,
    entries,
    literal,
    locked,
    put_raw,
    resealed,
    swap,
    volumes,
)
from tests.lab.soak import some

pytestmark = [pytest.mark.lab, pytest.mark.slow]

BUT = (*NOTES, "/var/lib/tklb**", "/mnt/target/volumes**")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("kept")) as made:
        yield made
        assert left_overs(made.a) == left_overs(made.b) == []


# ---------------------------------------------------------------- the ledger

OTHER_KEY = r"1 snapshots after \S+ were sealed with another key"
NEWEST_IS_LOST: dict[str, tuple[Forgery, str]] = {
    "an older entry in the place of the newest": (
        lambda target, _: shutil.copy(entries(target)[2], entries(target)[4]), r"00000005-\S+: it was moved there"),
    "two entries swapped": (
        lambda target, _: swap(entries(target)[3], entries(target)[4]), r"00000004-\S+: it was moved there"),
    "an entry empty": (lambda target, _: os.truncate(entries(target)[4], 0), r"00000005-\S+: it is damaged"),
    "the end of another history of the same machine": (
        lambda target, loot: (entries(target)[4].unlink(), shutil.copy(entries(loot.fork)[4], target / "ledger")),
        r"\S+ is missing"),
    "our newest entry sealed anew by the attacker": (
        lambda target, loot: resealed(entries(target)[4], loot.secret, lambda plain: None), OTHER_KEY),
    "a path as the name of a volume": (
        lambda target, _: altered(entries(target)[4], path_as_name), r"00000005-\S+: it is not what was sealed"),
    "a size and number beyond all bounds": (
        lambda target, _: put_raw(entries(target)[4], sequence="9" * 4000, format="1e999"), r"is not what was sealed"),
    "more digits than Python reads": (
        lambda target, _: put_raw(entries(target)[4], sequence="9" * 9000), r"00000005-\S+: it is not what"),
    "brackets without end": (
        lambda target, _: put_raw(entries(target)[4], volumes="[" * 200_000), r"00000005-\S+: it is not what"),
    "a compressed message without end in the sealed part": (
        lambda target, _: altered(entries(target)[4], bomb_inside), r"00000005-\S+: it is not what was sealed"),
}  # fmt: skip
EARLIER_IS_LOST: dict[str, tuple[Forgery, str]] = {
    "an entry cut": (lambda target, _: os.truncate(entries(target)[3], 900), r"00000004-\S+: it is damaged"),
    "an entry gone": (lambda target, _: entries(target)[3].unlink(), r"entry 4 before \S+ missing"),
    "an entry of a copied machine in the place of ours": (
        lambda target, loot: (entries(target)[2].unlink(),
                              shutil.copy(entries(loot.twin)[2], target / "ledger")), r"entry 3 before"),
    "an older chain's entry in the newer chain": (
        lambda target, loot: (entries(target)[3].unlink(), shutil.copy(entries(loot.fork)[3], target / "ledger")),
        r"entry 4 before"),
    "an entry that is a link": (forge.in_place_of(lambda target: entries(target)[3], "link"), r"entry 4 before"),
}  # fmt: skip
RUBBISH: dict[str, tuple[Forgery, str]] = {
    "an entry again under the next number": (forge.replayed(4, 6), r"00000006-\S+ is ignored: it was moved there"),
    "an entry again under its number and another label": (
        forge.replayed(4, 5, LATER), r"00000005-\S+ is ignored: it was moved"),
    "the newest entry of a copied machine, next": (
        lambda target, loot: shutil.copy(entries(loot.twin)[2], target / f"ledger/00000006-{LATER}"),
        r"00000006-\S+ is ignored: it was moved there"),
    "another history beside ours": (
        lambda target, loot: forge.take_in(target, loot.fork, "ledger", "volumes"), ""),
    "entries and sets sealed with a key of the attacker's": (
        lambda target, loot: forge.take_in(target, loot.stranger, "ledger", "volumes"), r"sealed with another key"),
    "a next entry sealed by the attacker": (
        lambda target, loot: resealed(next_entry(target), loot.secret, follow), OTHER_KEY),
    "a path as the name of a volume, sealed by the attacker": (
        lambda target, loot: resealed(next_entry(target), loot.secret, follow_with_a_path), OTHER_KEY),
    "numbers that are none, of nobody's key": (
        lambda target, _: put_raw(next_entry(target), key='"x"', sequence="-Infinity"),
        r"00000006-\S+ is ignored: it is damaged"),
    "three thousand more entries": (forge.many_entries(3000), r"ledger/\d+-\S+ is ignored: it \S+"),
    "entries that are large in memory": (forge.giants_and_lists, r"ledger/00000099-\S+ is ignored: it is damaged"),
}  # fmt: skip


def next_entry(target: Path) -> Path:
    """A copy of the newest entry as the next one."""
    made = entries(target)[4].with_name(f"00000006-{LATER}")
    shutil.copy(entries(target)[4], made)
    return made


def follow(plain: dict[str, Any]) -> None:
    plain.update(sequence=6, snapshot=LATER)


def follow_with_a_path(plain: dict[str, Any]) -> None:
    follow(plain)
    path_as_name(plain)


def path_as_name(plain: dict[str, Any]) -> None:
    plain["volumes"][0][0] = "../../../../etc/cron.d/evil"


def bomb_inside(plain: dict[str, Any]) -> None:

    plain["sealed"] = base64.b64encode(forge.bomb()).decode()


def sizes(target: Path) -> dict[str, str]:
    """Digest of all that lies there, in whatever way it does."""
    found = {}
    for path in sorted(target.rglob("*")):
        is_file = path.is_file() and not path.is_symlink()
        found[path.relative_to(target).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else ""
    return found


@pytest.fixture(scope="module")
def true_steps(both: Scene) -> list[dict[str, str]]:
    """What a restore of the newest true snapshot would do on B."""
    both.attack(both.b, lambda target, loot: None)
    return planned_steps(both.b)[0]


def planned_steps(machine: Appliance) -> tuple[list[dict[str, str]], str]:
    """The steps that a restore of the latest snapshot would take, and its warnings."""
    told = done(machine, "restore", *FROM_A, "--dry-run", "--json").value
    return told["steps"], "\n".join(told["warnings"])


def goes_on_with_a_full_one(both: Scene, forgery: Forgery) -> None:
    """The next backup touches nothing and says what is wrong; a full one goes on, and removes no entry."""
    target = both.attack(both.a, forgery)
    before = sizes(target)
    with untouched(both.a, *NOTES):
        refused(both.a, 33, "TargetDamaged", "backup")
    assert sizes(target) == before
    taken = done(both.a, "backup", "--full", "--json").value["snapshot"]
    assert {name: was for name, was in before.items() if name.startswith("ledger/")}.items() <= sizes(target).items()
    assert tklb(both.a, "backup", "--json").value["snapshot"] >= taken
    assert taken in [each["snapshot"] for each in tklb(both.a, "list", "--json").value]


@pytest.mark.parametrize("name", some(NEWEST_IS_LOST, 6))
def test_restore_of_the_latest_snapshot_refuses_where_the_newest_entry_is_lost(both: Scene, name: str) -> None:
    """Where no more than the newest is of another key, the key may have been changed: that is 41."""
    forgery, says = NEWEST_IS_LOST[name]
    code, error = (41, "KeyUnusable") if "by the attacker" in name else (33, "TargetDamaged")
    both.attack(both.b, forgery)
    with untouched(both.b, *BUT):
        message = refused(both.b, code, error, "restore", *FROM_A, "--yes")
    assert re.search(says, message), message
    assert not (both.b.root / "var/lib/tklb/secret").exists()
    goes_on_with_a_full_one(both, forgery)


@pytest.mark.parametrize("name", some(EARLIER_IS_LOST, 5))
def test_restore_of_the_latest_snapshot_warns_where_an_earlier_entry_is_lost(
    both: Scene, true_steps: list[dict[str, str]], name: str
) -> None:
    forgery, says = EARLIER_IS_LOST[name]
    both.attack(both.b, forgery)
    steps, warnings = planned_steps(both.b)
    assert re.search(says, warnings), warnings
    assert steps == true_steps
    goes_on_with_a_full_one(both, forgery)


@pytest.mark.parametrize("name", some(RUBBISH, 5))
def test_what_no_key_of_ours_sealed_stops_neither_restore_nor_backup(
    both: Scene, true_steps: list[dict[str, str]], name: str
) -> None:
    """An entry after the newest one that another key sealed stops the restore alone: the key may have been changed."""
    forgery, says = RUBBISH[name]
    both.attack(both.b, forgery)
    if "by the attacker" in name:
        assert re.search(says, refused(both.b, 41, "KeyUnusable", "restore", *FROM_A, "--yes"))
    else:
        steps, warnings = planned_steps(both.b)
        assert re.search(says, warnings), warnings
        assert steps == true_steps
        assert warnings.count("\n") < 20
    target = both.attack(both.a, forgery)
    before = sizes(target)
    told = done(both.a, "backup", "--json")
    assert {name: was for name, was in before.items() if name.startswith("ledger/")}.items() <= sizes(target).items()
    assert told.value["snapshot"] == done(both.a, "list", "--json").value[-1]["snapshot"]


# ---------------------------------------------------------------- volumes


def full(target: Path, prefix: str = "") -> Path:
    """The first volume of the newest full set."""
    return volumes(target, f"{prefix}duplicity-full.*.vol1.*")[-1]


def same_size(target: Path, path: Path, content: bytes) -> None:
    path.write_bytes(content[: path.stat().st_size].ljust(path.stat().st_size, b"\0"))


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


VOLUMES: dict[str, tuple[Forgery, str]] = {
    "of another snapshot": (
        lambda target, _: swap(full(target), volumes(target, "duplicity-inc.*.vol1.*")[-1]), r"vol1\S+ has \d+ bytes"),
    "of the other shard": (lambda target, _: swap(full(target), full(target, "b-")), r"vol1\S+ has \d+ bytes"),
    "of the other shard, as long": (
        lambda target, _: same_size(target, full(target), bytes_of(full(target, "b-"))), r"vol1\S+ is not what was se"),
    "the first one twice": (
        lambda target, _: shutil.copy(full(target), volumes(target, "duplicity-full.*.vol2.*")[-1]), r"vol2\S+ has"),
    "of the same name, by a copied machine": (
        lambda target, loot: shutil.copy(full(loot.twin), full(target)), r"vol1\S+ has \d+ bytes"),
    "an older version of the same name": (
        lambda target, loot: same_size(target, full(target), bytes_of(full(loot.states[0]))), r"vol1\S+ is not what"),
    "all of a copied machine": (
        lambda target, loot: (shutil.rmtree(target / "volumes"), forge.take_in(target, loot.twin, "volumes")),
        r"\S+gpg is missing"),
    "manifests swapped": (
        lambda target, _: swap(*volumes(target, "duplicity-*.manifest.gpg")[-2:]), r"manifest.gpg has \d+ bytes"),
    "manifest of the other shard, as long": (
        lambda target, _: same_size(target, volumes(target, "duplicity-full.*.manifest.gpg")[-1],
                                    bytes_of(volumes(target, "b-duplicity-full.*.manifest.gpg")[-1])),
        r"manifest.gpg is not what was sealed"),
    "a plain packet": (
        lambda target, loot: full(target).write_bytes(literal(bytes_of(plain(loot)))),
        r"vol1\S+ has"),
    "a plain packet, as long": (
        lambda target, loot: same_size(target, full(target), literal(bytes(1 << 21))), r"vol1\S+ is not what was se"),
    "encrypted by the attacker": (
        lambda target, loot: full(target).write_bytes(locked(bytes_of(plain(loot)), loot.secret)), r"vol1\S+ has"),
    "a compressed message without end": (lambda target, _: full(target).write_bytes(forge.bomb()), r"vol1\S+ has"),
    "a link to /etc/shadow": (forge.in_place_of(full, "link"), r"vol1\S+ is missing"),
    "a pipe": (forge.in_place_of(full, "fifo"), r"vol1\S+ is missing"),
    "a device": (forge.in_place_of(full, "device"), r"vol1\S+ is missing"),
    "a socket": (forge.in_place_of(full, "socket"), r"vol1\S+"),
    "a folder": (forge.in_place_of(full, "folder"), r"vol1\S+ is missing"),
}  # fmt: skip


def plain(loot: forge.Loot) -> Path:
    return next(loot.plain.glob("*.difftar.gz"))


@pytest.mark.parametrize("name", some(VOLUMES, 4))
def test_a_forged_volume_is_33_before_anything_is_touched(both: Scene, name: str) -> None:
    forgery, says = VOLUMES[name]
    both.attack(both.b, forgery)
    with untouched(both.b, *BUT):
        message = refused(both.b, 33, "TargetDamaged", "restore", *FROM_A, "--yes")
    assert re.search(says, message), message


@pytest.mark.parametrize(
    "name", some(["of the other shard, as long", "of the other shard", "a link to /etc/shadow"], 2)
)
def test_a_forged_volume_is_never_sealed_as_if_it_were_true(both: Scene, name: str) -> None:
    """A backup looks at sizes only: but a new seal keeps the digest of the true one."""
    target = both.attack(both.a, VOLUMES[name][0])
    before = sizes(target)
    told = tklb(both.a, "backup")
    if told.status != 0:
        after = sizes(target)
        new = after.keys() - before.keys()  # a shard that was ready before the other failed: the next run takes it away
        assert (told.status, before.items() <= after.items()) == (33, True)
        assert not [name for name in new if not name.startswith("volumes/")]
        return
    wanted, sealed = (said_by(path) for path in entries(target)[4:])
    known = {name: (size, digest) for name, size, digest in sealed["volumes"]}
    assert {name: (size, digest) for name, size, digest in wanted["volumes"]}.items() <= known.items()
    assert full(target).name in json.dumps(done(both.a, "verify", "--json", status=33).value)


def said_by(entry: Path) -> dict[str, Any]:
    """What an entry says in plain."""
    plain: dict[str, Any] = json.loads(entry.read_bytes().split(b"\n")[0])
    return plain


# ---------------------------------------------------------------- the key at the target


def key_file(make: Callable[[str], bytes]) -> Forgery:
    """Another key.asc, with the attacker's secret in it."""
    return lambda target, loot: (target / "key.asc").write_bytes(make(loot.secret))


def short_literal(content: bytes) -> bytes:
    """As tklb writes bare keys."""
    return bytes((0xCB, len(content) + 6)) + b"t\x00\x00\x00\x00\x00" + content


def key_at(target: Path) -> Path:
    return target / "key.asc"


NO_MDC = forge.packet(3, b"\x04\x09\x03\x0a" + bytes(8) + b"\xff") + forge.packet(9, bytes(60))
KEYS: dict[str, tuple[Forgery, int]] = {
    "a bare key": (key_file(lambda secret: armoured(short_literal(secret.encode()), "tklb key")), 41),
    "a bare key as text": (key_file(str.encode), 41),
    "to a public key": (key_file(lambda secret: armoured(forge.sealed_to_somebody(secret.encode()), "x")), 41),
    "another passphrase": (key_file(lambda secret: armoured(locked(secret.encode(), "mallory"), "tklb key")), 40),
    "no integrity protection": (key_file(lambda _: armoured(NO_MDC, "x")), 41),
    "a compressed message without end": (key_file(lambda _: armoured(forge.bomb(8), "x")), 41),
    "a trillion bytes": (lambda target, _: os.truncate(key_at(target), 1 << 40), 33),
    "cut": (lambda target, _: os.truncate(key_at(target), 200), 41),
    "empty": (lambda target, _: os.truncate(key_at(target), 0), 41),
    "a link to a true key": (forge.in_place_of(key_at, "link", "/mnt/key"), 41),
    "a pipe": (forge.in_place_of(key_at, "fifo"), 41),
    "a device": (forge.in_place_of(key_at, "device"), 41),
    "a socket": (forge.in_place_of(key_at, "socket"), 41),
}  # fmt: skip


@pytest.mark.parametrize("name", some(KEYS, 6, first=3))
def test_a_forged_key_opens_nothing_and_the_next_backup_puts_the_true_one_back(both: Scene, name: str) -> None:
    forgery, status = KEYS[name]
    both.attack(both.b, forgery)
    error = {33: "TargetDamaged", 40: "WrongPassphrase", 41: "KeyUnusable"}[status]
    with untouched(both.b, *BUT):
        refused(both.b, status, error, "restore", *BY_PASSPHRASE, "--yes")
    target = both.attack(both.a, forgery)
    done(both.a, "backup")
    assert not key_at(target).is_symlink()
    assert key_at(target).read_bytes() == key_at(both.kept / "mnt/target").read_bytes()


def test_a_key_file_nobody_opened_is_never_taken_for_the_machines_own(both: Scene) -> None:
    """Else the recovery sheet of the new machine would have a key on it that no passphrase of the owner's opens."""
    fingerprint = re.search(r"tklb key (\S+)\.", (both.kept / "mnt/key").read_text())
    assert fingerprint
    forged = key_file(lambda secret: armoured(locked(secret.encode(), "mallory"), f"tklb key {fingerprint[1]}."))
    with fresh_with_loot(both) as b:
        forged(b.root / "mnt/target", both.loot)
        done(b, "restore", *FROM_A, "--yes")
        own = b.root / "var/lib/tklb/key.asc"
        assert not own.exists() or own.read_bytes() != key_at(b.root / "mnt/target").read_bytes()


# ---------------------------------------------------------------- what is never looked at

IGNORED = (
    forge.plant_plain_set, forge.plant_plain_set_named_gpg, forge.plant_literal_increment, forge.plant_own_increment,
    forge.plant_own_set, forge.plant_copies, forge.plant_bomb, forge.plant_odd_names,
)  # fmt: skip


@contextlib.contextmanager
def fresh_with_loot(both: Scene) -> Iterator[Appliance]:
    """B as it is before anything."""
    with server_b() as b:
        copy_over(both.kept / "mnt", b.root / "mnt")
        yield b
        assert left_overs(b) == []


def test_nothing_that_no_seal_names_is_ever_looked_at(both: Scene) -> None:
    with fresh_with_loot(both) as b:
        for forgery in IGNORED:
            forgery(b.root / "mnt/target", both.loot)
        report = done(b, "restore", *BY_PASSPHRASE, "--yes", "--json").value
        assert report["snapshot"] == both.newest
        assert not (b.root / "srv/evil").exists()
        copy_over(both.kept / "mnt/target", b.root / "mnt/target")
        check_replacement(b)


def test_a_backup_among_planted_sets_continues_the_true_one(both: Scene) -> None:
    for forgery in IGNORED:
        both.attack(both.a, lambda target, loot, forgery=forgery: forgery(target, loot))
    told = done(both.a, "backup", "--json").value
    assert told["kind"] == "incremental"
    names = os.listdir(both.a.root / "mnt/target/volumes")
    assert not [name for name in names if LATER in name and name.endswith(".gpg")]


# ---------------------------------------------------------------- S3: set back; S4: of another machine


def test_a_target_set_back_is_noticed_by_who_knows_better_and_shown_to_who_does_not(both: Scene) -> None:
    older = both.loot.states[1]
    target = both.attack(both.a, lambda target, _: forge.replace_all(target, older))
    with untouched(both.a, *NOTES):
        for words in (["backup"], ["restore", "--dry-run"]):
            refused(both.a, 33, "TargetDamaged", *words, says="set back")
        assert "set back" in json.dumps(done(both.a, "status", "--json", status=33).value["problems"])
    assert len(entries(target)) == 3
    both.attack(both.b, lambda target, _: forge.replace_all(target, older))
    first = done(both.b, "restore", *FROM_A, "--dry-run")
    assert re.search(r"snapshot \d{8}T\d{6}Z of a: number 3, \d+ \w+ old\n", first.stderr), first.stderr
    copy_over(both.kept / "mnt/target", both.b.root / "mnt/target")
    assert ": number 5, " in done(both.b, "restore", *FROM_A, "--dry-run").stderr
    forge.replace_all(both.b.root / "mnt/target", older)
    with untouched(both.b, *BUT):
        refused(both.b, 33, "TargetDamaged", "restore", *FROM_A, "--yes", says="set back")


@pytest.mark.parametrize("other", ["twin", "fork"])
def test_another_target_of_the_same_key_is_not_taken_for_this_machines(both: Scene, other: str) -> None:
    """One of a copied machine with an id of its own; and what this very machine might have become."""
    both.attack(both.a, lambda target, loot: forge.replace_all(target, getattr(loot, other)))
    with untouched(both.a, *NOTES):
        refused(both.a, 33, "TargetDamaged", "backup", says="tampered with")
    shutil.rmtree(both.a.root / "var/lib/tklb/ledger")  # it forgot what it has seen
    if other == "twin":
        with untouched(both.a, *NOTES):
            refused(both.a, 35, "TargetForeign", "backup", says="another machine, a")


def test_a_target_of_the_attackers_own_fits_no_key_of_ours(both: Scene) -> None:
    for machine in (both.a, both.b):
        both.attack(machine, lambda target, loot: forge.replace_all(target, loot.stranger))
    with untouched(both.b, *BUT):
        refused(both.b, 41, "KeyUnusable", "restore", *FROM_A, "--yes", says="does not fit")
    with untouched(both.a, *NOTES):
        refused(both.a, 35, "TargetForeign", "backup", says="another key")
    for secret in (str.encode, lambda secret: armoured(short_literal(secret.encode()), "tklb key")):
        key_file(secret)(both.b.root / "mnt/target", both.loot)
        with untouched(both.b, *BUT):
            refused(both.b, 41, "KeyUnusable", "restore", *BY_PASSPHRASE, "--yes", says="the key file is")
