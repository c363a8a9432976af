"""What a data folder was made for, and who may go on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.cells import Home, Manifest, owned
from flows.run import shape_of
from schemas.errors import ConfigError
from tests.messages import settings


def start(folder: Path, **more: Any) -> Manifest:
    with owned(Home(folder, "ingest"), shape_of("ingest", settings(**more), 1)) as manifest:
        return manifest


def test_a_folder_goes_on_under_the_same_settings(tmp_path: Path) -> None:
    assert [1, 2] == [start(tmp_path).generation for _ in range(2)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"node": "b2"}, "found node a1; expected node b2; set AIRSIDE_NODE=a1, or start"),
        ({"lanes": 2}, "found lanes 4; expected lanes 2"),
    ],
)
def test_a_folder_that_was_made_for_something_else_is_refused(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    """The node is in the names of transactions, so another one would publish twice."""
    start(tmp_path)

    with pytest.raises(ConfigError, match=said):
        start(tmp_path, **more)
    assert "a1" == start(tmp_path).node


def test_a_folder_of_an_earlier_release_gets_its_node_at_the_next_start(tmp_path: Path) -> None:
    home = Home(tmp_path, "ingest")
    shape = shape_of("ingest", settings(), 1)
    home.write_manifest(msgspec.structs.replace(shape, generation=3, node=""))

    assert (4, "b2") == (start(tmp_path, node="b2").generation, start(tmp_path, node="b2").node)
    with pytest.raises(ConfigError, match="set AIRSIDE_NODE=b2"):
        start(tmp_path)
