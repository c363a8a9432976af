"""Read what earlier versions of the model saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flows.model.exchange import MODEL_VERSION, Array, arrays_of_sums
from flows.model.population import Sums
from flows.model.shapes import FRIDAY

_DAYS = 7
_WORKDAYS = FRIDAY + 1


def of_version_1(
    meta: Mapping[str, Any], arrays: Mapping[str, Array]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Bring what version 1 saved into today's form.

    Counts of people and curves stay. Activity was not told apart by workday and weekend, and is
    shared out by days of the week. Sums had another form: they are empty until the next sweep
    here, and until other shards publish again.
    """
    found = {
        name: values for name, values in arrays.items() if name.startswith(("people.", "curves."))
    }
    for name in ("people.activity", "people.recent_activity"):
        shares = [_WORKDAYS / _DAYS, 1.0 - _WORKDAYS / _DAYS]
        both = [arrays[name] * np.float32(share) for share in shares]
        found[name] = np.concatenate(both, axis=1)
    found["curves.log_activity"] = np.tile(arrays["curves.log_activity"], 2)
    empty = ["own.", "taken.", "partial.", *(f"foreign.{source}." for source in meta["foreign"])]
    for prefix in empty:
        found |= arrays_of_sums(Sums.zero(), prefix)
    return {**meta, "place": 0}, found


def of_version_2(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Add what version 2 did not keep: what clusters have learned of each person, nothing yet."""
    return {**arrays, "people.clustered": np.zeros(len(arrays["people.rows"]), dtype=np.float32)}


def of_earlier(
    version: int, meta: dict[str, Any], arrays: dict[str, Array]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Bring what any version saved into today's form, one version after the other."""
    if version == 1:
        meta, arrays = of_version_1(meta, arrays)
    if version < MODEL_VERSION:
        arrays = of_version_2(arrays)
    return meta, arrays
