"""Hand `airside bench` on to the benchmark, which is part of a checkout and not of the wheel."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Final

from flows.settings import child_environment
from schemas.errors import ConfigError

TOP: Final = Path(__file__).absolute().parents[1]
MODULE: Final = "tests.bench"


def bench(options: Namespace, top: Path = TOP) -> int:
    """Run the benchmark of this checkout with these arguments, in its folder.

    Errors: ConfigError where there is none, as in an installed wheel.
    """
    if not top.joinpath(*MODULE.split("."), "__main__.py").is_file():
        raise ConfigError(
            do="run",
            kind="benchmark",
            found="an installation without tests",
            expected="a checkout of the repository",
            hint="clone it, run `just setup`, then `just bench`",
        )
    command = [sys.executable, "-m", MODULE, *options.arguments]
    environment = child_environment({"PYTHONPATH": str(top)})
    ended = subprocess.run(command, cwd=top, env=environment, check=False)  # noqa: S603 - ours
    return ended.returncode
