"""A switch that makes the server misbehave on purpose, for chaos tests only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What goes wrong with a statement."""

    NONE = "none"
    REFUSE = "refuse"  # 503 at once, nothing done
    SLOW = "slow"  # done and answered, later
    APPLY_THEN_TIMEOUT = "apply_then_timeout"  # done, but the client hears 504, later


@dataclass(slots=True)
class FaultSwitch:
    """The fault that applies now, for so many statements (0: until it is switched again)."""

    fault: Fault = Fault.NONE
    seconds: float = 0.0
    left: int = 0

    def draw(self) -> tuple[Fault, float]:
        """Take the fault for one statement and count it.

        >>> switch = FaultSwitch(Fault.REFUSE, left=1)
        >>> switch.draw()[0].value, switch.draw()[0].value
        ('refuse', 'none')
        """
        drawn = self.fault, self.seconds
        if self.fault is not Fault.NONE and self.left > 0:
            self.left -= 1
            if self.left == 0:
                self.fault = Fault.NONE
        return drawn
