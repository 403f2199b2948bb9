"""The ledger: what is sealed comes back, and nothing else is taken for a snapshot. gpg is the real one."""

import base64
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.memory_target import MemoryTarget
from tests.lab.soak import examples
from tklb.crypto.gpg import encrypt
from tklb.crypto.secret import make_secret
from tklb.errors import KeyUnusable, TargetDamaged
from tklb.ledger.entry import (
    ForeignEntry,
    authentication_key,
    entry_name,
    format_entry,
    key_name,
    open_entry,
    parse_entry,
)
from tklb.ledger.read import Ledger, read_ledger
from tklb.ledger.seal import seal
from tklb.model.report import Skipped
from tklb.model.secret import Secret
from tklb.model.snapshot import Counts, Kind, LedgerEntry, Shard, Volume
from tklb.storage.backend import LEDGER, ListedObject

SECRET = make_secret(bytes)
OTHER = make_secret(lambda count: b"\xff" * count)
KEY = authentication_key(SECRET)


def record(sequence: int, **other: object) -> LedgerEntry:
    snapshot = f"2026010{sequence}T000000Z"
    volume = Volume(f"duplicity-full.{snapshot}.vol1.difftar.gpg", 1000 + sequence, f"{sequence:064x}")
    made = LedgerEntry(
        sequence=sequence,
        snapshot=snapshot,
        kind=Kind.FULL,
        previous="",
        host="0123",
        hostname="www",
        profile="debian-12-core",
        profile_digest="ab" * 32,
        release="debian-12",
        stage="var/lib/tklb/stage",
        volumes=(volume,),
        own_volumes=(volume.name,),
        shards=(Shard("", datetime(2026, 1, sequence, tzinfo=UTC)),),
        counts=Counts(files_changed=3, bytes=100),
        content_digest="cd" * 32,
    )
    return replace(made, **other)  # type: ignore[arg-type]


class NearTarget(MemoryTarget):
    """One whose entries are read anew each time, as those of a folder of this machine are."""

    spool = Path("/nowhere")


