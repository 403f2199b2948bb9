"""Run the commands of a plan, and ask this machine what decides about commands and services.

Changes what the commands change, and the list of what is unfinished.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tklb.config.paths import ROOT
from tklb.host.remake import read_remake_facts, run_command
from tklb.host.services import can_start, is_running
from tklb.host.units import list_enabled, list_scripts, read_service_owners
from tklb.model.plan import RemakeFacts, ServiceFacts, Step
from tklb.model.report import Skipped
from tklb.restore.plan.remake import PROGRAMS, command_item
from tklb.restore.remainder import RemainderList, read_remainder


def read_facts(remainder: Path) -> tuple[RemakeFacts, ServiceFacts]:
    """Ask this machine about commands and services; `remainder` is the file of RemainderList."""
    rest, facts = read_remainder(remainder), read_remake_facts(PROGRAMS)
    of_packages, of_files = read_service_owners(ROOT)
    services = ServiceFacts(
        can_start=can_start(),
        enabled=list_enabled(ROOT, has_systemd=facts.has_systemd),
        scripts=list_scripts(ROOT),
        of_packages=of_packages,
        of_files=of_files,
        is_running=is_running,
        new_packages=rest.packages,
        unfinished=rest.services,
    )
    return replace(facts, unfinished=rest.commands), services


def run_commands(steps: Iterable[Step], remainder: RemainderList) -> tuple[Skipped, ...]:
    """Run the commands of these steps, in their order. One that fails stays unfinished."""
    skipped = []
    for command in (step.command for step in steps if step.command):
        if reason := run_command(command):
            skipped.append(Skipped(command_item(command.name), reason))
        else:
            remainder.forget_command(command)
    return tuple(skipped)
