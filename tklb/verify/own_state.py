"""Collect what somebody added to the install state of this machine, for a comparison with a snapshot. Reads only.

The comparison uses the scope of the snapshot: so a machine that is as its newest snapshot has nothing unknown.
"""

from dataclasses import replace

from tklb.backup.collect import collect_state, stream_changes
from tklb.config.paths import ROOT
from tklb.diff.apt_sources import is_source
from tklb.host.apt.source_files import read_extra_sources
from tklb.model.report import SkippedItems
from tklb.model.secret import Secret
from tklb.profile.detect import detect_profile
from tklb.profile.folder import load_profile
from tklb.restore.plan.inputs import OwnState
from tklb.session import Session, TargetSession


def collect_own_state(session: TargetSession) -> OwnState:
    """Ask for packages and accounts; the files stream later. Raises ProfileInvalid, ConfigInvalid."""
    paths = session.paths
    profile = load_profile(paths.profile) if paths.profile.exists() else detect_profile(ROOT, paths.profiles)
    nobody = Secret("")  # nothing is encoded
    machine = Session(paths, session.config, nobody, "", profile, session.clock, session.progress)
    state = collect_state(machine)
    unseen = SkippedItems()
    return OwnState(
        stream_changes=lambda rules: stream_changes(machine, replace(state, rules=rules), unseen),
        packages=state.package_delta.added,
        apt_files=tuple(file.path for file in read_extra_sources(ROOT) if not is_source(file.path)),
        users=state.account_delta.users_added,
        groups=state.account_delta.groups_added,
        unseen=unseen,
    )
