"""What the secret, passphrases and key files look like, what is derived from them, and which are refused."""

import contextlib
import itertools
import math
import os
import re
import secrets
import subprocess
import tempfile
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.crypto.armor import armor, comments_of, dearmor, packets
from tklb.crypto.key_copies import KeyCopy, forget_copy, is_elsewhere, note_copy, read_copies
from tklb.crypto.key_file import (
    KeyKind,
    format_key,
    kind_of_key_file,
    open_key,
    parse_key,
    read_fingerprint,
    read_key_text,
    write_new,
)
from tklb.crypto.passphrase import LONGEST, passphrase_bytes, random_passphrase, read_passphrase_file
from tklb.crypto.recovery_sheet import RecoverySheet
from tklb.crypto.recovery_sheet_print import sheet_pdf, sheet_text, square
from tklb.crypto.secret import fingerprint, make_secret, parse_secret, read_secret, write_secret
from tklb.errors import KeyUnusable, WrongPassphrase
from tklb.model.secret import Secret
from tklb.model.target import TargetUrl

SECRET = make_secret(bytes)  # 32 zero bytes
OTHER = make_secret(lambda count: b"\xff" * count)


@given(st.binary(min_size=32, max_size=32))
def test_any_random_bytes_make_typable_text_that_is_read_back(entropy: bytes) -> None:
    text = make_secret(lambda count: entropy).reveal()
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567-")
    assert parse_secret(text).reveal() == text


def test_two_secrets_differ() -> None:
    assert make_secret(secrets.token_bytes).reveal() != make_secret(secrets.token_bytes).reveal()


def test_fingerprint_is_fixed_for_ever() -> None:
    assert SECRET.reveal() == "-".join(["AAAA"] * 13)
    assert fingerprint(SECRET) == "e4b4-e156-585d-d90c"


def test_fingerprints_differ() -> None:
    assert fingerprint(SECRET) != fingerprint(OTHER)


def test_secret_file_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, OTHER)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert read_secret(path).reveal() == OTHER.reveal()


@pytest.mark.parametrize(
    ("content", "mode"), [(b"", 0o600), (b"AAAA-AAAA\n", 0o600), (b"\xff\xfe", 0o600), (None, 0o640), (None, 0o604)]
)
def test_unfit_secret_file_is_refused(tmp_path: Path, content: bytes | None, mode: int) -> None:
    path = tmp_path / "secret"
    write_secret(path, SECRET)
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(KeyUnusable) as caught:
        read_secret(path)
    assert "AAAA" not in str(caught.value)


def test_secret_that_is_absent_a_link_or_a_fifo_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "real", SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("absent", "link", "fifo", "."):
        with pytest.raises(KeyUnusable):
            read_secret(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_secret_of_another_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, SECRET)
    os.chown(path, 65534, 65534)
    with pytest.raises(KeyUnusable, match="belongs to uid 65534"):
        read_secret(path)


def never() -> Secret:
    raise AssertionError


def test_key_file_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "key.asc"
    write_new(path, format_key(OTHER).encode())
    assert path.stat().st_mode & 0o7777 == 0o600
    assert open_key(read_key_text(path), never).reveal() == OTHER.reveal()
    assert fingerprint(OTHER) in path.read_text("ascii")


def test_key_file_never_replaces_anything(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_text("mine")
    (tmp_path / "link.asc").symlink_to(tmp_path / "elsewhere")
    for name in ("key.asc", "link.asc", "no/such/folder"):
        with pytest.raises(KeyUnusable, match="cannot write"):
            write_new(tmp_path / name, format_key(SECRET).encode())
    assert (tmp_path / "key.asc").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["\n", "\r\n"]), st.text(max_size=40))
def test_key_survives_mail(entropy: bytes, newline: str, talk: str) -> None:
    secret = make_secret(lambda count: entropy)
    text = f"{talk}\n{format_key(secret)}{talk}".replace("\r", "").replace("\n", newline)
    assert parse_key(text).reveal() == secret.reveal()


@given(st.data())
def test_key_with_a_changed_letter_is_refused_or_is_the_same_key(data: st.DataObject) -> None:
    text = format_key(SECRET)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019+/=\n -"))
    with contextlib.suppress(ValueError):
        assert parse_key(text[:at] + letter + text[at + 1 :]).reveal() == SECRET.reveal()


@given(st.integers(0, len(format_key(SECRET)) - 2))
def test_cut_off_key_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"cut off|empty|no tklb key file"):
        parse_key(format_key(SECRET)[:length])


