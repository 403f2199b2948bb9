"""The example hooks against the real servers they are for.

Touches the lab: a clone of the core with redis-server, installed once into a layer of its own.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import Box
from tests.lab.roots import layer

pytestmark = pytest.mark.lab

HOOKS = Path(__file__).parents[2] / "hooks"
COPY = "/root/copy"
WRITER = r"""
import os, socket, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
server = socket.create_connection(("127.0.0.1", 6379))
reader = server.makefile("rb")
number = 0
while True:
    number += 1
    server.sendall(b"MULTI\r\nINCR one\r\nDECR two\r\nEXEC\r\n")
    for _ in range(6): reader.readline()
    if number == 100: print("ready", flush=True)
"""


def install_redis(box: Box) -> None:
    box.run(["apt-get", "-q", "update"])
    box.run(["apt-get", "install", "-qy", "--no-install-recommends", "redis-server"], timeout=600)
    box.run(["apt-get", "clean"])


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    lowers = stack("core", "a")
    with clone("core", layers=[layer("redis 1", lowers, install_redis)], binds={HOOKS: "/mnt/hooks"}) as box:
        box.start("redis-server")
        cli(box, "CONFIG", "SET", "repl-diskless-sync-delay", "0")  # for speed: it waits for more takers
        yield box


@pytest.fixture
def server(box: Appliance) -> Appliance:
    """The machine with an empty server, and no copy yet."""
    cli(box, "FLUSHALL")
    box.run(["rm", "-rf", COPY])
    return box


def cli(box: Box, *words: str, **options: Any) -> str:
    return str(box.run(["redis-cli", *words], **options).stdout)


def hook(box: Box, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[Any]:
    return box.run(["/mnt/hooks/redis", *words], check=check, **options)


def listing(box: Box) -> str:
    return str(box.run(["find", COPY, "-printf", "%P %m %U\\n"]).stdout)


def wait_for(box: Box, *port: str) -> None:
    """Until a server that was started has loaded its data."""
    for _ in range(100):
        if cli(box, *port, "PING", check=False) == "PONG\n":
            return
        box.run(["sleep", "0.1"])
    raise AssertionError("the server does not answer")


def loaded(box: Box, *questions: list[str]) -> list[str]:
    """What a second server, which has nothing but the copy, answers."""
    port = ["-p", "6380"]
    box.run(["redis-server", "--port", "6380", "--dir", COPY, "--save", "", "--daemonize", "yes"])
    try:
        wait_for(box, *port)
        return [cli(box, *port, *question) for question in questions]
    finally:
        box.run(["redis-cli", *port, "SHUTDOWN", "NOSAVE"])


def test_redis_copy_has_all_kinds_of_values_of_every_database(server: Appliance) -> None:
    cli(server, "-x", "SET", "binary", input=bytes(range(256)))
    cli(server, "RPUSH", "list", "a", "b\nc", "ü")
    cli(server, "HSET", "hash", "field", "value")
    cli(server, "-n", "3", "ZADD", "scores", "1.5", "member")
    cli(server, "SET", "mortal", "x", "EX", "90000")
    questions = [
        ["--json", "GET", "binary"],
        ["--json", "LRANGE", "list", "0", "-1"],
        ["--json", "HGETALL", "hash"],
        ["-n", "3", "--json", "ZRANGE", "scores", "0", "-1", "WITHSCORES"],
        ["EXPIRETIME", "mortal"],
        ["DBSIZE"],
    ]
    expected = [cli(server, *question) for question in questions]
    hook(server, COPY)
    assert listing(server) == " 700 0\ndump.rdb 600 0\n"
    assert loaded(server, *questions) == expected
    assert json.loads(expected[1]) == ["a", "b\nc", "ü"]


def test_redis_copy_under_a_busy_writer_is_of_one_moment(server: Appliance) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with server.popen(["python3", "-c", WRITER], **pipes) as writer:
        writer.stdout.readline()
        hook(server, COPY)
        writer.communicate()
    one, two = loaded(server, ["GET", "one"], ["GET", "two"])
    assert int(one) == -int(two) > 0


def test_redis_copy_takes_the_place_of_an_older_one(server: Appliance) -> None:
    for value in ("old", "new"):
        cli(server, "SET", "key", value)
        hook(server, COPY)
    assert loaded(server, ["GET", "key"]) == ["new\n"]


def test_redis_copy_that_fails_leaves_the_older_one_alone(server: Appliance) -> None:
    cli(server, "SET", "key", "value")
    hook(server, COPY)
    failed = hook(server, COPY, "-p", "6399", check=False)
    assert failed.returncode == 1
    assert "refused" in failed.stderr
    assert "hint:" in failed.stderr
    assert listing(server) == " 700 0\ndump.rdb 600 0\n"
    assert loaded(server, ["GET", "key"]) == ["value\n"]


def test_redis_copy_that_ends_early_is_no_copy(server: Appliance) -> None:
    cli(server, "SET", "key", "value")
    hook(server, COPY)
    cut = "#!/bin/sh\nfor file; do :; done\nhead --bytes=-9 /root/copy/dump.rdb >$file\n"
    (server.root / "usr/local/bin/redis-cli").write_text(cut)
    (server.root / "usr/local/bin/redis-cli").chmod(0o755)
    try:
        failed = hook(server, COPY, check=False)
    finally:
        (server.root / "usr/local/bin/redis-cli").unlink()
    assert failed.returncode == 1
    assert "not whole" in failed.stderr
    assert loaded(server, ["GET", "key"]) == ["value\n"]


def test_redis_password_comes_from_the_environment_only(server: Appliance) -> None:
    cli(server, "CONFIG", "SET", "requirepass", "secret")
    try:
        assert "NOAUTH" in hook(server, COPY, check=False).stderr
        assert "REDISCLI_AUTH" in hook(server, COPY, "-a", "secret", check=False).stderr
        hook(server, COPY, env={"REDISCLI_AUTH": "secret"})
    finally:
        cli(server, "CONFIG", "SET", "requirepass", "", env={"REDISCLI_AUTH": "secret"})
    assert "dump.rdb" in listing(server)


def test_redis_copy_is_not_put_behind_a_link_or_into_a_folder_of_others(server: Appliance) -> None:
    server.run(["mkdir", "-p", "/srv/theirs", "/srv/behind"])
    server.run(["chown", "33:33", "/srv/theirs"])
    server.run(["ln", "-sfn", "/srv/behind", "/srv/link"])
    for place in ("/srv/theirs", "/srv/link"):
        assert "somebody else's" in hook(server, place, check=False).stderr
    assert hook(server, "relative", check=False).returncode == 2
    assert server.run(["find", "/srv/theirs", "/srv/behind"]).stdout == "/srv/theirs\n/srv/behind\n"


def test_redis_copy_comes_back_as_the_readme_says(server: Appliance) -> None:
    cli(server, "SET", "key", "value")
    hook(server, COPY)
    cli(server, "FLUSHALL")
    server.stop("redis-server")
    server.run(["rm", "-rf", "/var/lib/redis/appendonlydir"])
    owner = ["-o", "redis", "-g", "redis", "-m", "660"]
    server.run(["install", *owner, f"{COPY}/dump.rdb", "/var/lib/redis/dump.rdb"])
    server.start("redis-server")
    wait_for(server)
    assert cli(server, "GET", "key") == "value\n"
