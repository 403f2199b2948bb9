"""Who and where: all that a story on an initialised machine starts from."""

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tklb import config as configuration
from tklb.config import Config, Paths
from tklb.durable import private_folder, remove_tree, run_lock, write_atomic
from tklb.errors import AlreadyInitialised, NotInitialised, ProfileInvalid
from tklb.keys.secret import make_secret, read_older, read_secret, write_secret
from tklb.model import Progress, Secret
from tklb.profile import Profile, detect, find, lint, load
from tklb.store.targets import make_target

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


def initialise(paths: Paths, target: str, profile_name: str | None, force: bool) -> Config:
    """Make key, host id, profile and configuration. Raises AlreadyInitialised unless `force` is given.

    An existing key is never replaced: what it has encrypted would be lost.
    """
    with run_lock(paths.lock):
        if paths.toml.exists() and not force:
            raise AlreadyInitialised(file=paths.toml)
        profile = _named(paths, profile_name) if profile_name else detect(ROOT, paths.profiles)
        config = _config(paths, target, profile.id)
        make_target(target, config)
        private_folder(paths.state)
        if not paths.secret.exists():
            write_secret(paths.secret, make_secret(os.urandom))
        if not paths.host.exists():
            write_atomic(paths.host, f"{uuid.uuid4().hex}\n".encode())
        adopt_profile(paths, profile.folder)
        paths.config.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(paths.toml, configuration.render(config).encode())
    return config


def _config(paths: Paths, target: str, profile: str) -> Config:
    """What is configured already stays, but for target and profile."""
    return replace(configuration.load_or_default(paths), target=target, profile=profile)


def _named(paths: Paths, name: str) -> Profile:
    profile = find(paths.profiles, name)
    if problems := lint(profile.folder):
        raise ProfileInvalid(profile=name, reason="; ".join(problems[:3]))
    return profile


def adopt_profile(paths: Paths, folder: Path) -> None:
    """Keep a copy of the profile in use: the install state must not change under a chain."""
    fresh = paths.profile.with_name("profile.new")
    remove_tree(fresh)
    shutil.copytree(folder, fresh, symlinks=True)
    remove_tree(paths.profile)
    fresh.rename(paths.profile)