@given(st.text())
def test_any_text_gives_a_key_or_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_key(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"ssh-ed25519 AAAA", "is no tklb key file"),
        (b"x" * 70_000, "far too long"),
        (b"-----BEGIN PGP MESSAGE-----\n\nabc", "is cut off"),
    ],
)
def test_key_file_says_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "key.asc"
    path.write_bytes(content)
    with pytest.raises(KeyUnusable, match=reason):
        open_key(read_key_text(path), never)


def test_missing_key_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="No such file"):
        open_key(read_key_text(tmp_path / "absent"), never)


def test_secret_is_never_shown() -> None:
    assert OTHER.reveal() not in f"{OTHER} {OTHER!r}"
    with pytest.raises(ValueError) as caught:
        parse_secret(OTHER.reveal() + "x")
    assert OTHER.reveal() not in str(caught.value)
    assert isinstance(OTHER, Secret)


# ---------------------------------------------------------------- passphrases


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b" secret \t\n", b" secret \t"),
        (b" \n", b" "),
        (b"pass w\xf6rd", b"pass w\xf6rd"),
        ("pässwörd\n".encode(), "pässwörd".encode()),
        (b"a" * LONGEST, b"a" * LONGEST),
        (b"a" * LONGEST + b"\r\n", b"a" * LONGEST),
    ],
)
def test_one_line_end_of_a_passphrase_file_is_cut_and_nothing_else(
    tmp_path: Path, content: bytes, passphrase: bytes
) -> None:
    assert passphrase_bytes(read_passphrase_file(private(tmp_path / "pw", content))) == passphrase


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\r\n", "it is empty"),
        (b"secret\n\n", "several lines"),
        (b"\nsecret", "several lines"),
        (b"one\ntwo", "several lines"),
        (b"one\rtwo", "several lines"),
        (b"secret\r", "several lines"),
        (b"secret\r\r\n", "several lines"),
        (b"sec\0ret", "NUL"),
        (b"a" * 256, "256 bytes long; gpg takes 255"),
        (b"a" * 5000, "gpg takes 255"),
    ],
)
def test_what_can_be_no_passphrase_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(WrongPassphrase, match=reason) as caught:
        read_passphrase_file(private(tmp_path / "pw", content))
    assert caught.value.code == 40
    assert "secret" not in str(caught.value)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_two_files_are_one_passphrase_only_if_they_differ_by_the_line_end(one: bytes, other: bytes) -> None:
    def read(content: bytes) -> bytes | None:
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(WrongPassphrase):
            return passphrase_bytes(read_passphrase_file(private(Path(folder) / "pw", content)))
        return None

    first, second = read(one), read(other)
    if first is not None and first == second:
        assert {one, other} <= {first, first + b"\n", first + b"\r\n"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_passphrase_file_of_others_is_refused_with_mode_and_path(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "pw", b"secret")
    path.chmod(mode)
    with pytest.raises(KeyUnusable, match=rf"{path} \(mode {mode:04o}\)"):
        read_passphrase_file(path)


def test_passphrase_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(KeyUnusable, match=f"cannot read the passphrase file {path}: "):
            read_passphrase_file(path)


def test_passphrase_comes_through_a_pipe_in_pieces() -> None:
    receive, give = os.pipe()
    os.write(give, b"sec")
    threading.Timer(0.1, lambda: (os.write(give, b"ret\n"), os.close(give))).start()
    assert read_passphrase_file(Path(f"/dev/fd/{receive}")).reveal() == "secret"
    os.close(receive)


def test_passphrases_by_chance_are_long_typable_and_new() -> None:
    made = {random_passphrase(secrets.token_bytes).reveal() for _ in range(200)}
    assert len(made) == 200
    letters = set("".join(made)) - {"-"}
    assert not letters & set("il1o0s5z2b6g9uv") - set("bgsuz")  # of each pair at most one is left
    assert len(letters) == 26
    assert all(re.fullmatch(r"([a-z0-9]{4}-){6}[a-z0-9]{4}", passphrase) for passphrase in made)
    assert 28 * math.log2(len(letters)) >= 128


def test_no_letter_is_likelier_than_another() -> None:
    """Bytes that would favour some are passed over."""
    every = itertools.cycle(bytes(range(256)))
    letters = "".join(
        random_passphrase(lambda count: bytes(itertools.islice(every, count))).reveal() for _ in range(9 * 26)
    )
    counts = Counter(letters.replace("-", ""))
    assert max(counts.values()) - min(counts.values()) <= 28


# ---------------------------------------------------------------- armour and packets


@given(st.binary(min_size=1, max_size=3000), st.lists(st.text("abc :-", max_size=20), max_size=3))
def test_any_message_comes_back_out_of_its_armour(message: bytes, comments: list[str]) -> None:
    text = armor(message, comments)
    assert dearmor(text) == message
    assert [comment.strip() for comment in comments] == list(comments_of(text))


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_to_the_last_byte_or_refused(message: bytes) -> None:
    with contextlib.suppress(ValueError):
        found = packets(message)
        assert sum(len(body) + 2 for _, body in found) <= len(message) + len(found)


@given(st.lists(st.tuples(st.integers(0, 63), st.binary(max_size=9000)), max_size=4))
def test_packets_of_any_length_are_told_apart(wanted: list[tuple[int, bytes]]) -> None:
    message = b"".join(bytes((0xC0 | tag,)) + length_of(body) + body for tag, body in wanted)
    assert packets(message) == tuple(wanted)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_packets_of_the_old_form_are_told_apart(kind: int) -> None:
    body = b"x" * 200
    message = bytes((0x80 | 3 << 2 | kind,)) + len(body).to_bytes(1 << kind, "big") + body
    assert packets(message) == ((3, body),)


def test_packet_in_parts_is_one() -> None:
    assert packets(b"\xd2" + b"\xe1ab" + b"\xe0c" + b"\x02de") == ((18, b"abcde"),)


@pytest.mark.parametrize(
    "message", [b"\x8f", b"\xd2", b"\xd2\x05abc", b"\xd2\xff\xff\xff\xff\xff", b"\x7f", b"\xd2\xe9a"]
)
def test_packet_that_lies_about_its_length_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        packets(message)


def length_of(body: bytes) -> bytes:
    if len(body) < 192:
        return bytes((len(body),))
    if len(body) < 8384:
        return (len(body) - 192 + (192 << 8)).to_bytes(2, "big")
    return b"\xff" + len(body).to_bytes(4, "big")


# ---------------------------------------------------------------- kinds of key files


def message_of(*tags: int) -> str:
    return armor(b"".join(bytes((0xC0 | tag, 1)) + b"x" for tag in tags), ())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (format_key(SECRET), KeyKind.BARE),
        (SECRET.reveal() + "\n", KeyKind.BARE),
        (message_of(3, 18), KeyKind.PASSPHRASE),
        (message_of(1, 18), KeyKind.PUBLIC_KEY),
        (message_of(1, 1, 20), KeyKind.PUBLIC_KEY),
    ],
)
def test_kind_of_a_key_file_is_known_by_its_packets(text: str, kind: KeyKind) -> None:
    assert kind_of_key_file(text) is kind


