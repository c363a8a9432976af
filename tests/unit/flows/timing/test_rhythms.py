"""Whether people differ in their hours: what is counted, when it is looked at, what is told."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import orjson

from flows.model.evidence.clusters import ClusterLooks
from flows.timing.feedback import CLOSED, OPTIMISED, Lesson, Send
from flows.timing.rhythms import GROWTH, Rhythms, together
from flows.timing.share import Shard
from tests.measure.evidence_worlds import people_and_hours
from tests.messages import HOUR_MS, NOW_MS
from tests.timing_world import person, sent
from tests.unit.flows.timing.harness import Post


def lesson(subject: str, hour: int, *, responded: bool, corrects: bool = False) -> Lesson:
    send = Send(subject, "spring", "", HOUR_MS, "", OPTIMISED, CLOSED, True, 0, hour)
    send.sent_slot, send.kept = hour, True
    return Lesson("jrn", send, responded=responded, corrects=corrects)


def world(strength: float, *, people: int = 300, sends: int = 40) -> list[Lesson]:
    rng = np.random.default_rng(7)
    tries, gains = people_and_hours(
        rng, people=people, sends=sends, strength=strength, adaptive=False
    )
    return [
        lesson(person(who), int(hour), responded=bool(number < gains[who, hour]))
        for who, hour in np.argwhere(tries > 0)
        for number in range(int(tries[who, hour]))
    ]


def test_clusters_are_found_where_people_differ_and_nowhere_else() -> None:
    found = {}
    for strength in (0.0, 1.0):
        rhythms = Rhythms()
        rhythms.add(world(strength))
        found[strength] = rhythms.look().exist(0.05)

    assert {0.0: False, 1.0: True} == found


def test_a_look_is_taken_only_when_there_is_enough_that_is_new() -> None:
    rhythms = Rhythms()
    rhythms.add(lesson(person(n % 40), n % 24, responded=n % 3 == 0) for n in range(499))
    assert 0 == rhythms.look().looks
    rhythms.add([lesson(person(1), 4, responded=True)])
    assert 1 == rhythms.look().looks
    assert 1 == rhythms.look().looks
    rhythms.add(lesson(person(n % 40), n % 24, responded=n % 3 == 0) for n in range(250))

    assert 750 == 500 * GROWTH
    assert 2 == rhythms.look().looks


def test_a_late_response_adds_no_send() -> None:
    rhythms = Rhythms()
    rhythms.add([lesson("usr_1", 30, responded=False)])
    rhythms.add([lesson("usr_1", 30, responded=True, corrects=True)])

    assert [1, 1] == rhythms._counts[0, :, 6].tolist()
    assert 2 == rhythms._counts.sum()


def test_a_late_response_to_what_was_never_counted_is_passed_over() -> None:
    """More answers than sends would make a rate above 1, and a look that is no number."""
    rhythms = Rhythms()
    rhythms.add(world(0.0))
    rhythms.add([lesson("usr_new", 3, responded=True, corrects=True) for _ in range(40)])

    assert math.isfinite(rhythms.look().log_e)


def test_people_have_a_bound_and_who_is_forgotten_makes_room() -> None:
    rhythms = Rhythms(people_max=2)
    rhythms.add([lesson(name, 1, responded=True) for name in ("a", "b", "c")])
    rhythms.forget("a")
    rhythms.forget("nobody")
    rhythms.add([lesson("d", 2, responded=False)])
    again = Rhythms(people_max=2)
    again.load(rhythms.dump())

    assert {"b", "d"} == set(again.dump()["subjects"])
    assert again.dump() == rhythms.dump()
    assert (2, 1) == tuple(again._counts[:2].sum(axis=(0, 2)))


def test_lanes_together_find_what_each_alone_cannot_and_silence_is_no_evidence() -> None:
    little = ClusterLooks(1, 2.0)

    assert not little.exist(0.05)
    assert together([little] * 6).exist(0.05)
    assert not together([ClusterLooks()] * 6).exist(0.05)
    assert together([ClusterLooks(1, 30.0), *[ClusterLooks(1, -math.inf)] * 40]).exist(0.05)


def test_evidence_of_lanes_together_is_worth_no_more_than_it_was_bought_for() -> None:
    """Sums of lanes whose mean is 1: so is the mean of what they say together, at most."""
    rng = np.random.default_rng(3)
    sums = np.log(rng.exponential(size=(20_000, 3)))
    told = [together([ClusterLooks(1, float(one)) for one in row]).log_e for row in sums]

    assert np.exp(told).mean() < 1.05


def test_the_verdict_tells_of_clusters_and_the_lane_of_its_looks() -> None:
    post = Post(results_s=60, publish_s=60, holdout_share=0.3)
    post.take(sent(1, at_ms=NOW_MS, subject=person(1)))
    post.lane.trial.add(world(1.0))
    post.lane._news = True
    followed = post.take(sent(2, at_ms=NOW_MS + HOUR_MS, subject=person(2)))

    told = {record.topic: record.value or b"" for record in followed.records}
    verdict = orjson.loads(told["airside.experiments.v1"])
    assert verdict["clusters_exist"]
    assert verdict["cluster_log_e"] > math.log(20)
    assert 1 == verdict["cluster_looks"] == post.rows["experiment_results"][-1]["cluster_looks"]
    post.lane._news = True
    later = post.take(sent(3, at_ms=NOW_MS + 2 * HOUR_MS, subject=person(3)))
    [shard] = [r.value or b"" for r in later.records if r.topic == "airside.model.v1"]
    heard = post.lane.shards.hear(b"009", _from_lane(shard, 9), fresh=False)
    assert heard is not None
    assert [1] == [one.looks for one in post.lane.shards.looks()]


def _from_lane(shard: bytes, lane: int) -> bytes:
    told = msgspec.msgpack.decode(shard, type=Shard)
    return msgspec.msgpack.encode(msgspec.structs.replace(told, lane=lane))
