"""What the engine cannot pickle is told of, though the engine itself loses the exception."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource

from connectors.embedded.child import free_port
from connectors.tell import tell_pickling
from flows.log import set_up_log
from tests.messages import CANARY

ROOT: Final = Path(__file__).parents[2]
PROCESSES: Final = 2
KEYS: Final = 20
END_S_MAX: Final = 60.0


class Unable:
    """An item that says what it holds when it is pickled, as some errors of libraries do."""

    def __reduce__(self) -> str:
        raise ValueError(CANARY)


def flow(*, good: bool) -> Dataflow:
    """Items that go from the one process to the other and back again."""
    set_up_log("json")
    tell_pickling()
    made = Dataflow("exchange")
    items = [(f"{number:03d}", number if good else Unable()) for number in range(KEYS)]
    source = op.input("read", made, TestingSource(items))
    kept = op.stateful_map("keep", source, lambda _, item: (None, item))
    op.output("write", kept, TestingSink([]))
    return made


def run(*, good: bool) -> tuple[list[int], str]:
    """Run it in two processes; gives their exit codes and what they said."""
    addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(PROCESSES))
    command = [sys.executable, "-m", "bytewax.run", f"{__name__}:flow(good={good})"]
    children = [
        subprocess.Popen(
            [*command, "-i", str(number), "-a", addresses],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        words = [child.communicate(timeout=END_S_MAX)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    return [child.returncode for child in children], "".join(words)


def test_items_that_survive_cross_in_silence() -> None:
    codes, words = run(good=True)

    assert [0, 0] == codes, words
    assert "step_failed" not in words


def test_item_that_cannot_be_pickled_is_named_without_its_content() -> None:
    codes, words = run(good=False)

    assert 0 not in codes
    assert 'could not exchange item \\"Unable\\": found ValueError' in words
    assert CANARY not in words
