"""Clusters of a lane's people: who is learned when, what is told, and of whom nothing is."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from flows.ingest import read_policy
from flows.model.clusters import CHUNK, CLUSTERS
from flows.model.people import People
from flows.model.shapes import Floats
from flows.timing.clusters import FIRST, LOOK_MAX, Groups, LaneClusters, cluster_rows
from flows.timing.flow import make_rules
from flows.timing.lane import TimingLane
from flows.timing.rules import LaneRules
from schemas.blocks import AcceptedBlock, Followed, Rows
from tests.messages import HOUR_MS, NOW_MS, settings
from tests.saved_timing import answered, homes, looked_around, went
from tests.timing_world import lane, person, sent
from tests.unit.flows.timing.harness import Post

DAY = 86_400_000
HOURS = np.arange(24)


def crowd(people: int, *, activities: int = 20, seed: int = 1) -> People:
    """People of the morning and of the evening, by turns."""
    slab = People(10_000)
    rows = slab.claim([person(n) for n in range(people)])
    add_days(slab, rows, activities=activities, seed=seed)
    return slab


def add_days(slab: People, rows: Any, *, activities: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    day = np.array([np.exp(-0.5 * ((HOURS - peak) / 1.5) ** 2) for peak in (8, 20)])
    for turn, row in enumerate(rows.tolist()):
        shares = day[turn % 2] / day[turn % 2].sum()
        slab.recent_activity[row, :24] += rng.multinomial(activities, shares)


def looked(slab: People, looks: int = 1) -> LaneClusters:
    clusters = LaneClusters(seed=3)
    for _ in range(looks):
        clusters.look(slab)
    return clusters


def told(groups: Groups | None, *, people_min: int = 10, lane: int = 3) -> list[dict[str, Any]]:
    assert groups is not None
    rows = cluster_rows(
        groups, lane=lane, at_ms=NOW_MS, learned=7, people_min=people_min, kept_s=30 * 86_400
    )
    return lines(rows)


def lines(rows: Rows) -> list[dict[str, Any]]:
    return [
        dict(zip(rows.columns, line, strict=True))
        for line in zip(*rows.columns.values(), strict=True)
    ]


def groups(people: list[int], peaks: list[int]) -> Groups:
    """Clusters with a bump at each of some hours."""
    hours = np.array([np.exp(np.cos((HOURS - peak) * np.pi / 12)) for peak in peaks])
    counts: Floats = np.array(people, np.float64)
    return Groups(hours / hours.sum(axis=1, keepdims=True), counts, counts, counts * 4, counts)


def test_people_are_learned_from_five_activities_on_and_again_at_twice_as_many() -> None:
    slab = crowd(4, activities=FIRST - 1)
    clusters = LaneClusters(seed=1)
    learned = []
    for more in (0, 1, 0, 4, 1, 9, 1):
        add_days(slab, slab.find([person(0), person(1)]), activities=more, seed=2)
        clusters.look(slab)
        learned.append(clusters.learned)

    assert [0, 2, 2, 2, 4, 4, 6] == learned
    assert [20.0, 20.0, 0.0, 0.0] == slab.clustered[slab.find(map(person, range(4)))].tolist()


def test_a_past_that_the_model_forgot_does_not_keep_a_new_habit_from_being_learned() -> None:
    slab = crowd(1, activities=80)
    clusters = looked(slab)
    slab.recent_activity *= 0.1
    clusters.look(slab)
    assert 1 == clusters.learned
    add_days(slab, slab.find([person(0)]), activities=10, seed=4)
    clusters.look(slab)

    assert 2 == clusters.learned


def test_a_look_learns_no_more_than_its_bound_and_the_next_one_goes_on_from_there() -> None:
    slab = crowd(2 * LOOK_MAX + 50, activities=6)
    clusters = LaneClusters(seed=1)
    learned, seen = [], []
    for _ in range(4):
        clusters.look(slab)
        learned.append(clusters.learned)
        seen.append(int((slab.clustered > 0).sum()))

    assert [LOOK_MAX, 2 * LOOK_MAX, 2 * LOOK_MAX + 50, 2 * LOOK_MAX + 50] == learned == seen


def test_those_who_wait_come_before_those_who_were_learned_again() -> None:
    """Else who has a low row and grows all the time would keep all others out."""
    slab = crowd(LOOK_MAX + 10, activities=6)
    clusters = looked(slab)
    rows = slab.find(map(person, range(LOOK_MAX + 10)))
    add_days(slab, rows, activities=20, seed=5)
    clusters.look(slab)

    assert (slab.clustered[rows[LOOK_MAX:]] > 0).all()


def test_memory_is_bounded_whatever_comes() -> None:
    slab = crowd(300)
    clusters = looked(slab)
    sizes = []
    for turn in range(6):
        add_days(slab, slab.find(map(person, range(300))), activities=20 * 2**turn, seed=turn)
        clusters.look(slab)
        sizes.append(len(clusters.dump()["clusters"]["waiting"]))

    dumped = clusters.dump()["clusters"]
    assert (CLUSTERS, 6) == np.array(dumped["centres"]).shape
    assert max(sizes) < CHUNK
    assert len(set(sizes)) > 1


def test_a_state_that_is_saved_and_read_goes_on_to_the_byte() -> None:
    """In the middle of a chunk, before the first one and after some."""
    straight, stopped = crowd(450), crowd(450)
    one, other = LaneClusters(seed=3), LaneClusters(seed=3)
    for turn in range(5):
        for clusters, slab in ((one, straight), (other, stopped)):
            add_days(slab, slab.find(map(person, range(450))), activities=15, seed=turn)
            clusters.look(slab)
        saved = msgspec.msgpack.encode(other.dump())
        other = LaneClusters(seed=99)
        other.load(msgspec.msgpack.decode(saved))

    assert msgspec.msgpack.encode(one.dump()) == msgspec.msgpack.encode(other.dump())
    assert one.learned > 4 * CHUNK
    assert told(one.groups(straight)) == told(other.groups(stopped))


def test_nothing_is_told_before_there_is_a_centroid() -> None:
    slab = crowd(CHUNK - 1)
    clusters = looked(slab)

    assert CHUNK - 1 == clusters.learned
    assert clusters.groups(slab) is None


def test_everybody_with_a_rhythm_is_counted_at_the_nearest_centroid() -> None:
    slab = crowd(400)
    slab.claim(["usr_new"])
    rows = slab.find(map(person, range(400)))
    slab.sent[rows, 9] = 2.0
    slab.recent_sent[rows, 30] = 1.0
    slab.answered[rows[::2], 9] = 1.0
    found = [one for one in told(looked(slab, 2).groups(slab)) if one["people"]]

    assert 400 == sum(one["people"] for one in found)
    assert 1_200 == sum(one["sends"] for one in found)
    early, late = ([one for one in found if part(one)] for part in (is_early, is_late))
    assert (200, 200) == (sum_of(early, "people"), sum_of(early, "responses"))
    assert (200, 0) == (sum_of(late, "people"), sum_of(late, "responses"))


def is_early(row: dict[str, Any]) -> bool:
    return bool(np.argmax(row["hours"]) < 14)


def is_late(row: dict[str, Any]) -> bool:
    return not is_early(row)


def sum_of(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


def test_clusters_are_numbered_by_the_hour_of_their_peak_whatever_their_order_inside() -> None:
    people, peaks = [20, 30, 40, 50], [19, 7, 12, 22]
    found = told(groups(people, peaks))
    turned = told(groups(people[::-1], peaks[::-1]))

    assert [(1, 30, 7), (2, 40, 12), (3, 20, 19), (4, 50, 22)] == [
        (one["cluster"], one["people"], int(np.argmax(one["hours"]))) for one in found
    ]
    assert found == turned
    assert all(sum(one["hours"]) == pytest.approx(1.0, abs=0.002) for one in found)
    assert {NOW_MS // DAY + 31} == {one["expires_at"] for one in found}
    assert {(3, 7, NOW_MS, NOW_MS)} == {
        (one["lane"], one["learned"], one["at"], one["ver"]) for one in found
    }


@pytest.mark.parametrize(("people_min", "shown"), [(0, 3), (2, 2), (10, 2), (11, 1), (1_000, 0)])
def test_of_fewer_people_than_may_be_told_of_nothing_is(people_min: int, shown: int) -> None:
    """Their rows come last, and replace what was told under these numbers before."""
    found = told(groups([10, 1, 900, 0], [19, 7, 12, 3]), people_min=people_min)
    silent = found[shown:]

    assert [1, 2, 3, 4] == [one["cluster"] for one in found]
    assert all(one["people"] >= max(people_min, 1) for one in found[:shown])
    assert {(0, 0, 0, 0)} == {
        (one["people"], one["sends"], one["responses"], len(one["hours"])) for one in silent
    }


def test_what_few_people_of_a_cluster_were_sent_is_not_told() -> None:
    hours = np.full((2, 24), 1 / 24)
    found = told(
        Groups(hours, *(np.array(each, float) for each in ([50, 50], [9, 10], [3, 30], [3, 30])))
    )

    assert [(50, 0, 0), (50, 30, 30)] == [
        (one["people"], one["sends"], one["responses"]) for one in found
    ]


def test_one_rhythm_more_moves_nothing_that_is_told_of_hours() -> None:
    """Else two tellings would give it away."""
    slab = crowd(CHUNK + 20)
    clusters = looked(slab)
    before = clusters.groups(slab)
    add_days(slab, slab.claim(["usr_new"]), activities=50, seed=8)
    clusters.look(slab)
    after = clusters.groups(slab)

    assert CHUNK + 21 == clusters.learned
    assert CHUNK == clusters.version
    assert before is not None
    assert after is not None
    assert np.array_equal(before.hours, after.hours)


def test_who_takes_the_place_of_one_who_is_forgotten_is_learned_as_new() -> None:
    slab = crowd(10)
    clusters = looked(slab)
    slab.forget(person(3))
    add_days(slab, slab.claim(["usr_new"]), activities=FIRST, seed=9)
    clusters.look(slab)

    assert 11 == clusters.learned


def busy(post: Post, people: int = 2 * CHUNK) -> TimingLane:
    """Let a lane know people, with news to publish."""
    users = [person(n) for n in range(people)]
    for turn in range(8):
        slots = np.array([(8 if n % 2 else 20) + turn % 3 for n in range(people)])
        post.lane.learners["latent_class"].observe_activity(users, slots)
    post.lane._news = True
    return post.lane


def test_a_lane_tells_its_clusters_when_it_publishes_and_its_digest_holds_them() -> None:
    post = Post(publish_s=60)
    post.take(sent(1, at_ms=NOW_MS, subject=person(1)))
    busy(post)
    before = post.lane.state_hash()
    post.take(sent(2, at_ms=NOW_MS + HOUR_MS, subject=person(2)))
    rows = post.rows["rhythm_clusters"]

    assert [1, 2, 3, 4, 5, 6] == [one["cluster"] for one in rows]
    assert 2 * CHUNK == sum_of(rows, "people") == post.lane.clusters.learned
    assert all(one["people"] >= 10 for one in rows if one["people"])
    assert {NOW_MS + HOUR_MS} == {one["at"] for one in rows}
    told_hash = post.lane.state_hash()
    post.lane.clusters = LaneClusters(seed=7)
    assert len({before, told_hash, post.lane.state_hash()}) == 3


def test_a_lane_that_is_killed_anywhere_has_the_same_clusters_and_tells_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks since the last snapshot come again, to another process."""
    monkeypatch.setattr("flows.model.clusters.CHUNK", 10)  # so few people are a chunk here
    rules: dict[str, Any] = {"publish_s": 60, "window_s": 3_600}
    post, blocks = Post(**rules), list[AcceptedBlock]()
    follow = post.lane.follow

    def note(block: AcceptedBlock) -> Followed:
        blocks.append(block)
        return follow(block)

    monkeypatch.setattr(post.lane, "follow", note)
    post.take(*homes())
    for turn in range(4):
        for messages in (looked_around(turn), went(turn), answered(turn)):
            post.take(*messages)
    saved, state, told_again = 0, b"", list[dict[str, Any]]()
    for at in range(len(blocks)):
        other = lane(**rules)
        if state:
            other.load(state)
        for block in blocks[saved : at + 1]:
            for rows in other.follow(block).rows:
                told_again += lines(rows) if rows.table == "rhythm_clusters" else []
        if at % 3 == 2:
            saved, state = at + 1, other.dump()

    once = post.rows["rhythm_clusters"]
    assert 36 == post.lane.clusters.learned
    assert post.lane.state_hash() == other.state_hash()
    assert post.lane.dump() == other.dump()
    assert len(told_again) > len(once) > CLUSTERS
    assert all(row in once for row in told_again)


