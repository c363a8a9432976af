"""Recovery stores in every state that would stop a start, or let it lose something."""

from __future__ import annotations

import fcntl
import json
import pickle
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bytewax.recovery import init_db_dir

from connectors.journal import Journal
from connectors.kafka.survey import Cluster, Place, Span, TopicFacts
from connectors.recovery import StateKey, Store
from flows.catalog import FLOWS
from flows.doctor.check_kafka import KafkaFacts
from flows.doctor.check_store import NAMES, NULL_ROWS_MAX, Shape, check_states, check_store
from flows.doctor.finding import Finding, State
from flows.ingest import STEP_IDS
from flows.journey.make import JOURNEY_STEP
from flows.steps.upgrade import STATE_VERSION as GATE_VERSION
from flows.timing.upgrade import READABLE
from schemas.errors import TransientError
from tests.messages import settings
from tests.saved_timing import timing_state

MANIFEST = "manifest.json"
TOPIC = "ntf.requests.v1"
SHAPE = Shape("ingest", 2, STEP_IDS)
EPOCH = 9


class FakeSurvey:
    def __init__(self, spans: dict[Place, Span] | None) -> None:
        self._spans = spans

    def spans(self, places: Any) -> dict[Place, Span]:
        if self._spans is None:
            raise TransientError(do="read", kind="offsets", found="no leader")
        return {place: self._spans[place] for place in places}


def kafka(
    *spans: tuple[int, int], partitions: int = 2, cluster_id: str = "c1", silent: bool = False
) -> KafkaFacts:
    topics = {TOPIC: TopicFacts(partitions, None)} if partitions else {}
    known = {(TOPIC, number): Span(*span) for number, span in enumerate(spans)}
    survey: Any = FakeSurvey(None if silent else known)
    return KafkaFacts(Cluster(cluster_id, 1, {}, None, topics), survey)


GOOD = kafka((0, 100), (20, 120))


def lane_state(number: int, at: int, version: int = 1) -> bytes:
    return pickle.dumps({"version": version, "next": {(TOPIC, number): at}})


def rows_state(version: int = 1) -> bytes:
    return pickle.dumps(msgspec.msgpack.encode({"version": version, "rows": {}}))


def gate_state(version: int = 1) -> bytes:
    return pickle.dumps(msgspec.msgpack.encode({"version": version, "memory": [1, 2]}))


def save(folder: Path, step: str, key: str, state: bytes | None, epoch: int = EPOCH - 1) -> None:
    row = (f"ingest.{step}", key, epoch, state)
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as part, part:
        part.execute(
            "INSERT OR REPLACE INTO snaps (step_id, state_key, snap_epoch, ser_change)"
            " VALUES (?, ?, ?, ?)",
            row,
        )


def make_store(folder: Path, lanes: dict[int, int], parts: int = 1) -> None:
    folder.mkdir(parents=True)
    init_db_dir(folder, parts)
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as part, part:
        part.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, 9)")
    for number, at in lanes.items():
        save(folder, "read_lanes", f"{number:03d}", lane_state(number, at))
        save(folder, "pass_gate", f"{number:03d}", gate_state())
        save(folder, "write_rows", f"{number:03d}", pickle.dumps(None))


