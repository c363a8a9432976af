"""Process mining on a running ClickHouse: what SQL says equals a plain count, and what was told
online."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.journey.acts import NAMES
from flows.process.ask import answer
from flows.process.queries import AUDIT, VIEWS, Scope
from flows.simulate import World, read_shares
from schemas.errors import ConfigError
from schemas.process import load_process
from tests.journeys_run import JourneyRun
from tests.process_logs import Log, follows, fresh_database, log_of, write_log
from tests.process_pm4py import (
    GOLDEN,
    INTERPRETER,
    LOG,
    ask_pm4py,
    ask_sql,
    differences,
    read_csv,
    write_csv,
)
from tests.services import ClickHouseService

pytestmark = pytest.mark.clickhouse

PROCESS = load_process()
NOW_MS = 1_900_000_000_000
DAY_MS = 86_400_000
ALL = Scope(since_s=0, until_s=2_000_000_000, now_ms=NOW_MS, timeout_ms=3 * DAY_MS)


def ask(client: Client, name: str, scope: Scope = ALL) -> list[dict[str, Any]]:
    view = VIEWS[name]
    return [
        dict(zip(view.columns, line, strict=True)) for line in answer(client, view, PROCESS, scope)
    ]


@pytest.fixture(scope="module")
def client(clickhouse_service: ClickHouseService) -> Iterator[Client]:
    client = fresh_database(clickhouse_service.dsn, "process_mining")
    yield client
    client.command("DROP DATABASE process_mining SYNC")
    client.close()


@pytest.fixture
def empty(client: Client) -> Client:
    client.command("TRUNCATE TABLE journeys")
    return client


def relations_of(client: Client) -> dict[tuple[str, str], int]:
    return {(one["source"], one["target"]): one["passes"] for one in ask(client, "dfg")}


ACTS = st.sampled_from(NAMES[:6])
JOURNEY = st.lists(st.tuples(st.integers(0, 10_000_000), ACTS), min_size=1, max_size=12).map(sorted)


@settings(max_examples=15, deadline=None)
@given(journeys=st.lists(JOURNEY, min_size=1, max_size=12))
def test_relations_of_any_log_equal_a_plain_count(
    client: Client, journeys: list[list[tuple[int, str]]]
) -> None:
    client.command("TRUNCATE TABLE journeys")
    log: Log = {
        f"jrn-{n}": [(NOW_MS - DAY_MS + at, act) for at, act in one]
        for n, one in enumerate(journeys)
    }
    write_log(client, log)

    assert follows(log) == relations_of(client)
    wanted = Counter(" > ".join(act for _, act in told) for told in log.values())
    assert wanted == {one["variant"]: one["journeys"] for one in ask(client, "variants")}
    again = sum((Counter(act for _, act in told) for told in log.values()), Counter[str]())
    distinct = Counter(act for told in log.values() for act in {act for _, act in told})
    assert {act: n - distinct[act] for act, n in again.items() if n > distinct[act]} == {
        one["act"]: one["again"] for one in ask(client, "rework")
    }


def world(seed: int, shares: str) -> JourneyRun:
    run = JourneyRun(
        World(seed, total=2_500, end_ms=1_800_000_000_000, people=200, shares=read_shares(shares))
    )
    run.follow(run.as_read(Random(seed), messages_max=300), kill_every=25)
    return run


SMALL: Log = {
    "jrn-good-0001": [
        (NOW_MS - 3_000_000, "request.created"),
        (NOW_MS - 2_999_000, "request.rejected"),
    ],
    "jrn-waits-001": [
        (NOW_MS - 2_000_000, "request.created"),
        (NOW_MS - 1_999_000, "request.accepted"),
        (NOW_MS - 1_998_000, "journey.created"),
        (NOW_MS - 1_997_000, "orchestration.preference_checked"),
        (NOW_MS - 1_996_000, "orchestration.channel_selected"),
        (NOW_MS - 1_995_000, "orchestration.rendered"),
        (NOW_MS - 1_994_000, "orchestration.scheduled"),
    ],
    "jrn-skips-001": [
        (NOW_MS - 2_000_000, "request.created"),
        (NOW_MS - 1_000_000, "delivery.sent"),
        (NOW_MS - 990_000, "outcome.registered"),
    ],
    "jrn-again-001": [
        (NOW_MS - 900_000, "delivery.queued"),
        (NOW_MS - 899_000, "delivery.attempted"),
        (NOW_MS - 898_000, "delivery.deferred"),
        (NOW_MS - 838_000, "delivery.attempted"),
        (NOW_MS - 837_000, "delivery.attempted"),
    ],
}


def test_stuck_journeys_are_open_ones_past_the_deadline_of_their_last_act(empty: Client) -> None:
    write_log(empty, SMALL)

    lines = ask(empty, "stuck")

    assert [
        ("jrn-again-001", "delivery.attempted", 837.0, 300),
        ("jrn-waits-001", "orchestration.scheduled", 1_994.0, 900),
    ] == [(one["journey"], one["act"], one["waited_s"], one["allowed_s"]) for one in lines]
    assert [] == ask(empty, "stuck", ALL._replace(now_ms=NOW_MS - 1_900_000))


def test_conformance_names_each_broken_rule_and_counts_who_kept_to_the_process(
    empty: Client,
) -> None:
    write_log(empty, SMALL)

    lines = ask(empty, "conformance")

    assert {
        "all": 4,
        "conforming": 1,
        "forbidden:>delivery.queued": 1,
        "forbidden:delivery.attempted>delivery.attempted": 1,
        "forbidden:delivery.sent>outcome.registered": 1,
        "forbidden:request.created>delivery.sent": 1,
        "missing:delivery.delivered": 1,
        "missing:orchestration.preference_checked": 1,
        "missing:request.accepted": 1,
        "overdue:delivery.attempted": 1,
        "overdue:orchestration.scheduled": 1,
        "overdue:request.created": 1,
    } == {one["rule"]: one["journeys"] for one in lines}
    assert 0.25 == lines[1]["share"]


def test_waiting_and_working_add_up_to_the_time_of_the_journeys(empty: Client) -> None:
    write_log(empty, SMALL)

    [times] = ask(empty, "times")
    slow = ask(empty, "bottlenecks")

    whole = sum(told[-1][0] - told[0][0] for told in SMALL.values()) / 1_000
    assert whole == times["total_s"] == times["waiting_s"] + times["working_s"]
    by_whom = sum(times[f"waiting_on_{who}_s"] for who in ("us", "provider", "person"))
    assert times["waiting_s"] == by_whom == sum(one["total_s"] for one in slow)
    assert ("delivery.deferred", "delivery.attempted", "provider", 60.0) == tuple(
        slow[0][name] for name in ("source", "target", "waits_for", "total_s")
    )


def test_rework_tells_loops_from_repeats(empty: Client) -> None:
    write_log(empty, SMALL)

    [line] = ask(empty, "rework")

    assert ("delivery.attempted", 3, 1, 2, 1, 62.0) == tuple(
        line[name] for name in ("act", "passes", "journeys", "again", "self_loops", "loop_s")
    )


def test_the_saving_of_a_candidate_is_its_documented_sum(empty: Client) -> None:
    write_log(empty, SMALL)

    [line] = [one for one in ask(empty, "candidates") if one["act"] == "delivery.attempted"]

    # Three passes, 1 s and 1 s after them; overdue, one relation forbidden, twice again.
    step, costs = PROCESS.steps["delivery.attempted"], PROCESS.costs
    hours, exceptions = 2 / 3_600, 4
    assert (3, exceptions, 1.0) == (line["volume"], line["exceptions"], line["exception_rate"])
    assert pytest.approx(hours) == line["score"]
    handling_h = exceptions * costs.exception_handling_s / 3_600
    assert (
        pytest.approx(
            step.automatable * (hours * costs.waiting_hour + handling_h * costs.handling_hour)
        )
        == (line["saving_minor"])
    )


def way(*told: tuple[int, str]) -> list[tuple[int, str]]:
    """A journey that goes as it is meant to, a second each, until it is scheduled; then these acts,
    each so many seconds after the one before."""
    first = ("request.created", "request.accepted", "journey.created")
    then = ("preference_checked", "channel_selected", "rendered", "scheduled")
    acts = [*first, *(f"orchestration.{word}" for word in then)]
    found = [(NOW_MS - DAY_MS + 1_000 * place, act) for place, act in enumerate(acts)]
    for after_s, act in told:
        found.append((found[-1][0] + 1_000 * after_s, f"delivery.{act}"))
    return found


RANKED: Log = {
    "jrn-queued-long": way((1, "queued"), (3_600, "attempted"), (1, "sent"), (1, "delivered")),
    "jrn-deferred-01": way(
        *((1, "queued"), (1, "attempted"), (1, "deferred"), (3_600, "attempted")),
        *((1, "sent"), (1, "delivered")),
    ),
    "jrn-scheduled-1": way((7_200, "queued"), (1, "attempted"), (1, "sent"), (1, "delivered")),
    "jrn-failed-0001": way((1, "queued"), (1, "attempted"), (1, "failed")),
}


def test_candidates_are_ranked_as_they_are_by_hand(empty: Client) -> None:
    """Worked out on paper: step, volume, seconds after it, exceptions, score, saving in cents."""
    write_log(empty, RANKED)
    by_hand = [
        ("delivery.deferred", 1, 3_600, 1, 1.0, 0.6 * (0.2 + 60)),
        ("orchestration.scheduled", 4, 7_203, 1, 0.500208333, 0.7 * (0.400166667 + 60)),
        ("delivery.queued", 4, 3_603, 1, 0.250208333, 0.8 * (0.200166667 + 60)),
        ("delivery.attempted", 5, 5, 1, 0.000277778, 0.5 * (0.000277778 + 60)),
        ("delivery.failed", 1, 0, 0, 0.0, 0.7 * 300),
        ("journey.created", 4, 4, 0, 0.0, 0.5 * 0.000222222),
        ("orchestration.channel_selected", 4, 4, 0, 0.0, 0.5 * 0.000222222),
        ("orchestration.preference_checked", 4, 4, 0, 0.0, 0.5 * 0.000222222),
        ("request.accepted", 4, 4, 0, 0.0, 0.5 * 0.000222222),
        ("request.created", 4, 4, 0, 0.0, 0.5 * 0.000222222),
        ("delivery.sent", 3, 3, 0, 0.0, 0.2 * 0.000166667),
    ]

    lines = ask(empty, "candidates")

    assert [line[0] for line in by_hand] == [line["act"] for line in lines]
    for (_, volume, after_s, exceptions, score, saving), line in zip(by_hand, lines, strict=True):
        assert (volume, exceptions) == (line["volume"], line["exceptions"])
        assert pytest.approx(after_s / 3_600 / volume) == line["mean_wait_h"]
        assert pytest.approx(score, abs=1e-9) == line["score"]
        assert pytest.approx(saving, abs=1e-8) == line["saving_minor"]


def test_a_campaign_a_span_and_a_role_narrow_what_is_seen(empty: Client) -> None:
    write_log(empty, SMALL, campaigns=("spring", "x'; DROP TABLE journeys; --"))

    spring = ask(empty, "variants", ALL._replace(campaign="spring"))
    evil = ask(empty, "variants", ALL._replace(campaign="x'; DROP TABLE journeys; --"))
    late = ask(empty, "variants", ALL._replace(since_s=(NOW_MS - 950_000) // 1_000))

    assert [2, 2, 1] == [len(spring), len(evil), len(late)]
    for name, view in VIEWS.items():
        scope = ALL._replace(k=5)
        if view.single:
            with pytest.raises(ConfigError, match="may not see small groups"):
                ask(empty, name, scope)
        else:
            assert [] == ask(empty, name, scope)


def test_the_view_of_relations_by_hour_adds_up(empty: Client) -> None:
    write_log(empty, SMALL, campaigns=("spring", "autumn"))
    inner = {pair: n for pair, n in follows(SMALL).items() if all(pair)}

    found = empty.query("SELECT source, target, sum(n) FROM process_dfg GROUP BY ALL").result_rows

    assert inner == {(a, b): n for a, b, n in found}


@pytest.mark.parametrize(("seed", "shares"), [(1, "malformed=0.08"), (3, "odd=0.05")])
def test_what_was_told_online_equals_the_audit(client: Client, seed: int, shares: str) -> None:
    """Where nothing comes behind the watermark, and as far as it has come."""
    run = world(seed, shares)
    client.command("TRUNCATE TABLE journeys")
    log = log_of(run.journeys.rows.values())
    write_log(client, log)
    told: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for row in run.exceptions.rows.values():
        told[row["journey"]].add((row["rule"], row["at"]))

    audit: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for journey, rule, at_ms in answer(client, AUDIT, PROCESS, ALL):
        audit[journey].add((rule, at_ms))

    # Each lane has a time of its own; the slowest is what all have reached, to the minute.
    reached_ms = min(run.reached_ms.values()) - 2 * 60_000
    settled = {j: {one for one in found if one[1] <= reached_ms} for j, found in audit.items()}
    online = {j: {one for one in found if one[1] <= reached_ms} for j, found in told.items()}
    assert 20 < sum(map(len, settled.values()))
    missing = {j: found - online.get(j, set()) for j, found in settled.items()}
    extra = {j: found - settled.get(j, set()) for j, found in online.items()}
    assert ({}, {}) == (
        {j: found for j, found in missing.items() if found},
        {j: found for j, found in extra.items() if found},
    )


def test_what_sql_says_of_a_simulated_world_is_what_pm4py_says(empty: Client) -> None:
    """The golden file is made by `python -m tests.process_pm4py INTERPRETER --golden`."""
    log = read_csv(LOG)
    write_log(empty, log)
    theirs = json.loads(GOLDEN.read_text())

    assert [] == differences(ask_sql(empty), theirs)
    assert sum(theirs["starts"].values()) == len(log) > 50
    log["jrn-one-more"] = [(NOW_MS, "request.created")]
    write_log(empty, {"jrn-one-more": log["jrn-one-more"]})
    assert {"starts", "ends", "variants"} == set(differences(ask_sql(empty), theirs))


def test_the_golden_file_is_still_what_pm4py_says(tmp_path: Path) -> None:
    interpreter = os.environ.get(INTERPRETER)
    if not interpreter:
        pytest.skip(f"needs pm4py in an environment of its own: name its Python in {INTERPRETER}")
    write_csv(tmp_path / "log.csv", read_csv(LOG))

    told = ask_pm4py(interpreter, tmp_path / "log.csv", tmp_path / "told.json")

    assert {**json.loads(GOLDEN.read_text()), "version": told["version"]} == told
