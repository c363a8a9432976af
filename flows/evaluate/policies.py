"""The policies that can be judged, by name or from a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.model.evidence.off_policy import (
    Target,
    favoured_target,
    hour_target,
    uniform_target,
    weighted_target,
)
from flows.model.evidence.slots import SLOTS
from schemas.errors import ConfigError

_FIXED: Final = re.compile(r"fixed:([01]?[0-9]|2[0-3])")
_HOURS_A_DAY: Final = 24


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Weight = Annotated[float, Field(ge=0, le=1e9)]


class _Written(_Part):
    name: Annotated[str, Field(min_length=1, max_length=64)]
    hours: Annotated[
        dict[Annotated[int, Field(ge=0, lt=_HOURS_A_DAY)], Weight], Field(min_length=1)
    ]


class _File(_Part):
    policies: Annotated[tuple[_Written, ...], Field(min_length=1, max_length=100)]


def read_policy(name: str, *, best_hours: Callable[[], Any]) -> Target:
    """The policy of a name: `uniform`, `model`, `best-hour`, or `fixed:` and an hour of the day.

    `best_hours` is asked only when it is needed.
    Errors: ConfigError for another name.
    """
    if name == "uniform":
        return uniform_target
    if name == "model":
        return favoured_target
    if name == "best-hour":
        return hour_target(best_hours())
    match = _FIXED.fullmatch(name)
    if match is None:
        raise ConfigError(
            do="judge",
            kind="policy",
            name=name,
            found="no such policy",
            expected="uniform, model, best-hour, or fixed:HOUR with an hour from 0 to 23",
        )
    return hour_target(int(match[1]))


def read_policies(path: Path) -> dict[str, Target]:
    """The policies of a YAML file: names, and weights by hour of the day.

    Errors: ConfigError that says where the file does not fit; OSError for no file.
    """
    try:
        written = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(do="read", kind="policies", name=str(path), found="no YAML") from None
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        found = f"{first['type'].replace('_', ' ')} at {place}"
        raise ConfigError(
            do="read",
            kind="policies",
            name=str(path),
            found=found,
            hint="see docs/evidence.md for an example",
        ) from None
    return {policy.name: weighted_target(_week(policy.hours)) for policy in written.policies}


def _week(hours: dict[int, float]) -> Any:
    day = np.zeros(_HOURS_A_DAY)
    for hour, weight in hours.items():
        day[hour] = weight
    return np.tile(day, SLOTS // _HOURS_A_DAY)
