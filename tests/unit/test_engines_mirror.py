"""Both database engines have the same files, and each file of one has the entry points of the other's."""

from __future__ import annotations

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

from tklb import databases
from tklb.databases.interface import DatabaseServer
from tklb.model.databases import ENGINES

DATABASES = Path(__file__).parents[2] / "tklb/databases"
FOLDERS = [DATABASES / engine.module.rpartition(".")[2] for engine in ENGINES.values()]
_STAGES, _OWN = (databases.__doc__ or "").split("a stage each:")[1].split("one of them alone:")
STAGES = re.findall(r"^    ([\w/]+)  +\S", _STAGES, re.MULTILINE)
OWN = re.findall(r"^    (\w+)/([\w/]+)  +\S", _OWN, re.MULTILINE)  # engine and stage


def entry_points(module: Path) -> dict[str, type[ast.AST]]:
    """The names in `__all__`, each with its kind of definition in that very module."""
    tree = ast.parse(module.read_text())
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    kinds = {node.name: type(node) for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name: kinds[name] for name in names}


def stages(folder: Path) -> set[str]:
    modules = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py"))
    return {module for module in modules if not module.endswith("__init__")}


def own_stages(folder: Path) -> set[str]:
    return {stage for engine, stage in OWN if engine == folder.name}


def test_both_engines_have_the_same_files_but_for_those_that_the_house_plan_names() -> None:
    for folder in FOLDERS:
        assert stages(folder) == set(STAGES) | own_stages(folder)


@pytest.mark.parametrize("stage", ["__init__", *STAGES])
def test_stage_has_the_same_entry_points_in_both_engines(stage: str) -> None:
    one, other = (entry_points(folder / f"{stage}.py") for folder in FOLDERS)
    assert one
    assert one == other


def test_each_stage_is_used_by_another_stage_or_by_the_front_door() -> None:
    for folder in FOLDERS:
        known = set(STAGES) | own_stages(folder)
        used = set(chain.from_iterable(imports(path, folder.name) for path in folder.rglob("*.py")))
        assert used & known == known


def imports(module: Path, engine: str) -> set[str]:
    package = f"tklb.databases.{engine}"
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(f"{package}."):
            stage = node.module.removeprefix(package).removeprefix(".").replace(".", "/")
            found |= {stage, *(f"{stage}/{alias.name}".lstrip("/") for alias in node.names)}
    return found


def test_every_method_of_the_interface_says_what_an_implementer_must_keep() -> None:
    methods = [name for name in vars(DatabaseServer) if not name.startswith("_")]
    assert set(methods) >= {"list_databases", "dump_databases", "load_accounts", "load_database", "finish"}
    for name in methods:
        member = vars(DatabaseServer)[name]
        text = (member.fget if isinstance(member, property) else member).__doc__ or ""
        assert text.strip().endswith("."), name
        assert name == "engine" or "Raises" in text, name
