"""An environment of its own for each peer, made when it is first wanted."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.bench.talk import say

TOP: Final = Path(__file__).absolute().parents[2]
PINS: Final = Path(__file__).parent / "peers"
MAKE_S_MAX: Final = 1_200


class AbsentError(Exception):
    """A system that cannot run here, and why."""


def interpreter_of(peer: str, cache: Path) -> Path:
    """The Python of a peer's environment.

    Errors: AbsentError when it cannot be made.
    """
    pins = PINS / f"{peer}.txt"
    mark = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    place = cache.absolute() / f"{peer}-{mark}"
    python = place / "bin" / "python"
    done = place / "complete"
    if done.exists():
        return python
    uv = Path(sys.executable).with_name("uv")
    if not uv.is_file():
        raise AbsentError("uv is not installed beside this Python; it makes the environments")
    shutil.rmtree(place, ignore_errors=True)
    say(f"making the environment of {peer}")
    for command in (
        [uv, "venv", "-q", "--python", sys.executable, place],
        [uv, "pip", "install", "-q", "--python", python, "-r", pins],
    ):
        _run([str(part) for part in command], peer)
    pom = PINS / f"{peer}.pom.xml"
    if pom.is_file():
        _copy_jars(pom, place / "jars", peer)
    done.touch()
    return python


def _copy_jars(pom: Path, folder: Path, peer: str) -> None:
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        raise AbsentError("it needs Java and Maven, which are not in PATH")
    copy = [maven, "-B", "-q", "-ntp", "-f", str(pom), "dependency:copy-dependencies"]
    _run([*copy, f"-DoutputDirectory={folder}"], peer)


def _run(command: list[str], peer: str) -> None:
    try:
        made = subprocess.run(
            command, capture_output=True, text=True, timeout=MAKE_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise AbsentError(f"its environment was not made within {MAKE_S_MAX} s") from None
    if made.returncode:
        words = (made.stderr.strip().splitlines() or ["no words"])[-1]
        raise AbsentError(f"its environment could not be made: {words}")


def child_environment() -> dict[str, str]:
    """Our environment for one run: the checkout can be imported, arithmetic uses one thread."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AIRSIDE_")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**kept, **threads, "PYTHONPATH": str(TOP)}
