"""Opens targets: the driver an address means, with what all distant ones need around it.

Takes an address and the configuration; gives a Target. A folder of this machine stands alone; a distant target is
paced (`target.limit_rate`), watched (`target.patience`) and asked again when that may help.
"""

import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tklb.config.rates import parse_rates
from tklb.config.schema import Config
from tklb.model.target import TargetUrl
from tklb.storage.backend import Backend
from tklb.storage.local import LocalBackend
from tklb.storage.url import parse_url


class Distant(Backend, Protocol):
    """A target that is not on this machine. Opening one asks nobody yet."""

    def make(self) -> None:
        """Make the place where the objects go, if there is none. Raises what the target raises."""


def open_backend(address: str, config: Config, regions: Path | None = None) -> Backend:
    """The target at an address. Raises UsageWrong, TargetUnreachable where nobody made one there, AccessRefused.

    `regions` is the file that keeps which region was found to be nearest.
    """
    parsed = parse_url(address)
    if parsed.scheme == "file":
        return LocalBackend.open(Path(parsed.path))
    return guarded(wrap_distant(parsed, config, regions), config)


def make_backend(address: str, config: Config, regions: Path | None = None) -> Backend:
    """The target at an address, made if there is none yet. Raises what open_target() does."""
    parsed = parse_url(address)
    if parsed.scheme == "file":
        return LocalBackend.make(Path(parsed.path))
    target = wrap_distant(parsed, config, regions)
    target.make()
    return guarded(target, config)


def wrap_distant(address: TargetUrl, config: Config, regions: Path | None = None) -> Distant:
    """The driver alone, imported only when it is wanted."""
    match address.scheme:
        case "s3":
            from tklb.storage.s3.backend import S3Backend
            from tklb.storage.s3.client import measured
            from tklb.storage.s3.regions import choose_region

            return S3Backend(
                *choose_region(address, config.s3, regions, lambda there, said: measured(there, said, time.monotonic))
            )
        case "sftp":
            from tklb.storage.sftp.backend import SftpBackend

            return SftpBackend(address, config.sftp)
        case _:
            from tklb.storage.duplicity.backend import DuplicityBackend

            return DuplicityBackend(address, config.environment_file)


def guarded(target: Backend, config: Config) -> Backend:
    """Around a driver: paced, watched, tried again."""
    from tklb.storage.wrappers.rate_limit import RateLimited
    from tklb.storage.wrappers.retry import Retrying
    from tklb.storage.wrappers.stall_timeout import StallTimeout

    target = StallTimeout(target, config.patience)
    if config.limit_rate:
        rates = parse_rates(config.limit_rate)
        target = RateLimited(
            target, lambda: rates.at(datetime.now(UTC).astimezone().time()), time.monotonic, time.sleep
        )
    return Retrying(target, time.sleep, random.random)
