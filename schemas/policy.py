"""The one policy file: which class may travel for which purpose, and where to.

Every matching rule applies and the most restrictive wins: destinations intersect, retention and
training use take the least, the role the most. A class that no rule covers is refused.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import product
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import ConfigError

RANK_OF_A_PERSON: Final = 3
"""From this rank upward a message is about a person: it needs a subject and a category."""

_DAY_S: Final = 86_400
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": _DAY_S}

Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
ClassName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,19}$")]
SPAN: Final = r"^[1-9][0-9]{0,5}[smhd]$"
Span = Annotated[str, Field(pattern=SPAN)]


class Training(IntEnum):
    """Whether models may learn from an event; the smaller wins."""

    DENY = 0
    AFTER_TREATMENT = 1
    ALLOW = 2


def seconds_of(span: str) -> int:
    """Read a span such as `30d`.

    Units: seconds.

    >>> seconds_of("2h")
    7200
    """
    return int(span[:-1]) * _UNITS_S[span[-1]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DataClass(_Part):
    """One class of data: how sensitive, what it brings with it, what its ticket must state."""

    rank: int = Field(ge=0, le=9)
    implies: tuple[ClassName, ...] = ()
    needs: tuple[Literal["subject", "category", "basis"], ...] = ()
    body: Literal["seal", "discard"] = "seal"
    # What the quarantine may keep of a refused body: sealed for repair, or nothing at all.
    enter: bool = True
    # False: no message of this class is ever let in, whatever its purpose.


class Purpose(_Part):
    """Why data is processed: a W3C DPV term, its lawful basis and who answers for it."""

    dpv: str
    basis: Literal["consent", "contract", "legal", "legit_interest", "none"]
    compatible: tuple[Word, ...] = ()
    owner: Word


class When(_Part):
    """What a rule matches; an empty list matches everything."""

    classes: tuple[ClassName, ...] = Field(default=(), alias="class")
    purposes: tuple[Word, ...] = Field(default=(), alias="purpose")


class Rule(_Part):
    """One line of the policy; `to` empty means the match is refused on purpose."""

    id: str = Field(pattern=r"^R[0-9]{1,4}$")
    when: When
    to: tuple[str, ...]
    retention: Span | None = None
    role: Word | None = None
    train: Literal["deny", "after_treatment", "allow"] | None = None


class Defaults(_Part):
    """What holds where no rule says more."""

    retention: Span
    role: Word
    train: Literal["deny", "after_treatment", "allow"]


class Given(_Part):
    """The ticket of a policy test."""

    classes: tuple[ClassName, ...] = Field(alias="class")
    purpose: Word


class Case(_Part):
    """One policy test: a ticket, and the topic or code it must end with."""

    given: Given
    expect: str


class Decision(NamedTuple):
    """What the policy says of one (class set, purpose): a topic, or the code that refuses it.

    Units: retention in seconds.
    """

    code: str
    topic: str
    rank: int
    needs: frozenset[str]
    discard_body: bool
    consent: bool
    retention_s: int
    role: str
    train: Training
    rules: tuple[str, ...]


class Policy(_Part):
    """The whole file, checked; `decide` answers from a table after the first question."""

    version: int = Field(ge=1)
    oldest_version: int = Field(ge=1)
    destinations: tuple[str, ...] = Field(min_length=1)
    # Topics from the most open to the most closed.
    roles: tuple[Word, ...] = Field(min_length=1)
    # Roles from the least to the most trusted.
    small_groups: dict[Word, Annotated[int, Field(ge=2, le=1_000)]] = {}
    # For each role that may not see small groups: the least number of people a line may be about.
    defaults: Defaults
    classes: dict[ClassName, DataClass]
    categories: tuple[Word, ...]
    purposes: dict[Word, Purpose]
    rules: tuple[Rule, ...]
    tests: tuple[Case, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        known = {
            "class": set(self.classes),
            "purpose": set(self.purposes),
            "destination": set(self.destinations),
            "role": set(self.roles),
        }
        used = [("class", name) for item in self.classes.values() for name in item.implies]
        used += [("purpose", n) for item in self.purposes.values() for n in item.compatible]
        used += [("role", role) for role in (self.defaults.role, *self.small_groups)]
        for rule in self.rules:
            used += [("class", name) for name in rule.when.classes]
            used += [("purpose", name) for name in rule.when.purposes]
            used += [("destination", name) for name in rule.to]
            used += [("role", rule.role)] if rule.role else []
        lost = sorted({f"{kind} {name}" for kind, name in used if name not in known[kind]})
        if lost:
            msg = f"names without a definition: {', '.join(lost)}"
            raise ValueError(msg)
        return self

    def closure(self, names: frozenset[str]) -> frozenset[str]:
        """All classes that the named ones bring with them, themselves included.

        Errors: KeyError for a class that the policy does not know.
        """
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.classes[name].implies
        return frozenset(found)

    def shortest_retention_s(self) -> int:
        """The least time that any message is kept. Units: seconds."""
        spans = [self.defaults.retention, *(rule.retention for rule in self.rules)]
        return min(seconds_of(span) for span in spans if span)

    def people_min(self, role: str) -> int:
        """How many people a line must be about for this role; 0 for one that may see each."""
        return self.small_groups.get(role, 0)

    def decide(self, names: frozenset[str], purpose: str) -> Decision:
        """Say where a ticket with these classes and this purpose goes.

        Errors: none for known names; KeyError for unknown ones, which the ticket check refuses.
        """
        defaults = self.defaults
        classes = self.closure(names)
        allowed = list(self.destinations)
        spans: list[int] = []
        roles = [self.roles.index(defaults.role)]
        train: list[Training] = []
        hit: list[str] = []
        bare = set(names)
        for rule in self.rules:
            on_class = classes & set(rule.when.classes) if rule.when.classes else classes
            if not on_class or (rule.when.purposes and purpose not in rule.when.purposes):
                continue
            hit.append(rule.id)
            bare -= on_class
            allowed = [topic for topic in allowed if topic in rule.to]
            spans += [seconds_of(rule.retention)] if rule.retention else []
            roles += [self.roles.index(rule.role)] if rule.role else []
            train += [Training[rule.train.upper()]] if rule.train else []
        parts = [self.classes[name] for name in classes]
        enter = all(part.enter for part in parts)
        needs = frozenset(need for part in parts for need in part.needs)
        code = "" if allowed and not bare and enter else "T203"
        if not code and "basis" in needs and self.purposes[purpose].basis == "none":
            code = "T404"
        return Decision(
            code=code,
            topic=allowed[0] if allowed else "",
            rank=max(part.rank for part in parts),
            needs=needs,
            discard_body=any(part.body == "discard" for part in parts),
            consent=self.purposes[purpose].basis == "consent",
            retention_s=min(spans, default=seconds_of(defaults.retention)),
            role=self.roles[max(roles)],
            train=Training.DENY if code else min(train, default=Training[defaults.train.upper()]),
            rules=tuple(hit),
        )

    def check(self) -> list[str]:
        """Run the file's own tests and look for cells that no rule covers.

        Shapes: one sentence for each fault, none when all is well.
        """
        faults = []
        for number, case in enumerate(self.tests, 1):
            unknown = set(case.given.classes) - set(self.classes)
            if unknown or case.given.purpose not in self.purposes:
                faults.append(f"test {number}: names a class or purpose that is not defined")
                continue
            found = self.decide(frozenset(case.given.classes), case.given.purpose)
            if (found.code or found.topic) != case.expect:
                faults.append(
                    f"test {number}: found {found.code or found.topic}; expected {case.expect}"
                )
        for name, purpose in product(self.classes, self.purposes):
            if not self.decide(frozenset((name,)), purpose).rules:
                faults.append(f"no rule covers class {name} for purpose {purpose}")
        return faults


def load_policy(path: Path) -> Policy:
    """Read and check one policy file.

    Errors: ConfigError naming the file and the places in it, never a value.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(
            do="read",
            kind="policy",
            name=path.name,
            found=err.strerror or "no file",
            hint="name one with AIRSIDE_POLICY",
        ) from err
    except UnicodeDecodeError:
        raise ConfigError(
            do="read", kind="policy", name=path.name, found="bytes that are no UTF-8"
        ) from None
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        line = f"no YAML at line {mark.line + 1}" if mark else "no YAML"
        raise ConfigError(do="read", kind="policy", name=path.name, found=line) from None
    try:
        return Policy.model_validate(data)
    except ValidationError as err:
        places = "; ".join(
            f"{'/'.join(map(str, part['loc'])) or 'file'}: {part['msg']}"
            for part in err.errors(include_input=False, include_url=False)[:5]
        )
        raise ConfigError(do="read", kind="policy", name=path.name, found=places) from None
