"""Every place where a name of somebody else gets into SQL or arguments, and where a file is made, was reviewed.

The code gives the places; tests/cases/reviewed/ has each of them with the reason why it is right. A new place fails
until somebody looks at it and writes its line: module and function, the expression, the reason; tabs between them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
CASES = HOUSE / "tests/cases/reviewed"
STATEMENT = re.compile(
    r"\b(SELECT|INSERT|CREATE|DROP|ALTER|GRANT|REVOKE|LOCK|SET|COPY|USE|RENAME|SHOW|DELETE|UPDATE|LOAD|COMMENT|TRUNCATE|"
    r"KILL|CALL|WHERE|FROM|TO|ON|IN|WITH|AND|OR|ROLE|PASSWORD|VALUES|COLLATE)\b"
)
QUOTES = {"quote_name", "quote_text", "quote_setting_name", "quote_setting", "int", "len"}
# whose first argument is a program with its arguments
DOORS = {"run", "_run", "run_apt", "run_tool", "open_conversation", "python_argv", "Popen", "_ask", "_gpg"}
MAKERS_TEXT = """
    mkdir makedirs mknod mkfifo symlink link rename replace touch write_text write_bytes copyfile copy2
    copytree copy move mkdtemp mkstemp TemporaryDirectory NamedTemporaryFile hardlink_to symlink_to
"""
MAKERS = frozenset(MAKERS_TEXT.split())
Place = tuple[str, str]  # module:function, expression
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_every_value_in_sql_is_quoted_or_reviewed() -> None:
    compare("sql.tsv", find_places("tklb/databases", list_values_in_sql))


def test_every_argument_of_a_program_is_fixed_or_reviewed() -> None:
    compare("arguments.tsv", find_places("tklb", list_arguments))


def test_every_place_that_makes_a_file_is_reviewed() -> None:
    compare("files.tsv", find_places("tklb", list_made_files))


def compare(name: str, found: set[Place]) -> None:
    lines = [line.split("\t") for line in (CASES / name).read_text().splitlines() if not line.startswith("#")]
    assert all(len(line) == 3 and line[2].strip() for line in lines), "three fields, and a reason"
    known = [(line[0], line[1]) for line in lines]
    assert len(known) == len(set(known)), sorted({place for place in known if known.count(place) > 1})
    new, gone = sorted(found - set(known)), sorted(set(known) - found)
    assert not new, "look at these places, then add them with the reason why they are right"
    assert not gone, "these places are no more: remove their lines"


def find_places(folder: str, list_in: Callable[[ast.AST, tuple[Function, ...]], Iterator[str]]) -> set[Place]:
    places = set()
    for path in sorted((HOUSE / folder).rglob("*.py")):
        module = path.relative_to(HOUSE / "tklb").as_posix().removesuffix(".py")
        for node, names, functions in walk(ast.parse(path.read_text())):
            places |= {(f"{module}:{'.'.join(names)}", expression) for expression in list_in(node, functions)}
    return places


def write(node: ast.AST) -> str:
    """The text of an expression, alike on all versions of Python, which choose other quotes."""
    return ast.unparse(node).replace('"', "'")


def walk(
    tree: ast.AST, names: tuple[str, ...] = (), functions: tuple[Function, ...] = ()
) -> Iterator[tuple[ast.AST, tuple[str, ...], tuple[Function, ...]]]:
    for child in ast.iter_child_nodes(tree):
        is_function = isinstance(child, Function)
        inner = (*names, child.name) if is_function or isinstance(child, ast.ClassDef) else names
        inside = (*functions, child) if is_function else functions
        yield child, inner, inside
        yield from walk(child, inner, inside)


# ---------------------------------------------------------------- SQL


def list_values_in_sql(node: ast.AST, functions: tuple[Function, ...]) -> Iterator[str]:
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant) and not is_safe(node.right, functions):
        yield from [write(node.right)] if STATEMENT.search(str(node.left.value)) else []
    if not isinstance(node, ast.JoinedStr):
        return
    text = " ".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    if STATEMENT.search(text):
        values = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        yield from (write(value) for value in values if not is_safe(value, functions))


def is_safe(value: ast.expr, functions: tuple[Function, ...], depth: int = 0) -> bool:
    """Whether an expression is quoted, a number, or a text of our own, as far as its function shows."""
    if depth > 4:
        return False
    match value:
        case ast.Constant() | ast.Attribute(attr="sql"):  # the latter, of accounts and tables, is made by quote_name()
            return True
        case ast.Call(func=ast.Name(id=name)) if name in QUOTES:
            return True
        case ast.Call(
            func=ast.Attribute(attr="join"), args=[ast.Call(func=ast.Name(id="map"), args=[ast.Name(id=name), *_])]
        ):
            return name in QUOTES
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.GeneratorExp(elt=part) | ast.ListComp(elt=part)]):
            return is_safe(part, functions, depth + 1)
        case ast.Tuple(elts=parts):
            return all(is_safe(part, functions, depth + 1) for part in parts)
        case ast.IfExp(body=one, orelse=other) | ast.BoolOp(values=[one, other]):
            return is_safe(one, functions, depth + 1) and is_safe(other, functions, depth + 1)
        case ast.JoinedStr(values=parts):
            inner = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
            return all(is_safe(part, functions, depth + 1) for part in inner)
        case ast.Name(id=name):
            return name.lstrip("_").isupper() or is_safe_name(name, functions, depth)
    return False


def is_safe_name(name: str, functions: tuple[Function, ...], depth: int) -> bool:
    """Whether all that the function gives to this name is safe; a number is, by its annotation."""
    for function in reversed(functions):
        arguments = [*function.args.args, *function.args.kwonlyargs]
        if any(each.arg == name for each in arguments):
            return any(
                each.arg == name and each.annotation and write(each.annotation) in ("int", "float")
                for each in arguments
            )
        given = list(list_given(name, function))
        if given:
            return all(value is not None and is_safe(value, functions, depth + 1) for value in given)
    return False


def list_given(name: str, function: Function) -> Iterator[ast.expr | None]:
    """The values that a name gets; None for one that the text does not show."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from match_target(name, target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and write(node.target) == name:
            yield node.value
        elif isinstance(node, ast.For | ast.comprehension) and name in names_in(node.target):
            yield None


