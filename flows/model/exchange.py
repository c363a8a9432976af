"""What shards tell each other about the population, and how models travel as bytes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from flows.model.population import Curves, Sums

VERSION: Final = 2
MODEL_VERSION: Final = 3
MODELS_READ: Final = (1, 2, MODEL_VERSION)
# Of a population only today's version is read: it is published again soon.
_MAGIC: Final = b"airside-model\x00"

Array = NDArray[Any]


class UnreadableStateError(ValueError):
    """Saved bytes that are no model, or of a version that this program does not read."""

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(
            f'could not load model state "{what}": found {found}; expected {expected}; '
            "start from an older snapshot or from the population's"
        )


def pack(
    kind: str,
    meta: Mapping[str, Any],
    arrays: Mapping[str, Array],
    *,
    version: int = VERSION,
    effort: int = 1,
) -> bytes:
    """Versioned bytes of named numbers. Delivery: the same content gives the same bytes.

    Units: `effort` of zlib, 0 to 9; at 0 bytes are not made fewer.
    """
    shapes = {name: (values.dtype.str, values.shape) for name, values in arrays.items()}
    head = {"kind": kind, "version": version, "meta": meta, "arrays": shapes}
    text = orjson.dumps(head, option=orjson.OPT_SORT_KEYS)
    body = b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))
    size = len(text).to_bytes(8, "little")
    return _MAGIC + zlib.compress(size + text + body, effort)


def unpack(
    kind: str, data: bytes, *, versions: tuple[int, ...] = (VERSION,)
) -> tuple[int, dict[str, Any], dict[str, Array]]:
    """Read what `pack` wrote, and say of which version it is.

    Errors: `UnreadableStateError`; nothing is guessed.
    """
    if not data.startswith(_MAGIC):
        raise UnreadableStateError(kind, "other bytes", "what dump() wrote")
    try:
        raw = zlib.decompress(data[len(_MAGIC) :])
    except zlib.error as err:
        raise UnreadableStateError(kind, "damaged bytes", "what dump() wrote") from err
    size = int.from_bytes(raw[:8], "little")
    head = orjson.loads(raw[8 : 8 + size])
    if head["kind"] != kind or head["version"] not in versions:
        found = f"{head['kind']} of version {head['version']}"
        raise UnreadableStateError(kind, found, "version " + " or ".join(map(str, versions)))
    place, arrays = 8 + size, {}
    for name in sorted(head["arrays"]):
        dtype, shape = head["arrays"][name]
        count = int(np.prod(shape))
        values = np.frombuffer(raw, dtype=dtype, count=count, offset=place)
        arrays[name] = values.reshape(shape).copy()
        place += values.nbytes
    return head["version"], head["meta"], arrays


def arrays_of_sums(sums: Sums, prefix: str) -> dict[str, Array]:
    """Name the arrays of sums for `pack`."""
    return {prefix + field.name: getattr(sums, field.name) for field in fields(sums)}


def sums_of_arrays(arrays: Mapping[str, Array], prefix: str) -> Sums:
    """Find sums again among what `unpack` read."""
    return Sums(**{field.name: arrays[prefix + field.name] for field in fields(Sums)})


def arrays_of_curves(curves: Curves) -> dict[str, Array]:
    """Name the arrays of curves for `pack`."""
    scalars = np.array([curves.activity_weight, curves.hazard, float(curves.step)])
    return {
        "curves.curve": curves.curve,
        "curves.share": curves.share,
        "curves.log_activity": curves.log_activity,
        "curves.log_preference": curves.log_preference,
        "curves.scalars": scalars,
    }


def curves_of_arrays(arrays: Mapping[str, Array]) -> Curves:
    """Find curves again among what `unpack` read."""
    weight, hazard, step = arrays["curves.scalars"].tolist()
    return Curves(
        curve=arrays["curves.curve"],
        share=arrays["curves.share"],
        log_activity=arrays["curves.log_activity"],
        log_preference=arrays["curves.log_preference"],
        activity_weight=weight,
        hazard=hazard,
        step=int(step),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """What one shard adds to the population: sums, and the curves they were taken at.

    State: `is_delta` says whether it replaces what the source sent before, or comes on top.
    """

    source: str
    sums: Sums
    curves: Curves
    learned: int
    is_delta: bool = False

    def dump(self) -> bytes:
        """As bytes for a topic."""
        meta = {"source": self.source, "learned": self.learned, "is_delta": self.is_delta}
        arrays = arrays_of_sums(self.sums, "sums.") | arrays_of_curves(self.curves)
        return pack("population", meta, arrays)

    @classmethod
    def load(cls, data: bytes) -> Population:
        """Read what `dump` wrote. Errors: `UnreadableStateError`."""
        _, meta, arrays = unpack("population", data)
        return cls(
            source=meta["source"],
            learned=meta["learned"],
            is_delta=meta["is_delta"],
            sums=sums_of_arrays(arrays, "sums."),
            curves=curves_of_arrays(arrays),
        )
