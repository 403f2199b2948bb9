"""Volumes to an S3 service and back by tklb's own driver: a command, so that its cost can be counted.

    volumes.py put|get ADDRESS CREDENTIALS FOLDER ABREAST

Takes the working tree around it. `put` stores every file of the folder as a volume, as a backup does; `get` brings all
volumes into that empty folder, as a restore does: compared with what was sent. Its list is beside the folder.
"""

import hashlib
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from tklb.config.schema import S3Config  # noqa: E402 - the path comes first
from tklb.model.snapshot import Volume  # noqa: E402
from tklb.storage.download import download_volumes  # noqa: E402
from tklb.storage.s3.backend import S3Backend  # noqa: E402
from tklb.storage.upload import upload_volumes  # noqa: E402
from tklb.storage.url import parse_url  # noqa: E402
from tklb.storage.wrappers.retry import Retry  # noqa: E402


def main(deed: str, address: str, credentials: str, folder: str, abreast: str) -> int:
    target = Retry(S3Backend(parse_url(address), S3Config(credentials_file=credentials)), time.sleep, random.random)
    if deed == "put":
        upload_volumes(target, Path(folder), listed(Path(folder)), int(abreast))
    else:
        download_volumes(target, listed(Path(folder)), Path(folder), int(abreast))
    target.close()
    return 0


def note(folder: Path, beside: Path) -> None:
    """Write what `listed` reads, for the files of a folder: a backup knows its volumes' digests from its engine."""
    lines = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            lines.append(f"{path.name} {path.stat().st_size} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n")
    list_of(beside).write_text("".join(lines))


def list_of(folder: Path) -> Path:
    return folder.with_suffix(".list")


def listed(folder: Path) -> list[Volume]:
    lines = (line.split() for line in list_of(folder).read_text().splitlines())
    return [Volume(name, int(size), sha256) for name, size, sha256 in lines]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
