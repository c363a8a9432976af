"""Watch the model while it works: whether each outcome was expected, before it was learned."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from river import drift, metrics, stats

_FADING: Final = 0.002
_THRESHOLDS: Final = 20
_LEAST: Final = 1e-4


class Reading(msgspec.Struct, frozen=True):
    """Progressive figures. Shapes: ratios; AUC 0.5 is chance, calibration 1 is right."""

    log_loss: float
    auc: float
    calibration: float
    drifts: int


class Monitor:
    """Metrics and drift of one lane, by River.

    ADWIN watches how far responses are from what was expected of them, so a change of the world
    shows and a change of the audience does not.
    State: bounded; ADWIN's window is as long as nothing changes, in buckets of growing size.
    Source: Bifet and Gavalda (2007), Learning from time-changing data with adaptive windowing.
    """

    def __init__(self) -> None:
        self._log_loss = metrics.LogLoss()
        self._auc = metrics.ROCAUC(n_thresholds=_THRESHOLDS)
        self._expected = stats.EWMean(fading_factor=_FADING)
        self._responded = stats.EWMean(fading_factor=_FADING)
        self._adwin = drift.ADWIN()
        self._drifts = 0

    def watch(self, outcomes: Iterable[tuple[float, bool]]) -> bool:
        """Take outcomes with what was expected of them; tells whether the world has changed."""
        changed = False
        for expected, responded in outcomes:
            chance = min(max(expected, _LEAST), 1 - _LEAST)
            self._log_loss.update(responded, chance)
            self._auc.update(responded, chance)
            self._expected.update(chance)
            self._responded.update(float(responded))
            self._adwin.update(float(responded) - chance)
            if self._adwin.drift_detected:
                changed = True
                self._drifts += 1
        return changed

    @property
    def reading(self) -> Reading:
        """The figures now."""
        expected = max(self._expected.get(), _LEAST)
        return Reading(
            self._log_loss.get(), self._auc.get(), self._responded.get() / expected, self._drifts
        )

    def dump(self) -> bytes:
        """The state; River's objects are pickled, as they say of themselves that they can be."""
        parts = (self._log_loss, self._auc, self._expected, self._responded)
        return pickle.dumps((*parts, self._adwin, self._drifts))

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave; only ever from our own recovery store."""
        state: Any = pickle.loads(dumped)  # noqa: S301 - from our own recovery store
        self._log_loss, self._auc, self._expected, self._responded = state[:4]
        self._adwin, self._drifts = state[4:]
