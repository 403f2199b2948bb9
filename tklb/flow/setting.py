"""Who and where: all that a story on an initialised machine starts from."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tklb import config as configuration
from tklb.config import Config, Paths
from tklb.durable import remove_tree
from tklb.errors import NotInitialised, UsageWrong
from tklb.keys.secret import read_older, read_secret
from tklb.model import Progress, Secret
from tklb.profile import Profile, load
from tklb.rates import parse_rates

Clock = Callable[[], datetime]
ROOT = b"/"


@dataclass(frozen=True, slots=True)
class Setting:
    paths: Paths
    config: Config
    secret: Secret
    host: str  # the host id: random, made once, continued by a replacement
    profile: Profile
    clock: Clock
    progress: Progress
    older: tuple[Secret, ...] = ()  # secrets before the last change of the key


def silent(_activity: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def open_setting(paths: Paths, clock: Clock, progress: Progress = silent) -> Setting:
    """Read configuration, key and profile. Raises NotInitialised, ConfigInvalid, KeyUnusable, ProfileInvalid."""
    config = configuration.load(paths)
    if not paths.host.exists():
        raise NotInitialised(reason=f"there is no {paths.host}")
    return Setting(
        paths=paths,
        config=config,
        secret=read_secret(paths.secret),
        host=paths.host.read_text("ascii").strip(),
        profile=load(paths.profile),
        clock=clock,
        progress=progress,
        older=read_older(paths.older_secrets),
    )


def limited(setting: Setting, limit_rate: str) -> Setting:
    """The same with another rate limit than the configured one; "" leaves that. Raises UsageWrong."""
    if not limit_rate:
        return setting
    try:
        parse_rates(limit_rate)
    except ValueError as exc:
        raise UsageWrong(reason=f"--limit-rate: {exc}") from exc
    return replace(setting, config=replace(setting.config, limit_rate=limit_rate))


def adopt_profile(paths: Paths, folder: Path) -> None:
    """Keep a copy of the profile in use: the install state must not change under a chain."""
    fresh = paths.profile.with_name("profile.new")
    remove_tree(fresh)
    shutil.copytree(folder, fresh, symlinks=True)
    remove_tree(paths.profile)
    fresh.rename(paths.profile)
