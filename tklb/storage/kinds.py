"""The kinds of target, in one table: which backend serves an address, and which wrappers go around it.

Takes an address and the configuration; gives a backend. A local folder stands alone. A distant target gets the stall
timeout (`target.patience`), the rate limit (`target.limit_rate`) and the retries. A backend and its libraries are
imported only when they are needed.
"""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tklb.config.rates import parse_rates
from tklb.config.schema import Config
from tklb.lazy_dataclass import dataclass
from tklb.model.target import TargetUrl
from tklb.storage.backend import Backend
from tklb.storage.local import LocalBackend
from tklb.storage.url import parse_url


class DistantBackend(Backend, Protocol):
    """A backend whose target is not on this machine. Its constructor sends no request."""

    def make(self) -> None:
        """Make the place where the objects go, if there is none. Raises what every operation of a backend raises."""


# A parsed address, the configuration, and the file that remembers which region is nearest (None: remember nothing).
OpenBackend = Callable[[TargetUrl, Config, Path | None], Backend]
BuildBackend = Callable[[TargetUrl, Config, Path | None], DistantBackend]


@dataclass(frozen=True, slots=True)
class TargetKind:
    """How the backend for one kind of target is opened. `make` also makes the target if there is none yet."""

    open: OpenBackend
    make: OpenBackend


def distant_kind(build: BuildBackend) -> TargetKind:
    """The kind of target that `build` gives the bare backend of. It gets the wrappers."""

    def make(url: TargetUrl, config: Config, regions: Path | None) -> Backend:
        backend = build(url, config, regions)
        backend.make()
        return add_wrappers(backend, config)

    return TargetKind(lambda url, config, regions: add_wrappers(build(url, config, regions), config), make)


def open_backend(address: str, config: Config, regions: Path | None = None) -> Backend:
    """Open the target at an address; `regions` is the file that remembers which region is nearest.

    Raises UsageWrong for no address, AccessRefused, and TargetUnreachable where nobody has made the target yet; for a
    distant target only the first operation finds out.
    """
    url = parse_url(address)
    return _find_kind(url).open(url, config, regions)


def make_backend(address: str, config: Config, regions: Path | None = None) -> Backend:
    """Open the target at an address, and make it if there is none. Raises what open_backend() and uploads raise."""
    url = parse_url(address)
    return _find_kind(url).make(url, config, regions)


def add_wrappers(backend: Backend, config: Config) -> Backend:
    """Put stall timeout, rate limit and retry around a backend, in this order from the inside."""
    from tklb.storage.wrappers.rate_limit import RateLimit
    from tklb.storage.wrappers.retry import Retry
    from tklb.storage.wrappers.stall_timeout import StallTimeout

    backend = StallTimeout(backend, config.patience)
    if config.limit_rate:
        rates = parse_rates(config.limit_rate)
        backend = RateLimit(
            backend, lambda: rates.rate_at(datetime.now(UTC).astimezone().time()), time.monotonic, time.sleep
        )
    return Retry(backend, time.sleep, random.random)


def _build_s3(url: TargetUrl, config: Config, regions: Path | None) -> DistantBackend:
    from tklb.storage.s3.backend import S3Backend
    from tklb.storage.s3.client import measure_answer
    from tklb.storage.s3.regions import choose_region

    return S3Backend(
        *choose_region(url, config.s3, regions, lambda place, settings: measure_answer(place, settings, time.monotonic))
    )


def _build_sftp(url: TargetUrl, config: Config, _regions: Path | None) -> DistantBackend:
    from tklb.storage.sftp.backend import SftpBackend

    return SftpBackend(url, config.sftp)


def _build_duplicity(url: TargetUrl, config: Config, _regions: Path | None) -> DistantBackend:
    from tklb.storage.duplicity.backend import DuplicityBackend

    return DuplicityBackend(url, config.environment_file)


def _find_kind(url: TargetUrl) -> TargetKind:
    return KINDS.get(url.scheme, OTHER)


# By the scheme of a parsed address: a new kind of target is one more line here.
KINDS = {
    "file": TargetKind(
        open=lambda url, *_: LocalBackend.open(Path(url.path)), make=lambda url, *_: LocalBackend.make(Path(url.path))
    ),
    "s3": distant_kind(_build_s3),
    "sftp": distant_kind(_build_sftp),
}
OTHER = distant_kind(_build_duplicity)  # every other address that duplicity can reach
