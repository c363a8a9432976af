"""Check whether a flow can go on where its recovery stores say that it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from connectors.clickhouse import saved_rows
from connectors.kafka import lane_state, watermark
from connectors.kafka.survey import Cluster, Place, Span
from connectors.lane_sink import lane_key
from connectors.recovery import Store, find_cells, is_in_use, load_plain, read_store
from flows.cells import Cell, Home, Manifest
from flows.doctor.check_journals import check_journal, marks_in
from flows.doctor.check_kafka import KafkaFacts
from flows.doctor.finding import Finding, fail, not_checked, of_error, ok, warn
from flows.journey.follow import VERSIONS_READ as JOURNEY_VERSIONS
from flows.journey.make import JOURNEY, JOURNEY_STEP
from flows.settings import Settings
from flows.steps.upgrade import STATE_VERSION, UPGRADES
from flows.timing import TIMING, TIMING_STEP
from flows.timing import upgrade as timing_state
from schemas.errors import AirsideError, PermanentError

NAMES: Final = (
    "store_shape",
    "store_parts",
    "store_use",
    "store_states",
    "store_offsets",
    "store_size",
)

NULL_ROWS_MAX: Final = 10_000
"""Snapshots of forgotten keys stay in the store for ever; each start reads them all."""

_READ: Final = "read_lanes"
_GATE: Final = "pass_gate"
_ROWS: Final = "write_rows"
_RECORDS: Final = "publish_records"
_MAY_NAME_JOURNALS: Final = frozenset((_GATE, JOURNEY_STEP, TIMING_STEP))
_SHOWN_MAX: Final = 5
_MIB: Final = 1 << 20
_RESTORE: Final = "restore the flow's whole folder below `recovery` from a backup"
_ANEW: Final = "start from an empty data folder, which reads again all that Kafka still keeps"

Stores = Mapping[str, Store]


class Shape(NamedTuple):
    """What this release needs a flow's store to have been made for."""

    flow: str
    lanes: int
    steps: Sequence[str]


class _Versioned(msgspec.Struct):
    version: int


def check_store(settings: Settings, shape: Shape, kafka: KafkaFacts | None) -> list[Finding]:
    """Everything about the recovery stores of one flow, and Kafka's offsets against them."""
    home = Home(settings.data, shape.flow)
    if not home.manifest_file.exists() and not find_cells(home.stores):
        return [ok(name, "nothing is saved yet: the first start makes it") for name in NAMES]
    manifest, verdict = check_shape(home, shape)
    if manifest is None:
        return [verdict, *not_checked(NAMES[1:], "what the stores were made for cannot be read")]
    # Stores for another number of cells are left over; the next start removes them.
    folders = [home.store(Cell(number, manifest.cells)) for number in range(manifest.cells)]
    parts, stores = check_parts(folders)
    locks = [home.run / "lock", *(folder / "lock" for folder in folders)]
    found = [verdict, parts, check_use(locks)]
    if stores is None:
        return [*found, *not_checked(NAMES[3:], "the stores cannot be read")]
    return [
        *found,
        check_states(stores, shape, home.stores / "journals"),
        _check_offsets(stores, shape, kafka),
        check_size(stores),
    ]


def check_shape(home: Home, shape: Shape) -> tuple[Manifest | None, Finding]:
    """Check whether the stores were made for this flow, its lanes and its steps."""
    name = "store_shape"
    try:
        manifest = home.read_manifest()
    except AirsideError as err:
        return None, of_error(name, err)
    if manifest is None:
        found = f"stores without {home.manifest_file.name}"
        return None, fail(name, found, f"{_RESTORE}, or {_ANEW}")
    wanted = {"flow": shape.flow, "lanes": shape.lanes, "steps": tuple(shape.steps)}
    differences = [
        f"{part} {_text(getattr(manifest, part))}, expected {_text(value)}"
        for part, value in wanted.items()
        if getattr(manifest, part) != value
    ]
    if differences:
        do = "start as it was made (AIRSIDE_LANES, the release before), or " + _ANEW
        return manifest, fail(name, "; ".join(differences), do)
    found = f"made for {shape.lanes} lanes and the {len(shape.steps)} steps of this release"
    return manifest, ok(name, f"{found}; cells: {manifest.cells}")


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def check_parts(folders: Sequence[Path]) -> tuple[Finding, Stores | None]:
    """Check whether every file of every store is there, whole, and from the same moment.

    A cell whose store is empty begins at the beginning, and says nothing: so this has to.
    """
    name = "store_parts"
    faults: list[str] = []
    stores: dict[str, Store] = {}
    for folder in folders:
        try:
            store = read_store(folder)
        except AirsideError as err:
            faults.append(of_error(name, err).found)
            continue
        stores[folder.name] = store
        faults += [f"{folder.name}: no part-{part}.sqlite3" for part in store.missing]
        faults += [f"{folder.name}: part {part} is newer than others" for part in store.too_old]
    if faults:
        do = f"{_RESTORE}, all parts of the same moment; without one, {_ANEW}"
        return fail(name, "; ".join(faults[:_SHOWN_MAX]), do), None
    total = sum(len(store.parts) for store in stores.values())
    epochs = ", ".join(str(store.resume_epoch) for store in stores.values())
    found = f"stores: {len(stores)}, parts: {total}, all sound; next epoch: {epochs}"
    return ok(name, found), stores


