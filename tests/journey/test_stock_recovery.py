"""With the key file, gpg and duplicity alone bring the files back: the README's own lines, where there is no tklb."""

from pathlib import Path

import pytest

from tests.lab import checker
from tests.lab.appliance import clone, stack
from tests.lab.box import Box
from tests.lab.roots import layer
from tests.lab.soak import some
from tests.lab.used_server import touch_one_percent, used_server

pytestmark = pytest.mark.lab

README = Path(__file__).parents[2] / "README.md"
HEADING = "## Without tklb: stock tools\n"
SCOPE = ("/home", "/srv")


def lines_of_the_readme() -> list[str]:
    """The indented lines below the heading, with the test's own paths."""
    text = README.read_text().split(HEADING)[1].split("\n## ")[0]
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert len(lines) == 4
    return [line.replace("a.key", "/mnt/share/key").replace("/mnt/disk/backups", "/mnt/share/target") for line in lines]


def install_duplicity(box: Box) -> None:
    box.run(["apt-get", "update", "-qq"], timeout=300)
    box.run(["apt-get", "install", "-qqy", "--no-install-recommends", "duplicity", "gnupg"], timeout=300)


@pytest.mark.parametrize("stock", some(["core", "trixie-core"], 2, first=1))
def test_four_lines_of_the_readme_bring_the_newest_files_back(stock: str, tmp_path: Path) -> None:
    binds = {tmp_path: "/mnt/share"}
    with used_server("core", files=300, tklb=True, binds=binds) as a:
        a.run(["tklb", "init", "--target", "file:///mnt/share/target"])
        a.run(["sed", "-i", "s/^shards.*/shards = 2/", "/etc/tklb/tklb.toml"])
        a.run(["tklb", "backup"], timeout=600)
        assert touch_one_percent(a) > 0
        a.run(["tklb", "backup"], timeout=600)
        a.run(["tklb", "key", "escrow", "--no-passphrase", "/mnt/share/key"])
        there = checker.record(a.root, SCOPE)
    bare = layer(f"stock duplicity {stock}", stack(stock, "rescue"), install_duplicity, "rescue")
    with clone(stock, hostname="rescue", binds=binds, layers=[bare]) as rescue:
        rescue.run(["sh", "-euc", "cd /root; " + "; ".join(lines_of_the_readme())], timeout=300)
        folders = [rescue.root / "root/files", rescue.root / "root/files-b"]
        wanted = {path: fact["content"] for path, fact in there.items() if fact["kind"] == "file"}
        found = {path: facts[path]["content"] for facts in map(contents, folders) for path in facts}
        assert len(wanted) > 300
        assert {path for path in wanted if found.get(path) != wanted[path]} == set()
        assert (folders[0] / "var/lib/tklb/stage/manifest.mtree").read_bytes().startswith(b"#mtree v2.0\n")


def contents(root: Path) -> checker.Facts:
    return {path: fact for path, fact in checker.record(root, SCOPE).items() if fact["kind"] == "file"}
