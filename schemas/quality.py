"""Rules of data quality and declared lineage as data, read from `quality.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from schemas.codes import CODES
from schemas.errors import ConfigError
from schemas.events import COLUMNS, EVENT_TYPES
from schemas.hops import STAGES
from schemas.topics_catalog import load_topics

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Share = Annotated[float, Field(gt=0, le=1)]
Dimension = Literal["completeness", "validity", "uniqueness", "timeliness", "consistency", "volume"]
SEVERITIES: Final = ("ok", "warn", "error")
VOLUME: Final = "volume"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Rule(_Part):
    """One thing that is checked of messages, and how much of it may fail.

    Shapes: exactly one of `missing` (a field that has to be there), `codes` (prefixes of refusal
    codes), `delay_s` (from event to record), `after` (a type that has to come for the same
    notification) and `constant` (a field that stays the same within one `of`).
    Units: `warn` and `error` are shares of what was checked.
    """

    name: Name
    dimension: Dimension
    says: Annotated[str, StringConstraints(min_length=10, max_length=200)]
    datasets: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    missing: str | None = None
    codes: tuple[str, ...] | None = None
    delay_s: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    after: str | None = None
    constant: str | None = None
    of: str | None = None
    warn: Share
    error: Share
    least: Annotated[int, Field(ge=1, le=1_000_000)] = 20

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = (self.missing, self.codes, self.delay_s, self.after, self.constant)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("one kind of check each")
        if (self.constant is None) != (self.of is None) or self.warn > self.error:
            raise ValueError("a constant has an of; warn is not above error")
        fields = {name for name in (self.missing, self.constant, self.of) if name is not None}
        codes = self.codes or ()
        if not fields <= set(COLUMNS) or not all(
            any(known.startswith(code) for known in CODES) for code in codes
        ):
            raise ValueError("fields and codes that there are")
        if not set(self.datasets) <= set(load_topics()):
            raise ValueError("topics that there are")
        if self.after is not None and self.after not in EVENT_TYPES:
            raise ValueError("a type that there is")
        return self

    def is_of(self, dataset: str, event_type: str = "") -> bool:
        """Tell whether the rule checks this topic, and this type of event there."""
        if self.datasets and dataset not in self.datasets:
            return False
        if not event_type or not self.types:
            return True
        return any(fnmatchcase(event_type, glob) for glob in self.types)

    def severity(self, checked: int, failed: int) -> str:
        """How bad a count is: `ok`, `warn` or `error`."""
        if checked < self.least or not failed:
            return "ok"
        share = failed / checked
        return "error" if share >= self.error else "warn" if share >= self.warn else "ok"


class Lineage(_Part):
    """Which flows of data are declared: sources by producer, and stages by what they follow."""

    sources: Mapping[str, tuple[str, ...]]
    stages: Mapping[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = {name for topic in load_topics().values() for name in topic.producers}
        if not set(self.sources) <= known:
            raise ValueError("producers that topics name")
        stages = {*self.stages, *(stage for after in self.stages.values() for stage in after)}
        if not stages <= STAGES:
            raise ValueError("stages of the hop grammar")
        return self

    def may_produce(self, source: str, topic: str) -> bool:
        """Tell whether a producer of the topic goes by this source."""
        known = load_topics().get(topic)
        return known is not None and any(
            fnmatchcase(source, glob)
            for producer in known.producers
            for glob in self.sources.get(producer, ())
        )

    def may_follow(self, stage: str, after: str) -> bool:
        """Tell whether one stage may come right after another."""
        return stage in self.stages.get(after, ())


class Quality(_Part):
    """The whole file."""

    version: int = Field(ge=1)
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    lineage: Lineage

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names) or VOLUME not in names:
            raise ValueError("each name once, and volume among them")
        return self


def read_quality(text: str) -> Quality:
    """Read the rules from YAML.

    Errors: ConfigError for what does not parse or fit, with the place.
    """
    try:
        return Quality.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError(do="read", kind="quality", name="rules", found="no YAML") from None
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        found = f"{first['msg'].removeprefix('Value error, ')} at {place}"
        raise ConfigError(do="read", kind="quality", name="rules", found=found) from None


@cache
def load_quality() -> Quality:
    """The rules that come with the package."""
    return read_quality(files("schemas").joinpath("quality.yaml").read_text(encoding="utf-8"))
