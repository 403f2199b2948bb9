"""From one machine over a server to another that knows nothing but the address, the key and who may be spoken to.

Takes machines of the lab, with sshd or WebDAV in their network; touches clones and a folder of the test's own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.contract.distant import written
from tests.journey.taken_backup import done, refused
from tests.lab.appliance import clone
from tests.lab.box import Box
from tests.lab.soak import some
from tests.lab.sshd import Sshd
from tests.lab.webdav import WebDav

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Server = Sshd | WebDav
_ENVIRONMENT = "etc/tklb/environment"


def over_ssh(box: Box, folder: Path) -> Sshd:
    return Sshd(folder / "sshd", box=box, port=2222)


def over_webdav(box: Box, folder: Path) -> WebDav:
    server = WebDav(folder / "kept", folder / "log", box=box)
    server.port = 8080
    return server


def address_of(server: Server, folder: Path) -> str:
    return server.address(folder / "kept") if isinstance(server, Sshd) else server.address("t")


def introduce(server: Server, box: Box) -> None:
    """Give a machine what it needs to be let in."""
    if isinstance(server, WebDav):
        (box.root / "etc/tklb").mkdir(exist_ok=True)
        written(box.root / _ENVIRONMENT, f"BACKEND_PASSWORD={server.password}\n")
        return
    (box.root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(server.identity, box.root / "root/.ssh/id_ed25519")
    shutil.copy(server.known_hosts, box.root / "root/.ssh/known_hosts")


@pytest.mark.parametrize("serve", some([over_ssh, over_webdav], 2))
def test_machine_comes_back_from_a_server(
    tmp_path: Path, serve: Callable[[Box, Path], AbstractContextManager[Server]]
) -> None:
    key = tmp_path / "key/a.key"
    key.parent.mkdir()
    binds = {key.parent: "/mnt/key"}
    with clone("core", hostname="a", tklb=True, binds=binds) as a, serve(a, tmp_path) as server:
        address = address_of(server, tmp_path)
        refused(a, 34, "AccessRefused", "init", "--target", address)
        introduce(server, a)
        done(a, "init", "--target", address)
        (a.root / "srv/page").write_text("first")
        done(a, "backup")
        (a.root / "srv/page").write_text("second")
        done(a, "backup")
        done(a, "verify")
        done(a, "key", "escrow", "/mnt/key/a.key", "--no-passphrase")
    with clone("core", hostname="b", tklb=True, binds=binds) as b, serve(b, tmp_path) as server:
        introduce(server, b)
        done(b, "restore", "--target", address, "--key", "/mnt/key/a.key", "--yes")
        assert (b.root / "srv/page").read_text() == "second"
        done(b, "backup")
        done(b, "verify")