def write_manifest(folder: Path, **changes: Any) -> None:
    shape = {"flow": "ingest", "lanes": 2, "steps": STEP_IDS, "cells": 1, "generation": 3}
    (folder / MANIFEST).write_text(json.dumps({**shape, **changes}))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store of a single cell: lane 0 goes on at offset 40, lane 1 at 50."""
    folder = tmp_path / "recovery" / "ingest"
    make_store(folder / "cell-0-of-1", {0: 40, 1: 50})
    write_manifest(folder)
    return folder / "cell-0-of-1"


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """The same in two cells."""
    folder = tmp_path / "recovery" / "ingest"
    make_store(folder / "cell-0-of-2", {0: 40})
    make_store(folder / "cell-1-of-2", {1: 50})
    write_manifest(folder, cells=2)
    return folder


def examine(tmp_path: Path, facts: KafkaFacts | None = GOOD) -> dict[str, Finding]:
    findings = check_store(settings(data=tmp_path, lanes=2), SHAPE, facts)
    assert list(NAMES) == [finding.name for finding in findings]
    return {finding.name: finding for finding in findings}


def states(findings: dict[str, Finding]) -> dict[str, State]:
    return {name: item.state for name, item in findings.items() if item.state is not State.OK}


@pytest.mark.usefixtures("store")
def test_a_good_store_passes(tmp_path: Path) -> None:
    found = examine(tmp_path)

    assert {} == states(found)
    assert "2 partitions, all saved offsets are there; 130 to read" == found["store_offsets"].found
    assert "next epoch: 9" in found["store_parts"].found


def test_before_the_first_start_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert {} == states(examine(tmp_path, None))
    assert {} == states(examine(tmp_path, kafka(partitions=0)))


def test_good_cells_pass_and_leftovers_do_not_matter(tmp_path: Path, cells: Path) -> None:
    make_store(cells / "cell-0-of-1", {0: 1, 1: 1})
    found = examine(tmp_path)

    assert {} == states(found)
    assert "stores: 2, parts: 2" in found["store_parts"].found


def test_a_cell_that_is_gone_is_named(tmp_path: Path, cells: Path) -> None:
    shutil.rmtree(cells / "cell-1-of-2")
    found = examine(tmp_path)

    after = ("store_states", "store_offsets", "store_size")
    assert {"store_parts": State.FAIL, **dict.fromkeys(after, State.NOT_CHECKED)} == states(found)
    assert '"cell-1-of-2": found no file part-' in found["store_parts"].found
    assert "from a backup" in found["store_parts"].do


def test_a_store_that_is_empty_fails(tmp_path: Path, store: Path) -> None:
    (store / "part-0.sqlite3").unlink()
    found = examine(tmp_path)

    assert State.FAIL is found["store_parts"].state
    assert "found no file part-" in found["store_parts"].found


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"flow": "ingest", "lanes": 2}'])
def test_a_store_without_a_manifest_fails(
    tmp_path: Path, store: Path, content: bytes | None
) -> None:
    (store.parent / MANIFEST).unlink()
    if content is not None:
        (store.parent / MANIFEST).write_bytes(content)
    found = examine(tmp_path)

    assert {"store_shape": State.FAIL, **dict.fromkeys(NAMES[1:], State.NOT_CHECKED)} == (
        states(found)
    )


@pytest.mark.parametrize(
    "change", [{"flow": "timing"}, {"lanes": 4}, {"steps": [*STEP_IDS[:-1], "write_tables"]}]
)
def test_a_store_that_was_made_otherwise_fails(
    tmp_path: Path, store: Path, change: dict[str, Any]
) -> None:
    write_manifest(store.parent, **change)
    found = examine(tmp_path)

    assert {"store_shape": State.FAIL} == states(found)
    assert found["store_shape"].found.startswith(next(iter(change)))


def test_a_part_that_is_gone_fails(tmp_path: Path) -> None:
    folder = tmp_path / "recovery" / "ingest"
    make_store(folder / "cell-0-of-1", {0: 40, 1: 50}, parts=3)
    write_manifest(folder)
    assert {} == states(examine(tmp_path))
    (folder / "cell-0-of-1" / "part-2.sqlite3").unlink()
    found = examine(tmp_path)["store_parts"]

    assert (State.FAIL, "cell-0-of-1: no part-2.sqlite3") == found[1:3]


def test_parts_of_different_moments_fail(tmp_path: Path, store: Path) -> None:
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as part, part:
        part.execute("INSERT INTO commits (part_index, commit_epoch) VALUES (0, 12)")
    found = examine(tmp_path)["store_parts"]

    assert (State.FAIL, "cell-0-of-1: part 0 is newer than others") == found[1:3]
    assert "same moment" in found.do


def test_a_damaged_file_fails(tmp_path: Path, store: Path) -> None:
    (store / "part-0.sqlite3").write_bytes(b"no database" * 1_000)
    found = examine(tmp_path)

    assert State.FAIL is found["store_parts"].state
    assert State.NOT_CHECKED is found["store_offsets"].state


@pytest.mark.parametrize("place", ["recovery/ingest/cell-0-of-1/lock", "run/ingest/lock"])
@pytest.mark.usefixtures("store")
def test_a_store_in_use_is_a_warning_and_its_lock_is_left(tmp_path: Path, place: str) -> None:
    lock = tmp_path / place
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert {"store_use": State.WARN} == states(examine(tmp_path))
    assert {} == states(examine(tmp_path))
    with lock.open("w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("step", "state", "word"),
    [
        ("read_lanes", lane_state(0, 40, version=3), "read_lanes 000: version 3, expected 1 or 2"),
        ("read_lanes", pickle.dumps([1]), "read_lanes 000: no offsets"),
        ("read_lanes", b"\x80\x04K", "read_lanes 000: no plain pickle"),
        ("pass_gate", gate_state(7), "pass_gate 000: version 7"),
        ("pass_gate", pickle.dumps(b"\xc1"), "pass_gate 000: no state"),
        ("pass_gate", pickle.dumps(5), "pass_gate 000: no state"),
        ("write_rows", rows_state(9), "write_rows 000: version 9, expected 1"),
        (
            "publish_records",
            lane_state(0, 40, version=2),
            "publish_records 000: version 2, expected 1",
        ),
        ("write_rows", pickle.dumps(b"\xc1"), "write_rows 000: no rows with a version"),
        ("roll_up", pickle.dumps(5), "steps that this release does not have: roll_up"),
    ],
)
def test_states_that_this_release_cannot_use_fail(
    tmp_path: Path, store: Path, step: str, state: bytes, word: str
) -> None:
    save(store, step, "000", state)
    found = examine(tmp_path)["store_states"]

    assert State.FAIL is found.state
    assert word in found.found


def journey_state(version: int, *, alone: bool = False) -> bytes:
    state = msgspec.msgpack.encode({"version": version, "book": {}})
    return pickle.dumps(msgspec.msgpack.encode((b"reader", state)) if alone else state)


@pytest.mark.parametrize("flow", ["all", "journey"])
def test_states_of_journeys_are_read_in_both_flows_that_keep_them(flow: str) -> None:
    """A flow of its own keeps them behind the state of its reader."""
    alone = flow == "journey"
    shape = Shape(flow, 2, FLOWS[flow].step_ids)

    def verdict(state: bytes) -> Finding:
        states: dict[StateKey, bytes | None] = {(f"{flow}.{JOURNEY_STEP}", "000"): state}
        return check_states({"cell": Store((), (), 0, 1, states, 0, 0)}, shape)

    for version in (1, 2):
        assert State.OK is verdict(journey_state(version, alone=alone)).state
    newer = verdict(journey_state(7, alone=alone))
    assert "follow_journeys 000: version 7, expected 1 or 2" in newer.found
    assert "no state with a version" in verdict(journey_state(2, alone=not alone)).found


def states_of_timing(flow: str, state: bytes) -> Finding:
    steps = FLOWS[flow].step_ids
    saved = {(f"{flow}.decide_times", "000"): state, (f"{flow}.write_rows", "000"): rows_state()}
    store = Store((), (), 0, 9, saved, 0, 0)
    return check_states({"cell-0-of-1": store}, Shape(flow, 2, steps))


@pytest.mark.parametrize("flow", ["all", "timing"])
def test_states_of_delivery_times_are_read_in_both_flows(flow: str) -> None:
    def saved(state: bytes) -> bytes:
        return pickle.dumps(state if flow == "all" else msgspec.msgpack.encode((b"", state)))

    newer = msgspec.msgpack.encode({"version": max(READABLE) + 1, "lane": 0})
    good = [states_of_timing(flow, saved(timing_state(version))) for version in READABLE]
    bad = [states_of_timing(flow, saved(state)) for state in (newer, b"\xc1")]
    bad.append(states_of_timing(flow, pickle.dumps(5)))

    assert {"2 states, all of versions that this release reads"} == {one.found for one in good}
    assert [State.FAIL] * 3 == [one.state for one in bad]
    assert f"decide_times 000: version {max(READABLE) + 1}, expected" in bad[0].found
    assert "decide_times 000: no state with a version" == bad[1].found == bad[2].found
    assert "run the release that wrote them" in bad[0].do


@pytest.mark.parametrize(
    ("facts", "found", "do"),
    [
        (kafka((0, 100), (53, 120)), "3 messages are gone: ntf.requests.v1/1: saved 50", "raise"),
        (kafka((0, 39), (0, 120)), "ntf.requests.v1/0: saved 40, Kafka has 0 to 39", "made anew"),
        (kafka((0, 100), partitions=1), "Kafka does not have: ntf.requests.v1/1", "bring back"),
        (kafka(partitions=0), "does not have: ntf.requests.v1/0, ntf.requests.v1/1", "bring back"),
        (kafka((0, 40), (0, 0), cluster_id="tansu_cluster"), "saved 50, Kafka has 0", "made anew"),
    ],
)
@pytest.mark.usefixtures("store")
def test_offsets_that_kafka_does_not_have_fail(
    tmp_path: Path, facts: KafkaFacts, found: str, do: str
) -> None:
    verdict = examine(tmp_path, facts)

    assert {"store_offsets": State.FAIL} == states(verdict)
    assert found in verdict["store_offsets"].found
    assert do in verdict["store_offsets"].do


@pytest.mark.parametrize(
    "facts",
    [
        kafka((40, 100), (50, 50)),
        kafka((0, 100), (0, 120), (7, 9), partitions=3),
        kafka((0, 31), (0, 1), cluster_id="tansu_cluster"),
    ],
)
@pytest.mark.usefixtures("store")
def test_offsets_at_an_edge_new_partitions_and_short_ends_are_fine(
    tmp_path: Path, facts: KafkaFacts
) -> None:
    assert {} == states(examine(tmp_path, facts))


@pytest.mark.parametrize("facts", [None, kafka((0, 1), silent=True)])
@pytest.mark.usefixtures("store")
def test_offsets_are_not_judged_without_kafka(tmp_path: Path, facts: KafkaFacts | None) -> None:
    assert {"store_offsets": State.NOT_CHECKED} == states(examine(tmp_path, facts))


def test_a_lane_that_lost_its_offsets_is_a_warning(tmp_path: Path, store: Path) -> None:
    save(store, "read_lanes", "001", None)
    found = examine(tmp_path)

    assert {"store_offsets": State.WARN} == states(found)
    assert "no offsets of lanes 001" == found["store_offsets"].found


def test_many_forgotten_states_are_a_warning(tmp_path: Path, store: Path) -> None:
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as part, part:
        part.executemany(
            "INSERT INTO snaps (step_id, state_key, snap_epoch) VALUES ('ingest.take_rows', ?, 1)",
            ((str(number),) for number in range(NULL_ROWS_MAX + 1)),
        )
    found = examine(tmp_path)

    assert {"store_size": State.WARN} == states(found)
    assert "10,001 forgotten" in found["store_size"].found


@pytest.mark.parametrize("spoil", ["none", "missing", "short", "damaged"])
@pytest.mark.parametrize(
    "step", ["pass_gate", "follow_journeys", "decide_times", "decide_times waiting"]
)
def test_journals_that_a_state_names_are_looked_at(tmp_path: Path, step: str, spoil: str) -> None:
    mark = Journal(tmp_path, "x").save(b"", lambda: b"all of it")
    path = tmp_path / "x.00000001.journal"
    if spoil == "missing":
        path.unlink()
    elif spoil != "none":
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] if spoil == "short" else whole[:-1] + b"?")
    part = {"journal": mark}
    told: dict[str, dict[str, Any]] = {
        "pass_gate": {"version": GATE_VERSION, "memory": part},
        "follow_journeys": {"version": 2, "kept": part},
        "decide_times": {"version": max(READABLE), "learners": {"usual": part, "old": b""}},
        "decide_times waiting": {"version": max(READABLE), "waiting": part},
    }
    state = pickle.dumps(msgspec.msgpack.encode(told[step]))
    saved: dict[StateKey, bytes | None] = {(f"all.{step.split(maxsplit=1)[0]}", "000"): state}
    shape = Shape("all", 2, FLOWS["all"].step_ids)

    found = check_states({"cell": Store((), (), 0, 1, saved, 0, 0)}, shape, tmp_path)

    words = {
        "none": "1 states, all of versions",
        "missing": "x.00000001.journal: no file",
        "short": "x.00000001.journal: less than was saved",
        "damaged": "x.00000001.journal: a chunk that is not what was written",
    }
    assert (State.OK if spoil == "none" else State.FAIL) is found.state
    assert words[spoil] in found.found