def check_use(locks: Sequence[Path]) -> Finding:
    """Check whether somebody runs the flow on these stores now."""
    if any(is_in_use(lock) for lock in locks):
        return warn(
            "store_use",
            "another process is using the stores",
            "nothing, if the flow is meant to run already; a second start is refused",
        )
    return ok("store_use", "nobody is using the stores")


def check_states(stores: Stores, shape: Shape, journals: Path | None = None) -> Finding:
    """Check whether this release reads every saved state, and what those name in journals."""
    name = "store_states"
    readers: Mapping[str, tuple[tuple[int, ...], Callable[[bytes], int]]] = {
        _READ: (lane_state.READABLE, lambda state: int(read_lane(state)["version"])),
        _GATE: ((*UPGRADES, STATE_VERSION), partial(_version, "gate")),
        JOURNEY_STEP: (
            JOURNEY_VERSIONS,
            partial(_version, "journeys", behind_reader=shape.flow == JOURNEY),
        ),
        _ROWS: (saved_rows.VERSIONS_READ, _rows_version),
        _RECORDS: ((watermark.VERSION,), _mark_version),
        TIMING_STEP: (
            timing_state.READABLE,
            partial(_version, "timing", behind_reader=shape.flow == TIMING),
        ),
    }
    faults, foreign = [], []
    count = 0
    for step_id, key, state in _states(stores):
        step = step_id.removeprefix(f"{shape.flow}.")
        if step not in shape.steps:
            foreign.append(step)
        if step not in readers or state is None:
            continue
        count += 1
        wanted, read = readers[step]
        try:
            found = read(state)
        except AirsideError as err:
            faults.append(f"{step} {key}: {err.found}")
            continue
        if found not in wanted:
            known = " or ".join(map(str, wanted))
            faults.append(f"{step} {key}: version {found}, expected {known}")
        elif journals is not None and step in _MAY_NAME_JOURNALS:
            told = (check_journal(journals, mark) for mark in marks_in(load_plain(state)))
            faults += [f"{step} {key}: {fault}" for fault in told if fault]
    if faults:
        do = f"run the release that wrote them, or {_RESTORE}; without both, {_ANEW}"
        return fail(name, "; ".join(faults[:_SHOWN_MAX]), do)
    if foreign:
        steps = ", ".join(sorted(set(foreign)))
        return fail(
            name,
            f"states of steps that this release does not have: {steps}",
            f"run the release that wrote them; this one would forget them; or {_ANEW}",
        )
    return ok(name, f"{count} states, all of versions that this release reads")


def _states(stores: Stores) -> list[tuple[str, str, bytes | None]]:
    return [
        (step_id, key, state)
        for store in stores.values()
        for (step_id, key), state in sorted(store.states.items())
    ]


def read_lane(state: bytes) -> Mapping[str, Any]:
    """A lane's saved offsets: `version`, and `next` by topic and partition.

    Errors: PermanentError when it is anything else.
    """
    found = load_plain(state)
    if isinstance(found, dict) and "version" in found and isinstance(found.get("next"), dict):
        return found
    raise PermanentError(do="read", kind="lane", found="no offsets with a version")


def _version(kind: str, state: bytes, *, behind_reader: bool = False) -> int:
    """The version of a step's state; a flow of its own keeps it behind that of its reader."""
    try:
        dumped = load_plain(state)
        if behind_reader:
            _, dumped = msgspec.msgpack.decode(dumped, type=tuple[bytes, bytes])
        return msgspec.msgpack.decode(dumped, type=_Versioned).version
    except (msgspec.MsgspecError, TypeError):
        raise PermanentError(do="read", kind=kind, found="no state with a version") from None


