"""A server of SeaweedFS: an S3 service that checks signatures, policies, session tokens, locks and versions.

Takes a folder for what it keeps; gives a `SeaweedFs` inside a `with`. One process on free ports of 127.0.0.1 serves
all; it ends with the block, or with the test process at the latest.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import hashlib
import hmac
import json
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from tests.lab import s3

WEED = s3.TOOLS / "weed"
MANUAL = Path(__file__).parents[2] / "man/tklb.1"
_ROLE = "arn:aws:iam::role/backup"
_SIGNING_KEY = base64.b64encode(b"the lab signs its sessions itself").decode()
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
Policy = dict[str, Any]


@dataclass(frozen=True)
class SeaweedFs:
    """`service` is for its administrator, who may do everything."""

    service: s3.Service

    def client(self, kind: str = "s3") -> Any:
        """A client of the administrator's."""
        return botocore.session.Session().create_client(
            kind, region_name="us-east-1", endpoint_url=self.service.endpoint,
            aws_access_key_id=self.service.access_key, aws_secret_access_key=self.service.secret_key,
        )  # fmt: skip

    def make_bucket(self, *, is_locked: bool = False, is_versioned: bool = False) -> str:
        """A new bucket; a locked one keeps each object for a day."""
        bucket, client = f"bucket-{secrets.token_hex(6)}", self.client()
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=is_locked)
        if is_locked:
            rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
            lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
            client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
        if is_versioned:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return bucket

    def add_user(self, policy: Policy) -> s3.Service:
        """The same service for a new user, who may do what `policy` says."""
        client, name = self.client("iam"), f"user-{secrets.token_hex(6)}"
        client.create_user(UserName=name)
        key = client.create_access_key(UserName=name)["AccessKey"]
        client.put_user_policy(UserName=name, PolicyName="backup", PolicyDocument=json.dumps(policy))
        return replace(self.service, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])

    def open_session(self, policy: Policy, seconds: int = 900) -> tuple[s3.Service, str]:
        """Session credentials and their token, which expires after so many seconds: also after less than STS allows."""
        request = {"RoleArn": _ROLE, "RoleSessionName": "tklb", "Policy": json.dumps(policy), "DurationSeconds": 900}
        made = self.client("sts").assume_role(**request)["Credentials"]
        service = replace(self.service, access_key=made["AccessKeyId"], secret_key=made["SecretAccessKey"])
        return service, _date(made["SessionToken"], int(time.time()) + seconds)


def read_policy(name: str, bucket: str, prefix: str) -> Policy:
    """A policy as the manual has it word for word, for another bucket and prefix. `name` is the word of the target."""
    blocks = re.findall(rf'\.\\" policy: {name}\n\.EX\n(.*?)\.EE', MANUAL.read_text(), re.DOTALL)
    assert len(blocks) == 1, f"the manual has {len(blocks)} policies for {name}"
    text = blocks[0].replace("arn:aws:s3:::backups", f"arn:aws:s3:::{bucket}").replace("a/*", f"{prefix}/*")
    policy: Policy = json.loads(text)
    return policy


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[SeaweedFs]:
    access_key, secret_key = s3.new_keys()
    ports: Mapping[str, int] = {name: s3.free_port() for name in (*_PORTS, "s3.port", "s3.port.grpc")}
    (folder / "data").mkdir()
    _write(folder / "s3.json", _describe_administrator(access_key, secret_key))
    _write(folder / "iam.json", _describe_role())
    files = {"dir": folder / "data", "s3.config": folder / "s3.json", "s3.iam.config": folder / "iam.json"}
    sizes = {"volume.max": 100, "master.volumeSizeLimitMB": 64, "volume.preStopSeconds": 0}
    others = {"ip": "127.0.0.1", "s3.iam.readOnly": "false", "s3.port.iceberg": 0, "s3.port.lance": 0}
    options = {**files, **sizes, **others, **ports}
    command = [str(WEED), "-logtostderr", "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)}
    with s3.running(command, environment) as (process, said):
        service = s3.Service(f"http://127.0.0.1:{ports['s3.port']}", access_key, secret_key, folder, process.pid)
        made = SeaweedFs(service)
        s3.waited(process, said, lambda: _answers(made))
        yield made


@functools.cache
def shared_seaweedfs() -> SeaweedFs:
    """One server for all tests of this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = Path(tempfile.mkdtemp(prefix="tklb-weed-"))  # a TemporaryDirectory would end before the server does
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return stack.enter_context(seaweedfs(folder))


def _answers(server: SeaweedFs) -> bool:
    try:
        server.client().list_buckets()
    except (ClientError, BotoCoreError):
        return False
    return True


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def _describe_administrator(access_key: str, secret_key: str) -> object:
    keys = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"identities": [{"name": "admin", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}]}


def _describe_role() -> object:
    trust = {"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole"]}
    everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
    role = {
        "roleName": "backup", "roleArn": _ROLE, "attachedPolicies": ["all"],
        "trustPolicy": {"Version": "2012-10-17", "Statement": [trust]},
    }  # fmt: skip
    return {
        "sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "lab", "signingKey": _SIGNING_KEY},
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "roles": [role],
        "policies": [{"name": "all", "document": {"Version": "2012-10-17", "Statement": [everything]}}],
    }


def _date(token: str, end: int) -> str:
    """The same token with another end, in seconds since 1970. STS gives no session of less than 15 minutes."""
    head, claims, _ = token.split(".")
    known = json.loads(base64.urlsafe_b64decode(claims + "=="))
    body = f"{head}.{_encode(json.dumps({**known, 'exp': end}).encode())}"
    key = base64.b64decode(_SIGNING_KEY)
    return f"{body}.{_encode(hmac.new(key, body.encode(), hashlib.sha256).digest())}"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
