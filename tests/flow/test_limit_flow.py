"""The quarantine limit in Bytewax, on memory twins: it stops the flow, and loses nothing by it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from connectors.memory import Journal, MemorySink, MemorySource
from flows.ingest import TABLES, build
from flows.run import find_own_error
from schemas.blocks import Outputs, RawBlock
from schemas.errors import PermanentError
from tests.messages import block, delivered, profile, settings
from tests.property.test_gate import final_rows

POISON = range(6, 18)


def blocks() -> list[RawBlock | str]:
    """A profile, then deliveries of which a dozen in a row cannot be read."""
    stream = [delivered(n) for n in range(24)]
    for n in POISON:
        stream[n] = stream[n]._replace(value=b"{")
    return [block([profile()]), *(block(stream[n : n + 4], first=n) for n in range(0, 24, 4))]


class Lane:
    """One recovery store, and what the sinks were given in all its runs."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal()
        folder.mkdir()
        init_db_dir(folder, 1)
        self.folder = folder

    def run(self, run_max: int) -> None:
        flow = build(
            settings(limit={"run_max": run_max}),
            source=MemorySource({0: blocks()}, tables=TABLES),
            records=MemorySink("records", self.journal, 1),
            tables=MemorySink("tables", self.journal, 1),
        )
        recovery = RecoveryConfig(self.folder, backup_interval=timedelta(0))
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)

    def stop(self, run_max: int) -> str:
        """Run into the limit; gives what is said."""
        with pytest.raises(RuntimeError) as caught:  # the engine wraps it
            self.run(run_max)
        own = find_own_error(caught.value)
        assert isinstance(own, PermanentError)
        return str(own)

    def rows(self) -> dict[Any, Any]:
        rows = [part for parts in self.journal.items("tables") for part in parts]
        return final_rows([Outputs(0, "", [], rows, {})])

    def doors(self) -> Counter[str]:
        doors: Counter[str] = Counter()
        for key, row in self.rows().items():
            if key[0] == "fates":
                doors[row["door"]] += row["n"]
        return doors


def test_poison_stops_the_flow_at_the_limit_however_often_it_starts(tmp_path: Path) -> None:
    lane = Lane(tmp_path / "s")
    said = {lane.stop(9) for _ in range(3)}

    assert 1 == len(said)
    assert 'partition "ntf.delivery.v1/0" of lane 0: found 10 messages' in said.pop()
    assert 6 == lane.doors()["quarantined"]


def test_after_the_limit_was_raised_everything_is_as_if_it_had_never_stopped(
    tmp_path: Path,
) -> None:
    lane, steady = Lane(tmp_path / "s"), Lane(tmp_path / "steady")
    lane.stop(3)
    lane.stop(9)
    lane.run(12)
    steady.run(12)

    assert {"routed": 13, "quarantined": 12} == lane.doors()
    assert steady.rows() == lane.rows()
    origins = [
        [record.origin for records in one.journal.items("records") for record in records]
        for one in (steady, lane)
    ]
    assert origins[0] == origins[1]
    assert len(origins[0]) == len(set(origins[0])) == 25
