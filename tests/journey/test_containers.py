"""Servers in containers of Podman: dumped and loaded by the client programs in the container, which the configuration
names. One that does not run is named. Takes the lab's machines; the container has a root of its own and real processes.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.journey.test_databases import told
from tests.lab.appliance import Appliance, clone, packages_layer
from tests.lab.soak import some

pytestmark = pytest.mark.lab

# what a machine of the lab lacks for containers, and a root for one: the same programs, with data of its own
ROOT = """
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /mnt/jail /etc/containers && cd /mnt/jail && mkdir -p usr etc tmp dev run proc sys var/lib root data
for name in bin sbin lib lib64; do ln -s usr/$name $name; done
mount --rbind /usr usr; ln -s /run var/run
cp -a /etc/. etc/; chmod 1777 tmp
printf '[storage]\\ndriver = "vfs"\\nrunroot = "/mnt/run"\\ngraphroot = "/mnt/graph"\\n' >/etc/containers/storage.conf
"""
LIMITS = ("--cgroups=disabled", "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")
NAME = "shop"


class Kind(NamedTuple):
    """An engine: its word, machine, how data are made and served in a container, its client there, and its tables."""

    word: str
    machine: str
    make: str
    serve: str
    client: tuple[str, ...]
    content: str
    read: str
    wanted: str
    login: str
    socket: str


KINDS = {
    "mariadb": Kind(
        "mysql@shop",
        "lamp",
        "install -d -o mysql /run/mysqld; mariadb-install-db --no-defaults --user=mysql --datadir=/data --skip-test-db",
        "exec mariadbd --no-defaults --user=mysql --datadir=/data --socket=/run/mysqld/mysqld.sock --skip-networking",
        ("mariadb", "--no-defaults", "--skip-column-names", "--batch"),
        "CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY, b BLOB); "
        "INSERT INTO app.t VALUES (0, x'00ff'), (2, 'x');"
        "ALTER USER root@localhost IDENTIFIED BY 'secret word'",
        "SELECT id, HEX(b) FROM app.t",
        "0\t00FF\n2\t78\n",
        f"podman:{NAME}:/etc/tklb/shop.cnf",
        "run/mysqld/mysqld.sock",
    ),
    "postgresql": Kind(
        "pgsql@shop",
        "postgresql",
        "install -d -o postgres /run/postgresql; chown postgres /data;"
        "runuser -u postgres -- /usr/lib/postgresql/15/bin/initdb -A trust -D /data/pg",
        "exec runuser -u postgres -- /usr/lib/postgresql/15/bin/postgres -D /data/pg -k /run/postgresql -h ''",
        ("psql", "-XAtqU", "postgres"),
        "CREATE DATABASE app;\n\\c app\nCREATE TABLE t (id int PRIMARY KEY, b bytea);"
        "INSERT INTO t VALUES (0, '\\x00ff'), (2, 'x');",
        "\\c app\nSELECT * FROM t",
        "0|\\x00ff\n2|\\x78\n",
        f"podman:{NAME}",
        "run/postgresql/.s.PGSQL.5432",
    ),
}


def podman(a: Appliance, *words: str, text: str = "") -> str:
    return a.run(["podman", *words], input=text, timeout=120).stdout


def serve(a: Appliance, kind: Kind) -> None:
    """Run a new container with an empty server."""
    a.run(["sh", "-c", "podman rm --force --time 5 shop; rm -rf /mnt/jail/data/* /mnt/jail/run/*"], check=False)
    script = f"{kind.make} >/tmp/log 2>&1; {kind.serve} >>/tmp/log 2>&1"
    podman(a, "run", "--detach", "--name", NAME, *LIMITS, "--rootfs", "/mnt/jail", "/bin/sh", "-c", script)
    until = time.monotonic() + 90
    while a.run(["podman", "exec", NAME, "test", "-S", f"/{kind.socket}"], check=False).returncode:
        assert time.monotonic() < until, (a.root / "mnt/jail/tmp/log").read_text()
        time.sleep(0.3)
    time.sleep(1)


@pytest.fixture(scope="module", params=some(list(reversed(KINDS)), 2))
def shop(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Appliance]]:
    kind = KINDS[request.param]
    with ExitStack() as stack:
        layers = [packages_layer(kind.machine, "a", "podman", "crun")]
        a = stack.enter_context(clone(kind.machine, tklb=True, layers=layers))
        a.run(["sh", "-ec", ROOT])
        a.start(request.param)
        serve(a, kind)
        podman(a, "exec", "-i", NAME, *kind.client, text=kind.content)
        a.run(["tklb", "init", "--target", "file:///mnt/target"])
        with (a.root / "etc/tklb/overrides").open("a") as overrides:
            overrides.write("-/mnt\n")
        yield kind, a
        a.run(["podman", "rm", "--force", "--time", "5", NAME], check=False)


def read(kind: Kind, a: Appliance) -> str:
    return podman(a, "exec", "-i", NAME, *kind.client, text=kind.read)


def items(report: dict[str, Any]) -> dict[str, str]:
    return {item["item"]: item["reason"] for item in report["skipped"]}


def test_server_in_a_container_is_dumped_and_loaded_by_the_clients_in_it(shop: tuple[Kind, Appliance]) -> None:
    kind, a = shop
    unnamed = items(told(a, "backup", statuses=(3,)))
    assert "it runs in a container" in " ".join(unnamed.values())
    (a.root / "etc/tklb/shop.cnf").write_text("[client]\nuser = root\npassword = 'secret word'\n")
    with (a.root / "etc/tklb/tklb.toml").open("a") as config:
        config.write(f'\n[databases]\nservers = ["{kind.word}={kind.login}"]\n')
    taken = told(a, "backup", statuses=(0,))
    assert taken["databases"][kind.word] == ["app"]
    assert not [
        name
        for name in ("var/log/tklb", "var/lib/tklb")
        if "secret word" in a.run(["grep", "-r", "secret word", f"/{name}"], check=False).stdout
    ]
    serve(a, kind)  # a new one
    if kind.word.startswith("mysql"):
        podman(a, "exec", "-i", NAME, *kind.client, text="ALTER USER root@localhost IDENTIFIED BY 'secret word'")
    report = told(a, "restore", "--yes", "--limit", f"{kind.word}:app", statuses=(0,))
    assert items(report) == {}
    client = kind if kind.word.startswith("pgsql") else kind._replace(client=(*kind.client, "-psecret word"))
    assert read(client, a) == kind.wanted


def test_docker_is_asked_by_the_same_commands(shop: tuple[Kind, Appliance]) -> None:
    """Debian's podman-docker gives podman this name: the commands and their answers are Docker's."""
    kind, a = shop
    a.run(["sh", "-ec", "ln -sf podman /usr/bin/docker && sed -i s/=podman:/=docker:/ /etc/tklb/tklb.toml"])
    assert "=docker:" in (a.root / "etc/tklb/tklb.toml").read_text()
    assert told(a, "backup", "--full", statuses=(0,))["databases"][kind.word] == ["app"]
    a.run(["sed", "-i", "s/=docker:/=podman:/", "/etc/tklb/tklb.toml"])


def test_container_that_is_down_is_named_at_backup_and_restore(shop: tuple[Kind, Appliance]) -> None:
    kind, a = shop
    podman(a, "stop", "--time", "20", NAME)
    failed = items(told(a, "restore", "--yes", "--limit", f"{kind.word}:app", statuses=(50,)))
    assert "container" in failed[f"{kind.word}:app"]
    assert "does not run here" in items(told(a, "backup", statuses=(50,)))[f"{kind.word}:*"]
