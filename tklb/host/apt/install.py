"""Install packages through apt: in the right versions, and in place of packages that exclude them.

Takes orders; gives what is missing at the end. All orders are one transaction if that is possible, else each is tried
alone. apt removes a package only if an order names it as replaced, and in the transaction that brings its replacement:
apt downloads that first. If the transaction fails all the same, the replaced package is installed again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from tklb.diff.packages import choose_version, compare_versions, label, native_architecture
from tklb.errors import COMPLETE, INCOMPLETE
from tklb.host import dpkg
from tklb.host.apt.command import OPTIONS, ensure_usable, find_absent, run_apt, try_command
from tklb.host.apt.finish import configure, name_unfinished
from tklb.host.apt.offers import list_exact_needs, list_offers
from tklb.host.services import deny_service_starts
from tklb.lazy_dataclass import dataclass
from tklb.model.packages import PackageOffer, PackageOrder
from tklb.model.report import Skipped

_NOT_OFFERED = "no package source offers it"
_OF_OTHER_RELEASE = "this release does not offer it; it came automatically there"


@dataclass(frozen=True, slots=True)
class Installation:
    """The result: what is not installed at the end, and versions that differ from those ordered."""

    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()


def install(
    orders: Sequence[PackageOrder], root: bytes = b"/", *, again: bool = False, options: Sequence[str] = ()
) -> Installation:
    """Carry out orders, with more `options` of apt. No service starts.

    The result has each package that is not installed at the end, with the reason. Raises PackagesFailed if dpkg was
    interrupted before, unless it is tried `again` in the same run.
    """
    if not again:
        ensure_usable(root)
    run = _Transaction(orders, root, options)
    with deny_service_starts(root):
        run.install()
    return run.finish()


class _Transaction:
    """Orders while apt carries them out. `_reasons` are those of failures, by label."""

    def __init__(self, orders: Sequence[PackageOrder], root: bytes, options: Sequence[str]) -> None:
        self._options = (*OPTIONS, *options)
        self._orders, self._root = {order.label: order for order in orders}, root
        self._before = _list_versions(root)
        offers = list_offers(root, self._orders)
        self._versions = {
            name: _choose(order, offers.get(name), is_here=name in self._before) for name, order in self._orders.items()
        }
        self._bind_versions(offers)
        built = {name for name, order in self._orders.items() if order.archive}
        self._known = built | {
            name for name, offer in offers.items() if offer.versions and not self._orders[name].local
        }
        self._reasons = dict.fromkeys(self._orders.keys() - self._known, _NOT_OFFERED)
        self._unfinished: dict[str, str] = {}

    def _bind_versions(self, offers: Mapping[str, PackageOffer]) -> None:
        """Choose what the chosen versions need in one very version: of a dependency apt takes its own choice alone."""
        left = [name for name, version in self._versions.items() if version and name in offers]
        while left:
            name = left.pop()
            needs = list_exact_needs(self._root, name, self._versions[name])
            bound = {
                other: version
                for other, version in needs
                if other in self._orders and not self._versions[other] and self._orders[other].version == version
                and version in offers.get(other, PackageOffer()).versions
            }  # fmt: skip
            self._versions |= bound
            left += bound

    def install(self) -> None:
        wanted = self._list_missing()
        if wanted and self._try(wanted):
            configure(self._root)
            self._install_apart()
            self._put_back()
        if dpkg.list_unfinished(self._root):
            self._unfinished = configure(self._root)

    def _install_apart(self) -> None:
        """Install all that replace nothing, and then each missing one alone."""
        together = [name for name in self._list_missing() if not self._orders[name].replaces]
        if self._list_missing() != together and together:
            self._try(together)
        for name in self._list_missing():
            if reason := self._try([name]):
                self._reasons[name] = reason

    def finish(self) -> Installation:
        absent = find_absent(self._root, self._orders)
        left = [self._skip(name) for name in absent]
        left += self._skip_versions()
        named = {item.item for item in left}
        left += (item for item in name_unfinished(self._root, self._unfinished) if item.item not in named)
        return Installation(tuple(left), tuple(self._compare_versions()))

    def _list_missing(self) -> list[str]:
        """Give the known orders that are not carried out: absent packages, and those of another version."""
        now = _list_versions(self._root)
        return [
            name
            for name in sorted(self._known)
            if name not in now or (self._versions[name] and now[name] != self._versions[name])
        ]

    def _try(self, names: Sequence[str]) -> str:
        """Give the reason of a failure, or "" if all went well."""
        words = [self._name(name) for name in names]
        options = ["--no-install-recommends", *self._options]
        if any(self._versions[name] and name in self._before for name in names):
            options += ["--allow-downgrades", "--allow-change-held-packages"]
        allowed = {other for name in names for other in self._orders[name].replaces}
        gone = self._find_removals([*options, "install", "--", *words]) if allowed else set()
        if others := sorted(gone - allowed):
            return f"others would go with it: {' '.join(others)}"
        keep = [] if gone else ["--no-remove"]
        return try_command(self._root, ["apt-get", "-qy", *keep, *options, "install", "--", *words], None)

    def _name(self, name: str) -> str:
        version = self._versions[name]
        return self._orders[name].archive or (f"{name}={version}" if version else name)

    def _find_removals(self, words: Sequence[str]) -> set[str]:
        said = run_apt(self._root, ["apt-get", "-q", "-s", *words], accept=(0, 100)).stdout
        native = f":{native_architecture(dpkg.list_installed(self._root))}"
        return {name.decode().removesuffix(native) for name in re.findall(rb"^Remv (\S+)", said, re.MULTILINE)}

    def _put_back(self) -> None:
        """Install again what went for a replacement that did not come."""
        for name in find_absent(self._root, self._orders):
            gone = [other for other in self._orders[name].replaces if other in self._before]
            if lost := find_absent(self._root, gone):
                argv = [
                    "apt-get",
                    "-qy",
                    "--no-remove",
                    "--no-install-recommends",
                    *self._options,
                    "install",
                    "--",
                    *lost,
                ]
                failed = try_command(self._root, argv, None)
                was = "could not be installed again" if failed else "was installed again"
                self._reasons[name] = f"{self._reasons.get(name, 'apt-get left it out')}; {' '.join(lost)} {was}"

    def _skip(self, name: str) -> Skipped:
        is_lacking = self._orders[name].is_optional and name not in self._known
        reason = _OF_OTHER_RELEASE if is_lacking else self._reasons.get(name, "apt-get left it out")
        reason += "; its files are restored as files" if self._orders[name].local else ""
        return Skipped(f"package:{name}".encode(), reason, COMPLETE if is_lacking else INCOMPLETE)

    def _skip_versions(self) -> Iterator[Skipped]:
        """Name the packages that were to change their version here and did not."""
        now = _list_versions(self._root)
        for name in sorted(self._before.keys() & self._orders.keys() & now.keys()):
            if self._is_behind(name, now[name]):
                reason = self._reasons.get(name, "no package source offers it")
                wanted = self._orders[name].version
                yield Skipped(f"package:{name}".encode(), f"version {wanted} did not come, {now[name]} stays: {reason}")

    def _is_behind(self, name: str, here: str) -> bool:
        order = self._orders[name]
        return here != order.version and (order.held or compare_versions(here, order.version) < 0)

    def _compare_versions(self) -> Iterator[str]:
        now = _list_versions(self._root)
        fresh = self._orders.keys() & now.keys() - self._before.keys()
        came = {name: self._orders[name] for name in fresh if self._orders[name].version}
        for name, order in sorted(came.items()):
            if order.held and now[name] != order.version:
                yield f"package {name} is held at {order.version} there; here it is {now[name]}, the version offered"
        older = [
            f"{name} ({now[name]}, there {order.version})"
            for name, order in sorted(came.items())
            if not order.held and compare_versions(now[name], order.version) < 0
        ]
        if older:
            yield f"older here than there, because no source offers more: {', '.join(older)}"


def _choose(order: PackageOrder, offer: PackageOffer | None, *, is_here: bool) -> str:
    """Give the version to ask for; "" leaves it to apt, or as it is here."""
    if order.local:
        return order.version
    if offer is None:
        return ""
    chosen = choose_version(order.version, offer.versions, offer.candidate, held=order.held) or ""
    is_newer = bool(offer.candidate) and compare_versions(offer.candidate, order.version) >= 0
    return offer.candidate if is_here and not chosen and is_newer and not order.held else chosen


def _list_versions(root: bytes) -> dict[str, str]:
    packages = dpkg.list_installed(root)
    native = native_architecture(packages)
    return {label(package, native): package.version for package in packages}
