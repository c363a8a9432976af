"""The policy: its own tests, its coverage, and that more classes never mean less protection."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.places import POLICY
from schemas.errors import ConfigError
from schemas.policy import Policy, load_policy
from tests.messages import policy

SHIPPED = policy()
names = st.sampled_from(sorted(SHIPPED.classes))
purposes = st.sampled_from(sorted(SHIPPED.purposes))


def write(tmp_path: Path, **changes: object) -> Path:
    data = yaml.safe_load(POLICY.read_text())
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**data, **changes}))
    return path


def test_the_shipped_policy_is_well() -> None:
    assert [] == SHIPPED.check()


def test_a_cell_that_no_rule_covers_is_reported(tmp_path: Path) -> None:
    data = yaml.safe_load(POLICY.read_text())
    rules = [rule for rule in data["rules"] if rule["id"] != "R31"]

    faults = load_policy(write(tmp_path, rules=rules)).check()

    assert "no rule covers class PCI for purpose marketing" not in faults  # CONFIDENTIAL covers it
    case = {"given": {"class": ["PCI"], "purpose": "payment"}, "expect": "T203"}
    faults = load_policy(write(tmp_path, tests=[case])).check()
    assert ["test 1: found ntf.routed.pci.v1; expected T203"] == faults
    rules = [rule for rule in data["rules"] if rule["id"] not in ("R10", "R50")]
    faults = load_policy(write(tmp_path, rules=rules)).check()
    assert "no rule covers class PUBLIC for purpose marketing" in faults


@given(st.frozensets(names, min_size=1, max_size=4), names, purposes)
def test_another_class_never_opens_anything(
    classes: frozenset[str], more: str, purpose: str
) -> None:
    before = SHIPPED.decide(classes, purpose)
    after = SHIPPED.decide(classes | {more}, purpose)
    order = SHIPPED.destinations

    assert not (before.code and not after.code)
    if not after.code:
        assert order.index(after.topic) >= order.index(before.topic)
        assert after.retention_s <= before.retention_s
    assert after.rank >= before.rank
    assert SHIPPED.roles.index(after.role) >= SHIPPED.roles.index(before.role)
    assert after.train <= before.train
    assert after.needs >= before.needs


@given(st.frozensets(names, max_size=3), purposes)
def test_secrets_never_enter(classes: frozenset[str], purpose: str) -> None:
    decision = SHIPPED.decide(classes | {"SECRET"}, purpose)

    assert "T203" == decision.code
    assert decision.discard_body


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"version": 0}, "version: "),
        ({"defaults": {"retention": "soon", "role": "engineer", "train": "deny"}}, "retention"),
        ({"roles": ["engineer"]}, "names without a definition: role analyst"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"tests": []}, "tests: "),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_place(
    tmp_path: Path, change: dict[str, object], found: str
) -> None:
    with pytest.raises(ConfigError, match=found):
        load_policy(write(tmp_path, **change))


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AIRSIDE_POLICY"):
        load_policy(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="no YAML at line"):
        load_policy(tmp_path / "bad.yaml")


def test_a_purpose_without_basis_refuses_what_needs_one(tmp_path: Path) -> None:
    data = yaml.safe_load(POLICY.read_text())
    data["purposes"]["experiment"]["basis"] = "none"
    path = write(tmp_path, purposes=data["purposes"])

    assert "T404" == load_policy(path).decide(frozenset({"GDPR"}), "experiment").code
    assert "" == load_policy(path).decide(frozenset({"PUBLIC"}), "experiment").code


def test_policies_are_frozen() -> None:
    assert Policy.model_config["frozen"]


@pytest.mark.parametrize(
    ("names", "purpose", "days"),
    [
        ({"PUBLIC"}, "marketing", 365),
        ({"PII"}, "marketing", 180),
        ({"GDPR"}, "marketing", 90),
        ({"PCI"}, "payment", 7),
        ({"PUBLIC"}, "ops_monitoring", 14),
    ],
)
def test_the_shortest_rule_says_how_long_and_the_default_only_without_one(
    names: set[str], purpose: str, days: int
) -> None:
    decision = load_policy(POLICY).decide(frozenset(names), purpose)

    assert days * 86_400 == decision.retention_s
