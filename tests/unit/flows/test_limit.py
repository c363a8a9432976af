"""The quarantine limit: counted to the message, however the messages are cut into blocks."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from flows.run import watch_metrics
from flows.simulate.world import World
from flows.steps.limit import LimitRules, QuarantineLimit
from flows.steps.write_facts import Refused
from schemas.blocks import Origin
from schemas.errors import PermanentError
from schemas.fates import Refusal
from tests.messages import DELIVERY, Bench, block, delivered, profile
from tests.unit.flows.memory_run import END_MS, MemoryRun, make_settings

FREE = LimitRules(run_max=1_000, share_max=1.0, window=1_000)

# A message: its partition, and its code; "" was routed, None was decided before.
Sent = tuple[int, str | None]


def refused(code: str) -> Refused:
    return Refused(
        refusal=Refusal(code, "", ""),
        origin=Origin(DELIVERY, 0, 0),
        recorded_ms=0,
        event_id="",
        source="",
        event_type="",
        purpose="",
        class_text="",
    )


class Lane:
    """A lane's limit, fed with messages; offsets go on by themselves."""

    def __init__(self, limit: QuarantineLimit) -> None:
        self.limit = limit
        self.ends: Counter[int] = Counter()

    def pass_(self, *sent: Sent) -> None:
        raw = block([delivered()] * len(sent))
        raw.partitions = [part for part, _ in sent]
        raw.offsets = []
        for part, _ in sent:
            raw.offsets.append(self.ends[part])
            self.ends[part] += 1
        codes = [(place, code) for place, (_, code) in enumerate(sent) if code is not None]
        self.limit.count(
            raw,
            [place for place, code in codes if not code],
            [(place, refused(code)) for place, code in codes if code],
        )


def lane(**changes: Any) -> Lane:
    return Lane(QuarantineLimit(msgspec.structs.replace(FREE, **changes)))


def test_a_run_may_be_as_long_as_the_limit_and_no_longer() -> None:
    one = lane(run_max=3)
    one.pass_((0, ""), (0, "T303"), (0, "T303"), (0, "T101"))
    assert 3 == one.limit.longest_run

    with pytest.raises(PermanentError) as caught:
        one.pass_((0, "T303"))
    assert 70 == caught.value.exit_code
    assert (
        'could not go on with partition "ntf.delivery.v1/0" of lane 0: found 4 messages to'
        " quarantine in a row since offset 1 (1 T101, 3 T303); expected at most 3; nothing is"
        " lost, the block is decided again at the next start: mend the producer or the policy,"
        " then raise AIRSIDE_LIMIT__RUN_MAX to let these messages into the quarantine"
    ) == str(caught.value)


@pytest.mark.parametrize("other", ["", "T404", "T601", "T602"])
def test_a_message_by_another_door_ends_a_run(other: str) -> None:
    one = lane(run_max=3)
    for _ in range(5):
        one.pass_((0, "T303"), (0, "T303"), (0, other), (0, "T303"))

    assert 1 == one.limit.longest_run


def test_a_long_run_in_the_middle_of_a_block_is_seen() -> None:
    one = lane(run_max=3)
    sent: list[Sent] = [(0, ""), *[(0, "T303")] * 4, (0, ""), (0, "T101")]

    with pytest.raises(PermanentError, match=r"since offset 1 \(4 T303\)"):
        one.pass_(*sent)


def test_a_run_that_ends_in_the_next_block_is_seen_before_a_longer_part_of_another() -> None:
    one = lane(run_max=3)
    one.pass_(*[(0, "T303")] * 3)

    with pytest.raises(PermanentError, match=r"found 4 messages .* since offset 0 \(4 T303\)"):
        one.pass_((0, "T303"), (0, ""), (0, "T101"), (0, "T101"))


@pytest.mark.parametrize(("share", "window", "most"), [(0.29, 100, 29), (0.5, 9, 4), (1, 7, 7)])
def test_a_share_is_a_whole_number_of_messages(share: float, window: int, most: int) -> None:
    assert most == LimitRules(run_max=1, share_max=share, window=window).window_max


def test_partitions_have_runs_of_their_own() -> None:
    one = lane(run_max=3)
    one.pass_(*[(0, "T303"), (1, ""), (2, "T303")] * 3)
    one.pass_((1, ""), (1, ""))
    assert 3 == one.limit.longest_run

    with pytest.raises(PermanentError, match=r'"ntf.delivery.v1/2"'):
        one.pass_((1, ""), (2, "T201"))


def test_a_share_of_the_last_messages_of_the_lane_is_the_limit() -> None:
    """Five of ten are allowed; the sixth stops, though the runs are short."""
    one = lane(share_max=0.5, window=10)
    one.pass_(*[(0, "T303"), (1, "T201"), (1, "")] * 2, *[(0, "")] * 4)
    assert 0.4 == one.limit.share
    one.pass_((0, "T303"), (0, ""), (0, "T303"), (0, ""), (0, ""), *[(1, "T101")] * 3)
    assert 0.5 == one.limit.share

    with pytest.raises(PermanentError) as caught:
        one.pass_((1, "T101"))
    assert (
        'could not go on with partition "ntf.delivery.v1/1" of lane 0 at offset 7: found 6 of the'
        " lane's last 10 messages to quarantine (4 T101, 2 T303); expected at most 5; nothing is"
    ) in str(caught.value)
    assert "then raise AIRSIDE_LIMIT__SHARE_MAX to let" in str(caught.value)


