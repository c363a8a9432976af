"""Each guard of test_tidy is seen to fail here, on the least text that breaks it."""

from __future__ import annotations

import pytest

from tests import tidy_checks

SLASH = "/"


def test_a_function_may_have_seventy_lines_and_not_one_more() -> None:
    fits = "def a():\n" + "    b = 1\n" * 69

    assert [] == list(tidy_checks.too_long(fits))
    assert ["71 lines in a"] == list(tidy_checks.too_long(fits + "    b = 2\n"))


def test_a_file_may_have_four_hundred_lines_and_not_one_more() -> None:
    assert [] == list(tidy_checks.too_long("a = 1\n" * 400))
    assert ["401 lines in the file"] == list(tidy_checks.too_long("a = 1\n" * 401))


def test_a_print_is_seen_and_a_method_of_that_name_is_not() -> None:
    assert ["print in line 2"] == list(tidy_checks.prints("console.print(1)\nprint(2)\n"))


@pytest.mark.parametrize(
    "source",
    ["import os\na = os.environ['A']", "import os\nos.getenv('A')", "\nfrom os import environ"],
)
def test_every_way_to_the_environment_is_seen(source: str) -> None:
    [found] = tidy_checks.environment_uses(source)

    assert found.endswith("in line 2")


@pytest.mark.parametrize("caught", ["", " Exception", " BaseException", " (OSError, Exception)"])
def test_every_catch_all_is_seen(caught: str) -> None:
    source = f"try:\n    a()\nexcept{caught}:\n    b()\n"

    assert ["a catch-all in line 3"] == list(tidy_checks.broad_excepts(source))


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    a()\nexcept (OSError, ValueError):\n    b()\n",
        "try:\n    a()\nexcept BaseException:\n    b()\n    raise\n",
        "try:\n    a()\nexcept Exception as error:\n    raise b(error) from error\n",
    ],
)
def test_a_named_exception_and_tidying_up_before_it_goes_on_are_fine(source: str) -> None:
    assert [] == list(tidy_checks.broad_excepts(source))


@pytest.mark.parametrize("folder", tidy_checks.PRIVATE_FOLDERS)
def test_a_path_of_one_machine_is_seen(folder: str) -> None:
    text = f"fine\nopen('{SLASH}{folder}{SLASH}ada/file')\n"

    assert ["a machine's own path in line 2"] == list(tidy_checks.private_paths(text))


@pytest.mark.parametrize("before", ["$", "~/", "docs/"])
@pytest.mark.parametrize("folder", tidy_checks.PRIVATE_FOLDERS)
def test_a_folder_of_that_name_elsewhere_is_let_through(before: str, folder: str) -> None:
    assert [] == list(tidy_checks.private_paths(f"{before}{folder}{SLASH}page"))


@pytest.mark.parametrize("folder", tidy_checks.PRIVATE_FOLDERS)
def test_a_path_that_only_looks_alike_is_let_through(folder: str) -> None:
    for text in (f"{SLASH}{folder}", f"{SLASH}{folder}ers{SLASH}1"):
        assert [] == list(tidy_checks.private_paths(text))


def test_a_lock_that_fell_behind_is_seen() -> None:
    pinned = tidy_checks.pins("NumPy==2.4.6 ; python_version < '3.12' \\\nnumpy==2.5.5 \\\n")

    assert {"numpy": {"2.4.6", "2.5.5"}} == pinned
    assert [] == list(tidy_checks.unlocked("numpy>=2", pinned))
    assert ["rich is not pinned"] == list(tidy_checks.unlocked("rich>=14", pinned))
    assert ["numpy is pinned at 2.4.6, wanted >=2.5"] == list(
        tidy_checks.unlocked("numpy>=2.5", pinned)
    )


def test_a_pin_without_a_hash_is_seen() -> None:
    lock = "a==1 \\\n    --hash=sha256:00\nb==2\n"

    assert ["b has no hash"] == list(tidy_checks.unhashed(lock))