def match_target(name: str, target: ast.expr, value: ast.expr) -> Iterator[ast.expr | None]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value
    elif isinstance(target, ast.Tuple) and name in names_in(target):
        is_spread = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
        pairs = zip(target.elts, value.elts, strict=True) if is_spread else ()  # type: ignore[attr-defined]
        yield next((given for place, given in pairs if write(place) == name), None)


def names_in(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


# ---------------------------------------------------------------- arguments of programs


def list_arguments(node: ast.AST, _functions: tuple[Function, ...]) -> Iterator[str]:
    """Lists that begin with a program and go on with what is no text of our own, and calls that start a given list."""
    if isinstance(node, ast.List | ast.Tuple) and is_command(node):
        before = [part.value for part in node.elts if isinstance(part, ast.Constant)]
        for part in node.elts:
            is_past_options = any(word in ("--", b"--") for word in before[: count_before(node, part)])
            if not isinstance(part, ast.Constant) and not is_past_options and not is_own(part):
                yield write(part)
    elif isinstance(node, ast.Call) and is_door(node):
        given = [write(each) for each in node.args]
        if not any(isinstance(each, ast.List | ast.Constant) for each in node.args):
            yield f"{name_of(node)}({', '.join(given)})"


def is_door(call: ast.Call) -> bool:
    is_plain = isinstance(call.func, ast.Name) or write(call.func) == "subprocess.Popen"
    return is_plain and name_of(call) in DOORS and bool(call.args)


def is_command(node: ast.List | ast.Tuple) -> bool:
    words = [part for part in node.elts if not isinstance(part, ast.Starred)]
    first = words[0].value if words and isinstance(words[0], ast.Constant) else None
    text = first.decode("latin-1") if isinstance(first, bytes) else first
    return isinstance(text, str) and text in PROGRAMS


PROGRAMS_TEXT = """
    apt-get apt-cache apt-config apt-mark dpkg dpkg-query dpkg-divert dpkg-statoverride dpkg-trigger
    dpkg-deb dpkg-split update-alternatives debconf-communicate debconf-set-selections debconf-show gpg
    systemctl service invoke-rc.d update-rc.d runlevel locale locale-gen ldconfig postmap postconf
    postalias newaliases update-ca-certificates systemd-tmpfiles systemd-sysusers sysctl udevadm chroot
    pg_lsclusters pg_ctlcluster pg_dump psql mariadb mariadb-dump mysql mysqldump sh ssh pam-auth-update
    mandb fc-cache update-initramfs update-grub depmod
"""
PROGRAMS = frozenset(PROGRAMS_TEXT.split())


def count_before(node: ast.List | ast.Tuple, part: ast.expr) -> int:
    return sum(isinstance(each, ast.Constant) for each in node.elts[: node.elts.index(part)])


def is_own(part: ast.expr) -> bool:
    inner = part.value if isinstance(part, ast.Starred) else part
    return isinstance(inner, ast.Name) and inner.id.lstrip("_").isupper()


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else write(call.func)


# ---------------------------------------------------------------- files


def list_made_files(node: ast.AST, _functions: tuple[Function, ...]) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    name = name_of(node)
    is_made = name in MAKERS and not is_text_method(node)
    is_opened = name == "open" and any(flag in write(node) for flag in ("O_CREAT", "_NEW", "flags", "FLAGS"))
    modes = map(write, list_all(node)) if name in ("open", "fdopen") else ()
    if is_made or is_opened or any(re.fullmatch(r"'[rb]*[wxa][b+]*'", mode) for mode in modes):
        yield write(node)


def list_all(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


def is_text_method(call: ast.Call) -> bool:
    """`text.replace(a, b)` and `value.copy()`, or a replace() of a frozen value."""
    name = name_of(call)
    if name == "copy":
        return not call.args
    if name != "replace":
        return False
    return not (isinstance(call.func, ast.Attribute) and (write(call.func.value) == "os" or len(call.args) == 1))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('def f(name): run(f"DROP TABLE {name}")', ["name"]),
        ('def f(name): run(f"DROP TABLE {quote_name(name)}")', []),
        ('def f(name):\n    quoted = quote_name(name)\n    run(f"DROP TABLE {quoted}")', []),
        ('def f(name):\n    other = name\n    run(f"DROP TABLE {other}")', ["other"]),
        ('def f(number: int): run(f"KILL {number}")', []),
        ('def f(rows):\n    for name in rows:\n        run(f"DROP TABLE {name}")', ["name"]),
        ("def f(rows): run(f\"SELECT {', '.join(quote_name(row) for row in rows)} FROM t\")", []),
        ("def f(rows): run(f\"SELECT {', '.join(rows)} FROM t\")", ["', '.join(rows)"]),
    ],
)
def test_value_in_sql_is_found_unless_it_is_quoted(text: str, found: list[str]) -> None:
    places = [each for node, _, functions in walk(ast.parse(text)) for each in list_values_in_sql(node, functions)]
    assert places == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('run(["dpkg", "--", name])', []),
        ('run(["dpkg", name, "--"])', ["name"]),
        ('run([*inside, "dpkg", f"--package={name}"])', ["inside", "f'--package={name}'"]),
        ("run(command)", ["run(command)"]),
        ("run([PROGRAM, 'x'])", []),
    ],
)
def test_argument_is_found_unless_it_stands_behind_two_dashes(text: str, found: list[str]) -> None:
    places = [each for node, _, functions in walk(ast.parse(text)) for each in list_arguments(node, functions)]
    assert [place.removeprefix("*") for place in places] == found
