"""The proxy that breaks S3 does what its faults say. The server is rclone, the client boto3 without any retries."""

import contextlib
import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.lab.fault_proxy import Fault, FaultProxy

BODY = bytes(range(256)) * 100
RCLONE = Path(sys.executable).parent / "rclone"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3")


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[FaultProxy]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--auth-key", "key,secret", "--addr", f"127.0.0.1:{port}"]
    server = subprocess.Popen([RCLONE, "serve", "s3", *options, folder], stderr=subprocess.DEVNULL)
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.05)
    with FaultProxy(port) as before:
        yield before
    server.kill()
    server.wait()


@pytest.fixture
def client(proxy: FaultProxy, folder: Path) -> Iterator[Any]:
    proxy.break_at(None)
    config = Config(
        retries={"total_max_attempts": 1}, read_timeout=0.5, connect_timeout=1, s3={"addressing_style": "path"}
    )
    made = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{proxy.port}", aws_access_key_id="key", aws_secret_access_key="secret",
        region_name="us-east-1", config=config,
    )  # fmt: skip
    with contextlib.suppress(ClientError):
        made.create_bucket(Bucket="bucket")
    for key in ("old", "new"):
        made.put_object(Bucket="bucket", Key=key, Body=BODY)
    yield made
    made.close()


def get(client: Any) -> bytes:
    return client.get_object(Bucket="bucket", Key="old")["Body"].read()


def put(client: Any) -> Any:
    return client.put_object(Bucket="bucket", Key="put", Body=b"content", ChecksumAlgorithm="SHA256")


def keys(client: Any) -> list[str]:
    return [found["Key"] for found in client.list_objects_v2(Bucket="bucket", Prefix="").get("Contents", [])]


def test_without_a_fault_it_is_not_noticed(proxy: FaultProxy, client: Any, folder: Path) -> None:
    proxy.break_at(None)
    put(client)
    assert (folder / "bucket/put").read_bytes() == b"content"
    assert get(client) == BODY
    assert sorted(keys(client)) == ["new", "old", "put"]
    client.delete_object(Bucket="bucket", Key="put")
    assert [(seen.number, seen.method, seen.fault) for seen in proxy.seen] == [
        (0, "PUT", None), (1, "GET", None), (2, "GET", None), (3, "DELETE", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.INTERNAL_ERROR, "InternalError"), (Fault.SLOW_DOWN, "SlowDown"), (Fault.TOO_MANY, "TooManyRequests"),
        (Fault.EXPIRED_TOKEN, "ExpiredToken"),
    ],
)  # fmt: skip
def test_errors_are_answers_of_the_request_meant(proxy: FaultProxy, client: Any, fault: Fault, code: str) -> None:
    proxy.break_at(fault, 1)
    get(client)
    with pytest.raises(ClientError, match=code) as caught:
        get(client)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == int(fault.value)
    get(client)


@pytest.mark.parametrize(
    ("fault", "is_done"),
    [(Fault.RESET_BEFORE, False), (Fault.RESET_AFTER, True), (Fault.STALL, False), (Fault.REFUSED, False)],
)
def test_lost_connections(proxy: FaultProxy, client: Any, folder: Path, fault: Fault, is_done: bool) -> None:
    proxy.break_at(fault, 0)
    with pytest.raises(BotoCoreError):
        put(client)
    assert (folder / "bucket/put").exists() == is_done
    proxy.break_at(None)
    client.delete_object(Bucket="bucket", Key="put")


def test_refusal_lasts_for_a_moment_or_till_it_is_mended(proxy: FaultProxy, client: Any) -> None:
    for lasting in (False, True):
        proxy.break_at(Fault.REFUSED, 0, lasting=lasting)
        with pytest.raises(BotoCoreError):
            get(client)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port))
        time.sleep(0.3)
        if lasting:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port))
            proxy.break_at(None)
        assert get(client) == BODY


def test_lost_write_is_acknowledged_with_the_right_digest(proxy: FaultProxy, client: Any, folder: Path) -> None:
    proxy.break_at(Fault.LOST, 0)
    answer = put(client)
    assert answer["ETag"] == f'"{hashlib.md5(b"content").hexdigest()}"'
    assert not (folder / "bucket/put").exists()
    proxy.break_at(Fault.LOST, 0)
    client.delete_object(Bucket="bucket", Key="old")
    assert (folder / "bucket/old").exists()


def test_bodies_that_are_read_are_flipped_cut_or_stall(proxy: FaultProxy, client: Any) -> None:
    proxy.break_at(Fault.FLIPPED, 0)
    assert [one ^ other for one, other in zip(get_plainly(proxy), BODY, strict=True) if one != other] == [0x20]
    proxy.break_at(Fault.SHORT, 0)
    assert get_plainly(proxy) == BODY[: len(BODY) // 2]
    for fault in (Fault.TRUNCATED, Fault.STALL):
        proxy.break_at(fault, 0)
        with pytest.raises(BotoCoreError):
            get(client)


def get_plainly(proxy: FaultProxy) -> bytes:
    """What comes for an object, by a client that checks nothing."""
    config = Config(retries={"total_max_attempts": 1}, response_checksum_validation="when_required")
    made = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{proxy.port}", aws_access_key_id="key", aws_secret_access_key="secret",
        region_name="us-east-1", config=config,
    )  # fmt: skip
    try:
        return made.get_object(Bucket="bucket", Key="old")["Body"].read()
    finally:
        made.close()


def test_stale_listing_is_the_one_before_or_lacks_the_newest(proxy: FaultProxy, client: Any) -> None:
    proxy.break_at(Fault.STALE, 0)
    assert keys(client) == ["old"]
    proxy.break_at(Fault.STALE, 2)
    before = keys(client)
    put(client)
    assert keys(client) == before
    assert keys(client) == ["new", "old", "put"]
    client.delete_object(Bucket="bucket", Key="put")


def test_error_inside_says_200_and_does_nothing(proxy: FaultProxy, client: Any, folder: Path) -> None:
    proxy.break_at(Fault.ERROR_INSIDE, 0)
    with contextlib.suppress(ClientError):
        put(client)
    assert not (folder / "bucket/put").exists()
    proxy.break_at(Fault.ERROR_INSIDE, 0)
    assert b"InternalError" in get_plainly(proxy)


@pytest.mark.parametrize("act", [get, put, keys])
def test_outage_lasts(proxy: FaultProxy, client: Any, act: Callable[[Any], object]) -> None:
    proxy.break_at(Fault.SLOW_DOWN, 1, lasting=True)
    act(client)
    for _ in range(3):
        with pytest.raises(ClientError, match="SlowDown"):
            act(client)
    proxy.break_at(None)
    act(client)
    client.delete_object(Bucket="bucket", Key="put")
