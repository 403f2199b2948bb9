"""What is special to targets on SSH servers: who is spoken to, what breaks on the way, and what a server may be.

Takes OpenSSH's sshd; touches folders of the test and the processes it starts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.distant import config_of
from tests.lab.soak import some
from tests.lab.sshd import Sshd, make_key, public
from tklb.config.schema import SftpConfig
from tklb.errors import AccessRefused, ConfigInvalid, NoSpace, TargetDamaged, TargetFull, TargetUnfit, TargetUnreachable
from tklb.storage.backend import LEDGER, VOLUMES, Creation, Moved, ignore_moved
from tklb.storage.sftp import ssh
from tklb.storage.sftp.backend import SftpBackend
from tklb.storage.sftp.wire import WRITE_NEW, Garbled, RequestRefused, Wire
from tklb.storage.url import parse_url

ABC = hashlib.sha256(b"abc").hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def target(server: Sshd, tmp_path: Path) -> Iterator[SftpBackend]:
    target = target_on(server, tmp_path / "t")
    target.make()
    yield target
    target.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "small", tmp_path / "disk"], check=True)
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", tmp_path / "disk"], check=True)


def target_on(server: Sshd, folder: Path | str) -> SftpBackend:
    return SftpBackend(parse_url(server.address(folder)), config_of(server).sftp)


def put(target: SftpBackend, folder: Path, name: str, content: bytes, moved: Moved = ignore_moved) -> None:
    source = folder / f"source-of-{name.replace('/', '-')}"
    source.write_bytes(content)
    target.upload(name, source, hashlib.sha256(content).hexdigest(), moved)


def refusal(server: Sshd, tmp_path: Path, config: SftpConfig | None = None, home: Path | None = None) -> str:
    with pytest.raises(AccessRefused) as caught:
        ssh.connect(parse_url(server.address(tmp_path)), config or config_of(server).sftp, home=home)
    return str(caught.value)


def connects(server: Sshd, config: SftpConfig | None = None, home: Path | None = None) -> bool:
    connection = ssh.connect(parse_url(server.address("x")), config or config_of(server).sftp, home=home)
    connection.close()
    return True


# ---------------------------------------------------------------- who is spoken to


def test_unknown_host_is_refused_and_what_the_message_says_lets_it_in(server: Sshd, tmp_path: Path) -> None:
    server.known_hosts.write_text("")
    said = refusal(server, tmp_path)
    listed = subprocess.run(
        ["ssh-keygen", "-lf", server.folder / "host_key_ed25519.pub"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split()[1] in said
    command = re.search(r"`(ssh-keyscan [^`]*)`", said)
    assert command
    subprocess.run(["sh", "-c", command[1]], check=True, capture_output=True)
    assert connects(server)


def test_changed_host_key_is_named_as_such(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public(tmp_path / 'other').decode()}")
    said = refusal(server, tmp_path)
    assert "CHANGED" in said
    assert all(word in said for word in ("ssh-keygen", "-R", f"[127.0.0.1]:{server.port}", str(server.known_hosts)))
    blobs = [base64.b64decode(key.split()[1]) for key in (server.host_key, public(tmp_path / "other").decode())]
    assert all(ssh.fingerprint(blob) in said for blob in blobs)


def test_host_known_at_another_port_is_not_known(server: Sshd, tmp_path: Path) -> None:
    server.known_hosts.write_text(f"127.0.0.1,[127.0.0.1]:{server.port + 1} {server.host_key}\n")
    assert "not known" in refusal(server, tmp_path)


def test_revoked_host_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    known = server.known_hosts.read_text()
    server.known_hosts.write_text(known + f"@revoked * {server.host_key}\n")
    assert "revoked" in refusal(server, tmp_path)


@pytest.mark.parametrize(
    "pattern", ["[127.0.0.1]:{port}", "other,[127.0.0.?]:{port}", "[127.*]:*", "[127.0.0.1]:{port},!example.org"]
)
def test_host_is_found_by_all_that_ssh_finds_it_by(server: Sshd, pattern: str) -> None:
    server.known_hosts.write_text(f"# \n\nodd\n{pattern.format(port=server.port)} {server.host_key} comment\n")
    assert connects(server)


def test_hashed_known_hosts_are_understood(server: Sshd, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known_hosts], check=True, capture_output=True)
    assert server.known_hosts.read_text().startswith("|1|")
    assert connects(server)


def test_negated_pattern_rules_the_line_out(server: Sshd, tmp_path: Path) -> None:
    server.known_hosts.write_text(f"*,![127.0.0.1]:{server.port} {server.host_key}\n")
    assert "not known" in refusal(server, tmp_path)


@given(st.text() | st.from_regex(r"(@\w+ )?(\|1\|[\w+/=|]*|[\w*?!,.\[\]:]+) [\w-]+ [\w+/=]*", fullmatch=True))
def test_odd_lines_of_known_hosts_never_break_the_reading(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    file = tmp_path_factory.getbasetemp() / "known_hosts"
    file.write_text(f"{line}\nhost ssh-ed25519 AAAA\n", "utf-8", "surrogatepass")
    assert ssh.find_known_keys([file], "host")[-1].blob == b"\0\0\0"


@pytest.mark.parametrize("kind", some(["rsa", "ed25519", "ecdsa"], 3))
def test_server_is_asked_for_the_key_that_is_known(tmp_path: Path, kind: str) -> None:
    others = [other for other in ("ed25519", "ecdsa", "rsa") if other != kind]
    with Sshd(tmp_path / "sshd", key_types=(*others, kind)) as server:
        assert connects(server)


def test_ipv6_addresses_are_reached(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", host="::1") as server:
        target = target_on(server, tmp_path / "t")
        target.make()
        put(target, tmp_path, "volumes/a", b"abc")
        assert target.list(VOLUMES) == (("volumes/a", 3),)
        target.close()


def test_known_hosts_that_cannot_be_read_is_named(server: Sshd, tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(server, tmp_path, SftpConfig(str(server.identity), str(tmp_path)))


def test_closed_port_may_open_again(server: Sshd, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(TargetUnreachable, match="refused") as caught:
        target_on(server, tmp_path).list(VOLUMES)
    assert caught.value.is_transient


# ---------------------------------------------------------------- as whom


def test_wrong_key_is_refused_and_named(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "wrong")
    said = refusal(server, tmp_path, SftpConfig(str(tmp_path / "wrong"), str(server.known_hosts)))
    blob = base64.b64decode(public(tmp_path / "wrong").split()[1])
    assert "none of the keys" in said
    assert ssh.fingerprint(blob) in said


def test_identity_that_others_can_read_is_refused(server: Sshd, tmp_path: Path) -> None:
    server.identity.chmod(0o640)
    assert re.search(rf"{server.identity}.*0640", refusal(server, tmp_path))


def test_identity_of_somebody_else_is_refused(server: Sshd, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    os.chown(server.identity, 65534, 65534)
    assert re.search(rf"{server.identity}.*uid 65534", refusal(server, tmp_path))


@pytest.mark.parametrize("form", ["RFC4716", "PEM"])
def test_encrypted_identity_is_refused_without_a_question(server: Sshd, tmp_path: Path, form: str) -> None:
    make_key(tmp_path / "locked", "rsa", passphrase="secret")
    command = ["ssh-keygen", "-q", "-p", "-m", form, "-P", "secret", "-N", "secret", "-f", tmp_path / "locked"]
    subprocess.run(command, check=True, capture_output=True)
    assert "encrypted" in refusal(server, tmp_path, SftpConfig(str(tmp_path / "locked"), str(server.known_hosts)))


@pytest.mark.parametrize("content", [b"", b"no key\n", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", b"\xff\0" * 99])
def test_file_that_is_no_key_is_named(server: Sshd, tmp_path: Path, content: bytes) -> None:
    server.identity.write_bytes(content)
    assert re.search(rf"{server.identity} .*no private key", refusal(server, tmp_path))


def test_missing_identity_is_named(server: Sshd, tmp_path: Path) -> None:
    assert "No such file" in refusal(server, tmp_path, SftpConfig("/nowhere/key", str(server.known_hosts)))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_and_known_hosts_of_the_home_are_used_by_default(server: Sshd, tmp_path: Path, kind: str) -> None:
    (tmp_path / "home/.ssh").mkdir(parents=True)
    server.known_hosts.rename(tmp_path / "home/.ssh/known_hosts")
    assert "no private key" in refusal(server, tmp_path, SftpConfig(), tmp_path / "home")
    key = tmp_path / f"home/.ssh/id_{kind}"
    make_key(key, kind)
    (server.folder / "authorized_keys").write_bytes(public(key))
    assert connects(server, SftpConfig(), tmp_path / "home")


def test_agent_is_asked_where_there_is_one(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home/.ssh").mkdir(parents=True)
    server.known_hosts.rename(tmp_path / "home/.ssh/known_hosts")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        command = ["sh", "-c", 'until ssh-add -q "$0"; do sleep 0.1; done', server.identity]
        subprocess.run(command, check=True, timeout=20, capture_output=True)
        assert connects(server, SftpConfig(), tmp_path / "home")
    finally:
        agent.kill()
        agent.wait()


# ---------------------------------------------------------------- folders


def test_folder_is_made_private_by_make_alone(server: Sshd, tmp_path: Path) -> None:
    target = target_on(server, tmp_path / "deep/er/t")
    (tmp_path / "source").write_bytes(b"abc")
    for attempt in (
        lambda: target.list(VOLUMES),
        lambda: target.upload("volumes/a", tmp_path / "source", ABC),
        lambda: target.read("ledger/a", 10),
        lambda: target.download("volumes/a", tmp_path / "copy"),
    ):
        with pytest.raises(TargetUnreachable, match="there is no tklb target"):
            attempt()
    target.make()
    target.make()
    put(target, tmp_path, "volumes/a", b"abc")
    for part in ("", "volumes", "ledger"):
        assert (tmp_path / "deep/er/t" / part).stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "deep/er/t/volumes/a").stat().st_mode & 0o7777 == 0o600
    target.close()


def test_folder_without_a_leading_slash_is_below_where_the_server_begins(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with Sshd(tmp_path / "sshd", subsystem=f"internal-sftp -d {tmp_path}/home") as server:
        target = target_on(server, "backups/web")
        target.make()
        put(target, tmp_path, "key.asc", b"abc")
        assert (tmp_path / "home/backups/web/key.asc").read_bytes() == b"abc"
        target.close()


def test_file_in_place_of_a_folder_is_no_target(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("")
    with pytest.raises(TargetUnreachable, match="no folder"):
        target_on(server, tmp_path / "t").make()


def test_link_and_folder_among_the_objects_are_none(target: SftpBackend, tmp_path: Path) -> None:
    (tmp_path / "t/volumes/link").symlink_to("/etc/passwd")
    (tmp_path / "t/volumes/folder").mkdir()
    os.mkfifo(tmp_path / "t/volumes/pipe")
    assert target.list(VOLUMES) == ()
    for name in ("link", "folder", "pipe"):
        assert target.stat(f"volumes/{name}") is None
        with pytest.raises(TargetDamaged, match="missing"):
            target.download(f"volumes/{name}", tmp_path / "copy")


def test_link_in_the_way_of_a_put_is_not_followed(target: SftpBackend, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "t/volumes/a").symlink_to(tmp_path / "precious")
    (tmp_path / "t/volumes/a.part").symlink_to(tmp_path / "precious")
    put(target, tmp_path, "volumes/a", b"abc")
    assert (tmp_path / "precious").read_text() == "mine"
    assert target.read("volumes/a", 3) == b"abc"


def test_names_that_are_none_of_ours_are_not_listed(target: SftpBackend, tmp_path: Path) -> None:
    for name in (b"a", b".hidden", b"with blank", b"\xff", "ä".encode(), b"a.part", b"new\nline"):
        (tmp_path / "t/volumes" / os.fsdecode(name)).write_bytes(b"x")
    assert target.list(VOLUMES) == (("volumes/a", 1),)


def test_many_objects_are_listed_all(target: SftpBackend, tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"t/ledger/{number:05}").write_bytes(b"x" * number)
    assert target.list(LEDGER) == tuple((f"ledger/{number:05}", number) for number in range(1500))


def test_time_is_that_of_the_server(target: SftpBackend, tmp_path: Path) -> None:
    put(target, tmp_path, "volumes/a", b"abc")
    os.utime(tmp_path / "t/volumes/a", (1_000_000_000, 1_000_000_000))
    known = target.stat("volumes/a")
    assert known
    assert known.modified
    assert known.modified.isoformat() == "2001-09-09T01:46:40+00:00"


# ---------------------------------------------------------------- what a server may be


def test_server_without_extensions_will_do(tmp_path: Path) -> None:
    denied = "internal-sftp -P posix-rename,fsync,statvfs,limits"
    with Sshd(tmp_path / "sshd", subsystem=denied) as server:
        target = target_on(server, tmp_path / "t")
        target.make()
        content = os.urandom(3_000_000)
        for _ in range(2):
            put(target, tmp_path, "volumes/a", content)
        assert target.read("volumes/a", 3_000_000) == content
        target.close()


def test_object_is_synced_and_renamed_at_once_where_the_server_can(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Sshd(tmp_path / "sshd", subsystem=f"/usr/lib/openssh/sftp-server -e -l DEBUG3 2>>{log}") as server:
        target = target_on(server, tmp_path / "t")
        target.make()
        put(target, tmp_path, "volumes/a", b"abc")
        told = log.read_text()
        target.close()
    order = [told.index(word) for word in ('open "', "fsync (handle", "posix-rename old")]
    assert order == sorted(order)


def test_server_that_lets_nobody_write_is_named(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", subsystem="internal-sftp -R") as server:
        target = target_on(server, tmp_path / "t")
        for part in ("volumes", "ledger"):
            (tmp_path / "t" / part).mkdir(parents=True)
        with pytest.raises(AccessRefused, match="denied"):
            put(target, tmp_path, "volumes/a", b"abc")
        target.close()


def test_server_that_speaks_no_sftp_is_named(tmp_path: Path) -> None:
    with (
        Sshd(tmp_path / "sshd", subsystem="/bin/echo This account is not available.") as server,
        pytest.raises(TargetUnreachable, match="no SFTP server"),
    ):
        target_on(server, tmp_path / "t").list(VOLUMES)


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_no_answer_breaks_more_than_the_session(packets: list[bytes], framed: bool) -> None:
    """Bytes of any kind, as packets or not, after a good beginning."""

    class Channel:
        said = b"\0\0\0\5\2\0\0\0\3" + b"".join(len(p).to_bytes(4, "big") * framed + p for p in packets)

        def sendall(self, data: bytes) -> None:
            pass

        def recv(self, size: int) -> bytes:
            said, self.said = self.said[:7], self.said[7:]
            return said

    wire = Wire(Channel())
    for ask in (lambda: wire.lstat(b"x"), lambda: list(wire.names(b"x")), lambda: wire.read(b"h", 10**6, bytes)):
        with pytest.raises((Garbled, RequestRefused, ConnectionError, EOFError)):
            ask()


# ---------------------------------------------------------------- what breaks


def test_server_that_dies_in_the_middle_leaves_no_object_and_tidy_cleans(
    server: Sshd, target: SftpBackend, tmp_path: Path
) -> None:
    with pytest.raises(TargetUnreachable) as caught:
        put(target, tmp_path, "volumes/a", bytes(30_000_000), lambda _: server.end_sessions())
    assert caught.value.is_transient
    assert target.list(VOLUMES) == ()
    (tmp_path / "t/volumes/odd name.part").write_text("not ours")
    assert "a.part" in os.listdir(tmp_path / "t/volumes")
    target.tidy()
    assert os.listdir(tmp_path / "t/volumes") == ["odd name.part"]
    put(target, tmp_path, "volumes/a", b"abc")


def test_server_that_dies_while_reading_leaves_no_file(server: Sshd, target: SftpBackend, tmp_path: Path) -> None:
    put(target, tmp_path, "volumes/a", bytes(30_000_000))
    with pytest.raises(TargetUnreachable) as caught:
        target.download("volumes/a", tmp_path / "copy", lambda _: server.end_sessions())
    assert caught.value.is_transient
    assert not (tmp_path / "copy").exists()


def test_server_that_was_started_anew_is_found_again(server: Sshd, target: SftpBackend, tmp_path: Path) -> None:
    put(target, tmp_path, "volumes/a", b"abc")
    server.stop()
    server.start()
    with contextlib.suppress(TargetUnreachable):
        target.list(VOLUMES)  # where the end of the connection was not noticed yet
    assert target.list(VOLUMES) == (("volumes/a", 3),)


def test_interrupted_put_leaves_nothing(target: SftpBackend, tmp_path: Path) -> None:
    def moved(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(target, tmp_path, "volumes/a", bytes(10_000_000), moved)
    assert os.listdir(tmp_path / "t/volumes") == []


def test_closing_ends_what_is_stuck(server: Sshd, target: SftpBackend, tmp_path: Path) -> None:
    def stuck(_: int) -> None:
        for pid in server.sessions():
            os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.5, target.close).start()

    with pytest.raises(TargetUnreachable) as caught:
        put(target, tmp_path, "volumes/a", bytes(30_000_000), stuck)
    assert caught.value.is_transient
    server.end_sessions()
    assert target.list(VOLUMES) == ()


def test_first_block_is_told_of_before_many_are_under_way(server: Sshd, tmp_path: Path) -> None:
    """Megabytes may be; a watchdog that hears nothing until they are through would end every slow line."""
    connection = ssh.connect(parse_url(server.address("x")), config_of(server).sftp)
    wire = Wire(connection)
    handle = wire.open(os.fsencode(tmp_path / "file"), WRITE_NEW)
    content = io.BytesIO(bytes(9_000_000))
    read_before: list[int] = []
    assert wire.write(handle, content.read, lambda _: read_before.append(content.tell())) == 9_000_000
    connection.close()
    assert read_before[0] < 600_000
    assert max(at - number * 261_120 for number, at in enumerate(read_before)) > 3_000_000


def test_other_content_than_was_meant_is_not_kept(target: SftpBackend, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"changed")
    with pytest.raises(TargetUnreachable, match="changed while"):
        target.upload("volumes/a", tmp_path / "source", ABC)
    assert os.listdir(tmp_path / "t/volumes") == []


def test_puts_side_by_side_do_not_wait_for_each_other(target: SftpBackend, tmp_path: Path) -> None:
    together = threading.Barrier(4, timeout=30)
    contents = {f"volumes/{number}": os.urandom(2_000_000) for number in range(4)}
    seen = set[int]()

    def moved(_: int) -> None:
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            together.wait()  # nobody gets on until all four are half-way

    threads = [
        threading.Thread(target=put, args=(target, tmp_path, name, content, moved))
        for name, content in contents.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert {name: target.read(name, 2_000_000) for name in contents} == contents


def test_full_disk_is_named_and_nothing_half_written_stays(server: Sshd, small_disk: Path, tmp_path: Path) -> None:
    target = target_on(server, small_disk / "t")
    target.make()
    for size in (3_300_000, 9_000_000):
        with pytest.raises(TargetFull):
            put(target, tmp_path, "volumes/a", os.urandom(size))
        assert os.listdir(small_disk / "t/volumes") == []
    put(target, tmp_path, "volumes/a", os.urandom(1_000_000))
    target.close()


def test_full_disk_of_this_machine_is_not_blamed_on_the_target(
    target: SftpBackend, small_disk: Path, tmp_path: Path
) -> None:
    put(target, tmp_path, "volumes/a", os.urandom(9_000_000))
    with pytest.raises(NoSpace):
        target.download("volumes/a", small_disk / "copy")
    assert os.listdir(small_disk) == []


def test_disk_mounted_read_only_is_refused(server: Sshd, small_disk: Path, tmp_path: Path) -> None:
    target = target_on(server, small_disk / "t")
    target.make()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(AccessRefused, match="read-only"):
        put(target, tmp_path, "volumes/a", b"abc")
    target.close()


def test_read_only_disk_is_named_where_the_target_is_made_or_cleaned_up(
    server: Sshd, small_disk: Path, tmp_path: Path
) -> None:
    target = target_on(server, small_disk / "t")
    target.make()
    put(target, tmp_path, "volumes/a", b"abc")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(AccessRefused, match="read-only"):
        target.delete("volumes/a")
    with pytest.raises(AccessRefused, match="read-only"):
        target_on(server, small_disk / "deep/t").make()
    target.close()


def test_name_that_is_too_long_is_permanent(target: SftpBackend, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with pytest.raises(TargetUnfit) as caught:  # it is written beside, under a longer name
        target.upload(f"volumes/{'n' * 254}", tmp_path / "source", hashlib.sha256(b"abc").hexdigest())
    assert not caught.value.is_transient


def test_new_object_on_a_server_without_links_is_made_and_never_replaces_one(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", subsystem="/usr/lib/openssh/sftp-server -P hardlink,posix-rename") as server:
        target = target_on(server, tmp_path / "t")
        target.make()
        (tmp_path / "source").write_bytes(b"abc")
        digest = hashlib.sha256(b"abc").hexdigest()
        assert target.upload_new("ledger/1", tmp_path / "source", digest) is Creation.UNSURE
        assert target.upload_new("ledger/1", tmp_path / "source", digest) is Creation.EXISTS
        assert os.listdir(tmp_path / "t/ledger") == ["1"]
        target.close()


# ---------------------------------------------------------------- by way of another host, and with passwords alone


def test_server_behind_another_host_is_reached_through_it(server: Sshd, tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump:
        (jump.folder / "authorized_keys").write_bytes(public(server.identity))
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts.read_text() + jump.known_hosts.read_text())
        user = pwd.getpwuid(os.geteuid()).pw_name
        config = SftpConfig(str(server.identity), str(known), f"{user}@127.0.0.1:{jump.port}")
        target = SftpBackend(parse_url(server.address(tmp_path / "t")), config)
        target.make()
        put(target, tmp_path, "volumes/a", b"abc")
        assert target.read("volumes/a", 10) == b"abc"
        assert len(jump.sessions()) >= 1
        target.close()
        known.write_text(server.known_hosts.read_text())
        with pytest.raises(AccessRefused, match=f"{jump.port}.*its host key is not known"):
            SftpBackend(parse_url(server.address(tmp_path / "t")), config).list(VOLUMES)
    with pytest.raises(TargetUnreachable):
        SftpBackend(parse_url(server.address(tmp_path / "t")), config).list(VOLUMES)
    with pytest.raises(ConfigInvalid, match=r"sftp\.jump"):
        SftpBackend(parse_url(server.address(tmp_path / "t")), replace(config, jump="a b:c/")).list(VOLUMES)


class PasswordsAlone(paramiko.ServerInterface):
    def get_allowed_auths(self, username: str) -> str:
        return "password,keyboard-interactive"


def test_server_that_takes_passwords_alone_is_named_with_the_ways_out(server: Sshd, tmp_path: Path) -> None:
    key = paramiko.RSAKey.generate(2048)

    def serve() -> None:
        connection, _ = listener.accept()
        transport = paramiko.Transport(connection)
        transport.add_server_key(key)
        transport.start_server(server=PasswordsAlone())
        transport.join(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port} ssh-rsa {key.get_base64()}\n")
        threading.Thread(target=serve, daemon=True).start()
        target = SftpBackend(
            parse_url(f"sftp://me@127.0.0.1:{port}/t"), SftpConfig(str(server.identity), str(tmp_path / "known"))
        )
        with pytest.raises(AccessRefused, match=r"takes no key of me, only password, key.*lftp\+sftp"):
            target.list(VOLUMES)
