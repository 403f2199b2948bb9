"""S3 targets for tests: a fresh bucket of a real server, its keys in a file."""

import secrets
from dataclasses import replace
from pathlib import Path

from tests.lab import s3 as lab
from tests.lab.seaweedfs import shared_seaweedfs
from tklb.config.schema import S3Config
from tklb.storage.s3.backend import S3Backend
from tklb.storage.url import parse_url

PLAIN = S3Config()


def on_rclone(folder: Path) -> S3Backend:
    return made_on(lab.shared("rclone"), folder)


def on_moto(folder: Path) -> S3Backend:
    return made_on(lab.shared("moto"), folder)


def on_localbucket(folder: Path) -> S3Backend:
    return made_on(lab.shared("localbucket"), folder)


def on_s3rver(folder: Path) -> S3Backend:
    return made_on(lab.shared("s3rver"), folder)


def on_seaweedfs(folder: Path) -> S3Backend:
    return made_on(shared_seaweedfs().service, folder)


def made_on(service: lab.Service, folder: Path, config: S3Config = PLAIN, prefix: str = "some/prefix") -> S3Backend:
    """A target below a prefix in a bucket of its own."""
    target = aimed_at(service, folder, config, prefix)
    target.make()
    return target


def aimed_at(
    service: lab.Service, folder: Path, config: S3Config = PLAIN, prefix: str = "some/prefix", bucket: str = ""
) -> S3Backend:
    """A target that nobody made."""
    if not config.credentials_file:
        config = replace(config, credentials_file=str(service.credentials(folder / "credentials")))
    address = parse_url(service.address(bucket or f"bucket-{secrets.token_hex(6)}", prefix))
    return S3Backend(address, config)
