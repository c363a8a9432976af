"""Quality behind the gate, in one process: the same rows and findings, wherever it is aborted."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from connectors.memory import ABORT, Journal, MemorySource
from flows import everything, follow
from flows.ingest import TABLES
from flows.quality.make import make_quality_step
from schemas.blocks import OutRecord, RawBlock
from schemas.quality_found import QUALITY_TOPIC
from tests.flow.test_follow_flow import sinks_into
from tests.follower import routed_blocks
from tests.journeys_run import Table
from tests.messages import NOW_MS, block, delivered, settings

MINUTE_MS = 60_000


def blocks() -> list[RawBlock]:
    begin = NOW_MS - 8 * MINUTE_MS
    wrong = [delivered(n, at_ms=begin, specversion="0.3") for n in range(900, 912)]
    runs = [
        wrong,
        [delivered(n, at_ms=begin + n) for n in range(1, 20)],
        wrong,
        [delivered(20, at_ms=begin + MINUTE_MS, datahops="ex.spy.0>in.c1.1")],
        [delivered(n, at_ms=begin + 2 * MINUTE_MS + n) for n in range(21, 60)],
        [delivered(60, at_ms=begin + 6 * MINUTE_MS), delivered(60, at_ms=begin + 6 * MINUTE_MS)],
        [delivered(61, at_ms=begin + 7 * MINUTE_MS)],
    ]
    ends: Counter[str] = Counter()
    found = []
    for run in runs:
        found.append(block(run, first=ends[run[0].topic]))
        ends[run[0].topic] += len(run)
    return found


def outcome(folder: Path, items: list[RawBlock | str]) -> tuple[Any, dict[Any, OutRecord]]:
    """The rows as ClickHouse keeps them, and the findings by origin, all copies being the same."""
    journal = Journal()
    source = MemorySource({0: items}, tables=TABLES)
    folder.mkdir()
    init_db_dir(folder, 1)
    recovery = RecoveryConfig(folder, backup_interval=timedelta(0))
    for _ in range(items.count(ABORT) + 1):
        flow = everything.build(
            settings(),
            [make_quality_step(settings())],
            source=source,
            sinks=sinks_into(journal),
        )
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
    tables = {
        "quality": Table("w", "dataset", "producer", "rule", "lane"),
        "lineage_edges": Table("from_node", "to_node", "lane"),
    }
    for part in journal.items("tables"):
        for rows in part:
            if rows.table in tables:
                tables[rows.table].insert(rows)
    records: dict[Any, OutRecord] = {}
    for part in journal.items("records"):
        for record in part:
            if record.topic == QUALITY_TOPIC:
                assert record == records.setdefault(record.origin, record)
    return {name: table.rows for name, table in tables.items()}, records


def test_an_abort_anywhere_leads_to_the_same_rows_and_findings(tmp_path: Path) -> None:
    rows, records = outcome(tmp_path / "whole", list(blocks()))

    refused = [row for row in rows["quality"].values() if row["rule"] == "ticket_right"]
    assert 24 == sum(row["failed"] for row in refused)
    assert 61 + 24 + 1 == sum(row["checked"] for row in refused)
    said = [record.value or b"" for record in records.values()]
    assert any(b'"undeclared_flow"' in one and b"ex.spy" in one for one in said)
    assert any(b'"violation"' in one and b'"ticket_right"' in one for one in said)
    for at in range(len(blocks())):
        items: list[RawBlock | str] = list(blocks())
        items.insert(at + 1, ABORT)

        assert (rows, records) == outcome(tmp_path / f"cut-{at}", items)


def test_on_its_own_it_counts_accepted_events_alike_but_knows_no_refusals() -> None:
    journal, alone = Journal(), Journal()
    step = make_quality_step(settings())
    sinks = sinks_into(journal)
    source = MemorySource({0: list(blocks())}, tables=TABLES)
    run_main(everything.build(settings(), [step], source=source, sinks=sinks))
    records = [record for part in journal.items("records") for record in part]
    items: list[RawBlock | str] = [*routed_blocks(records, lane=0, received_ms=NOW_MS)]
    routed = MemorySource({0: items})
    run_main(follow.build("quality", settings(), step, source=routed, sinks=sinks_into(alone)))

    def rows(journal: Journal, *names: str) -> dict[Any, Any]:
        table = Table("w", "dataset", "producer", "rule", "lane")
        for part in journal.items("tables"):
            for some in part:
                if some.table == "quality":
                    table.insert(some)
        return {key: row for key, row in table.rows.items() if row["rule"] in names}

    own = ("subject_known", "arm_known", "in_time", "sent_before_delivered")
    assert rows(journal, *own) == rows(alone, *own)
    assert rows(alone, *own)
    assert 0 == sum(row["failed"] for row in rows(alone, "ticket_right").values())


def test_a_follower_that_asks_for_no_refusals_gets_no_empty_block() -> None:
    seen: list[int] = []
    step = make_quality_step(settings())
    follower = step.make()

    class Watching:
        def follow(self, told: Any) -> Any:
            seen.append(len(told.ids))
            return follower.follow(told)

        def dump(self) -> bytes:
            return follower.dump()

        def load(self, dumped: bytes) -> None:
            follower.load(dumped)

    for sees_refused, wanted in ((False, [19]), (True, [0, 19])):
        seen.clear()
        watching = step._replace(make=Watching, sees_refused=sees_refused)
        items: list[RawBlock | str] = list(blocks()[:2])
        source = MemorySource({0: items})
        flow = everything.build(settings(), [watching], source=source, sinks=sinks_into(Journal()))
        run_main(flow)
        assert wanted == seen


@pytest.mark.parametrize("name", ["quality"])
def test_the_flow_is_in_the_catalog(name: str) -> None:
    from flows.catalog import FLOWS  # noqa: PLC0415 - for this test only

    assert "judge_quality" in FLOWS[name].step_ids
    assert "judge_quality" in FLOWS[everything.FLOW_ID].step_ids
