"""Columns that spare a look into acts and times say what the acts and times themselves say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.query.ask import answer
from flows.query.compile import Question, compile_question
from schemas.metrics import JOURNEYS, Catalog, Conversion, load_catalog
from tests.process_logs import Log, fresh_database, write_log
from tests.services import ClickHouseService

pytestmark = pytest.mark.clickhouse

START_MS = 1_800_000_000_000
DAY_MS = 86_400_000
CATALOG = load_catalog()
CONVERSIONS = [one.name for one in CATALOG.metrics if isinstance(one, Conversion)]


def without_spans(catalog: Catalog) -> Catalog:
    journeys = catalog.models[JOURNEYS].model_copy(update={"spans": ()})
    return catalog.model_copy(update={"models": {**catalog.models, JOURNEYS: journeys}})


@pytest.fixture(scope="module")
def client(clickhouse_service: ClickHouseService) -> Iterator[Client]:
    client = fresh_database(clickhouse_service.dsn, "query_spans")
    yield client
    client.command("DROP DATABASE query_spans SYNC")
    client.close()


ACT = st.sampled_from(["delivery.delivered", "engagement.opened", "outcome.payment_received"])
TIME = st.sampled_from([0, 1, DAY_MS - 1, DAY_MS, DAY_MS + 1, 7 * DAY_MS, 7 * DAY_MS + 1])
JOURNEY = st.lists(st.tuples(TIME, ACT), min_size=1, max_size=6).map(
    lambda told: sorted(told, key=lambda one: one[0])
)


@settings(max_examples=25, deadline=None)
@given(journeys=st.lists(JOURNEY, min_size=1, max_size=10))
def test_conversions_are_the_same_with_and_without_their_columns(
    client: Client, journeys: list[list[tuple[int, str]]]
) -> None:
    """In whatever order acts come: before the delivery, at the same time, or again after it."""
    client.command("TRUNCATE TABLE journeys")
    log: Log = {
        f"jrn-{number}": [(START_MS + at, act) for at, act in told]
        for number, told in enumerate(journeys)
    }
    write_log(client, log)
    question = Question(tuple(CONVERSIONS), 0, 2_000_000_000)
    fast, slow = (
        compile_question(catalog, question) for catalog in (CATALOG, without_spans(CATALOG))
    )

    assert "arrayExists" not in fast.sql
    assert "arrayExists" in slow.sql
    assert answer(client, slow) == answer(client, fast)


def test_every_span_is_one_of_a_conversion() -> None:
    spans = {(one.base, one.conversion) for one in CATALOG.models[JOURNEYS].spans}

    assert spans == {
        (one.base, one.conversion) for one in CATALOG.metrics if isinstance(one, Conversion)
    }
