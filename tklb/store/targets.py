"""Opens targets: the driver an address means, with what all distant ones need around it.

Takes an address and the configuration; gives a Target. A folder of this machine stands alone; a distant target is
paced (`target.limit_rate`), watched (`target.patience`) and asked again when that may help.
"""

import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tklb.config import Config
from tklb.model import Address
from tklb.rates import parse_rates
from tklb.store.address import parse_address
from tklb.store.local import LocalTarget
from tklb.store.target import Target


class Distant(Target, Protocol):
    """A target that is not on this machine. Opening one asks nobody yet."""

    def make(self) -> None:
        """Make the place where the objects go, if there is none. Raises what the target raises."""


def open_target(address: str, config: Config, regions: Path | None = None) -> Target:
    """The target at an address. Raises UsageWrong, TargetUnreachable where nobody made one there, AccessRefused.

    `regions` is the file that keeps which region was found to be nearest.
    """
    parsed = parse_address(address)
    if parsed.scheme == "file":
        return LocalTarget.open(Path(parsed.path))
    return guarded(distant(parsed, config, regions), config)


def make_target(address: str, config: Config, regions: Path | None = None) -> Target:
    """The target at an address, made if there is none yet. Raises what open_target() does."""
    parsed = parse_address(address)
    if parsed.scheme == "file":
        return LocalTarget.make(Path(parsed.path))
    target = distant(parsed, config, regions)
    target.make()
    return guarded(target, config)


def distant(address: Address, config: Config, regions: Path | None = None) -> Distant:
    """The driver alone, imported only when it is wanted."""
    match address.scheme:
        case "s3":
            from tklb.store.nearest import settle
            from tklb.store.s3 import S3Target
            from tklb.store.s3_client import measured

            return S3Target(
                *settle(address, config.s3, regions, lambda there, said: measured(there, said, time.monotonic))
            )
        case "sftp":
            from tklb.store.sftp import SftpTarget

            return SftpTarget(address, config.sftp)
        case _:
            from tklb.store.other import OtherTarget

            return OtherTarget(address, config.environment_file)


def guarded(target: Target, config: Config) -> Target:
    """Around a driver: paced, watched, tried again."""
    from tklb.store.pace import Paced
    from tklb.store.retry import Retrying
    from tklb.store.watchdog import Watched

    target = Watched(target, config.patience)
    if config.limit_rate:
        rates = parse_rates(config.limit_rate)
        target = Paced(target, lambda: rates.at(datetime.now(UTC).astimezone().time()), time.monotonic, time.sleep)
    return Retrying(target, time.sleep, random.random)
