"""What is special to addresses that duplicity's own backends reach: the process they run in, secrets, what breaks.

Takes `rclone serve webdav`, rclone and rsync; touches folders of the test and the processes it starts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.distant import written
from tests.lab.soak import some
from tests.lab.webdav import RCLONE, WebDav
from tklb.config.schema import Config
from tklb.errors import (
    AccessRefused,
    ConfigInvalid,
    TargetDamaged,
    TargetFull,
    TargetUnfit,
    TargetUnreachable,
    TklbError,
    UsageWrong,
)
from tklb.model.secret import Secret
from tklb.storage.backend import LEDGER, VOLUMES, Moved, ignore_moved
from tklb.storage.duplicity.backend import DuplicityBackend
from tklb.storage.duplicity.client import HelperProcess
from tklb.storage.duplicity.environment import parse_environment, read_environment
from tklb.storage.duplicity.helper import kind_of_failure, rsync_sizes
from tklb.storage.kinds import open_backend
from tklb.storage.url import parse_url


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebDav]:
    with WebDav(tmp_path / "webdav", tmp_path / "log") as server:
        yield server


@pytest.fixture
def target(server: WebDav, tmp_path: Path) -> Iterator[DuplicityBackend]:
    target = target_at(server.address("t"), tmp_path, f"BACKEND_PASSWORD={server.password}\n")
    target.make()
    yield target
    target.close()


def target_at(address: str, folder: Path, environment: str) -> DuplicityBackend:
    return DuplicityBackend(parse_url(address), str(written(folder / "environment", environment)))


def put(target: DuplicityBackend, folder: Path, name: str, content: bytes, moved: Moved = ignore_moved) -> None:
    source = folder / f"source-of-{name.replace('/', '-')}"
    source.write_bytes(content)
    target.upload(name, source, hashlib.sha256(content).hexdigest(), moved)


def helpers() -> list[int]:
    """Those that this process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"tklb.storage.duplicity.helper" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def comes_true(look: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not look() and time.monotonic() < end:
        time.sleep(0.05)
    return look()


# ---------------------------------------------------------------- backends


@contextlib.contextmanager
def rclone_at(folder: Path) -> Iterator[DuplicityBackend]:
    remote = f"RCLONE_CONFIG_LAB_TYPE=alias\nRCLONE_CONFIG_LAB_REMOTE={folder}/kept\nRCLONE_CONFIG=/dev/null\n"
    yield target_at("rclone://lab:t", folder, f"PATH={RCLONE.parent}:/usr/bin\n{remote}")


@contextlib.contextmanager
def serving(command: list[str], port: int, **options: Any) -> Iterator[None]:
    """A server that listens on a port of 127.0.0.1."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, **quiet, **options)
    try:
        assert comes_true(lambda: listens(port))
        yield
    finally:
        server.kill()
        server.wait()


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def lftp_at(folder: Path) -> Iterator[DuplicityBackend]:
    (folder / "kept").mkdir()
    port = free_port()
    command = [str(RCLONE), "serve", "ftp", f"--addr=127.0.0.1:{port}", "--config=", str(folder / "kept")]
    with serving(command, port, env={**os.environ, "RCLONE_USER": "somebody", "RCLONE_PASS": "open sesame"}):
        yield target_at(f"ftp://somebody@127.0.0.1:{port}/t", folder, "BACKEND_PASSWORD=open sesame\n")


@contextlib.contextmanager
def rsync_at(folder: Path) -> Iterator[DuplicityBackend]:
    port = free_port()
    (folder / "kept").mkdir()
    config = folder / "rsyncd.conf"
    account = f"uid = {os.geteuid()}\ngid = {os.getegid()}\n" if os.geteuid() == 0 else ""
    config.write_text(f"use chroot = no\n{account}[kept]\npath = {folder}/kept\nread only = no\n")
    command = ["rsync", "--daemon", "--no-detach", f"--config={config}", "--address=127.0.0.1", f"--port={port}"]
    with serving(command, port):
        yield target_at(f"rsync://127.0.0.1:{port}::/kept/t", folder, "")


@pytest.mark.parametrize("place", [lftp_at, rclone_at, rsync_at])
def test_back_ends_that_run_programs_do_all_that_a_target_must(
    tmp_path: Path, place: Callable[[Path], contextlib.AbstractContextManager[DuplicityBackend]]
) -> None:
    content = os.urandom(3_000_000)
    told: list[int] = []
    with place(tmp_path) as target:
        target.make()
        assert target.list(VOLUMES) == ()
        put(target, tmp_path, "volumes/a", content, told.append)
        put(target, tmp_path, "volumes/a", content[1:])
        put(target, tmp_path, "ledger/b", b"abc")
        put(target, tmp_path, "key.asc", b"key")
        assert target.list(VOLUMES) == (("volumes/a", 2_999_999),)
        assert target.list(LEDGER) == (("ledger/b", 3),)
        known = target.stat("volumes/a")
        assert known
        assert known.size == 2_999_999
        assert target.stat("volumes/b") is None
        target.download("volumes/a", tmp_path / "copy", told.append)
        assert (tmp_path / "copy").read_bytes() == content[1:]
        assert sum(told) == 3_000_000 + 2_999_999
        assert target.read("key.asc", 3) == b"key"
        with pytest.raises(TargetDamaged, match="volumes/b is missing"):
            target.read("volumes/b", 10)
        for _ in range(2):
            target.delete("volumes/a")
        assert target.list(VOLUMES) == ()
        assert target.list(LEDGER) == (("ledger/b", 3),)
        target.close()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense://host/folder", "`nonsense://` is no kind of address"),
        ("swift://container", "`swift://` cannot be used here: .*swiftclient"),
        ("mega://somebody@mega.invalid/folder", "`mega://` cannot be used here: .*megatools"),
        ("ftp://somebody@127.0.0.1/folder", "`ftp://` cannot be used here: .*install LFTP"),
    ],
)
def test_back_end_that_lacks_something_says_what(tmp_path: Path, address: str, said: str) -> None:
    target = target_at(address, tmp_path, "PATH=/nowhere\nBACKEND_PASSWORD=sesame\nSWIFT_USERNAME=x\n")
    with pytest.raises(UsageWrong, match=f"(?s){said}"):
        target.list(VOLUMES)
    assert not helpers()


@given(st.dictionaries(st.from_regex(r"[a-z._-]+( [a-z]+)?", fullmatch=True), st.integers(0, 10**12), max_size=4))
def test_sizes_in_the_listing_of_rsync_are_read(sizes: dict[str, int]) -> None:
    lines = [f"-rw-------  {size:>14,} 2026/11/21 08:00:00 {name}" for name, size in sizes.items()]
    listing = "\n".join(["drwx------ 4,096 2026/11/21 08:00:00 .", "lrwxrwxrwx 9 2026/11/21 08:00:00 a -> b", *lines])
    assert rsync_sizes(listing) == sizes


# ---------------------------------------------------------------- who is spoken to


def test_place_that_nobody_made_is_no_target(server: WebDav, tmp_path: Path) -> None:
    target = target_at(server.address("deep/t"), tmp_path, f"BACKEND_PASSWORD={server.password}\n")
    with pytest.raises(TargetUnreachable, match="there is no tklb target"):
        target.list(VOLUMES)
    with pytest.raises(TargetUnreachable, match="there is no tklb target"):
        put(target, tmp_path, "volumes/a", b"abc")
    target.make()
    target.make()
    assert target.list(VOLUMES) == target.list(LEDGER) == ()
    target.close()


@pytest.mark.parametrize(
    ("environment", "said"),
    [("", "BACKEND_PASSWORD"), ("BACKEND_PASSWORD=wrong sesame\n", "401|403|Unauthorized")],
    ids=["none", "wrong"],
)
def test_password_that_is_missing_or_wrong_is_named_and_not_asked_for(
    server: WebDav, tmp_path: Path, environment: str, said: str
) -> None:
    target = target_at(server.address("t"), tmp_path, environment)
    with pytest.raises(AccessRefused, match=said) as caught:
        target.list(VOLUMES)
    assert "sesame" not in str(caught.value)


def test_secrets_are_in_no_argument_of_any_process(server: WebDav, target: DuplicityBackend) -> None:
    target.list(VOLUMES)
    words = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in helpers()]
    assert words
    assert not [word for word in words if server.password.encode() in word]


def test_environment_that_others_can_read_is_refused(server: WebDav, tmp_path: Path) -> None:
    target = target_at(server.address("t"), tmp_path, "BACKEND_PASSWORD=x\n")
    (tmp_path / "environment").chmod(0o640)
    with pytest.raises(AccessRefused, match=r"environment.*0640"):
        target.list(VOLUMES)


def test_environment_that_is_a_link_or_missing_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "real", "A=b\n")
    (tmp_path / "link").symlink_to("real")
    for name in ("link", "nothing"):
        with pytest.raises(ConfigInvalid, match=name):
            read_environment(tmp_path / name)


def test_values_stand_as_they_are() -> None:
    found = parse_environment("f", b"# a comment\n\nA=$(rm -rf /) `x` ; \"y\" 'z' = \\\nB=\r\n  \nC= blank \n")
    assert {name: value.reveal() for name, value in found.items()} == {
        "A": "$(rm -rf /) `x` ; \"y\" 'z' = \\", "B": "", "C": " blank "
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", [b"A", b"=b", b"A B=c", b"export A=b", b"1A=b", b"A=\xff", b"A=b\0c", b"A='b'", b'A="b"', b"A=1\nA=2"]
)
def test_lines_that_can_be_taken_in_two_ways_are_refused(line: bytes) -> None:
    with pytest.raises(ConfigInvalid, match=r"line [12]"):
        parse_environment("f", line)


@given(st.binary() | st.from_regex(rb"(\w+=[^\n]*\n)*", fullmatch=True))
def test_environment_is_taken_whole_or_refused(content: bytes) -> None:
    try:
        found = parse_environment("f", content)
    except ConfigInvalid:
        return
    lines = [line for line in content.split(b"\n") if line.strip() and not line.lstrip().startswith(b"#")]
    assert [f"{name}={value.reveal()}".encode() for name, value in found.items()] == [
        line.removesuffix(b"\r") for line in lines
    ]


# ---------------------------------------------------------------- what breaks


def test_what_moves_is_told_as_it_moves(target: DuplicityBackend, tmp_path: Path) -> None:
    told: list[int] = []
    put(target, tmp_path, "volumes/a", bytes(5_000_000), told.append)
    assert sum(told) == 5_000_000
    assert max(told) < 1_000_000
    told.clear()
    target.download("volumes/a", tmp_path / "copy", told.append)
    assert sum(told) == 5_000_000


def test_rate_limit_holds_the_back_end_back(target: DuplicityBackend, tmp_path: Path) -> None:
    begin = time.monotonic()
    put(target, tmp_path, "volumes/a", bytes(2_000_000), lambda count: time.sleep(count / 1_000_000))
    assert time.monotonic() - begin >= 2


def test_server_that_dies_may_come_back(server: WebDav, target: DuplicityBackend, tmp_path: Path) -> None:
    put(target, tmp_path, "volumes/b", b"abc")
    with pytest.raises(TargetUnreachable) as caught:
        put(target, tmp_path, "volumes/a", bytes(30_000_000), lambda _: server.stop())
    assert caught.value.is_transient
    server.start()
    assert ("volumes/b", 3) in target.list(VOLUMES)
    put(target, tmp_path, "volumes/a", b"abc")
    assert target.read("volumes/a", 3) == b"abc"


def test_interrupted_put_ends_its_process(target: DuplicityBackend, tmp_path: Path) -> None:
    def moved(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(target, tmp_path, "volumes/a", bytes(10_000_000), moved)
    assert not helpers()
    put(target, tmp_path, "volumes/a", b"abc")


def test_server_that_hangs_is_given_up_when_the_target_is_closed(
    server: WebDav, target: DuplicityBackend, tmp_path: Path
) -> None:
    def stuck(_: int) -> None:
        os.kill(server.pid, signal.SIGSTOP)
        threading.Timer(0.5, target.close).start()

    with pytest.raises(TargetUnreachable) as caught:
        put(target, tmp_path, "volumes/a", bytes(30_000_000), stuck)
    assert caught.value.is_transient
    assert not helpers()


def test_server_that_hangs_is_given_up_in_the_end(server: WebDav, target: DuplicityBackend, tmp_path: Path) -> None:
    helper = HelperProcess(server.address("t"), {"BACKEND_PASSWORD": Secret(server.password)}, patience=1.5)
    os.kill(server.pid, signal.SIGSTOP)
    with contextlib.closing(helper), pytest.raises(TimeoutError):
        helper.ask({"do": "list", "folder": "volumes"})
    os.kill(server.pid, signal.SIGCONT)


def test_watched_target_lives_as_long_as_anything_moves(
    server: WebDav, target: DuplicityBackend, tmp_path: Path
) -> None:
    config = Config(environment_file=str(tmp_path / "environment"), patience=2)
    source = tmp_path / "source"
    source.write_bytes(bytes(5_000_000))
    watched = open_backend(server.address("t"), config)
    watched.upload("volumes/a", source, "", lambda count: time.sleep(count / 1_000_000))
    assert watched.list(VOLUMES) == (("volumes/a", 5_000_000),)
    watched.close()


def test_puts_side_by_side_do_not_wait_for_each_other(target: DuplicityBackend, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=60)
    contents = {f"volumes/{number}": os.urandom(1_000_000) for number in range(3)}
    seen = set[int]()

    def moved(_: int) -> None:
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            together.wait()  # nobody gets on until all three are at it

    threads = [
        threading.Thread(target=put, args=(target, tmp_path, name, content, moved))
        for name, content in contents.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert {name: target.read(name, 1_000_000) for name in contents} == contents


def test_processes_end_with_the_target_and_leave_nothing_behind(target: DuplicityBackend) -> None:
    target.list(VOLUMES)
    folders = [Path(_variable(pid, "TMPDIR")) for pid in helpers()]
    assert folders
    assert all(folder.stat().st_mode & 0o7777 == 0o700 for folder in folders)
    target.close()
    assert not helpers()
    assert not [folder for folder in folders if folder.exists()]


def test_processes_end_with_whoever_started_them(server: WebDav, target: DuplicityBackend, tmp_path: Path) -> None:
    script = f"""
import sys, time
from tests.contract.test_duplicity import DuplicityBackend, _variable, helpers, parse_url
target = DuplicityBackend(parse_url({server.address("t")!r}), {str(tmp_path / "environment")!r})
target.list("volumes/")
print(*helpers(), *(_variable(pid, "TMPDIR") for pid in helpers()), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid, folder = process.stdout.readline().split()
        assert Path(folder).is_dir()
        process.kill()
    assert comes_true(lambda: not Path(f"/proc/{pid}").exists())
    assert not Path(folder).exists()


@contextlib.contextmanager
def odd_target(folder: Path, answers: Callable[[bytes], bytes]) -> Iterator[DuplicityBackend]:
    """A server that answers a request, whose first line it looks at, with what is given, and hangs up."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = odd.accept()
                connection.sendall(answers(connection.recv(1 << 16)))
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as odd:
        threading.Thread(target=serve, daemon=True).start()
        target = target_at(f"webdav://x@127.0.0.1:{odd.getsockname()[1]}/t", folder, "BACKEND_PASSWORD=x\n")
        yield target
        target.close()


def test_object_that_is_cut_off_on_its_way_is_no_object(tmp_path: Path) -> None:
    listing = (
        b'<D:multistatus xmlns:D="DAV:"><D:response><D:href>/t/volumes/a</D:href><D:propstat><D:prop>'
        b"<D:getcontentlength>10</D:getcontentlength></D:prop></D:propstat></D:response></D:multistatus>"
    )

    def answer(request: bytes) -> bytes:
        if request.startswith(b"GET"):
            return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n12345"
        return b"HTTP/1.1 207 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(listing), listing)

    with odd_target(tmp_path, answer) as target, pytest.raises(TargetUnreachable, match="5 of 10") as caught:
        target.download("volumes/a", tmp_path / "copy")
    assert caught.value.is_transient
    assert not (tmp_path / "copy").exists()


def test_every_failure_is_one_of_ours(tmp_path: Path) -> None:
    """A server that answers nonsense."""
    with odd_target(tmp_path, lambda _: b"HTTP/1.1 207 OK\r\nContent-Length: 9\r\n\r\n<!ENTITY>") as nonsense:
        for attempt in (
            lambda: nonsense.list(VOLUMES),
            lambda: nonsense.stat("volumes/a"),
            lambda: nonsense.read("volumes/a", 10),
            lambda: nonsense.download("volumes/a", tmp_path / "copy"),
            lambda: put(nonsense, tmp_path, "volumes/a", b"abc"),
        ):
            with pytest.raises(TklbError):
                attempt()


@pytest.mark.parametrize(
    ("line", "failure", "is_transient"),
    some(
        [
            ("400 Bad Request", TargetUnfit, False),
            ("405 Method Not Allowed", TargetUnfit, False),
            ("413 Too Large", TargetUnfit, False),
            ("501 Not Implemented", TargetUnfit, False),
            ("403 Forbidden", AccessRefused, False),
            ("423 Locked", AccessRefused, False),
            ("507 Insufficient Storage", TargetFull, False),
            ("500 400 of 501 nodes are down", TargetUnreachable, True),
            ("503 Quota of requests used up, not allowed for 405 s", TargetUnreachable, True),
            ("429 Too Many Requests", TargetUnreachable, True),
        ],
        3,
    ),
)
def test_failure_by_http_is_classed_by_its_status_and_not_by_its_text(
    line: str, failure: type[TklbError], is_transient: bool, tmp_path: Path
) -> None:
    def answer(request: bytes) -> bytes:
        if request.startswith(b"PROPFIND"):  # there is nothing yet
            return b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        return f"HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()

    with odd_target(tmp_path, answer) as target, pytest.raises(TklbError) as caught:
        put(target, tmp_path, "volumes/a", b"abc")
    assert (type(caught.value), caught.value.is_transient) == (failure, is_transient)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left"), "full"),
        (OSError(errno.EROFS, "Read-only file system"), "denied"),
        (ValueError("lftp: volumes/400.405.501 ended"), "other"),
        (ValueError("rsync: write failed: No space left on device (28)"), "full"),
        (ValueError("rsync: mkstemp failed: Read-only file system (30)"), "denied"),
        (ValueError("550 File name too long"), "unfit"),
        (ValueError("Host not found"), "other"),
    ],
)
def test_failure_of_a_program_is_classed_by_words_and_never_by_a_number_in_them(failure: Exception, kind: str) -> None:
    assert kind_of_failure(failure) == kind


def _variable(pid: int, name: str) -> str:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(one.decode().partition("=")[2] for one in variables if one.startswith(f"{name}=".encode()))
