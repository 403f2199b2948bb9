"""The rules of the house, each as a test over the program's own sources: rooms, names, sizes, values, dead code.

Takes the tracked modules of the program; touches nothing. Layers and doors are import-linter's (pyproject.toml), style
and types are ruff's and mypy's: test_shape.py runs those.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HOUSE = Path(__file__).parents[2]
TREE = HOUSE / "tklb"
MODULES = sorted(path.relative_to(HOUSE).as_posix() for path in TREE.rglob("*.py"))

MODULES_IN_A_FOLDER, LEVELS = 12, 2
Function = ast.FunctionDef | ast.AsyncFunctionDef
# `with` acquires and branches nowhere, so it is no level; a `match` over kinds is a table.
NESTED = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try)

# Both engines have the same files, and each kind of target has its backend.
MIRRORS = (r"tklb/databases/(mariadb|postgresql)/", r"tklb/storage/(s3|sftp|duplicity)/")
# A noun has the same name as a value, where it is compared, where the machine is asked for it, and where it is planned.
# A stage of a run may be called as the stage below it that it uses.
SAME_NAMES = (
    r"tklb/(model|diff|host|config|crypto|databases|profile|snapshot|restore|restore/plan)/",
    r"tklb/(backup|restore|ledger|storage|engine|verify)/",
)

_PREPOSITIONS = """
    about above across after against ahead along among around at before behind below beneath beside between beyond by
    despite down during for from in into near of off on onto out over past since through till to toward under until
    up upon with within without
"""
_PARTICIPLES = """
    begun bound brought built chosen come done drawn driven fallen fed felt found frozen given gone grown heard held
    hidden kept known laid led left lent lost made meant met paid said seen sent shown sold spent spoken stood stuck
    taken taught thought thrown told torn understood won worn written wrapped
