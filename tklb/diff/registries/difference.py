"""Which decisions in the registries are the owner's, and which of them another machine lacks. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tklb.lazy_dataclass import dataclass
from tklb.model.registries.decisions import (
    AlternativeGroup,
    Answer,
    Choice,
    Diversion,
    Registries,
    RegistryItem,
    RemovedEntry,
    StatOverride,
)


def select_owned(found: Registries) -> Registries:
    """Give what the owner decided: what no package makes when it is installed again."""
    groups = (group for group in map(_select_owned_choices, found.alternatives) if group.choices or group.manual)
    return replace(
        found,
        diversions=tuple(one for one in found.diversions if not one.package),
        stat_overrides=tuple(one for one in found.stat_overrides if not one.packaged),
        alternatives=tuple(groups),
    )


def _select_owned_choices(group: AlternativeGroup) -> AlternativeGroup:
    return replace(group, choices=tuple(choice for choice in group.choices if not choice.packaged))


def list_items(owned: Registries) -> Iterator[RegistryItem]:
    """Name each decision for people. No answer of debconf is shown, only its question."""
    yield from (RegistryItem("architectures", name.encode()) for name in owned.architectures)
    yield from (RegistryItem("diversions", one.path, _show(b"to " + one.target)) for one in owned.diversions)
    yield from (RegistryItem("stat-overrides", one.path, describe_stat_override(one)) for one in owned.stat_overrides)
    yield from (RegistryItem("alternatives", one.name, describe_group(one)) for one in owned.alternatives)
    yield from (RegistryItem("debconf", one.question.encode(), one.package) for one in owned.answers)
    yield from (RegistryItem("flags", one.path, f"chattr +{one.flags}") for one in owned.flags)
    for one in owned.removed:
        item, detail = (one.path, one.name) if one.registry == "diversions" else (one.name or one.path, one.path)
        yield RegistryItem(one.registry, item, _show(detail) if item != detail else "", is_removed=True)


def describe_stat_override(one: StatOverride) -> str:
    return _show(b"%b:%b %04o" % (one.user, one.group, one.mode))


def describe_group(group: AlternativeGroup) -> str:
    added = [f"{_show(choice.path)} with priority {choice.priority}" for choice in group.choices]
    return ", ".join([*added, f"set to {_show(group.manual)}"] if group.manual else added)


def _show(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


# ---------------------------------------------------------------- what another machine lacks


@dataclass(frozen=True, slots=True)
class RegistryDifference:
    """What a machine lacks of the owner's decisions, and `conflicts`: what it has decided otherwise by itself."""

    missing: Registries
    conflicts: tuple[str, ...] = ()


def find_missing(owned: Registries, here: Registries) -> RegistryDifference:
    """Compare the decisions of the owner with the registries of this machine."""
    diverted = {one.path: one for one in here.diversions}
    overridden = {one.path: one for one in here.stat_overrides}
    groups = {one.name: one for one in here.alternatives}
    answers = {one.question: one for one in here.answers}
    free = [one for one in owned.diversions if one.path not in diverted]
    stat_overrides = [one for one in owned.stat_overrides if one != overridden.get(one.path)]
    alternatives = [one for one in owned.alternatives if not _has_group(groups.get(one.name), one)]
    return RegistryDifference(
        Registries(
            architectures=tuple(name for name in owned.architectures if name not in here.architectures),
            diversions=tuple(free),
            stat_overrides=tuple(stat_overrides),
            alternatives=tuple(alternatives),
            answers=tuple(one for one in owned.answers if not _is_answered(answers.get(one.question), one)),
            removed=tuple(one for one in owned.removed if _has_entry(one, diverted, overridden, groups)),
            flags=tuple(one for one in owned.flags if one not in here.flags),
        ),
        (
            *_list_diverted(owned.diversions, diverted),
            *_list_overridden(stat_overrides, overridden),
            *_list_chosen(alternatives, groups),
        ),
    )


def _is_answered(here: Answer | None, wanted: Answer) -> bool:
    return here is not None and here.reveal() == wanted.reveal()


def _has_entry(
    one: RemovedEntry,
    diverted: dict[bytes, Diversion],
    overridden: dict[bytes, StatOverride],
    groups: dict[bytes, AlternativeGroup],
) -> bool:
    """Whether this machine has an entry that the owner removed elsewhere, and a package made it here."""
    match one.registry:
        case "diversions":
            return one.path in diverted and diverted[one.path].package == one.name != b""
        case "stat-overrides":
            return one.path in overridden and overridden[one.path].packaged
    choices = groups[one.name].choices if one.name in groups else ()
    return any(choice.path == one.path and choice.packaged for choice in choices)


def _has_group(here: AlternativeGroup | None, wanted: AlternativeGroup) -> bool:
    if here is None or here.manual != wanted.manual:
        return False
    return all(_has_choice(here, choice) for choice in wanted.choices)


def _has_choice(here: AlternativeGroup, wanted: Choice) -> bool:
    return any(
        (one.path, one.priority, sorted(one.slaves)) == (wanted.path, wanted.priority, sorted(wanted.slaves))
        for one in here.choices
    )


def _list_diverted(wanted: Iterable[Diversion], here: dict[bytes, Diversion]) -> Iterator[str]:
    for one in wanted:
        other = here.get(one.path, one)
        if other != one:
            owner = f"package {_show(other.package)}" if other.package else "this machine"
            yield f"{_show(one.path)} stays diverted to {_show(other.target)} by {owner}, not to {_show(one.target)}"


def _list_overridden(wanted: Iterable[StatOverride], here: dict[bytes, StatOverride]) -> Iterator[str]:
    for one in wanted:
        other = here.get(one.path, one)
        if other != one and not other.packaged:
            yield (
                f"the dpkg-statoverride {describe_stat_override(one)} of {_show(one.path)} replaces "
                f"{describe_stat_override(other)}, which this machine had"
            )


def _list_chosen(wanted: Iterable[AlternativeGroup], here: dict[bytes, AlternativeGroup]) -> Iterator[str]:
    for one in wanted:
        other = here.get(one.name, one)
        if other.manual is not None and other.manual != one.manual:
            choice = "automatic" if one.manual is None else _show(one.manual)
            yield f"alternative {_show(one.name)}: {choice} replaces {_show(other.manual)}, which was chosen here"
