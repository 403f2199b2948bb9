"""The shape of the house: linters, types, layers, sizes, words, and the manual that agrees with the program.

Takes the tracked files and the click commands; touches nothing but the tools' caches.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from tklb import errors

HOUSE = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
MODULES = sorted(path.relative_to(HOUSE).as_posix() for path in (HOUSE / "tklb").rglob("*.py"))
LINES_IN_A_FILE, LINES_IN_A_STORY, LINES_IN_A_FUNCTION = 400, 120, 40
# joined here, so that this file does not hold what it looks for
OF_ONE_PLACE = [
    word.replace("_", "")
    for word in ("py_pi.org", "python_hosted.org", "deb._debian.org", "security._debian.org", "/wo_rk/")
]
# Of other kinds of targets, printed keys and databases: half a second of every start, were they always loaded.
HEAVY = {"boto3", "botocore", "paramiko", "cryptography", "gnupg", "segno", "reportlab", "PIL", "pymysql", "psycopg"}
LOOSE_ENDS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error")) + r")\b")
CODE_RANGES = [range(1, 3), *(range(first, first + 10) for first in range(10, 70, 10)), range(130, 131)]


def passes(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_and_format_hold() -> None:
    passes(TOOLS / "ruff", "check", ".")
    passes(TOOLS / "ruff", "format", "--check", ".")


def test_types_hold() -> None:
    passes(TOOLS / "mypy")


def test_imports_go_downwards_only() -> None:
    passes(TOOLS / "lint-imports", "--no-cache")


@pytest.mark.parametrize("module", ["main", "snapshots.backup", "snapshots.restore", "machine.init", "profile.build"])
def test_start_loads_no_library_that_only_few_runs_need(module: str) -> None:
    script = f"import sys, tklb.cli.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert not {*loaded.stdout.split()} & HEAVY


def test_shellcheck_finds_nothing() -> None:
    scripts = [path for path in tracked() if first_line(path).endswith(("/sh", "/bash", "/bash -p"))]
    assert HOUSE / "scripts/install" in scripts
    passes("shellcheck", "--exclude=SC2016", *scripts)


def test_every_module_is_small_and_says_what_it_is() -> None:
    for module in MODULES:
        text = (HOUSE / module).read_text()
        tree = ast.parse(text)
        assert ast.get_docstring(tree), module
        assert len(text.splitlines()) <= LINES_IN_A_FILE, module
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= LINES_IN_A_FUNCTION]
        assert not long, module


def test_every_story_fits_on_a_page() -> None:
    stories = [module for module in MODULES if module.startswith("tklb/commands/")]
    assert stories
    assert not [one for one in stories if len((HOUSE / one).read_text().splitlines()) > LINES_IN_A_STORY]


def test_no_file_names_a_registry_or_one_machine() -> None:
    texts = {path: path.read_bytes() for path in tracked()}
    assert not [(path.name, word) for path, text in texts.items() for word in OF_ONE_PLACE if word.encode() in text]


def test_no_loose_ends() -> None:
    listings = {".mtree", ".txt", ""}
    ours = [path for path in tracked() if "profiles" not in path.parts or path.suffix not in listings]
    assert not [path.name for path in ours if LOOSE_ENDS.search(path.read_text(errors="replace"))]


def test_every_error_has_its_own_code_a_message_and_a_hint() -> None:
    codes = [error.code for error in failures() if error.__base__ is errors.TklbError]
    assert len(codes) == len(set(codes))
    assert {error.code for error in failures()} == set(codes), "a kind of a failure has its code"
    assert all(any(code in allowed for allowed in CODE_RANGES) for code in codes)
    assert all(error.message and error.hint for error in failures())


def test_manual_lists_exactly_the_errors_there_are() -> None:
    table = re.findall(r"^(\d+)\s+([A-Z][A-Za-z]+)\b", manual("tklb.1"), re.MULTILINE)
    assert sorted((int(code), name) for code, name in table) == sorted((e.code, e.__name__) for e in failures())


def test_every_command_has_help_with_an_example() -> None:
    silent = [name for name, command in commands() if not command.help or "Example" not in help_of(name, command)]
    assert not silent


def test_every_option_is_explained_in_help_and_manual() -> None:
    everywhere = section("GLOBAL OPTIONS")
    for name, command in commands():
        options = [param for param in command.params if isinstance(param, click.Option)]
        assert all(option.help for option in options), name
        told = everywhere if isinstance(command, click.Group) else everywhere + section(name)
        words = [word for option in options for word in (*option.opts, *option.secondary_opts)]
        assert not [(name, word) for word in words if not re.search(rf"{word}\b", told)]


def first_line(path: Path) -> str:
    return path.read_bytes().split(b"\n", 1)[0].decode(errors="replace") if path.read_bytes()[:2] == b"#!" else ""


@cache
def tracked() -> tuple[Path, ...]:
    """Every tracked file. Root may look into a checkout that belongs to somebody else."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = subprocess.run(git, cwd=HOUSE, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(path for name in names if name and (path := HOUSE / name).is_file())


def failures() -> list[type[errors.TklbError]]:
    classes = [thing for thing in vars(errors).values() if isinstance(thing, type)]
    return [c for c in classes if issubclass(c, errors.TklbError) and c is not errors.TklbError]


@cache
def commands() -> tuple[tuple[str, click.Command], ...]:
    from tklb.cli.main import cli

    return tuple(walk("tklb", cli))


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from walk(f"{name} {below}", found)


def help_of(name: str, command: click.Command) -> str:
    return command.get_help(click.Context(command, info_name=name))


def manual(page: str) -> str:
    return plain((HOUSE / "man" / page).read_text())


def plain(page: str) -> str:
    """A manual page without its macros and font changes."""
    text = re.sub(r"\\f[A-Z]|\\&|\\f\([A-Z]{2}", "", page).replace("\\-", "-").replace('"', "")
    return re.sub(r"^\.[A-Za-z]+ ?", "", text, flags=re.MULTILINE)


def section(name: str) -> str:
    """The part of tklb(1) under the heading that starts with this command or these words."""
    parts = re.split(r"^\.S[SH] ", (HOUSE / "man/tklb.1").read_text(), flags=re.MULTILINE)
    found = [part for part in map(plain, parts) if re.match(rf"{name}($| [^a-z])", part, re.MULTILINE)]
    assert len(found) == 1, name
    return found[0]
