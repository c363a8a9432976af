"""Build the native library with the C compiler of this machine.

Run as `python -m connectors.native.build`, and at install by the hook in infra/build_hook.py, which
goes on without it where there is no compiler. It needs Python's own C headers and nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SOURCES: Final = Path(__file__).parent / "src"
TARGET: Final = Path(__file__).parent / "_native.abi3.so"
_COMPILERS: Final = ("cc", "gcc", "clang")
_TIME_S_MAX: Final = 300
SANITIZE: Final = (
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
STRICT: Final = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-unused-parameter")


class BuildError(Exception):
    """There is no library, and why."""


def build(target: Path = TARGET, options: Sequence[str] = ("-O2",)) -> Path:
    """Compile and link; the target is replaced as a whole, or not at all.

    Errors: BuildError with the compiler's words.
    """
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").is_file():
        raise BuildError("Python's C headers are not installed")
    command = [
        *(find_compiler(), "-std=gnu11", *options, "-fvisibility=hidden", "-fPIC"),
        *("-shared", f"-I{headers}", *sorted(map(str, _SOURCES.glob("*.c")))),
        *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ("-ldl",)),
        *("-lpthread", "-lm"),
    ]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / target.name
        try:
            done = subprocess.run(  # noqa: S603 - the compiler of this machine
                [*command, "-o", str(fresh)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIME_S_MAX,
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise BuildError(f"the compiler did not run: {type(err).__name__}") from err
        if done.returncode:
            raise BuildError(f"the compiler refused: {done.stderr.strip()}")
        os.replace(fresh, target)  # noqa: PTH105 - one step, also over a library that is in use
    return target


def find_compiler() -> str:
    """The C compiler of this machine. Errors: BuildError when there is none."""
    for name in _COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise BuildError(f"no C compiler is installed: none of {', '.join(_COMPILERS)}")


def main() -> int:
    """Build, and say so. Shapes: 0, or 1 when there is no library."""
    parser = argparse.ArgumentParser(prog="python -m connectors.native.build", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="every warning is an error")
    strict = parser.parse_args().strict
    try:
        path = build(options=("-O2", *(STRICT if strict else ())))
    except BuildError as err:
        sys.stderr.write(f"not built: {err}\n")
        return 1
    sys.stdout.write(f"built {path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
