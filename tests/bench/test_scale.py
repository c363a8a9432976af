"""One cell against two, on the embedded stack, with few messages: what they count, not how fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import scale
from tests.bench.compare import WrongError
from tests.bench.stage import Stage, set_up

pytestmark = pytest.mark.embedded_kafka


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with set_up(
        tmp_path_factory.mktemp("stage"), messages=2_000, bootstrap_servers="", clickhouse_url=""
    ) as made:
        yield made


@pytest.mark.parametrize("ahead", [False, True])
def test_one_cell_and_two_count_what_the_topic_has(stage: Stage, *, ahead: bool) -> None:
    told = scale.play(stage, level="pure", rounds=1, run_s_max=120, ahead=ahead)

    assert [1, 2] == [run["cells"] for run in told["runs"]]
    assert told["speedup"] > 0


def test_cells_that_count_another_number_end_the_run(stage: Stage) -> None:
    routed = {**stage.expected["routed"]}
    routed[next(iter(routed))] += 1
    other = stage._replace(expected={**stage.expected, "routed": routed})
    with pytest.raises(WrongError, match="another routed"):
        scale.play_once(other, 1, "pure", 120, ahead=True)


def test_a_cell_that_cannot_start_ends_the_run(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(WrongError, match="without a result"):
        scale.play_once(stage._replace(manifest=tmp_path / "none"), 1, "pure", 120, ahead=True)
