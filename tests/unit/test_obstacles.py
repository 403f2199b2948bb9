"""Objects of another kind in the way of a restore: what moves aside, what stays, and that nothing is lost unnamed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tests.unit.model_machine import Tree, View, contents_of, delta_of
from tests.unit.test_plan_files import (
    FACTS,
    LISTS,
    MACHINE,
    NAMES,
    OWN,
    PATHS,
    ROOT,
    Deeds,
    base_tree,
    changed,
    places_of,
    plan_for,
    restored,
    saved,
    steps,
)
from tklb.model.plan import Plan, StepKind
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.inputs import CurrentMachine
from tklb.restore.plan.plan import make_plan

CONF = b"/etc/app.d"


def with_conf() -> Tree:
    """An install state with a folder of configuration."""
    tree = base_tree()
    tree.put(CONF + b"/default", content=b"as shipped")
    tree.put(CONF + b"/other", content=b"as shipped too")
    return tree


def there_with(kind: str) -> Tree:
    """The backed-up machine, where something else took the place of that folder."""
    tree = with_conf()
    tree.remove(CONF)
    tree.put(b"/srv/conf/app.d/default", content=b"edited")
    tree.put(CONF, kind, content=b"x" if kind == "file" else b"", link=b"/srv/conf/app.d" if kind == "link" else None)
    return tree


def reasons(plan: Plan) -> dict[bytes, str]:
    return {item.item: item.reason for item in plan.skipped}


@pytest.mark.parametrize("kind", ["link", "file", "fifo", "char"])
def test_a_folder_with_this_machines_own_files_moves_aside_whole(kind: str) -> None:
    here = with_conf()
    here.put(CONF + b"/mine", content=b"precious")
    plan = restored(with_conf(), there_with(kind), here)
    assert ("move-aside", CONF) in steps(plan)
    assert not any(kind == "delete-file" for kind, _ in steps(plan))
    assert here.entry(CONF).kind == kind
    kept = {name for name in here.names if name.startswith(CONF + b".tklb-kept/")}
    assert kept == {CONF + b".tklb-kept" + name for name in (b"/default", b"/other", b"/mine")}


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "socket", "block"])
def test_an_object_of_this_machine_makes_way_for_a_folder_and_stays_beside_it(kind: str) -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/app/data", content=b"x")
    here.put(b"/srv/app", kind, content=b"precious" if kind == "file" else b"", link=b"/" if kind == "link" else None)
    before = here.entry(b"/srv/app")
    plan = restored(base_tree(), there, here)
    assert steps(plan)[:2] == [("move-aside", b"/srv/app"), ("write-file", b"/srv/app")]
    assert here.entry(b"/srv/app.tklb-kept").ino == before.ino


def test_a_name_that_is_taken_is_never_overwritten() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/app/data", content=b"x")
    there.put(b"/srv/app.tklb-kept-2", content=b"of the backed-up machine")
    here.put(b"/srv/app", content=b"precious")
    here.put(b"/srv/app.tklb-kept", content=b"of an earlier restore")
    restored(base_tree(), there, here)
    assert here.inodes[here.names[b"/srv/app.tklb-kept-3"]].content == b"precious"
    assert here.inodes[here.names[b"/srv/app.tklb-kept"]].content == b"of an earlier restore"


def test_a_name_of_full_length_is_cut_for_its_free_name() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv/" + b"n" * 255 + b"/data", content=b"x")
    here.put(b"/srv/" + b"n" * 255, content=b"precious")
    plan = restored(base_tree(), there, here)
    (move,) = (step for step in plan.steps if step.kind is StepKind.MOVE)
    assert len(move.partner.rpartition(b"/")[2]) == 255
    assert move.partner.endswith(b".tklb-kept")


def test_what_moved_aside_is_named_by_a_step_with_its_new_name() -> None:
    here = with_conf()
    here.put(CONF + b"/mine", content=b"precious")
    plan = plan_for(saved(with_conf(), there_with("link")), here)
    (move,) = (step for step in plan.steps if step.kind is StepKind.MOVE)
    assert (move.item, move.detail) == (CONF, "to /etc/app.d.tklb-kept")


# ---------------------------------------------------------------- what stays


def stays(here: Tree, there: Tree, why: str, place: bytes = CONF, base: Tree | None = None) -> Plan:
    """The object stays with all that is in it, it is named, and a second restore names it again."""
    snapshot = saved(base or with_conf(), there)
    before = {name for name in here.names if name == place or name.startswith(place + b"/")}
    for _ in range(2):
        plan = plan_for(snapshot, here)
        assert why in reasons(plan)[place], reasons(plan)
        assert not [step for step in plan.steps if step.item == place or step.item.startswith(place + b"/")]
        here.carry_out(plan, contents_of(there, here))
        assert before <= here.names.keys()
    return plan


@pytest.mark.parametrize("point", [CONF, CONF + b"/deep", CONF + b"/deep/er"])
def test_a_mount_point_is_never_replaced_nor_emptied(point: bytes) -> None:
    here = with_conf()
    here.put(CONF + b"/deep/er", "dir")
    here.mounts = (point,)
    stays(here, there_with("link"), "is a mount point")


@pytest.mark.parametrize("link", [b"/data/home", b"../data/home", b"home", b"/srv/home/../nowhere", b"/home/inside"])
def test_a_folder_is_not_replaced_by_a_link_that_would_lead_nowhere(link: bytes) -> None:
    base, here = base_tree(), base_tree()
    for tree in (base, here):
        tree.put(b"/home", "dir")
    there = base.copy()
    there.remove(b"/home")
    there.put(b"/home", "link", link=link)
    here.put(b"/home/olga/notes", content=b"precious")
    stays(here, there, "would lead nowhere", b"/home", base)


def test_a_limit_that_leaves_the_target_out_keeps_the_folder() -> None:
    snapshot = saved(with_conf(), there_with("link"))
    plan = plan_for(snapshot, with_conf(), "/etc")
    assert "would lead nowhere" in reasons(plan)[CONF]
    assert not plan.steps
    assert not plan_for(snapshot, with_conf(), "/etc", "/srv/conf").skipped


def test_a_target_that_this_machine_has_is_enough() -> None:
    base, there, here = with_conf(), with_conf(), with_conf()
    there.remove(CONF)
    there.put(CONF, "link", link=b"../srv/www")
    restored(base, there, here)
    assert here.entry(CONF).kind == "link"


def test_a_target_that_exists_only_while_the_machine_runs_is_enough() -> None:
    there, here = with_conf(), with_conf()
    there.remove(CONF)
    there.put(CONF, "link", link=b"/run/app")
    restored(with_conf(), there, here)
    assert here.entry(CONF).kind == "link"


def test_a_link_to_a_folder_is_not_replaced_by_one_that_leads_nowhere() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/home", "link", link=b"/data/home")
    here.put(b"/mnt/home/olga", content=b"precious")
    here.put(b"/home", "link", link=b"/mnt/home")
    stays(here, there, "would lead nowhere", b"/home", base_tree())


@pytest.mark.parametrize("kept", [OWN[0] + b"/secret", b"/var/lib/dpkg/status"])
def test_a_folder_with_what_no_restore_touches_stays(kept: bytes) -> None:
    base, there, here = base_tree(), base_tree(), base_tree()
    there.put(b"/var", "link", link=b"/srv")
    here.put(kept, content=b"x")
    stays(here, there, "it holds", b"/var", base)


def test_a_folder_with_the_network_of_this_machine_stays() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/etc/network", content=b"a file")
    here.put(b"/etc/network/interfaces.d/eth0", content=b"auto eth0")
    stays(here, there, "is how this machine reaches its network", b"/etc/network", base_tree())


# ---------------------------------------------------------------- any machines at all


def obstacles(*targets: bytes) -> st.SearchStrategy[Deeds]:
    return st.lists(
        st.one_of(
            st.tuples(st.just("link"), PATHS, st.sampled_from(targets), FACTS),
            st.tuples(st.sampled_from(["file", "dir", "fifo", "remove"]), PATHS, st.just(b"x"), FACTS),
        ),
        max_size=12,
    )


PLAIN = obstacles(b"/", b"/nowhere", b"/run/x")  # they lead to the same place before a restore and after it
OBSTACLES = obstacles(b"/", b"/a", b"b", b"../b", b"/nowhere", b"/run/x")
MOUNTS = st.lists(st.lists(NAMES, min_size=1, max_size=2).map(lambda some: b"/" + b"/".join(some)), max_size=1)


def lived(tree: Tree, deeds: Deeds) -> Tree:
    """As `changed` does, with links that lead anywhere."""
    for kind, path, what, facts in deeds:
        tree = changed(tree, [(kind, path, b"x", facts)])
        if kind == "link" and path in tree.names and tree.entry(path) and tree.entry(path).kind == "link":
            inode = tree.inodes[tree.names[path]]
            inode.entry = inode.entry._replace(link=what)
    return tree


@settings(max_examples=examples(150))
@given(LISTS, OBSTACLES, OBSTACLES, MOUNTS)
def test_nothing_of_this_machine_is_lost_unless_the_plan_names_it(
    first: Deeds, second: Deeds, third: Deeds, mounts: list[bytes]
) -> None:
    root = Tree()
    root.put(b"/", "dir")
    base = changed(root, first)
    there, here = lived(base, second), lived(base, third)
    here.mounts = tuple(mounts)
    before = here.copy()
    plan = plan_for(saved(base, there), here)
    here.carry_out(plan, contents_of(base, there, here))
    named = {step.item for step in plan.steps}
    moved = {step.item: step.partner for step in plan.steps if step.kind is StepKind.MOVE}
    for path in before.names:
        assert places_of(path, moved) & (named - moved.keys() | here.names.keys())


@settings(max_examples=examples(150))
@given(LISTS, PLAIN, PLAIN, MOUNTS)
def test_a_second_plan_is_empty_and_skips_the_same(
    first: Deeds, second: Deeds, third: Deeds, mounts: list[bytes]
) -> None:
    root = Tree()
    root.put(b"/", "dir")
    base = changed(root, first)
    there, here = lived(base, second), lived(base, third)
    here.mounts = tuple(mounts)
    snapshot = saved(base, there)
    plan = plan_for(snapshot, here)
    here.carry_out(plan, contents_of(base, there, here))
    again = plan_for(snapshot, here)
    assert again.is_empty, again.steps
    assert {item.item for item in again.skipped} == {item.item for item in plan.skipped}


@settings(max_examples=examples(100))
@given(LISTS, OBSTACLES, OBSTACLES)
def test_a_path_that_is_skipped_keeps_all_that_is_in_it(first: Deeds, second: Deeds, third: Deeds) -> None:
    root = Tree()
    root.put(b"/", "dir")
    base = changed(root, first)
    there, here = lived(base, second), lived(base, third)
    before = here.copy()
    plan = plan_for(saved(base, there), here)
    here.carry_out(plan, contents_of(base, there, here))
    manifest = {entry.path for entry in delta_of(base, there)[0]}
    for place in {item.item for item in plan.skipped} & manifest:
        inside = {name for name in before.names if name.startswith(place + b"/")}
        assert inside <= here.names.keys()


# ---------------------------------------------------------------- links of the administrator


class FollowingView(View):
    """A view that follows one link, as real ones follow those that only root can change."""

    def __init__(self, tree: Tree, link: bytes, target: bytes) -> None:
        super().__init__(tree)
        self._link, self._target = link, target
        for name in ("entry", "names", "digest", "head", "find_barrier"):
            setattr(self, name, self._follow(getattr(self, name)))

    def _follow(self, look):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        def answer(path: bytes, *more: object):  # type: ignore[no-untyped-def] # noqa: ANN202
            place = self._target + path[len(self._link) :] if path.startswith(self._link + b"/") else path
            found = look(place, *more)
            return found._replace(path=path) if hasattr(found, "_replace") else found

        return answer

    def find_safe_target(self, path: bytes) -> bytes | None:
        return self._target if path == self._link else None

    def list_followed_links(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((self._link, self._target),)


def plan_through(here: Tree, there: Tree, link: bytes = b"/home", target: bytes = b"/data/home") -> Plan:
    view = FollowingView(here, link, target)
    return make_plan(saved(base_tree(), there), CurrentMachine(MACHINE, ROOT, (), view), RestoreFilter(own=OWN))


def test_a_link_of_the_administrator_is_followed_and_the_plan_says_so() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/home/alice/notes", content=b"x")
    here.put(b"/data/home", "dir")
    here.put(b"/home", "link", link=b"/data/home")
    plan = plan_through(here, there)
    assert steps(plan) == [("write-file", b"/home/alice"), ("write-file", b"/home/alice/notes")]
    assert "/home is a link to /data/home on this machine: what belongs below it goes there" in plan.warnings


def test_nothing_is_deleted_through_a_link_that_took_the_place_of_a_folder() -> None:
    base, there = with_conf(), there_with("link")
    here = there.copy()
    view = FollowingView(here, CONF, b"/srv/conf/app.d")
    plan = make_plan(saved(base, there), CurrentMachine(MACHINE, ROOT, (), view), RestoreFilter(own=OWN))
    assert not plan.steps


def test_what_no_restore_touches_is_safe_behind_a_link_too() -> None:
    there, here = base_tree(), base_tree()
    there.put(b"/srv2/passwd", content=b"x")
    there.put(b"/srv2/fstab", content=b"x")
    here.put(b"/etc/passwd", content=b"mine")
    here.put(b"/srv2", "link", link=b"/etc")
    assert not plan_through(here, there, b"/srv2", b"/etc").steps
