"""Whether predictions still come true: online metrics, and alarms that make the model forget."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from river import drift, metrics

from flows.model.choose import Bools
from flows.model.shapes import Floats

BLOCK: Final = 50  # outcomes that make one number for the detectors
BINS: Final = 10


class Calibration:
    """Judges each prediction when its outcome is known, before the model learns it.

    Shapes: predictions as they were at the decision, outcomes in the order they become known.
    State: River's log loss and ROC AUC (a fixed grid of thresholds), ten bins of predictions, an
    ADWIN and a Page-Hinkley detector over means of blocks of outcomes less predictions; a few
    kilobytes, whatever the number of outcomes.
    Source: Bifet, Gavaldà 2007 (ADWIN); Page 1954; both as in River.
    """

    def __init__(self) -> None:
        self.log_loss: Any = metrics.LogLoss()
        self.roc_auc: Any = metrics.ROCAUC()
        self.alarms = 0
        self._adwin: Any = drift.ADWIN(delta=0.002, clock=1, grace_period=5)
        # Both ways: answers may become more or fewer.
        self._page_hinkley: Any = drift.PageHinkley(min_instances=20, delta=0.02, threshold=1.0)
        self._bins = np.zeros((3, BINS))  # outcomes, predicted and seen answers
        self._open: list[float] = []

    def judge(self, predicted: Floats, responded: Bools) -> bool:
        """Take in outcomes. Shapes: whether an alarm went off among them."""
        alarmed = False
        values = np.clip(np.asarray(predicted, dtype=np.float64), 1e-6, 1.0 - 1e-6)
        place = np.minimum((values * BINS).astype(np.int64), BINS - 1)
        np.add.at(self._bins[0], place, 1.0)
        np.add.at(self._bins[1], place, values)
        np.add.at(self._bins[2], place, np.asarray(responded, dtype=np.float64))
        for chance, answered in zip(values.tolist(), np.asarray(responded).tolist(), strict=True):
            self.log_loss.update(answered, chance)
            self.roc_auc.update(answered, chance)
            self._open.append(answered - chance)
            if len(self._open) == BLOCK:
                alarmed |= self._close_block()
        return alarmed

    def _close_block(self) -> bool:
        mean = float(np.mean(self._open))
        self._open.clear()
        self._adwin.update(mean)
        self._page_hinkley.update(mean)
        alarm = bool(self._adwin.drift_detected or self._page_hinkley.drift_detected)
        self.alarms += alarm
        return alarm

    def error(self) -> float:
        """Expected calibration error: how far answers are from predictions, over the ten bins."""
        seen, predicted, answered = self._bins
        return float(np.abs(answered - predicted).sum() / max(1.0, float(seen.sum())))
