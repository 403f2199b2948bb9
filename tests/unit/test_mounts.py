"""Folders with several paths, by the table of mounts alone, and which mount points a backup enters."""

from tklb.backup.scope.mount_points import find_mount_points
from tklb.diff.rules import Rule, Rules
from tklb.host.mounts import Mount, find_mount, find_other_paths

ROOT = Mount(b"/", b"btrfs", b"0:30", b"/@", b"/dev/sda2")
HOME = Mount(b"/home", b"btrfs", b"0:30", b"/@home", b"/dev/sda2")
WHOLE = Mount(b"/mnt/btrfs", b"btrfs", b"0:30", b"/", b"/dev/sda2")
BOUND = Mount(b"/srv/again", b"btrfs", b"0:30", b"/@/srv/data", b"/dev/sda2")
DISK = Mount(b"/srv/disk", b"ext4", b"8:17", b"/", b"/dev/sdb1")
TWICE = Mount(b"/srv/twice", b"ext4", b"8:17", b"/", b"/dev/sdb1")
MEMORY = Mount(b"/srv/ram", b"tmpfs", b"0:50", b"/", b"tmpfs")
NAS = Mount(b"/srv/nas", b"nfs4", b"0:60", b"/", b"nas:/export")
PROC = Mount(b"/srv/jail/proc", b"proc", b"0:5", b"/", b"proc")
RULES = Rules([Rule(True, b"/srv"), Rule(True, b"/home")])


def is_same(_one: bytes, _other: bytes) -> bool:
    """The paths of these tests do not exist: the table of mounts is all there is."""
    return True


def describe(*mounts: Mount, rules: Rules = RULES) -> dict[bytes, bool]:
    return {point.path: point.taken for point in find_mount_points(rules, mounts, (), (), is_same)}


def test_bind_mount_is_known_by_the_folder_of_its_file_system() -> None:
    assert find_other_paths([ROOT, BOUND], b"/srv/data/x") == (b"/srv/again/x",)
    assert find_other_paths([ROOT, BOUND], b"/srv/again") == (b"/srv/data",)
    assert find_other_paths([ROOT, DISK], b"/srv/disk/x") == ()


def test_subvolume_is_no_part_of_its_neighbour() -> None:
    assert find_other_paths([ROOT, HOME], b"/home/h") == ()
    assert find_other_paths([ROOT, HOME, WHOLE], b"/home/h") == (b"/mnt/btrfs/@home/h",)


def test_path_belongs_to_the_mount_with_the_longest_point() -> None:
    assert find_mount([ROOT, HOME, BOUND], b"/srv/again/x") == BOUND
    assert find_mount([ROOT, HOME], b"/homes") == ROOT


def test_folder_with_two_paths_in_scope_is_entered_once() -> None:
    assert describe(ROOT, BOUND) == {b"/srv/again": False}
    assert describe(ROOT, DISK, TWICE) == {b"/srv/disk": True, b"/srv/twice": False}


def test_bind_mount_of_a_folder_out_of_scope_is_entered() -> None:
    outside = Mount(b"/srv/site", b"btrfs", b"0:30", b"/@/data/site", b"/dev/sda2")
    assert describe(ROOT, outside) == {b"/srv/site": True}


def test_mount_of_the_root_does_not_bring_the_whole_scope_again() -> None:
    assert describe(ROOT, Mount(b"/srv/root", b"btrfs", b"0:30", b"/@", b"/dev/sda2")) == {b"/srv/root": False}


def test_file_system_in_memory_is_entered_only_where_an_override_names_it() -> None:
    assert describe(ROOT, MEMORY, NAS, PROC) == {b"/srv/ram": False, b"/srv/nas": True}
    for wanted in (b"/srv/ram", b"/srv/ram/keep", b"/srv/*"):
        assert describe(ROOT, MEMORY, rules=RULES.add_overrides([Rule(True, wanted)])) == {b"/srv/ram": True}
    assert describe(ROOT, MEMORY, rules=RULES.add_overrides([Rule(True, b"/srv")])) == {b"/srv/ram": False}


def test_disk_of_the_target_is_reported_and_not_entered() -> None:
    disk = Mount(b"/mnt/usb", b"ext4", b"8:33", b"/", b"/dev/sdc1")
    found = find_mount_points(RULES, [ROOT, disk], (), (b"/mnt/usb/backups",), is_same)
    assert [(point.path, point.taken) for point in found] == [(b"/mnt/usb", False)]


def test_file_system_that_the_program_of_a_user_shows_is_entered_only_where_an_override_names_it() -> None:
    """It may show files of root with set-id bits."""
    options = b"rw,user_id=%d,group_id=0"
    hers = Mount(b"/home/mallory/fs", b"fuse.thing", b"0:70", b"/", b"thing", options % 1500)
    roots = Mount(b"/srv/fs", b"fuse.mergerfs", b"0:71", b"/", b"pool", options % 0)
    assert describe(ROOT, hers, roots) == {b"/home/mallory/fs": False, b"/srv/fs": True}
    wanted = Rules([*RULES.rules, Rule(True, b"/home/mallory/fs", is_override=True)])
    assert describe(ROOT, hers, rules=wanted) == {b"/home/mallory/fs": True}
