"""Quality, block by block: bounds, corrections, findings, undeclared flows, saved states."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from flows.ingest import make_checker, make_gate, read_policy
from flows.quality.agree import Agreement
from flows.quality.cells import OTHER, Cells
from flows.quality.edges import MANY, edges_of
from flows.quality.follow import QualityFollower, QualityRules
from schemas.blocks import AcceptedBlock, Followed
from schemas.errors import ConfigError, PermanentError
from schemas.quality import load_quality, read_quality
from schemas.quality_found import QualityFound
from tests.messages import NOW_MS, block, delivered, settings

QUALITY = load_quality()
NUMBER = {rule.name: number for number, rule in enumerate(QUALITY.rules)}


def cells(**bounds: int) -> Cells:
    return Cells(QUALITY, **{"producers_max": 8, "cells_max": 100, **bounds})


def test_producers_beyond_the_bound_are_counted_together() -> None:
    some = cells(producers_max=2)

    assert ["/a", "/b", OTHER, "/a"] == [
        some.producer_of("t", name) for name in ("/a", "/b", "/c", "/a")
    ]


def test_beyond_the_bound_of_cells_the_oldest_minute_goes_and_nothing_is_lost() -> None:
    some = cells(cells_max=2)
    told: dict[int, int] = {}
    for minute in (1, 2, 3, 1):
        some.count(some.key_of(minute, "t", "/a"), NUMBER["volume"], 5, 0)
        rows = some.take_rows(0).columns
        told |= dict(zip(rows["w"], rows["checked"], strict=True))
        some.drop_before(0)

    assert {60_000: 5, 120_000: 10, 180_000: 5} == told


def test_a_failure_that_is_taken_back_is_a_later_version() -> None:
    some = cells()
    memory = Agreement(some, remembered_max=10)
    key, rule = some.key_of(7, "t", "/a"), NUMBER["sent_before_delivered"]
    some.count(key, rule, 1, int(memory.misses(rule, "n-1", key)))
    before = some.take_rows(0).columns
    memory.came(rule, "n-1", 7)
    after = some.take_rows(0).columns

    assert [([1], [1]), ([0], [2])] == [(rows["failed"], rows["ver"]) for rows in (before, after)]
    assert not memory.misses(rule, "n-1", key)


def test_another_value_than_the_first_one_differs() -> None:
    memory = Agreement(cells(), remembered_max=1)
    said = [
        memory.differs(1, *pair)
        for pair in (("a", "EUR"), ("a", "EUR"), ("a", "USD"), ("b", "USD"), ("b", "EUR"))
    ]

    assert [False, False, True, False, False] == said  # b is beyond the bound


def accepted(*messages: Any) -> AcceptedBlock:
    given = settings()
    policy = read_policy(given)
    gate = make_gate(given, policy, followed=True)
    outputs = gate.pass_block(make_checker(given, policy).check(block(list(messages))))
    found = outputs.accepted or outputs.only_refused
    assert found is not None
    return found


def follower() -> QualityFollower:
    return QualityFollower(QUALITY, QualityRules(lateness_ms=86_400_000))


def bodies(followed: Followed) -> list[dict[str, Any]]:
    found = [orjson.loads(record.value or b"") for record in followed.records]
    for body in found:
        QualityFound.model_validate(body)
    return found


def test_data_along_an_undeclared_edge_is_told_once() -> None:
    some = follower()
    one = accepted(delivered(1, datahops="ex.spy.0>in.gw1.1"))
    first = bodies(some.follow(one))
    again = follower()
    again.load(some.dump())

    hops = [body for body in first if body["from_node"].startswith("hop:")]
    assert [("undeclared_flow", "hop:ex.spy", "hop:in.gw1")] == [
        (body["finding"], body["from_node"], body["to_node"]) for body in hops
    ]
    assert [] == bodies(again.follow(one))


def test_a_block_of_refusals_only_is_counted_when_a_time_is_known() -> None:
    some = follower()
    refused = accepted(delivered(1, specversion="0.3"))
    assert ([], {("/senders/email", "T106"): 1}) != (refused.ids, {})
    assert [] == some.follow(refused).rows

    rows = {part.table: part.columns for part in some.follow(accepted(delivered(2))).rows}[
        "quality"
    ]

    failed = dict(zip(rows["rule"], rows["failed"], strict=True))
    assert 1 == failed["ticket_right"]
    assert {NOW_MS // 60_000 * 60_000} == set(rows["w"])


def test_histories_lose_their_times_and_keep_their_gap() -> None:
    assert [MANY, "hop:ro.c1"] == [
        edge.to_node for edge in edges_of("/a", "in.g>~3>ro.c1", "t")[1:3]
    ]


@pytest.mark.parametrize("dumped", [b"", b"\x80", b"\x81\xa7version\x63"])
def test_a_state_of_another_version_is_refused(dumped: bytes) -> None:
    with pytest.raises(PermanentError, match="expected version 1"):
        follower().load(dumped)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("missing: arm", "missing: harm", "fields and codes that there are"),
        ("delay_s: 300", "delays: 300", "Extra inputs|one kind of check"),
        ("name: arm_known", "name: channel_known", "each name once"),
        ("warn: 0.05", "warn: 0.99", "warn is not above error"),
        ("senders: [", "strangers: [", "producers that topics name"),
        ("in: [va", "in: [zz", "stages of the hop grammar"),
        ("after: ntf.delivery.sent.v1", "after: ntf.delivery.thrown.v1", "a type that there is"),
    ],
)
def test_rules_that_do_not_fit_are_refused_with_their_place(old: str, new: str, says: str) -> None:
    from importlib.resources import files  # noqa: PLC0415 - for this text only

    text = files("schemas").joinpath("quality.yaml").read_text()
    assert old in text

    with pytest.raises(ConfigError, match=says) as error:
        read_quality(text.replace(old, new))
    assert re.search(r"found .* at ", str(error.value))
