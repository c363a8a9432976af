from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from flows.__main__ import make_parser
from flows.bench import bench
from schemas.errors import ConfigError


def test_all_arguments_go_on_to_the_benchmark() -> None:
    options = make_parser().parse_args(["bench", "--json", "--jobs", "A", "keep", "-x"])

    assert ["--json", "--jobs", "A", "keep", "-x"] == options.arguments


def test_its_exit_code_comes_back(tmp_path: Path) -> None:
    place = tmp_path / "tests" / "bench"
    place.mkdir(parents=True)
    (tmp_path / "tests" / "__init__.py").touch()
    (place / "__main__.py").write_text("import sys; sys.exit(len(sys.argv))")

    assert 3 == bench(Namespace(arguments=["--json", "keep"]), tmp_path)


def test_an_installation_without_tests_says_where_the_benchmark_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a checkout of the repository"):
        bench(Namespace(arguments=[]), tmp_path)
