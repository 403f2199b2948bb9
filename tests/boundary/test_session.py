"""The session of a run against a target: the configuration of this machine with the options of the command in it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.contract.distant import on_sshd, shared_sshd
from tklb.base.fs import file_sha256
from tklb.config.paths import Paths
from tklb.config.render import write_config
from tklb.config.schema import DEFAULT_TARGET, Config, SftpConfig
from tklb.errors import NotInitialised, UsageWrong
from tklb.session import TargetAccess, TargetSession, make_identity, open_target_session
from tklb.storage.local import LocalBackend
from tklb.verify.open_target import open_target
from tklb.verify.result import VerifyRequest

RATE = 64 << 10
NAME = "volumes/duplicity-full.20260102T030405Z.vol1.difftar.gpg"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "config", tmp_path / "state", tmp_path / "cache", tmp_path / "log")


def opened(paths: Paths, access: TargetAccess) -> TargetSession:
    return open_target_session(paths, access, lambda: datetime.now(UTC))


def test_options_are_in_the_configuration(paths: Paths) -> None:
    write_config(paths.toml, Config(target="sftp://host/a", limit_rate="1M", patience=7))
    assert opened(paths, TargetAccess()).config == Config(target="sftp://host/a", limit_rate="1M", patience=7)
    session = opened(paths, TargetAccess(address="s3://b/c", limit_rate="2M"))
    assert session.config == Config(target="s3://b/c", limit_rate="2M", patience=7)


def test_fresh_machine_has_the_defaults_once_it_has_an_address_or_a_key(paths: Paths) -> None:
    assert opened(paths, TargetAccess(address="file:///mnt")).config == Config(target="file:///mnt")
    assert opened(paths, TargetAccess(key=Path("/mnt/key"))).config == Config(target=DEFAULT_TARGET)
    with pytest.raises(NotInitialised):
        opened(paths, TargetAccess())


def test_rate_that_is_none_is_refused_before_anything_else(paths: Paths) -> None:
    with pytest.raises(UsageWrong, match="--limit-rate"):
        opened(paths, TargetAccess(address="file:///mnt", limit_rate="2X"))


def test_identity_is_made_once(paths: Paths) -> None:
    secret, host = make_identity(paths), paths.host.read_text()
    assert (make_identity(paths).reveal(), paths.host.read_text()) == (secret.reveal(), host)
    assert {path.stat().st_mode & 0o777 for path in (paths.secret, paths.host)} == {0o600}


def test_spare_target_of_a_verification_keeps_to_the_limit_of_the_option(paths: Paths, tmp_path: Path) -> None:
    """Four seconds' worth of bytes, of which one second's is saved up."""
    server = shared_sshd()
    source = tmp_path / "volume"
    source.write_bytes(os.urandom(4 * RATE))
    (tmp_path / "spare").mkdir()
    with source.open("rb", buffering=0) as stream:
        on_sshd(tmp_path / "spare").upload(NAME, source, file_sha256(stream))
    own = LocalBackend.make(tmp_path / "own").address
    write_config(paths.toml, Config(target=own, sftp=SftpConfig(str(server.identity), str(server.known_hosts))))
    make_identity(paths)
    request = VerifyRequest(spare=server.address(tmp_path / "spare/target"))
    spans = [taken(paths, request, rate, tmp_path / "copy") for rate in ("", "64K")]
    assert spans[0] < 2.5 < spans[1]


def taken(paths: Paths, request: VerifyRequest, rate: str, copy: Path) -> float:
    """Seconds that a volume takes from the spare target."""
    (spare,) = open_target(opened(paths, TargetAccess(limit_rate=rate)), request, copy.parent).copies.targets
    spare.stat(NAME)  # logs in
    began = time.monotonic()
    spare.download(NAME, copy)
    copy.unlink()
    return time.monotonic() - began
