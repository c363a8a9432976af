"""Shares of faults as a person gives them: on the command line, one for all or by name."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from flows.__main__ import FAULTS_HELP, make_parser
from flows.simulate import Shares, World, read_shares
from flows.simulate.plan import KINDS
from flows.verify import verify
from schemas.errors import ConfigError
from tests.unit.flows.memory_run import END_MS, MemoryRun

FAMILIES = msgspec.structs.asdict(Shares())


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_both_commands_take_shares_and_default_to_the_usual_ones(command: str) -> None:
    parser = make_parser()
    usual = read_shares(parser.parse_args([command]).faults)
    given = read_shares(parser.parse_args([command, "--faults", "late=0.3, odd=0"]).faults)

    assert (Shares(), Shares(late=0.3, odd=0)) == (usual, given)
    assert f"default {sum(FAMILIES.values()):g})" in FAULTS_HELP
    assert all(family in FAULTS_HELP for family in FAMILIES)


def test_one_share_is_dealt_as_usual_and_none_is_none() -> None:
    doubled = msgspec.structs.asdict(read_shares("0.12"))

    assert pytest.approx({family: 2 * share for family, share in FAMILIES.items()}) == doubled
    assert {0.0} == set(msgspec.structs.astuple(read_shares("0")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no share for all"),
        ("many", "no share for all"),
        ("-0.1", "no share for all"),
        ("1.1", "no share for all"),
        ("nan", "no share for all"),
        ("late=", "no share for late"),
        ("late=2", "no share for late"),
        ("early=0.1", "expected malformed, mislabelled"),
        ("late=0.1,,odd=0", "expected malformed, mislabelled"),
    ],
)
def test_what_is_no_share_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_shares(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_world_with_much_of_one_kind_is_still_accounted_for(family: str) -> None:
    text = ",".join(f"{name}={0.2 if name == family else 0}" for name in FAMILIES)
    world = World(5, total=1_500, end_ms=END_MS, shares=read_shares(text))
    run = MemoryRun(world)
    run.pass_through(run.as_read(Random(5)))
    report = verify(run.truth, run.tables, copies=run.copies)
    faults = [message.fault for message, _, _ in run.sent if message.fault]

    assert (0, ()) == (report.mismatches, report.sentences)
    assert 0.2 * world.total == sum(fault in KINDS[family] for fault in faults)
    assert {"tombstone"} >= set(faults) - set(KINDS[family])
