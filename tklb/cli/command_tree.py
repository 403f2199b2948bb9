"""The commands and subcommands that users type, and the module of each.

A module is imported only when its command is used, so that every start is fast.
"""

from collections.abc import Mapping
from importlib import import_module

import click

import tklb
from tklb.cli.options import example, shared_options

_COMMANDS = {
    "init": "machine.init:init",
    "delta": "machine.delta:delta",
    "scope": "machine.scope:scope",
    "why": "machine.why:why",
    "backup": "snapshots.backup:backup",
    "list": "snapshots.list:list_snapshots",
    "restore": "snapshots.restore:restore",
    "status": "machine.status:status",
    "verify": "snapshots.verify:verify",
    "takeover": "snapshots.takeover:takeover",
    "key": "command_tree:key",
    "profile": "command_tree:profile",
    "internal": "command_tree:internal",
}
_OF_KEY = {
    "passphrase": "key.passphrase:passphrase",
    "escrow": "key.escrow:escrow",
    "kit": "key.kit:kit",
    "show": "key.show:show",
    "rotate": "key.rotate:rotate",
}
_OF_PROFILE = {
    "list": "profile.list:list_profiles",
    "show": "profile.show:show",
    "detect": "profile.detect:detect",
    "lint": "profile.lint:lint",
    "build": "profile.build:build",
}
_OF_INTERNAL = {
    "scan": "internal.scan:scan",
    "compare": "internal.compare:compare",
    "merge-users": "internal.merge_users:merge_users",
    "merge-packages": "internal.merge_packages:merge_packages",
}


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is asked for."""

    def __init__(self, *args: object, places: Mapping[str, str], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            return None
        module, function = self._places[cmd_name].split(":")
        command: click.Command = getattr(import_module(f"tklb.cli.{module}"), function)
        return command


@click.group(
    cls=LazyGroup,
    places=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example(
        "tklb init",
        "tklb backup",
        "tklb restore --target file:///mnt/usb/backups --key server.key",
    ),
)
@click.version_option(tklb.__version__, prog_name="tklb")
@shared_options
def cli() -> None:
    """Back up what makes this server this server, and bring it back on a fresh one.

    Run `tklb init` once and `tklb backup` every day. `tklb delta` shows what a backup takes. On a fresh machine,
    `tklb restore` brings a snapshot back.
    """


@click.group(
    cls=LazyGroup,
    places=_OF_KEY,
    epilog=example("tklb key passphrase", "tklb key escrow /mnt/usb/server.key", "tklb key show"),
)
def key() -> None:
    """Look after the key: without it nobody can read the snapshots, not even you."""


@click.group(cls=LazyGroup, places=_OF_PROFILE, epilog=example("tklb profile list", "tklb profile detect"))
def profile() -> None:
    """Work with profiles: each describes a type of machine just after installation."""


@click.group(
    cls=LazyGroup, places=_OF_INTERNAL, epilog=example("tklb internal scan --root /mnt/clean /etc > base.mtree")
)
def internal() -> None:
    """Plumbing with stable formats, for scripts and tests."""