"""
_NO_PARTICIPLES = (
    "bring embed exceed feed heading listing need ping proceed ring seed setting speed spelling string warning"
)
PREPOSITIONS, PARTICIPLES = frozenset(_PREPOSITIONS.split()), frozenset(_PARTICIPLES.split())
NO_PARTICIPLES = frozenset(_NO_PARTICIPLES.split())
FILLING = frozenset({"add", "append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update"})


def test_every_folder_has_a_table_of_contents_that_fits_the_eye() -> None:
    modules = Counter(module.rpartition("/")[0] for module in MODULES if not module.endswith("__init__.py"))
    assert not {folder: many for folder, many in modules.items() if many > MODULES_IN_A_FOLDER}


def test_class_names_are_unique_but_for_mirrored_files() -> None:
    places = defaultdict(list)
    for module in MODULES:
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert not {name: where for name, where in places.items() if len(where) > 1 and not are_mirrored(where)}


def test_module_names_are_unique_but_for_mirrored_files_and_shared_nouns() -> None:
    places = defaultdict(list)
    for module in MODULES:
        # a command has a file and a story, both called as what it does
        if not module.endswith("__init__.py") and not module.startswith(("tklb/cli/", "tklb/commands/")):
            places[Path(module).name].append(module)
    doubled = {name: where for name, where in places.items() if len(where) > 1}
    assert not {name: where for name, where in doubled.items() if not share_a_name(where)}


def test_no_function_is_named_by_a_participle_or_a_preposition() -> None:
    assert not [(module, name) for module in MODULES for name in function_names(module) if is_no_verb(name)]


def test_functions_nest_two_levels_at_most() -> None:
    deep = [(module, one.name) for module in MODULES for one in functions(module) if max(map(depth, one.body)) > LEVELS]
    assert not deep


def test_no_function_fills_a_list_that_it_was_given() -> None:
    assert not [
        f"{module}: {node.name}({name})"
        for module in MODULES
        for node in functions(module)
        for name in sorted(filled_parameters(node))
    ]


def test_dataclasses_are_frozen_or_say_why_not() -> None:
    assert not [(module, name) for module in MODULES for name in mutable_dataclasses(module)]


def test_dataclasses_are_written_late() -> None:
    """An import of `dataclass` itself costs every start a millisecond for each class."""
    alone = "tklb/host/sqlite/reader.py"  # a program of its own, which finds nothing of tklb
    eager = [
        module
        for module in MODULES
        if module != alone
        and re.search(r"^from dataclasses import .*\bdataclass\b", (HOUSE / module).read_text(), re.MULTILINE)
    ]
    assert not eager, "import dataclass from tklb.lazy_dataclass"


def test_names_of_participles_and_prepositions_are_known() -> None:
    assert all(map(is_no_verb, ("_settled", "told", "linking", "since_last", "with_id", "looked_at", "in_turn")))
    assert not any(
        map(is_no_verb, ("feed", "_read", "bring", "settle", "is_kept", "stored_bytes", "string", "warning"))
    )


def test_nesting_is_counted_and_an_elif_is_no_level() -> None:
    flat = ast.parse("if a:\n    for b in c:\n        with i:\n            d\nelif e:\n    f\nelif g:\n    h")
    deep = ast.parse("try:\n    for b in c:\n        if d:\n            e\nfinally:\n    f")
    assert (depth(flat.body[0]), depth(deep.body[0])) == (2, 3)


def test_filled_parameter_is_found() -> None:
    tree = ast.parse("def f(out: list[int], known: dict[str, int], seen: list[int]):\n out.append(1)\n known[1] = 2")
    assert isinstance(tree.body[0], ast.FunctionDef)
    assert filled_parameters(tree.body[0]) == {"out", "known"}


def test_nothing_in_the_program_is_used_by_tests_only() -> None:
    """Vulture reads its paths, and the names that other libraries call, in pyproject.toml."""
    done = subprocess.run([sys.executable, "-m", "vulture"], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert not done.stdout + done.stderr


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse((HOUSE / module).read_text())


def functions(module: str) -> Iterator[Function]:
    return (node for node in ast.walk(parsed(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def function_names(module: str) -> list[str]:
    return [node.name for node in functions(module) if not node.name.startswith("__")]


def is_no_verb(name: str) -> bool:
    """Whether a name is a participle, or begins with a preposition, or is a participle with one: `looked_at`.

    A participle before a noun is an adjective, and the name that of a value: `stored_bytes`.
    """
    first, *rest = name.strip("_").split("_")
    if first in PREPOSITIONS:
        return True
    is_participle = first in PARTICIPLES or (len(first) > len("ping") and first.endswith(("ed", "ing")))
    return is_participle and first not in NO_PARTICIPLES and (not rest or rest[0] in PREPOSITIONS)


def depth(node: ast.AST) -> int:
    """How many levels of nesting a statement has. A function inside it starts anew, an `elif` is no level."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return 0
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        inside = 1 + max((depth(child) for child in node.body), default=0)
        return max(inside, depth(node.orelse[0]))
    below = max(map(depth, ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, NESTED)


def filled_parameters(node: Function) -> set[str]:
    """The parameters that are lists, dicts or sets and are changed in the body."""
    given = {
        argument.arg
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.annotation and re.match(r"(list|dict|set|defaultdict)\b", ast.unparse(argument.annotation))
    }
    return given & {name for one in ast.walk(node) if (name := filled_name(one))}


def filled_name(node: ast.AST) -> str:
    """The name of what this node changes, "" if it changes nothing."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FILLING:
        changed: ast.expr = node.func.value
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        changed = node.value
    elif isinstance(node, ast.AugAssign):
        changed = node.target
    else:
        return ""
    return changed.id if isinstance(changed, ast.Name) else ""


def mutable_dataclasses(module: str) -> list[str]:
    """Those that do not say why."""
    lines = (HOUSE / module).read_text().splitlines()
    classes = [node for node in ast.walk(parsed(module)) if isinstance(node, ast.ClassDef)]
    return [one.name for one in classes if is_mutable_dataclass(one) and "# mutable:" not in lines[one.lineno - 1]]


def is_mutable_dataclass(node: ast.ClassDef) -> bool:
    decorators = [ast.unparse(one) for one in node.decorator_list]
    return any(one.startswith("dataclass") and "frozen=True" not in one for one in decorators)


def are_mirrored(modules: list[str]) -> bool:
    return any(len({re.sub(mirror, "", one) for one in modules}) == 1 for mirror in MIRRORS)


def share_a_name(modules: list[str]) -> bool:
    """Whether modules of one name are the same thing at different heights."""
    if any(all(re.match(mirror, one) for one in modules) for mirror in MIRRORS):
        return True
    return any(all(re.match(places, one) for one in modules) for places in SAME_NAMES)
