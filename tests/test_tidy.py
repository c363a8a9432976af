"""The house style where a machine can count it: sizes, places, locks, recipes and papers."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests import tidy_checks

TOP: Final = Path(__file__).parents[1]
PACKAGES: Final = ("flows", "schemas", "connectors")
LOCKS: Final = ("requirements.lock", "requirements-dev.lock")
AGREED_TOP_LEVEL: Final = {
    *PACKAGES,
    *LOCKS,
    *("infra", "tests", "docs", ".ci"),
    *("pyproject.toml", "justfile", "README.md", "LICENSE", "CHANGELOG.md"),
    *(".gitignore", ".editorconfig", ".python-version"),
}
APACHE_2_SHA256: Final = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"

# Which file may do what the house forbids, and why. An entry that is not needed any more fails.
MAY_PRINT: Final[Mapping[str, str]] = {}
MAY_TOUCH_ENVIRONMENT: Final[Mapping[str, str]] = {
    "connectors/embedded/clickhouse_server.py": "sets TZ for the engine's C code, reads nothing",
    "flows/cluster.py": "asks where the engine's store is, as the engine does",
    "flows/settings.py": "the one place that reads settings",
}
MAY_CATCH_ALL: Final[Mapping[str, str]] = {
    "connectors/courier.py": "a thread's outermost frame: kept, and raised by the flow",
    "flows/demo.py": "the sender thread's outermost frame: kept, and raised by the main thread",
}


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """What git tracks or would add; in a plain copy without git, nothing can be told apart."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout
    paths = (TOP / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def product_sources() -> Iterator[tuple[str, str]]:
    for path in tracked_files():
        name = path.relative_to(TOP)
        if path.suffix == ".py" and name.parts[0] in PACKAGES:
            yield name.as_posix(), path.read_text(encoding="utf-8")


def findings(check: Callable[[str], Iterator[str]]) -> dict[str, list[str]]:
    found = {name: list(check(source)) for name, source in product_sources()}
    return {name: lines for name, lines in found.items() if lines}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))


def group(name: str) -> list[str]:
    named: list[str] = []
    for entry in pyproject()["dependency-groups"][name]:
        named += [entry] if isinstance(entry, str) else group(entry["include-group"])
    return named


def test_functions_and_files_keep_their_size() -> None:
    assert {} == findings(tidy_checks.too_long)


def test_only_agreed_files_print() -> None:
    assert set(MAY_PRINT) == set(findings(tidy_checks.prints))


def test_only_agreed_files_touch_the_environment() -> None:
    assert set(MAY_TOUCH_ENVIRONMENT) == set(findings(tidy_checks.environment_uses))


def test_only_agreed_files_swallow_everything() -> None:
    assert set(MAY_CATCH_ALL) == set(findings(tidy_checks.broad_excepts))


def test_no_file_holds_a_path_of_one_machine() -> None:
    found = {}
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if lines := list(tidy_checks.private_paths(text)):
            found[path.relative_to(TOP).as_posix()] = lines

    assert {} == found


def test_the_top_level_holds_only_what_was_agreed() -> None:
    found = {path.relative_to(TOP).parts[0] for path in tracked_files()}

    assert set() == found - AGREED_TOP_LEVEL


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_ours_and_not_a_namesake_from_a_registry(package: str) -> None:
    file = importlib.import_module(package).__file__

    assert file is not None
    assert (TOP / package / "__init__.py").resolve() == Path(file).resolve()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_no_namesake_and_hashes_every_pin(lock: str) -> None:
    text = (TOP / lock).read_text(encoding="utf-8")

    assert "://" not in text
    assert set() == set(PACKAGES) & set(tidy_checks.pins(text))
    assert [] == list(tidy_checks.unhashed(text))


@pytest.mark.parametrize(("lock", "groups"), [(LOCKS[0], ["build"]), (LOCKS[1], ["dev"])])
def test_a_lock_satisfies_what_pyproject_names(lock: str, groups: list[str]) -> None:
    """The lock was not forgotten when a dependency was added: run `just lock`."""
    project = pyproject()["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["local"]
    for name in groups:
        wanted = wanted + group(name)
    pinned = tidy_checks.pins((TOP / lock).read_text(encoding="utf-8"))

    assert [] == [line for name in wanted for line in tidy_checks.unlocked(name, pinned)]


def test_the_two_locks_agree() -> None:
    small, large = (tidy_checks.pins((TOP / lock).read_text(encoding="utf-8")) for lock in LOCKS)

    assert {} == {name: found for name, found in small.items() if large.get(name) != found}


def test_every_recipe_says_what_it_does() -> None:
    just = [str(Path(sys.executable).with_name("just")), "--justfile", str(TOP / "justfile")]
    dumped = subprocess.run(
        [*just, "--dump", "--dump-format", "json"], capture_output=True, text=True, check=True
    )
    recipes = json.loads(dumped.stdout)["recipes"]

    assert recipes
    assert [] == [name for name, recipe in recipes.items() if not recipe["doc"]]


def test_the_changelog_has_a_place_for_this_change() -> None:
    text = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert headings
    assert [] == [name for name in headings if not re.match(r"Unreleased$|\d+\.\d+\.\d+", name)]


def test_the_licence_is_apache_2_word_for_word() -> None:
    assert APACHE_2_SHA256 == hashlib.sha256((TOP / "LICENSE").read_bytes()).hexdigest()
    assert "Apache-2.0" == pyproject()["project"]["license"]