class Plain:
    """The same limit by hand: one message at a time, and everything is kept."""

    def __init__(self, limits: LimitRules) -> None:
        self.limits = limits
        self.bad: list[bool] = []
        self.runs: Counter[int] = Counter()

    def passes(self, part: int, code: str) -> bool:
        """Whether this message is one too many."""
        bad = code.startswith(("T1", "T2", "T3"))
        self.bad.append(bad)
        self.runs[part] = self.runs[part] + 1 if bad else 0
        recent = sum(self.bad[-self.limits.window :])
        return self.runs[part] > self.limits.run_max or recent > self.limits.window_max

    def state(self) -> tuple[int, float]:
        share = sum(self.bad[-self.limits.window :]) / self.limits.window
        return max(self.runs.values(), default=0), share


sent_messages = st.tuples(
    st.integers(0, 2), st.sampled_from(["", "", "T303", "T303", "T201", "T602", "T601", None])
)


@given(
    st.lists(sent_messages, max_size=60),
    st.lists(st.integers(1, 9), min_size=1),
    st.builds(LimitRules, st.integers(1, 8), st.sampled_from([0.29, 0.5, 1.0]), st.integers(1, 20)),
)
@settings(max_examples=300, deadline=None)
def test_it_stops_at_the_message_that_a_plain_count_says_through_cuts_and_restarts(
    stream: list[Sent], sizes: list[int], limits: LimitRules
) -> None:
    one, plain = Lane(QuarantineLimit(limits)), Plain(limits)
    at = turn = 0
    while at < len(stream):
        part = stream[at : at + sizes[turn % len(sizes)]]
        passes = [plain.passes(where, code) for where, code in part if code is not None]
        if any(passes):
            with pytest.raises(PermanentError):
                one.pass_(*part)
            return
        one.pass_(*part)
        again = QuarantineLimit(limits)
        again.load(one.limit.dump())
        one.limit = again
        assert plain.state() == (one.limit.longest_run, one.limit.share)
        at += len(part)
        turn += 1


@given(
    st.lists(sent_messages, min_size=1, max_size=60),
    st.lists(st.integers(1, 9), min_size=1),
    st.integers(2, 30),
)
@settings(max_examples=200, deadline=None)
def test_its_state_is_the_same_however_the_stream_was_cut(
    stream: list[Sent], sizes: list[int], window: int
) -> None:
    whole, cut = lane(window=window), lane(window=window)
    whole.pass_(*stream)
    at = turn = 0
    while at < len(stream):
        part = stream[at : at + sizes[turn % len(sizes)]]
        cut.pass_(*part)
        at += len(part)
        turn += 1

    assert plain_state(whole) == plain_state(cut)


def plain_state(one: Lane) -> dict[str, Any]:
    state = one.limit.dump()
    return {**state, "runs": sorted(state["runs"], key=repr)}


def test_what_it_keeps_is_bounded_by_the_window() -> None:
    one = lane(run_max=10**6, window=100)
    for _ in range(50):
        one.pass_(*[(0, "T303"), (1, "T101")] * 20)

    state = one.limit.dump()
    assert 100 * 8 == len(state["ordinals"])
    assert 100 * 2 == len(state["codes"])
    assert 2 == len(state["runs"])


def test_nothing_but_poison_stops_the_gate_and_a_higher_limit_lets_all_of_it_out() -> None:
    small = {"run_max": 6, "share_max": 1.0}
    poison = [delivered(n)._replace(value=b"{") for n in range(1, 11)]
    bench = Bench(limit=small)
    passed = bench.pass_(*poison[:5])
    state = bench.gate.dump()
    with pytest.raises(PermanentError, match=r"found 10 messages .* since offset 0 \(10 T303\)"):
        bench.pass_(*poison[5:])

    again, higher = Bench(limit=small), Bench(limit={**small, "run_max": 10})
    for one in (again, higher):
        one.gate.load(state)
        one._next = {(DELIVERY, 0): 5}
    with pytest.raises(PermanentError, match="found 10 messages"):
        again.pass_(*poison[5:])
    outputs = [passed, higher.pass_(*poison[5:])]

    assert 10 == sum(sum(output.counts.values()) for output in outputs)
    assert list(range(10)) == [r.origin.offset for output in outputs for r in output.records]


def test_metrics_say_how_near_the_limit_a_lane_is() -> None:
    bench = Bench(limit={"window": 10, "share_max": 1.0})
    poison = [delivered(n)._replace(value=b"{") for n in range(1, 5)]
    watch_metrics(bench.gate, bench.pass_(*poison))

    lane_name = {"lane": "0"}
    assert 4.0 == REGISTRY.get_sample_value("airside_quarantine_run_messages", lane_name)
    assert 0.4 == REGISTRY.get_sample_value("airside_quarantine_share_ratio", lane_name)


def test_a_table_that_is_read_again_counts_once() -> None:
    bench = Bench(limit={"run_max": 4})
    bad = [profile(n)._replace(value=b"{") for n in range(1, 5)]
    bench.pass_(*bad)
    again = Bench(limit={"run_max": 4})
    again.gate.load(bench.gate.dump())
    again.pass_(*bad)

    assert 4 == again.gate.limit.longest_run
    assert bench.gate.dump() == again.gate.dump()


def test_the_faults_of_a_simulated_world_pass_a_hundredth_of_the_default() -> None:
    limits = make_settings().limit
    small = limits.model_copy(
        update={"run_max": limits.run_max // 100, "window": limits.window // 100}
    )
    run = MemoryRun(
        World(7, total=6_000, end_ms=END_MS, people=150),
        settings=make_settings().model_copy(update={"limit": small}),
    )
    run.pass_through(run.as_read(Random(7)))

    assert len(run.sent) == sum(run.counts.values())
    assert sum(n for (door, _), n in run.counts.items() if door == "quarantined") > 100