class DistantTarget(MemoryTarget):
    """One that counts what is read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def read(self, name: str, limit: int) -> bytes:
        self.reads.append(name)
        return super().read(name, limit)


@pytest.fixture
def target() -> MemoryTarget:
    return NearTarget()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def sealed(target: MemoryTarget, folder: Path, count: int) -> list[str]:
    """Seal so many records; give the names of the entries."""
    for sequence in range(1, count + 1):
        seal(target, SECRET, folder, record(sequence))
    return [found.name for found in target.list(LEDGER)]


def read(target: MemoryTarget, folder: Path) -> Ledger:
    return read_ledger(target, SECRET, folder)


def sequences(ledger: Ledger) -> list[int]:
    return [found.sequence for found in ledger.entries]


# ---------------------------------------------------------------- what is whole

names = st.binary(min_size=1, max_size=20).map(lambda name: b"/" + name)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(
    st.lists(st.tuples(names, digests)),
    st.lists(st.builds(Skipped, names, texts, st.sampled_from((3, 50)))),
    st.lists(texts),
    texts,
)
def test_entry_means_what_was_written(
    changed_while_read: list[tuple[bytes, str]], skipped: list[Skipped], marks: list[str], hostname: str
) -> None:
    made = record(
        1, changed_while_read=tuple(changed_while_read), skipped=tuple(skipped), marks=tuple(marks), hostname=hostname
    )
    entry = open_entry(entry_name(made), format_entry(made, KEY, lambda hidden: hidden), KEY)
    assert parse_entry(entry, entry.sealed) == replace(made, key=key_name(KEY))


def test_status_of_a_skipped_item_is_guessed_in_older_entries() -> None:
    """They have none; but only a server that failed was ever called like this."""
    items = (Skipped(b"mysql:*", "down", 50), Skipped(b"mysql:app/*", "locked"), Skipped(b"/a:*", "unreadable"))
    made = record(1, skipped=items)
    content = format_entry(made, KEY, lambda hidden: hidden)
    assert b"skipped_status" not in base64.b64decode(json.loads(content.partition(b"\n")[0])["sealed"])
    entry = open_entry(entry_name(made), content, KEY)
    assert [item.status for item in parse_entry(entry, entry.sealed).skipped] == [50, 3, 3]
    other = format_entry(record(1, skipped=(Skipped(b"pgsql@15/old:*", "manual"),)), KEY, lambda hidden: hidden)
    entry = open_entry(entry_name(made), other, KEY)
    assert [item.status for item in parse_entry(entry, entry.sealed).skipped] == [3]


def test_sealed_records_come_back_in_order_each_naming_the_one_before(target: MemoryTarget, folder: Path) -> None:
    sealed(target, folder, 3)
    ledger = read(target, folder)
    ledger.check()
    assert sequences(ledger) == [1, 2, 3]
    assert ledger.entries[0].previous == ""
    assert len({found.previous for found in ledger.entries}) == 3
    assert replace(ledger.entries[2], previous="", key="", lineage="") == record(3)
    assert len({found.lineage for found in ledger.entries}) == 1 == len(ledger.entries[0].lineage) // 32


def test_another_machine_with_the_key_reads_the_same(target: MemoryTarget, folder: Path, tmp_path: Path) -> None:
    sealed(target, folder, 2)
    assert read(target, tmp_path / "elsewhere") == read(target, folder)


def test_empty_target_has_no_snapshots(target: MemoryTarget, folder: Path) -> None:
    assert read(target, folder) == Ledger(target.address, secrets={key_name(KEY): SECRET})


def test_nothing_that_names_machine_or_files_is_readable(target: MemoryTarget, folder: Path) -> None:
    seal(target, SECRET, folder, record(1, hostname="canary-host", changed_while_read=((b"/canary-path", "ab" * 32),)))
    (content,) = target.objects.values()
    for word in (b"canary", b"debian", b"stage", b'0123"', SECRET.reveal().encode()):
        assert word not in content


def test_opened_entries_are_kept_private_and_gpg_is_not_asked_again(
    target: MemoryTarget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(target, folder, 2)
    first = read(target, folder)
    monkeypatch.setattr("tklb.base.process.PATH", "/nowhere")
    assert read(target, folder) == first
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}
    assert not {"sealing", "opening"} & {path.name for path in folder.iterdir()}


def test_authentication_key_is_fixed_for_ever() -> None:
    """A change here locks people out of their ledgers."""
    assert KEY.hex() == "fb172255c75d39159832e3dcc2c391e895977aa698aba1b2480f3ea039ebb13f"


# ---------------------------------------------------------------- what is not

Harm = Callable[[MemoryTarget, list[str]], None]


def flip(number: int, at: int) -> Harm:
    def harm(target: MemoryTarget, entries: list[str]) -> None:
        content = bytearray(target.objects[entries[number]])
        content[at] ^= 1
        target.objects[entries[number]] = bytes(content)

    return harm


def drop(number: int) -> Harm:
    return lambda target, entries: target.delete(entries[number])


def replay(number: int, name: str) -> Harm:
    def harm(target: MemoryTarget, entries: list[str]) -> None:
        target.objects[name] = target.objects[entries[number]]

    return harm


def swap(target: MemoryTarget, entries: list[str]) -> None:
    first, second = target.objects[entries[0]], target.objects[entries[1]]
    target.objects[entries[0]], target.objects[entries[1]] = second, first


def truncate(target: MemoryTarget, entries: list[str]) -> None:
    target.objects[entries[1]] = target.objects[entries[1]][:-90]


@pytest.mark.parametrize(
    ("harm", "good", "words"),
    [
        (flip(1, 40), [1, 3], "00000002"),
        (flip(2, -5), [1, 2], "00000003"),
        (flip(0, -90), [2, 3], "00000001"),
        (drop(0), [2, 3], "entry 1"),
        (drop(1), [1, 3], "entry 2"),
        (drop(2), [1, 2], "set back"),
        (truncate, [1, 3], "00000002"),
        (swap, [3], "another place"),
    ],
)
def test_damage_is_named_and_what_is_whole_stays_usable(
    target: MemoryTarget, folder: Path, harm: Harm, good: list[int], words: str
) -> None:
    entries = sealed(target, folder, 3)
    harm(target, entries)
    ledger = read(target, folder)
    assert sequences(ledger) == good
    assert any(words in problem for problem in ledger.problems)
    with pytest.raises(TargetDamaged):
        ledger.check()
    with pytest.raises(TargetDamaged):
        seal(target, SECRET, folder, record(4))


@pytest.mark.parametrize(
    "harm",
    [
        replay(0, "ledger/00000004-20260104T000000Z"),
        replay(2, "ledger/00000002-20260103T000000Z"),
        lambda target, _: target.objects.update({"ledger/00000004-20260104T000000Z": b"junk"}),
        lambda target, _: target.objects.update({"ledger/99999999-20260104T000000Z": b'{"format":2,"key":"'}),
        lambda target, _: target.objects.update({"ledger/00000002-20260102T000000Z-00000000": b"\n\n"}),
        lambda target, _: target.objects.update({"ledger/writer-00000001-00000000": b"{}\n{}\n"}),
    ],
)
def test_rubbish_under_the_name_of_an_entry_stops_nothing(
    target: MemoryTarget, folder: Path, tmp_path: Path, harm: Harm
) -> None:
    harm(target, sealed(target, folder, 3))
    for place in (folder, tmp_path / "elsewhere"):
        ledger = read(target, place)
        ledger.check()
        assert sequences(ledger) == [1, 2, 3]
        assert ledger.foreign or "ledger/writer-00000001-00000000" in target.objects
    seal(target, SECRET, folder, record(4))


@settings(max_examples=examples(150))
@given(st.data())
def test_no_altered_byte_goes_unnoticed(data: st.DataObject) -> None:
    content = format_entry(record(1), KEY, lambda hidden: hidden)
    at = data.draw(st.integers(0, len(content) - 1))
    altered = content[:at] + bytes((content[at] ^ data.draw(st.integers(1, 255)),)) + content[at + 1 :]
    try:
        entry = open_entry(entry_name(record(1)), altered, KEY)
    except ValueError:
        return
    assert entry.plain == open_entry(entry_name(record(1)), content, KEY).plain  # white space after the seal


@given(st.binary(max_size=300))
def test_any_bytes_are_an_entry_or_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        open_entry("ledger/00000001-20260101T000000Z", content, KEY)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


PLAIN = json.loads(format_entry(record(1), KEY, lambda hidden: hidden).split(b"\n")[0])


@given(st.sampled_from(sorted(PLAIN)), json_values)
def test_wrong_kinds_in_the_plain_part_are_refused_even_when_sealed(field: str, value: object) -> None:
    """Who has the key could do it by mistake; nothing else may come of it than a refusal."""
    entry = open_entry(entry_name(record(1)), format_entry(record(1), KEY, lambda hidden: hidden), KEY)
    plain = PLAIN | {field: value}
    try:
        assert parse_entry(replace(entry, plain=plain), entry.sealed) is not None
    except ValueError:
        assert field in (
            "sequence", "snapshot", "previous", "volumes", "shards", "key",
            "lineage", "installation", "excused", "strays",
        )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "duplicity-full.20260101T000000Z.vol1.difftar.gpg/../x", "x.gpg", "",
     "duplicity-full.20260101T000000Z.vol1.difftar", "a-duplicity-full.20260101T000000Z.manifest.gpg"],
)  # fmt: skip
def test_volume_name_of_any_other_form_is_refused(name: str) -> None:
    bad = record(1, volumes=(Volume(name, 1, "ab" * 32),), own_volumes=())
    entry = open_entry(entry_name(bad), format_entry(bad, KEY, lambda hidden: hidden), KEY)
    with pytest.raises(ValueError, match="not of the right form"):
        parse_entry(entry, entry.sealed)


def test_record_whose_volumes_contradict_each_other_is_refused() -> None:
    twice = record(1).volumes * 2
    for bad in (record(1, volumes=twice), record(1, own_volumes=("duplicity-x",))):
        entry = open_entry(entry_name(bad), format_entry(bad, KEY, lambda hidden: hidden), KEY)
        with pytest.raises(ValueError, match="contradict"):
            parse_entry(entry, entry.sealed)


def test_format_of_the_future_is_refused_with_the_version_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tklb.ledger.entry.FORMAT", 3)
    monkeypatch.setattr("tklb.__version__", "9.8")
    target, folder = MemoryTarget(), tmp_path / "ledger"
    seal(target, SECRET, folder, record(1))
    monkeypatch.setattr("tklb.ledger.entry.FORMAT", 2)
    with pytest.raises(TargetDamaged, match=r"format 3; tklb 9\.8 sealed it and reads it"):
        read(target, folder)


def test_key_that_does_not_fit_is_told_apart_from_damage(target: MemoryTarget, folder: Path) -> None:
    entries = sealed(target, folder, 1)
    with pytest.raises(KeyUnusable, match="does not fit"):
        read_ledger(target, OTHER, folder)
    with pytest.raises(ForeignEntry):
        open_entry(entries[0], target.objects[entries[0]], authentication_key(OTHER))
    flip(0, -5)(target, entries)
    with pytest.raises(TargetDamaged):
        read(target, folder).check()


def test_entry_of_another_key_among_ours_is_named(target: MemoryTarget, folder: Path, tmp_path: Path) -> None:
    sealed(target, folder, 1)
    theirs = MemoryTarget()
    seal(theirs, OTHER, tmp_path / "theirs", record(1))
    seal(theirs, OTHER, tmp_path / "theirs", record(2))
    target.objects |= {name: content for name, content in theirs.objects.items() if "00000002" in name}
    ledger = read(target, folder)
    assert sequences(ledger) == [1]
    assert "another key" in str(ledger.foreign)
    ledger.check()


def test_hidden_part_of_another_entry_is_refused(target: MemoryTarget, folder: Path) -> None:
    """The seal covers both parts: exchanging the encrypted one breaks it."""
    entries = sealed(target, folder, 2)
    first, second = (json.loads(target.objects[name].split(b"\n")[0]) for name in entries)
    forged = target.objects[entries[1]].replace(second["sealed"].encode(), first["sealed"].encode())
    target.objects[entries[1]] = forged
    assert sequences(read(target, folder)) == [1]


def test_objects_that_are_no_entries_are_ignored(target: MemoryTarget, folder: Path) -> None:
    sealed(target, folder, 1)
    target.objects["ledger/README"] = b"x"
    target.objects["ledger/00000002-20260102T000000Z.new"] = b"torn"
    read(target, folder).check()
    seal(target, SECRET, folder, record(2))


def test_what_a_killed_run_was_writing_is_no_damage_to_the_machine_that_wrote_it(
    target: MemoryTarget, folder: Path, tmp_path: Path
) -> None:
    sealed(target, folder, 2)
    torn = "ledger/00000003-20260103T000000Z"
    target.objects[torn] = b'{"format":1,"key":"'
    ledger = read(target, folder)
    ledger.check()
    assert list(ledger.foreign) == [torn]
    assert sequences(ledger) == [1, 2]
    assert read(target, tmp_path / "elsewhere").foreign == ledger.foreign
    seal(target, SECRET, folder, record(3, snapshot="20260104T000000Z"))
    assert sequences(read(target, tmp_path / "elsewhere")) == [1, 2, 3]


# ---------------------------------------------------------------- a distant target


def test_entries_of_a_distant_target_are_fetched_once(folder: Path) -> None:
    target = DistantTarget()
    sealed(target, folder, 3)
    target.reads.clear()
    assert sequences(read(target, folder)) == [1, 2, 3]
    assert target.reads == []
    assert sequences(read_ledger(target, SECRET, folder, thorough=True)) == [1, 2, 3]
    assert len(target.reads) == 3


def test_entry_of_a_distant_target_that_changed_its_size_or_went_is_noticed_at_once(folder: Path) -> None:
    target = DistantTarget()
    names = sealed(target, folder, 3)
    target.objects[names[1]] += b" "
    assert sequences(read(target, folder)) == [1, 3]
    del target.objects[names[1]]
    assert "entry 2" in read(target, folder).problems[0]


def test_entry_that_is_read_badly_once_is_read_again(folder: Path, tmp_path: Path) -> None:
    class Flipping(DistantTarget):
        def read(self, name: str, limit: int) -> bytes:
            content = super().read(name, limit)
            return content if self.reads.count(name) % 2 == 0 else content[:-9] + b"x" + content[-8:]

    target = Flipping()
    sealed(target, folder, 3)
    ledger = read_ledger(target, SECRET, tmp_path / "elsewhere")
    ledger.check()
    assert sequences(ledger) == [1, 2, 3]


def test_listing_that_lags_behind_hides_no_entry(folder: Path) -> None:
    class Lagging(DistantTarget):
        def list(self, prefix: str) -> tuple[ListedObject, ...]:
            return super().list(prefix)[:-1]

    target = Lagging()
    seal(target, SECRET, folder, record(1))
    seal(target, SECRET, folder, record(2))
    assert sequences(read(target, folder)) == [1, 2]


# ---------------------------------------------------------------- a change of the key


def change_key(target: MemoryTarget, folder: Path) -> None:
    """Two snapshots with the first key, two with the second, which hand the first on."""
    sealed(target, folder, 2)
    for sequence in (3, 4):
        seal(target, OTHER, folder, record(sequence, older=(SECRET,)), (SECRET,))


def test_the_new_key_alone_opens_all_that_was_sealed_before(target: MemoryTarget, folder: Path, tmp_path: Path) -> None:
    change_key(target, folder)
    ledger = read_ledger(target, OTHER, tmp_path / "elsewhere")
    ledger.check()
    assert sequences(ledger) == [1, 2, 3, 4]
    secrets = [ledger.secrets[found.key].reveal() for found in ledger.entries]
    assert secrets == [SECRET.reveal()] * 2 + [OTHER.reveal()] * 2


def test_without_the_old_secret_its_snapshots_are_known_and_closed(
    target: MemoryTarget, folder: Path, tmp_path: Path
) -> None:
    sealed(target, folder, 2)
    seal(target, OTHER, folder, record(3), (SECRET,))
    ledger = read_ledger(target, OTHER, tmp_path / "elsewhere")
    ledger.check()
    assert sequences(ledger) == [3]
    assert [closed.snapshot for closed in ledger.closed] == ["20260101T000000Z", "20260102T000000Z"]
    assert set(ledger.volumes) == {record(number).own_volumes[0] for number in (1, 2, 3)}


def test_closed_entry_that_was_altered_or_is_missing_is_named(
    target: MemoryTarget, folder: Path, tmp_path: Path
) -> None:
    sealed(target, folder, 2)
    seal(target, OTHER, folder, record(3), (SECRET,))
    whole = dict(target.objects)
    first, second = sorted(whole)[:2]
    for harm in (
        lambda: target.objects.update({second: whole[second].replace(b'"mac":"', b'"mac":"0')}),
        lambda: target.objects.update({first: whole[first].replace(b'"mac":"', b'"mac":"0')}),
        lambda: target.delete(second),
        lambda: target.delete(first),
    ):
        harm()
        assert read_ledger(target, OTHER, tmp_path / "elsewhere").problems
        target.objects = dict(whole)


def test_old_key_shows_its_own_snapshots_and_that_others_followed(
    target: MemoryTarget, folder: Path, tmp_path: Path
) -> None:
    change_key(target, folder)
    ledger = read_ledger(target, SECRET, tmp_path / "elsewhere")
    assert sequences(ledger) == [1, 2]
    assert all("another key" in why for why in ledger.foreign.values())
    assert ledger.later == 2


@pytest.mark.parametrize("secret", [SECRET, OTHER], ids=["old key at hand", "new key at hand"])
def test_key_that_was_changed_seals_no_more(target: MemoryTarget, folder: Path, tmp_path: Path, secret: Secret) -> None:
    """Whoever kept the old key and can write to the target adds a snapshot that follows the newest one."""
    change_key(target, folder)
    newest = read_ledger(target, OTHER, tmp_path / "elsewhere")
    forged = record(5, previous=newest.head)
    target.objects[entry_name(forged)] = format_entry(forged, KEY, lambda hidden: encrypt(hidden, SECRET, tmp_path))
    ledger = read_ledger(target, secret, tmp_path / "fresh")
    assert 5 not in sequences(ledger)
    assert "a key that had been changed before" in ledger.foreign[entry_name(forged)]
    assert ledger.later == (2 if secret is SECRET else 0)


def test_secret_in_a_record_is_never_plain(target: MemoryTarget, folder: Path) -> None:
    change_key(target, folder)
    assert all(SECRET.reveal().encode() not in content for content in target.objects.values())


# ---------------------------------------------------------------- order and memory


@pytest.mark.parametrize(
    "late",
    [record(2), record(4), record(3, snapshot="20260102T000000Z"), record(3, snapshot="20251231T235959Z"), record(1)],
)
def test_sequence_and_label_must_follow_the_last(target: MemoryTarget, folder: Path, late: LedgerEntry) -> None:
    sealed(target, folder, 2)
    with pytest.raises(TargetDamaged):
        seal(target, SECRET, folder, late)
    assert sequences(read(target, folder)) == [1, 2]


def test_target_set_back_is_noticed_by_a_machine_that_knows_better(
    target: MemoryTarget, folder: Path, tmp_path: Path
) -> None:
    sealed(target, folder, 2)
    older = dict(target.objects)
    seal(target, SECRET, folder, record(3))
    target.objects = older
    assert any("set back" in problem for problem in read(target, folder).problems)
    read(target, tmp_path / "elsewhere").check()
    for path in folder.glob("head-*"):  # on a machine that never saw it
        path.unlink()
    read(target, folder).check()


def test_another_history_of_the_same_length_is_noticed(target: MemoryTarget, folder: Path, tmp_path: Path) -> None:
    sealed(target, folder, 2)
    other = MemoryTarget()
    seal(other, SECRET, tmp_path / "other", record(1, hostname="else"))
    seal(other, SECRET, tmp_path / "other", record(2))
    target.objects = other.objects
    assert any("set back" in problem for problem in read(target, folder).problems)


def test_machine_that_only_reads_remembers_too(target: MemoryTarget, folder: Path, tmp_path: Path) -> None:
    entries = sealed(target, folder, 2)
    reader = tmp_path / "reader"
    read(target, reader)
    target.delete(entries[1])
    assert any("set back" in problem for problem in read(target, reader).problems)


def test_entry_that_does_not_come_back_as_written_is_no_seal(
    target: MemoryTarget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        target, "upload", lambda name, source, _: target.objects.update({name: source.read_bytes()[:-1]})
    )
    with pytest.raises(TargetDamaged, match="did not come back"):
        seal(target, SECRET, folder, record(1))


# ---------------------------------------------------------------- what fills the memory


def test_what_a_stranger_wrote_is_not_parsed(target: MemoryTarget, folder: Path) -> None:
    """A list takes three bytes there, and eighty here."""
    sealed(target, folder, 1)
    first = b'{"key":"0123456789abcdef","x":[' + b"[]," * 1_000_000 + b"0]}\n"
    target.objects["ledger/00000002-20260102T000000Z"] = first + b"{}\n"
    tracemalloc.start()
    try:
        found = read(target, folder).foreign
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert found == {"ledger/00000002-20260102T000000Z": "it was sealed with another key"}


def test_ledger_without_end_is_refused_before_it_fills_the_memory(
    target: MemoryTarget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = sealed(target, folder, 3)
    monkeypatch.setattr("tklb.ledger.read.LONGEST_LEDGER", len(target.objects[entries[0]]) + 100)
    assert [problem.split(":")[0] for problem in read(target, folder).problems if "longer" in problem] == entries[1:]
