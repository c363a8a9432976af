"""A delivery-time model as a part of a lane's state: what changed of it, person by person."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from flows.model.delivery_time import DeliveryTimeModel
from flows.model.exchange import UnreadableStateError
from flows.model.people import People, Rows
from flows.model.shapes import BINS

_VERSION: Final = 1
_COUNTS: Final = tuple(name for name, _, _ in People.COLUMNS)
_OTHERS: Final = tuple(name for name in People.arrays() if name not in _COUNTS)


class Shelf:
    """One model. Of a person's counts only those are told that are not zero: a few of 288.

    Promise: after `load` and `apply` the model is to the bit the one that was dumped, so that it
    decides, forgets and sweeps alike.
    Errors: `UnreadableStateError` for what another release wrote.
    """

    def __init__(self, model: DeliveryTimeModel) -> None:
        self._model = model
        self._stood = b""

    def dump(self) -> bytes:
        """All of the model."""
        people = self._model.people
        rows = np.flatnonzero(people.here)
        whole = {
            "version": _VERSION,
            "slab": people.slab(),
            "rows": _told(people, rows),
            "standing": self._model.dump_standing(),
        }
        return msgspec.msgpack.encode(whole)

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave."""
        whole = _read(dumped)
        self._model.people.restore(whole["slab"], np.zeros(0, np.int64), {})
        _take(self._model.people, whole["rows"])
        self._model.load_standing(whole["standing"])

    def watch(self) -> None:
        """Note changes from now on."""
        self._model.people.acts, self._model.people.erased = [], False
        self._model.people.changed[:] = False
        self._stood = self._model.dump_standing()

    def has_erased(self) -> bool:
        """Whether a person was deleted by a wish, whom earlier changes name."""
        return self._model.people.erased

    def take_changes(self) -> bytes:
        """What changed since the last time; empty for nothing."""
        people = self._model.people
        rows = np.flatnonzero(people.changed)
        standing = self._model.dump_standing()
        stands = standing == self._stood
        people.erased = False
        if stands and not len(rows) and not people.acts:
            return b""
        changes = {
            "version": _VERSION,
            "acts": people.acts,
            "clock": people.clock,
            "rows": _told(people, rows),
            "standing": None if stands else standing,
        }
        people.acts, self._stood = [], standing
        people.changed[rows] = False
        return msgspec.msgpack.encode(changes)

    def apply(self, changes: bytes) -> None:
        """Change as `take_changes` told."""
        told, people = _read(changes), self._model.people
        for act in told["acts"]:
            people.act(act)
        _take(people, told["rows"])
        people.clock = told["clock"]
        if told["standing"] is not None:
            self._model.load_standing(told["standing"])


def _read(dumped: bytes) -> dict[str, Any]:
    try:
        found = msgspec.msgpack.decode(dumped, type=dict[str, Any])
    except msgspec.MsgspecError as err:
        raise UnreadableStateError("people", "other bytes", "what dump() wrote") from err
    if found.get("version") != _VERSION:
        raise UnreadableStateError("people", f"version {found.get('version')}", f"{_VERSION}")
    return found


def _told(people: People, rows: Rows) -> dict[str, Any]:
    """What these rows hold. Shapes: of counts, places in the block of rows, and values there."""
    told: dict[str, Any] = {"rows": rows.tobytes()}
    for name in _OTHERS:
        told[name] = getattr(people, name)[rows].tobytes()
    for name in _COUNTS:
        counts = getattr(people, name)[rows].reshape(-1)
        places = np.flatnonzero(counts)
        told[name] = (places.astype(np.uint32).tobytes(), counts[places].tobytes())
    return told


def _take(people: People, told: dict[str, Any]) -> None:
    rows = np.frombuffer(told["rows"], np.int64)
    for name in _OTHERS:
        column: NDArray[Any] = getattr(people, name)
        column[rows] = np.frombuffer(told[name], column.dtype)
    for name in _COUNTS:
        places, values = told[name]
        counts = np.zeros((len(rows), BINS), np.float32)
        counts.reshape(-1)[np.frombuffer(places, np.uint32)] = np.frombuffer(values, np.float32)
        getattr(people, name)[rows] = counts
