"""What one check found, and what all of them make together."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.errors import AirsideError


class State(StrEnum):
    """How a check ended. Only `FAIL` would stop the flow, or let it lose something."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    NOT_CHECKED = "not_checked"


class Finding(NamedTuple):
    """One check: its name, how it ended, what was found, and the next step where there is one."""

    name: str
    state: State
    found: str
    do: str = ""


class Report(NamedTuple):
    """All findings about one flow, in the order of the checks."""

    flow: str
    findings: tuple[Finding, ...]

    def count(self, state: State) -> int:
        """How many checks ended so."""
        return sum(finding.state is state for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.count(State.FAIL)

    def as_json(self) -> dict[str, Any]:
        """The report in plain values."""
        return {
            "flow": self.flow,
            "passed": self.passed,
            "checks": [
                {"name": name, "state": state.value, "found": found, "do": do}
                for name, state, found, do in self.findings
            ],
        }


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, State.OK, found)


def warn(name: str, found: str, do: str) -> Finding:
    """The flow will run, but not as one would wish."""
    return Finding(name, State.WARN, found, do)


def fail(name: str, found: str, do: str) -> Finding:
    """The flow will not run, or would lose something."""
    return Finding(name, State.FAIL, found, do)


def not_checked(names: Iterable[str], why: str) -> list[Finding]:
    """Nothing can be said, and why."""
    return [Finding(name, State.NOT_CHECKED, why) for name in names]


def of_error(name: str, err: AirsideError) -> Finding:
    """An error of ours as a finding: the same sentence, its hint as the next step.

    >>> from schemas.errors import ConfigError
    >>> of_error("policy", ConfigError(do="read", kind="policy", found="none", hint="name one"))[2:]
    ('could not read policy: found none', 'name one')
    """
    sentence = str(err).removesuffix(err.hint).removesuffix("; ")
    return fail(name, sentence, err.hint or "see what was found")
