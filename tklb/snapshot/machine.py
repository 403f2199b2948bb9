"""The facts about this machine that travel with a snapshot. Asks the machine, changes nothing."""

import platform
import socket

from tklb.config.paths import ROOT
from tklb.host.release import read_os_release
from tklb.model.snapshot_metadata import MachineFacts


def this_machine(host: str, profile: str, services: tuple[str, ...], parts: frozenset[str]) -> MachineFacts:
    """The facts of the machine this runs on, beside those that the caller knows."""
    return MachineFacts(
        hostname=socket.gethostname(),
        host=host,
        release=read_os_release(ROOT),
        architecture=platform.machine(),
        profile=profile,
        services=services,
        parts=tuple(sorted(parts)),
    )
