"""Take the commands out of README.md, so that CI runs exactly what a reader copies.

`python -m tests.readme_commands demo` prints the block that follows the mark `<!-- run: demo -->`.
Needs the standard library only: CI runs it before anything is installed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError

README: Final = Path(__file__).parents[1] / "README.md"
MARK: Final = re.compile(r"^<!-- run: (?P<name>[a-z-]+) -->$", re.MULTILINE)
BLOCK: Final = re.compile(r"\n```sh\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)


def readme_commands(text: str) -> dict[str, str]:
    r"""Map each mark's name to the commands of the fenced block right below it.

    Errors: `ConfigError` for a mark without a block, and for a name that is used twice.

    >>> readme_commands("<!-- run: demo -->\n```sh\nmake it so\n```\n")
    {'demo': 'make it so\n'}
    """
    found: dict[str, str] = {}
    for mark in MARK.finditer(text):
        name = mark["name"]
        block = BLOCK.match(text, mark.end())
        if block is None or not block["commands"].strip():
            raise _failure(name, "no ```sh block with a command directly below its mark")
        if name in found:
            raise _failure(name, "two marks of this name")
        found[name] = block["commands"]
    return found


def main(name: str) -> None:
    """Print one block's commands."""
    commands = readme_commands(README.read_text(encoding="utf-8"))
    if name not in commands:
        raise _failure(name, f"marks for {', '.join(commands) or 'nothing'}")
    sys.stdout.write(commands[name])


def _failure(name: str, found: str) -> ConfigError:
    return ConfigError(do="read", kind="command", name=name, where="in README.md", found=found)


if __name__ == "__main__":
    main(sys.argv[1])
