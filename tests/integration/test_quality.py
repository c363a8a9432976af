"""Quality on a running ClickHouse: the scoreboard and the lineage equal what a world truly sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import orjson
import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.clickhouse.writer import TableWriter
from flows.ingest import make_checker, make_gate, read_policy
from flows.places import MIGRATIONS
from flows.quality.command import NAMES, edges, scores, show
from flows.quality.export import export
from flows.simulate import World
from schemas.quality import load_quality
from tests.quality_run import StrictRun
from tests.services import ClickHouseService
from tests.unit.flows.memory_run import END_MS, LANES

pytestmark = pytest.mark.clickhouse

RULES = {rule.name: rule for rule in load_quality().rules}


def write(client: Client, run: StrictRun) -> None:
    """All that gates and followers say of quality, each row twice and in many inserts."""
    policy = read_policy(run.settings)
    checker = make_checker(run.settings, policy)
    gates = [make_gate(run.settings, policy, followed=True) for _ in range(LANES)]
    writer = TableWriter(client, rows_max=50_000)
    for block in run.as_read(Random(5), messages_max=600):
        outputs = gates[block.lane].pass_block(checker.check(block))
        told = outputs.accepted or outputs.only_refused
        if told is not None:
            for rows in run.followers[block.lane].follow(told).rows:
                writer.add(rows)
    writer.flush()


@pytest.fixture(scope="module")
def case(clickhouse_service: ClickHouseService) -> Iterator[tuple[Client, StrictRun]]:
    run = StrictRun(World(5, total=1_500, end_ms=END_MS, people=100))
    address = ClickHouseAddress(clickhouse_service.dsn, "quality_5")
    client = connect(address, create_database=True)
    apply_migrations(client, read_migrations(MIGRATIONS))
    write(client, run)
    yield client, run
    client.command("DROP DATABASE {name:Identifier} SYNC", parameters={"name": address.database})
    client.close()


def test_the_scoreboard_says_what_was_sent_wrong(case: tuple[Client, StrictRun]) -> None:
    client, run = case
    wanted = Counter(
        (dataset, producer, rule.name)
        for dataset, producer, message in run.messages()
        for rule in RULES.values()
        if rule.codes and any(message.code.startswith(part) for part in rule.codes)
    )

    lines = [dict(zip(NAMES, line, strict=True)) for line in scores(client, 0, 2_000_000_000)]

    found = {(one["dataset"], one["producer"], one["rule"]): one["failed"] for one in lines}
    assert wanted == +Counter({key: n for key, n in found.items() if RULES[key[2]].codes})
    volume = [one["checked"] for one in lines if one["rule"] == "volume"]
    assert len(run.messages()) == sum(volume)
    assert [] == scores(client, 0, 1)


def test_seen_edges_count_each_accepted_event(case: tuple[Client, StrictRun]) -> None:
    client, run = case
    found = edges(client)

    accepted = sum(message.event is not None for _, _, message in run.messages())
    assert accepted == sum(n for first, _, _, n in found if first.startswith("source:"))
    observed, check = (one for one in export(found, END_MS) if "run" in one)
    topics = {name for name, _, _ in run.messages()}
    assert topics == {one["name"] for one in observed["outputs"]}
    assert topics == {one["name"] for one in check["inputs"]}


def test_lines_are_printed_for_programs(
    case: tuple[Client, StrictRun], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    lines = scores(case[0], 0, 2_000_000_000)

    show(NAMES, lines, "json")

    assert [list(line) for line in lines] == [
        list(one.values()) for one in orjson.loads(capfdbinary.readouterr().out)
    ]