@pytest.mark.parametrize(
    "tags",
    [
        *((), (18,), (3,), (8,), (3, 9), (11, 11), (10, 11)),
        *((3, 3, 18), (1, 3, 18), (3, 1, 18), (3, 18, 18), (3, 18, 11), (4, 3, 18)),
    ],
)
def test_other_messages_are_of_no_kind(tags: tuple[int, ...]) -> None:
    with pytest.raises(KeyUnusable):
        kind_of_key_file(message_of(*tags) if tags else "")


def test_passphrase_is_asked_for_only_where_there_is_one() -> None:
    def ask() -> Secret:
        raise AssertionError

    assert open_key(format_key(SECRET), ask).reveal() == SECRET.reveal()
    assert open_key(f"{SECRET.reveal()}\n", ask).reveal() == SECRET.reveal()
    with pytest.raises(KeyUnusable, match="for the owner of an OpenPGP key"):
        open_key(message_of(1, 18), ask)
    with pytest.raises(AssertionError):
        open_key(message_of(3, 18), ask)


def test_key_file_names_its_key_in_a_comment() -> None:
    assert read_fingerprint(format_key(OTHER)) == fingerprint(OTHER)
    assert read_fingerprint(format_key(OTHER).replace("\n", "\r\n")) == fingerprint(OTHER)
    assert read_fingerprint(f"tklb key {fingerprint(SECRET)}\n" + message_of(3, 18)) == ""
    assert read_fingerprint("") == ""


# ---------------------------------------------------------------- copies


def a_copy(where: str, is_away: bool = False) -> KeyCopy:
    return KeyCopy(where, "bare", fingerprint(SECRET), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), is_away)