def _rows_version(state: bytes) -> int:
    """A sink without rows on their way saves nothing, and every release reads that."""
    rows = load_plain(state)
    return saved_rows.STATE_VERSION if rows is None else saved_rows.version_of(rows)


def _check_offsets(stores: Stores, shape: Shape, kafka: KafkaFacts | None) -> Finding:
    name = "store_offsets"
    try:
        offsets, lost = read_offsets(stores, shape)
    except AirsideError:
        return not_checked([name], "the saved offsets cannot be read")[0]
    if kafka is None:
        return not_checked([name], "Kafka is not reached")[0]
    gone = missing_places(offsets, kafka.cluster)
    try:
        spans = kafka.survey.spans(place for place in offsets if place not in gone)
    except AirsideError as err:
        return not_checked([name], of_error(name, err).found)[0]
    return check_offsets(offsets, spans, gone=gone, lost=lost, embedded=kafka.cluster.is_embedded)


def read_offsets(stores: Stores, shape: Shape) -> tuple[dict[Place, int], list[str]]:
    """Where each partition goes on; and the lanes that have no place though others do.

    Errors: PermanentError when a state is damaged.
    """
    wanted = f"{shape.flow}.{_READ}"
    offsets: dict[Place, int] = {}
    seen: set[str] = set()
    for step_id, key, state in _states(stores):
        if step_id == wanted and state is not None:
            seen.add(key)
            offsets.update(read_lane(state)["next"])
    every = [lane_key(lane) for lane in range(shape.lanes)]
    return offsets, [key for key in every if seen and key not in seen]


def missing_places(offsets: Mapping[Place, int], cluster: Cluster) -> list[Place]:
    """The saved partitions that the cluster does not have any more."""
    counts = {topic: facts.partitions for topic, facts in cluster.topics.items()}
    return sorted(place for place in offsets if place[1] >= counts.get(place[0], 0))


def check_offsets(
    offsets: Mapping[Place, int],
    spans: Mapping[Place, Span],
    *,
    gone: Sequence[Place] = (),
    lost: Sequence[str] = (),
    embedded: bool = False,
) -> Finding:
    """Check whether Kafka still has everything from the saved offsets on.

    The embedded broker reports its ends short, but it forgets everything at once: an end of 0.
    """
    name = "store_offsets"
    if gone:
        found = ", ".join(f"{topic}/{part}" for topic, part in gone[:_SHOWN_MAX])
        do = f"bring back the topic with all its partitions; if it was made anew, {_ANEW}"
        return fail(name, f"saved partitions that Kafka does not have: {found}", do)
    overtaken, anew = [], []
    behind = 0
    for place, at in sorted(offsets.items()):
        low, high = spans[place]
        text = f"{place[0]}/{place[1]}: saved {at}, Kafka has {low} to {high}"
        if at < low:
            overtaken.append(text)
            behind += low - at
        elif at > high and (high == 0 or not embedded):
            anew.append(text)
    if overtaken:
        return fail(
            name,
            f"{behind:,} messages are gone: " + "; ".join(overtaken[:_SHOWN_MAX]),
            f"retention overtook the store: raise retention.ms, then {_ANEW}",
        )
    if anew:
        return fail(name, "; ".join(anew[:_SHOWN_MAX]), f"a topic was made anew: {_ANEW}")
    if lost:
        return warn(
            name,
            f"no offsets of lanes {', '.join(lost)}",
            "they will read their partitions from the beginning; if that is wrong, " + _RESTORE,
        )
    left = sum(max(spans[place].high - at, 0) for place, at in offsets.items())
    return ok(name, f"{len(offsets)} partitions, all saved offsets are there; {left:,} to read")


def check_size(stores: Stores) -> Finding:
    """Check whether the stores hold more than states that are in use."""
    null_rows = sum(store.null_rows for store in stores.values())
    size_bytes = sum(store.size_bytes for store in stores.values())
    found = f"{size_bytes / _MIB:,.1f} MiB, {null_rows:,} forgotten states"
    if null_rows > NULL_ROWS_MAX:
        do = "no step of this release forgets that many; starts get slow: report it with its steps"
        return warn("store_size", found, do)
    return ok("store_size", found)


def _mark_version(state: bytes) -> int:
    """A sink that publishes at least once saves nothing, and so did earlier releases."""
    mark = load_plain(state)
    return watermark.VERSION if mark is None else int(read_lane(state)["version"])
