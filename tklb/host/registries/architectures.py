"""Foreign architectures of dpkg: read them, and add one.

Takes a root; gives names. Source: /var/lib/dpkg/arch, one architecture a line, the native one first.
"""

from tklb.diff.packages import ARCHITECTURE
from tklb.host.registries.database import ADMIN, read_lines, run_tool


def read_architectures(root: bytes, native: str) -> tuple[str, ...]:
    """Give the foreign architectures, sorted."""
    names = (line.decode("ascii", "replace").strip() for line in read_lines(root, ADMIN + b"arch"))
    return tuple(sorted({name for name in names if name != native and ARCHITECTURE.fullmatch(name)}))


def add_architecture(name: str, root: bytes) -> None:
    """Let dpkg accept packages of a further architecture. Raises ProgramFailed."""
    run_tool(root, ["dpkg", "--add-architecture", name])
