"""Findings together: what counts as failed, and how they are shown."""

from __future__ import annotations

import io

from rich.console import Console

from flows.doctor.finding import Report, State, fail, not_checked, of_error, ok, warn
from flows.doctor.show import table_of, verdict_of
from schemas.errors import PermanentError

ALL = Report(
    "ingest",
    (
        ok("a", "well"),
        warn("b", "so so", "look"),
        fail("c", "[bad]", "mend"),
        *not_checked("d", "c"),
    ),
)


def test_only_a_failure_fails() -> None:
    assert not ALL.passed
    assert Report("ingest", (ALL.findings[1], ALL.findings[3])).passed


def test_the_table_shows_every_word() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(table_of(ALL))
    shown = [" ".join(line.split()) for line in out.getvalue().splitlines()]

    assert ["check state found", "a ok well", "b warn so so"] == shown[:3]
    assert ["-> look", "c fail [bad]", "-> mend", "d not checked c"] == shown[3:]
    assert "something would stop or harm ingest: 1 ok, 1 warn, 1 fail, 1 not checked" == (
        verdict_of(ALL)
    )


def test_json_has_plain_values_for_every_check() -> None:
    found = ALL.as_json()

    assert ("ingest", False, 4) == (found["flow"], found["passed"], len(found["checks"]))
    assert {"name": "c", "state": "fail", "found": "[bad]", "do": "mend"} == found["checks"][2]
    assert "not_checked" == found["checks"][3]["state"]


def test_an_error_without_a_hint_still_points_somewhere() -> None:
    finding = of_error("x", PermanentError(do="read", kind="store", found="dust"))

    assert ("x", State.FAIL, "could not read store: found dust") == finding[:3]
    assert finding.do
