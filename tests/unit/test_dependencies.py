"""The libraries that tklb imports are those that pyproject.toml declares and requirements.txt pins."""

import ast
import re
import sys
import tomllib
from pathlib import Path

HOUSE = Path(__file__).parents[2]
NAMES = {"gnupg": "python-gnupg"}  # where a library is not named after what it is imported as
NEEDED_BY_DUPLICITY = {"fasteners"}


def imported() -> set[str]:
    found = set()
    for path in (HOUSE / "tklb").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0] for name in names}
    outside = found - set(sys.stdlib_module_names) - {"tklb"}
    return {NAMES.get(name, name) for name in outside}


def test_every_library_that_is_imported_is_declared_and_no_other() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) == imported() | NEEDED_BY_DUPLICITY


def test_every_declared_library_is_pinned() -> None:
    pins = set(re.findall(r"^([A-Za-z0-9._-]+)==", (HOUSE / "requirements.txt").read_text(), re.MULTILINE))
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) <= pins
