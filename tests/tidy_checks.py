"""Count and find what the house style limits, in one source text at a time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FUNCTION_LINES_MAX: Final = 70
FILE_LINES_MAX: Final = 400

# Spelled in parts, so that this file is not the first one found.
PRIVATE_FOLDERS: Final = ("home", "root", "work", "Users")
PRIVATE_PATH: Final = re.compile(rf"(?<![\w$~.}}>)-])/(?:{'|'.join(PRIVATE_FOLDERS)})/")
PIN: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)", re.MULTILINE)


def too_long(source: str) -> Iterator[str]:
    """Name the file or the functions that pass their limit, docstrings included."""
    line_count = len(source.splitlines())
    if line_count > FILE_LINES_MAX:
        yield f"{line_count} lines in the file"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{length} lines in {node.name}"


def prints(source: str) -> Iterator[str]:
    """Name the lines that call `print`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"print in line {node.lineno}"


def environment_uses(source: str) -> Iterator[str]:
    """Name the lines that reach for the environment, by whichever way of the `os` module."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in names:
            if ast.unparse(node.value) == "os":
                yield f"os.{node.attr} in line {node.lineno}"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name in names:
                    yield f"os.{alias.name} in line {node.lineno}"


def broad_excepts(source: str) -> Iterator[str]:
    """Name the lines that swallow everything: a catch-all that does not end by raising."""
    broad = {"Exception", "BaseException"}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        raises = isinstance(node.body[-1], ast.Raise)
        if not raises and any(kind is None or ast.unparse(kind) in broad for kind in caught):
            yield f"a catch-all in line {node.lineno}"


def private_paths(text: str) -> Iterator[str]:
    """Name the lines that hold a path below a folder of one person's machine."""
    for number, line in enumerate(text.splitlines(), start=1):
        if PRIVATE_PATH.search(line):
            yield f"a machine's own path in line {number}"


def pins(lock: str) -> dict[str, set[str]]:
    """Map each distribution that a lock names to its versions (more than one by marker)."""
    found: dict[str, set[str]] = {}
    for pin in PIN.finditer(lock):
        found.setdefault(canonicalize_name(pin["name"]), set()).add(pin["version"])
    return found


def unlocked(requirement: str, pinned: dict[str, set[str]]) -> Iterator[str]:
    """Say how a lock falls short of one named dependency."""
    wanted = Requirement(requirement)
    versions = pinned.get(canonicalize_name(wanted.name), set())
    if not versions:
        yield f"{wanted.name} is not pinned"
    for version in versions:
        if not wanted.specifier.contains(version, prereleases=True):
            yield f"{wanted.name} is pinned at {version}, wanted {wanted.specifier}"


def unhashed(lock: str) -> Iterator[str]:
    """Name the pins that carry no hash."""
    for block in re.split(r"\n(?=\S)", lock):
        pin = PIN.match(block)
        if pin and "--hash=sha256:" not in block:
            yield f"{pin['name']} has no hash"
