"""The whole ingest flow with its own sinks: gate, routed topics, facts, rollups, books."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from connectors.clickhouse.client import connect
from connectors.clickhouse.sink import TableSink
from connectors.clickhouse.writer import TableWriter
from connectors.clock import SystemClock
from connectors.journal import Journals
from connectors.kafka.lanes import LaneSource
from flows import ingest
from flows.garbage import tune_garbage_collection
from flows.settings import Settings, read_settings
from flows.sinks import make_record_sink
from flows.steps.gate import LaneGate
from schemas.blocks import Outputs
from schemas.codes import Door
from schemas.records import count_topics
from tests.bench.meter import Meter, Task, leave, read_task, report

LANES = 1
EPOCH_S = 5.0


class StartingClock(SystemClock):
    """Begins to measure when the lane asks it: it does so once it has the first messages."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def now_ms(self) -> int:
        self._meter.begin()
        return super().now_ms()


class Doors:
    """What left by which door."""

    def __init__(self) -> None:
        self.routed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    @property
    def seen(self) -> int:
        return self.routed.total() + self.refused.total()

    def watch(self, _gate: LaneGate, outputs: Outputs) -> None:
        for (door, code), count in outputs.counts.items():
            if door is not Door.ROUTED:
                self.refused[code] += count
        found = count_topics(outputs.records)
        self.routed.update({topic: count for topic, count in found.items() if "routed" in topic})


def settings_of(task: Task) -> Settings:
    kafka = {
        "bootstrap_servers": task.bootstrap_servers,
        "delivery": "at_least_once",
        "level": task.level or "pure",
    }
    clickhouse = {"url": task.clickhouse_url}
    return read_settings({"kafka": kafka, "clickhouse": clickhouse, "lanes": LANES})


def run(task: Task) -> None:
    meter, doors = Meter(), Doors()
    settings = settings_of(task)
    address = settings.clickhouse_address
    with tempfile.TemporaryDirectory() as folder:
        flow = ingest.build(
            settings,
            source=LaneSource(
                bootstrap_servers=task.bootstrap_servers,
                lanes=LANES,
                tables=(),
                streams=(task.topic,),
                clock=StartingClock(meter),
                level=settings.kafka.level,
                stop=lambda: doors.seen >= task.messages,
                order_folder=Path(folder) / "order",
                epoch_messages_max=settings.epoch_messages_max,
            ),
            records=make_record_sink(
                settings, ingest.FLOW_ID, own=range(LANES), sources=(task.topic,)
            ),
            tables=TableSink(
                lanes=LANES,
                make_writer=lambda: TableWriter(
                    connect(address), rows_max=settings.clickhouse.rows_max
                ),
            ),
            watch=doors.watch,
            journals=Journals(Path(folder) / "journals").open,
        )
        store = Path(folder) / "store"
        store.mkdir()
        init_db_dir(store, 1)
        tune_garbage_collection()
        cli_main(
            flow,
            epoch_interval=timedelta(seconds=EPOCH_S),
            recovery_config=RecoveryConfig(str(store)),
        )
        measured = meter.end()
    counts = {
        "routed": dict(sorted(doors.routed.items())),
        "refused": dict(sorted(doors.refused.items())),
    }
    report(measured, counts, {name: version(name) for name in ("airside", "bytewax")})
    leave()


if __name__ == "__main__":
    run(read_task())
