"""What notifications earned against the holdout, from journeys in ClickHouse to the command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress
from flows.__main__ import main
from flows.query.increment import as_csv, as_table, find_increments
from tests.messages import settings
from tests.reconcile_world import open_tables
from tests.services import ClickHouseService

pytestmark = pytest.mark.clickhouse

SPAN = {"since_s": 1_700_000_000, "until_s": 1_900_000_000}
PEOPLE = """INSERT INTO journeys (journey, subject, campaign, arm, started_at, last_at, n,
    converted, amount_minor, refunded_minor, currency, expires_at, ver)
SELECT concat('jrn-', toString(number)), concat('usr-', toString(intDiv(number, 2))),
    if(number % 2, 'spring', 'autumn'),
    if(intDiv(number, 2) % 4 = 0, 'holdout', 'a') AS arm, fromUnixTimestamp(1800000000) AS t, t, 3,
    number % 10 = 0 AND arm = 'holdout' OR number % 3 = 0 AND arm = 'a' AS paid,
    if(paid, 9000, 0), if(number % 30 = 0, 1000, 0), 'EUR', toDate32('2100-01-01'), 6
FROM numbers(20000)"""
"""10,000 people with two journeys each, a quarter held out: of these 5 to 10 of 100 journeys pay,
of the others a third."""


@pytest.fixture(scope="module")
def client(clickhouse_service: ClickHouseService) -> Iterator[Client]:
    opened = open_tables(ClickHouseAddress(clickhouse_service.dsn, "increment"))
    opened.command(PEOPLE)
    yield opened
    opened.command("DROP DATABASE increment SYNC")
    opened.close()


def rate(client: Client, arm: str, value: str, more: str = "1") -> float:
    sql = f"SELECT 1000 * sum({value}) / count() FROM journeys FINAL WHERE arm = '{arm}' AND {more}"
    return float(client.query(sql).result_rows[0][0])


@pytest.mark.parametrize("campaign", ["", "spring"])
def test_the_difference_is_that_of_the_rates_and_the_interval_holds_it(
    client: Client, campaign: str
) -> None:
    found = find_increments(client, settings(), campaign=campaign, currency="EUR", k=0, **SPAN)

    where = f"campaign = '{campaign}'" if campaign else "1"
    for one, value in zip(found, ("converted", "amount_minor - refunded_minor"), strict=True):
        told, held_out = (rate(client, arm, value, where) for arm in ("a", "holdout"))
        assert pytest.approx((told, held_out, told - held_out)) == (
            one.told,
            one.held_out,
            one.lift,
        )
        assert one.low < told - held_out < one.high
    if not campaign:
        assert ["effect_found", "effect_found"] == [one.state for one in found]
        assert all(one.low > 0 for one in found)


def test_as_long_as_there_is_too_little_no_bound_is_told(client: Client) -> None:
    found = find_increments(client, settings(), campaign="no", currency="EUR", k=0, **SPAN)

    assert ["collecting", "collecting"] == [one.state for one in found]
    assert as_csv(found).splitlines()[1].startswith("conversions,0.0,0.0,0.0,,,collecting")
    assert 2 == as_table(found).row_count


def test_groups_that_a_role_may_not_see_are_not_told(client: Client) -> None:
    asked: dict[str, Any] = {"campaign": "", "currency": "EUR", **SPAN}

    assert 2 == len(find_increments(client, settings(), k=2_500, **asked))
    assert [] == find_increments(client, settings(), k=2_501, **asked)


def test_the_command_prints_what_was_found(
    client: Client,
    clickhouse_service: ClickHouseService,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP_SERVERS", "-")
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__URL", clickhouse_service.dsn)
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__DATABASE", "increment")
    # Nothing within 200 conversions of the holdout matters any more: more than there is.
    monkeypatch.setenv("AIRSIDE_INCREMENT__CONVERSIONS_PER_1K", "900")
    try:
        assert 0 == main(
            ["increment", "--since", "2027-01-01", "--until", "2027-02-01", "--format", "json"]
        )
        told = orjson.loads(capsysbinary.readouterr().out)
        assert {"conversions": "null_accepted", "revenue": "effect_found"} == {
            one["figure"]: one["state"] for one in told
        }
        assert 0 == main(["increment", "--since", "2027-02-01", "--until", "2027-02-02"])
        assert b"collecting" in capsysbinary.readouterr().out
    finally:
        structlog.reset_defaults()
