"""Words for the person who waits: standard error, so that standard output stays JSON."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line."""
    _console.print(text, markup=False)


def show(table: Table) -> None:
    """One table."""
    _console.print(table)