def test_who_is_forgotten_is_in_no_count_of_the_next_telling() -> None:
    post = Post(publish_s=60)
    post.take(sent(1, at_ms=NOW_MS, subject=person(1)))
    busy(post)
    post.take(sent(2, at_ms=NOW_MS + HOUR_MS, subject=person(2)))
    for n in range(50):
        post.lane._forget(person(n))
    post.lane._news = True
    post.take(sent(3, at_ms=NOW_MS + 2 * HOUR_MS, subject=person(60)))
    first, second = post.rows["rhythm_clusters"][:6], post.rows["rhythm_clusters"][6:]

    assert sum_of(first, "people") - 50 == sum_of(second, "people")
    assert b"usr_" not in msgspec.msgpack.encode(post.lane.clusters.dump())


def test_the_policy_says_of_how_few_people_nothing_is_told_and_how_long_rows_stay() -> None:
    """The strictest role counts: rows are for whoever may read the table."""
    made = settings()
    policy = read_policy(made)
    strict = policy.model_copy(update={"small_groups": {"engineer": 25, "analyst": 10}})

    assert (10, 30 * 86_400) == told_by(make_rules(made, policy))
    assert 25 == make_rules(made, strict).people_min


def told_by(rules: LaneRules) -> tuple[int, int]:
    return rules.people_min, rules.told_s


def test_a_lane_whose_models_keep_no_counts_of_people_tells_no_clusters() -> None:
    made = lane(model="linucb")
    made._begin(0)

    assert [] == made._look_at_clusters()
