"""How the test services are chosen, and that a Kafka that is demanded and missing fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from tests.services import ANY_KAFKA, REAL_KAFKA, Kind, ServiceRack, Unavailable, choose
from tests.services_kafka import find_java, jars_folder, java_major, kafka_version, maven_absence

TOP = Path(__file__).parents[2]
PROBE = "tests/integration/test_services.py::test_an_aborted_transaction_stays_invisible"


def absent(*kinds: Kind) -> dict[Kind, str]:
    return {kind: "not here" if kind in kinds else "" for kind in Kind}


def test_the_best_kind_that_is_there_is_taken() -> None:
    assert Kind.CONTAINERS == choose(ANY_KAFKA, absence=absent().__getitem__)
    assert Kind.MAVEN == choose(ANY_KAFKA, absence=absent(Kind.CONTAINERS).__getitem__)
    assert Kind.EMBEDDED == choose(ANY_KAFKA, absence=absent(*REAL_KAFKA).__getitem__)


def test_a_forced_kind_is_taken_even_when_a_better_one_is_there() -> None:
    assert Kind.EMBEDDED == choose(ANY_KAFKA, absence=absent().__getitem__, forced="embedded")


def test_a_forced_kind_that_is_absent_or_unfit_gives_the_reason_and_no_other_kind() -> None:
    absence = absent(Kind.MAVEN).__getitem__

    assert Unavailable("maven: not here") == choose(ANY_KAFKA, absence=absence, forced="maven")
    assert Unavailable("the environment forces embedded") == choose(
        REAL_KAFKA, absence=absence, forced="embedded"
    )


def test_a_forced_word_that_is_no_kind_is_an_error() -> None:
    with pytest.raises(ConfigError, match="containers or maven or embedded"):
        choose(ANY_KAFKA, absence=absent().__getitem__, forced="redpanda")


def test_all_reasons_are_told_when_nothing_is_there() -> None:
    expected = Unavailable("containers: not here; maven: not here")

    assert expected == choose(REAL_KAFKA, absence=absent(*REAL_KAFKA).__getitem__)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_401"', 8),
        ("command not found", 0),
    ],
)
def test_the_java_release_is_read_from_what_it_prints(printed: str, expected: int) -> None:
    assert expected == java_major(printed)


def test_java_home_goes_before_the_search_path(tmp_path: Path) -> None:
    for folder in ("home/bin", "path"):
        program = tmp_path / folder / "java"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    path = str(tmp_path / "path")

    assert str(tmp_path / "path" / "java") == find_java({"PATH": path})
    assert str(tmp_path / "home" / "bin" / "java") == find_java(
        {"PATH": path, "JAVA_HOME": str(tmp_path / "home")}
    )


def test_a_machine_without_java_or_with_an_old_one_says_so(tmp_path: Path) -> None:
    assert "no java found in JAVA_HOME or PATH" == maven_absence({"PATH": str(tmp_path)})

    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    program.chmod(0o755)

    assert "java is version 11, Kafka 4 needs 17" == maven_absence({"PATH": str(tmp_path)})


def test_the_jars_are_kept_outside_the_tree_under_the_name_of_their_release(tmp_path: Path) -> None:
    cached = jars_folder({"XDG_CACHE_HOME": str(tmp_path)})

    assert tmp_path / "airside" == cached.parent
    assert cached.name.startswith(f"kafka-{kafka_version()}-")
    assert tmp_path / "lib" == jars_folder({"TEST_AIRSIDE_KAFKA_LIB": str(tmp_path / "lib")})


def test_a_run_that_asked_for_nothing_says_so(tmp_path: Path) -> None:
    assert "none asked for" == ServiceRack(tmp_path, {}).report()


@pytest.mark.parametrize(
    ("demand", "code", "told"),
    [
        ("0", 0, "SKIPPED [1]"),
        ("1", 1, "CI_REQUIRE_KAFKA=1 and no Apache Kafka"),
    ],
)
def test_a_missing_kafka_is_a_told_skip_and_where_it_is_demanded_a_failure(
    demand: str, code: int, told: str, tmp_path: Path
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    # A search path with nothing on it, and a Docker address where nobody answers.
    env |= {"PATH": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", PROBE],
        cwd=TOP,
        env=env | {"CI_REQUIRE_KAFKA": demand},
        capture_output=True,
        text=True,
        check=False,
    )

    assert code == ran.returncode
    assert told in ran.stdout
    assert "maven: no java found in JAVA_HOME or PATH" in ran.stdout


def test_tests_are_marked_by_the_services_they_ask_for() -> None:
    """One of the two marks comes from the parameter, the other from the fixture's name."""
    pytest_command = [sys.executable, "-m", "pytest", "-q", "--collect-only"]
    ran = subprocess.run(
        [*pytest_command, "-m", "kafka and real_kafka", "tests/integration/test_services.py"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line.partition("[")[2] for line in ran.stdout.splitlines() if "::" in line]

    assert ["real]"] == found
