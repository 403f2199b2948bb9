"""Collect what a backup would take; nothing is changed."""

from collections.abc import Iterable, Iterator

from tklb.backup.collect import collect_state, stream_changes
from tklb.backup.dump_databases import Dumps, list_databases
from tklb.diff.packages import native_architecture
from tklb.diff.registries.difference import list_items
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import AccountDelta
from tklb.model.files import FileChange
from tklb.model.packages import PackageDelta
from tklb.model.registries.decisions import RegistryItem
from tklb.model.report import Skipped, SkippedItems
from tklb.session import Session


@dataclass(frozen=True, slots=True)
class MachineDelta:
    """What a backup would take. `changes` streams once; when it has ended, list_skipped() is complete."""

    changes: Iterator[FileChange]
    packages: PackageDelta
    native: str  # the architecture whose name a package's label leaves out
    accounts: AccountDelta
    registries: tuple[RegistryItem, ...]  # the owner's decisions in them
    dumps: Dumps
    _skipped: SkippedItems

    def list_skipped(self) -> tuple[Skipped, ...]:
        return (*self._skipped, *self.dumps.skipped)


def collect_delta(session: Session, overrides: Iterable[str] = ()) -> MachineDelta:
    """Raises UsageWrong for a malformed override, ConfigInvalid for one of the configuration."""
    state = collect_state(session, overrides)
    skipped = SkippedItems(state.unmet)
    return MachineDelta(
        changes=stream_changes(session, state, skipped),
        packages=state.package_delta,
        native=native_architecture(state.packages),
        accounts=state.account_delta,
        registries=tuple(list_items(state.registries)),
        dumps=list_databases(session, state.overrides),
        _skipped=skipped,
    )
