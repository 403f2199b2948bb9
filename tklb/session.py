"""Who and where: all that a story on an initialised machine starts from."""

from dataclasses import dataclass, replace

from tklb.config import load as configuration
from tklb.config.paths import Paths
from tklb.config.rates import parse_rates
from tklb.config.schema import Config
from tklb.crypto.secret import read_older, read_secret
from tklb.errors import NotInitialised, UsageWrong
from tklb.model.callbacks import Clock, Progress, ignore_progress
from tklb.model.secret import Secret
from tklb.profile.folder import Profile, load_profile


@dataclass(frozen=True, slots=True)
class Session:
    paths: Paths
    config: Config
    secret: Secret
    host: str  # the host id: random, made once, continued by a replacement
    profile: Profile
    clock: Clock
    progress: Progress
    older: tuple[Secret, ...] = ()  # secrets before the last change of the key


def open_session(paths: Paths, clock: Clock, progress: Progress = ignore_progress) -> Session:
    """Read configuration, key and profile. Raises NotInitialised, ConfigInvalid, KeyUnusable, ProfileInvalid."""
    config = configuration.load(paths)
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


def with_rate_limit(setting: Session, limit_rate: str) -> Session:
    """The same with another rate limit than the configured one; "" leaves that. Raises UsageWrong."""
    if not limit_rate:
        return setting
    try:
        parse_rates(limit_rate)
    except ValueError as exc:
        raise UsageWrong(reason=f"--limit-rate: {exc}") from exc
    return replace(setting, config=replace(setting.config, limit_rate=limit_rate))
