"""The session: configuration, key, clock and progress of one run.

The configuration is read here, once a command, and the options that override it are already in it. Nothing below this
module reads it again.
"""

import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path

from tklb.base.fs import private_folder, write_atomic
from tklb.config.parse import read_config, read_config_or_default
from tklb.config.paths import Paths
from tklb.config.rates import parse_rates
from tklb.config.schema import Config
from tklb.crypto.secret import fingerprint, make_secret, read_older, read_secret, write_secret
from tklb.errors import KeyUnusable, NotInitialised, UsageWrong
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Clock, Progress, ignore_progress
from tklb.model.secret import Secret
from tklb.profile.folder import Profile, load_profile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """One run on an initialised machine, with the identity of that machine."""

    paths: Paths
    config: Config  # options of the command included
    secret: Secret
    host: str  # the host id: random, made once, continued by a replacement
    profile: Profile
    clock: Clock
    progress: Progress
    older: tuple[Secret, ...] = ()  # secrets before the last change of the key


def refuse_to_ask() -> Secret:
    """Stand in for the question for a passphrase where nobody can answer. Raises KeyUnusable."""
    raise KeyUnusable(reason="it needs a passphrase, and --passphrase-file was not given")


@dataclass(frozen=True, slots=True)
class TargetAccess:
    """The options that say how to find and open a target.

    `ask` gives the passphrase; tklb calls it only where it needs one. With `by_passphrase` tklb opens the key that the
    target keeps, even where this machine has a key.
    """

    address: str | None = None  # None: the configured one
    key: Path | None = None
    ask: Callable[[], Secret] = refuse_to_ask
    by_passphrase: bool = False
    limit_rate: str = ""
    expected_key: str = ""  # the fingerprint that the key must have

    @property
    def is_own(self) -> bool:
        """Whether this is the machine's own target, opened with its own key."""
        return self.address is None and self.key is None and not self.by_passphrase


@dataclass(frozen=True, slots=True)
class TargetSession:
    """One run against a target, on an initialised machine or on a fresh one that has only address and key.

    `config.target` is the address in use. restore.source.open_ledger() finds the key.
    """

    paths: Paths
    config: Config  # options of the command included
    clock: Clock
    progress: Progress = ignore_progress
    access: TargetAccess = field(default_factory=TargetAccess)
    configured_target: str = ""  # what the configuration says, where an option overrides it


def open_session(paths: Paths, clock: Clock, progress: Progress = ignore_progress, *, limit_rate: str = "") -> Session:
    """Read configuration, key and profile.

    Raises NotInitialised, ConfigInvalid, KeyUnusable, ProfileInvalid; UsageWrong for the rate limit.
    """
    return open_session_with(override_rate_limit(read_config(paths), limit_rate), paths, clock, progress)


def open_session_with(config: Config, paths: Paths, clock: Clock, progress: Progress = ignore_progress) -> Session:
    """Read key and profile; the configuration is at hand. Raises NotInitialised, KeyUnusable, ProfileInvalid."""
    if not paths.host.exists():
        raise NotInitialised(reason=f"there is no {paths.host}")
    return Session(
        paths=paths,
        config=config,
        secret=read_secret(paths.secret),
        host=paths.host.read_text("ascii").strip(),
        profile=load_profile(paths.profile),
        clock=clock,
        progress=progress,
        older=read_older(paths.older_secrets),
    )


def make_identity(paths: Paths) -> Secret:
    """Make the key and the host id of this machine, unless it has them; give the key. Raises KeyUnusable."""
    private_folder(paths.state)
    is_new = not paths.secret.exists()
    if is_new:
        write_secret(paths.secret, make_secret(os.urandom))
    if not paths.host.exists():
        write_atomic(paths.host, f"{uuid.uuid4().hex}\n".encode())
    secret = read_secret(paths.secret)
    log.info("%s key %s, in %s", "made" if is_new else "kept", fingerprint(secret), paths.secret)
    return secret


def open_target_session(
    paths: Paths, access: TargetAccess, clock: Clock, progress: Progress = ignore_progress
) -> TargetSession:
    """Read the configuration, if there is one. Raises ConfigInvalid, UsageWrong for the rate limit.

    Raises NotInitialised where neither the options nor the configuration name target or key.
    """
    config = read_config_or_default(paths)
    configured = config.target
    if access.address is None and access.key is None and not paths.toml.exists():
        raise NotInitialised(reason="it has no key and no target")
    if access.address is not None:
        config = replace(config, target=access.address)
    return TargetSession(paths, override_rate_limit(config, access.limit_rate), clock, progress, access, configured)


def override_rate_limit(config: Config, limit_rate: str) -> Config:
    """The same configuration with another rate limit; "" leaves that of the file. Raises UsageWrong."""
    if not limit_rate:
        return config
    try:
        parse_rates(limit_rate)
    except ValueError as exc:
        raise UsageWrong(reason=f"--limit-rate: {exc}") from exc
    return replace(config, limit_rate=limit_rate)
