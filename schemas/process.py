"""The process as data: which steps there are, what may follow what, and by when.

Source: declared relations, required steps and deadlines are the parts of process mining's
declarative models that an operator can write down by hand; the names are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.resources import files
from pathlib import Path
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

from schemas.errors import ConfigError
from schemas.policy import seconds_of

TIMED_OUT: Final = "timed_out"
"""The end of a journey that was silent too long, beside the acts that end one."""

Act = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z0-9_]+$", max_length=64)]
Glob = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.*]{0,63}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
Span = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}[smhd]$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Step(_Part):
    """One act, and what goes on after it until the next one.

    Units: `deadline` is a span, `handling_s` seconds of a person for one passing.
    """

    then: Literal["waiting", "working"]
    actor: Literal["us", "provider", "person"]
    next: tuple[Glob, ...] = ()
    end: bool = False
    deadline: Span | None = None
    until: tuple[Act, ...] = ()
    handling_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    automatable: Share = 0.0


class Required(_Part):
    """A step that has to come before the first of these ends; any end where none is named."""

    step: Act
    before: tuple[Glob, ...] = ()


class Costs(_Part):
    """What time costs, in minor units: an hour that one journey waits, an hour of a person."""

    waiting_hour: Annotated[float, Field(ge=0, le=1e9)]
    handling_hour: Annotated[float, Field(ge=0, le=1e9)]
    exception_handling_s: Annotated[float, Field(ge=0, le=86_400)]


class Process(_Part):
    """A whole process; names are checked against each other, globs are of its own steps."""

    process: Name
    owner: Name
    starts: Annotated[tuple[Act, ...], Field(min_length=1)]
    steps: Annotated[dict[Act, Step], Field(min_length=1, max_length=200)]
    required: tuple[Required, ...] = ()
    costs: Costs

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.starts:
            self._known((name,), "starts")
        for name, step in self.steps.items():
            self._known(step.next, name)
            self._known(step.until, name)
            if not step.next and not step.end:
                raise ValueError(f"{name}: nothing may follow, and it is no end")
            if step.deadline and not step.next:
                raise ValueError(f"{name}: a deadline, and nothing that could keep it")
            if step.until and not step.deadline:
                raise ValueError(f"{name}: until without a deadline")
        doubled = [rule.step for rule in self.required]
        if len(doubled) != len(set(doubled)):
            raise ValueError("required: a step stands twice")
        for rule in self.required:
            self._known((rule.step,), "required")
            ends = [end for end in rule.before if end != TIMED_OUT]
            self._known(ends, f"required {rule.step}")
            if ends and not self._ends(ends):
                raise ValueError(f"required {rule.step}: before what is no end")
        return self

    def _known(self, globs: Iterable[str], where: str) -> None:
        for glob in globs:
            if not self._fitting((glob,)):
                raise ValueError(f"{where}: no step {glob}")

    def _fitting(self, globs: Iterable[str]) -> tuple[str, ...]:
        globs = tuple(globs)
        return tuple(name for name in self.steps if any(fnmatchcase(name, one) for one in globs))

    def _ends(self, globs: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in self._fitting(globs) if self.steps[name].end)

    @cached_property
    def allowed(self) -> frozenset[tuple[str, str]]:
        """Every pair of acts that may follow each other; the first is empty at the start."""
        pairs = {("", name) for name in self.starts}
        for name, step in self.steps.items():
            pairs |= {(name, other) for other in self._fitting(step.next)}
        return frozenset(pairs)

    @cached_property
    def deadlines(self) -> dict[str, tuple[int, frozenset[str]]]:
        """By act: how long it may take, in seconds, and what has to happen by then."""
        return {
            name: (seconds_of(step.deadline), frozenset(step.until or self._fitting(step.next)))
            for name, step in self.steps.items()
            if step.deadline
        }

    @cached_property
    def needs(self) -> tuple[tuple[str, frozenset[str], bool], ...]:
        """Required steps, the acts that they have to come before, and whether a time-out counts."""
        return tuple(
            (
                rule.step,
                frozenset(self._ends(rule.before or ("*",))),
                not rule.before or TIMED_OUT in rule.before,
            )
            for rule in self.required
        )


def read_process(text: str) -> Process:
    """Read a process.

    Errors: ConfigError that names the first part that does not fit.
    """
    try:
        return Process.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError(do="read", kind="process", found="no YAML") from None
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        raise ConfigError(do="read", kind="process", found=f"{first['msg']} at {place}") from None


def load_process(path: Path | None = None) -> Process:
    """The process of a file; that which comes with the package where none is named.

    Errors: as `read_process`; OSError for a file that cannot be read.
    """
    file = files("schemas").joinpath("process.yaml") if path is None else path
    return read_process(file.read_text(encoding="utf-8"))