def test_copies_are_noted_one_for_each_place(tmp_path: Path) -> None:
    noted = tmp_path / "copies.json"
    for copy in (a_copy("/a"), a_copy("/b"), a_copy("/a", is_away=True)):
        note_copy(noted, copy)
    assert read_copies(noted) == (a_copy("/b"), a_copy("/a", is_away=True))
    assert noted.stat().st_mode & 0o7777 == 0o600
    forget_copy(noted, "/b")
    forget_copy(noted, "/never")
    assert read_copies(noted) == (a_copy("/a", is_away=True),)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"where": 1}]', b"null", b"\xff"])
def test_damaged_note_of_copies_notes_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "copies.json").write_bytes(content)
    assert read_copies(tmp_path / "copies.json") == ()
    note_copy(tmp_path / "copies.json", a_copy("/a"))
    assert read_copies(tmp_path / "copies.json") == (a_copy("/a"),)


def test_copy_in_memory_or_on_the_own_disk_is_not_elsewhere(tmp_path: Path) -> None:
    homes = (Path("/"), tmp_path)
    assert not is_elsewhere(tmp_path / "deep/below", homes)
    assert not is_elsewhere(Path("/key"), homes)
    assert not is_elsewhere(Path("/dev/shm/key"), homes)
    assert is_elsewhere(tmp_path / "key", ()) != _is_tmpfs(tmp_path)


def _is_tmpfs(path: Path) -> bool:
    return subprocess.run(["stat", "-fc%T", path], capture_output=True, text=True, check=True).stdout.strip() == "tmpfs"


# ---------------------------------------------------------------- the sheet


def a_sheet(place: TargetUrl, hostname: str = "server", region: str = "") -> RecoverySheet:
    made = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return RecoverySheet(hostname, made, fingerprint(SECRET), False, format_key(SECRET), place, region)


FILE = TargetUrl("file", "file:///mnt/disk/backups", path="/mnt/disk/backups")


@pytest.mark.parametrize(
    ("place", "commands"),
    [
        (FILE, ["duplicity restore file:///mnt/disk/backups/volumes files"]),
        (TargetUrl("file", "file:///a%20b", path="/a b"), ["duplicity restore 'file:///a b/volumes' files"]),
        (
            TargetUrl("s3", "s3://box/a", path="a", bucket="box", endpoint="https://s3.example"),
            [
                "aws s3 cp --recursive s3://box/a/volumes volumes --endpoint-url https://s3.example",
                'duplicity restore "file://$PWD/volumes" files',
            ],
        ),
        (TargetUrl("s3", "s3://box", bucket="box"), ["aws s3 cp --recursive s3://box/volumes volumes"]),
        (
            TargetUrl("sftp", "sftp://me@h:22//srv/b", path="/srv/b", user="me", host="h", port=2222),
            ["sftp -P 2222 -r me@h:/srv/b/volumes .", 'duplicity restore "file://$PWD/volumes" files'],
        ),
        (TargetUrl("sftp", "sftp://[::1]/b", path="b", host="::1"), ["sftp -r '[::1]:b/volumes' ."]),
        (TargetUrl("other", "webdav://h/b"), ["duplicity restore webdav://h/b/volumes files"]),
    ],
)
def test_sheet_has_the_commands_of_its_target(place: TargetUrl, commands: list[str]) -> None:
    lines = [line.strip() for line in sheet_text(a_sheet(place)).split("\n")]
    assert f"tklb restore --target {quote(place.text)} --key key.asc" in lines
    assert "export PASSPHRASE=$(gpg --decrypt key.asc)" in lines
    assert set(commands) <= set(lines)


def test_sheet_names_the_region_of_a_bucket() -> None:
    told = sheet_text(a_sheet(TargetUrl("s3", "s3://box/a", path="a", bucket="box"), region="eu-1"))
    assert "aws s3 cp --recursive s3://box/a/volumes volumes --region eu-1\n" in told


def test_square_in_the_text_is_the_key_module_by_module() -> None:
    wanted = square(format_key(SECRET))
    drawn = [line for line in sheet_text(a_sheet(FILE)).split("\n") if set(line) & set("▀▄█")]
    found = [[letter in halves for letter in line[4:].ljust(len(wanted))] for line in drawn for halves in ("▀█", "▄█")][
        : len(wanted)
    ]
    assert found == [list(row) for row in wanted]


def test_sheet_for_an_address_that_fits_no_page_is_refused() -> None:
    with pytest.raises(KeyUnusable, match="too long"):
        sheet_pdf(a_sheet(TargetUrl("other", f"webdav://{'h' * 5000}")))


def test_same_sheet_is_the_same_pdf() -> None:
    assert sheet_pdf(a_sheet(FILE)) == sheet_pdf(a_sheet(FILE))


def private(path: Path, content: bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(content)
    return path
