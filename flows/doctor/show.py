"""Show a report to a person."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from flows.doctor.finding import Report, State

_STYLES = {
    State.OK: "green",
    State.WARN: "yellow",
    State.FAIL: "bold red",
    State.NOT_CHECKED: "dim",
}


def _word(state: State) -> str:
    return state.value.replace("_", " ")


def table_of(report: Report) -> Table:
    """A line for each check; the next step stands below what was found."""
    table = Table("check", "state", "found", box=None)
    for finding in report.findings:
        found = Text(finding.found)
        if finding.do:
            found.append(f"\n-> {finding.do}")
        state = Text(_word(finding.state), style=_STYLES[finding.state])
        table.add_row(Text(finding.name), state, found)
    return table


def verdict_of(report: Report) -> str:
    """All in one line."""
    counts = ", ".join(f"{report.count(state)} {_word(state)}" for state in State)
    word = "nothing stops" if report.passed else "something would stop or harm"
    return f"{word} {report.flow}: {counts}"
