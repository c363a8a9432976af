"""Write the published contracts, and the page about them, from the models; or check them.

`python -m schemas.contracts_build` writes, `--check` compares and fails on a difference,
`--release` also makes the contracts the baseline, which later ones may not break.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from schemas.codes_page import write_codes_page
from schemas.contracts_diff import breaking_changes
from schemas.errors import ConfigError
from schemas.events import EVENT_TYPES
from schemas.events.ticket_contract import TicketContract
from schemas.events_page import write_page
from schemas.experiment import NAME as EXPERIMENT
from schemas.experiment import ExperimentEvaluated
from schemas.observed import OBSERVED, ObservedOutcome
from schemas.process_exception import DETECTED, DetectedException
from schemas.quality_found import FOUND, QualityFound

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ROOT: Final = Path(__file__).resolve().parent.parent
CONTRACTS: Final = Path("schemas/contracts")
BASELINE: Final = CONTRACTS / "baseline"
PAGE: Final = Path("docs/events.md")
CODES_PAGE: Final = Path("docs/codes.md")


def build_contract(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Make the JSON Schema of one model; its `$id` names the contract, not a place to fetch it."""
    bare: dict[str, Any] = _without_titles(model.model_json_schema())
    return {**bare, "$schema": DIALECT, "$id": f"urn:airside:contract:{name}", "title": name}


def build_contracts() -> dict[str, dict[str, Any]]:
    """Make all contracts: one per event type, the ticket's, and those of what we publish."""
    found = {kind.name: build_contract(kind.name, kind.model) for kind in EVENT_TYPES.values()}
    found[OBSERVED] = build_contract(OBSERVED, ObservedOutcome)
    found[FOUND] = build_contract(FOUND, QualityFound)
    found[DETECTED] = build_contract(DETECTED, DetectedException)
    found["ticket.v1"] = build_contract("ticket.v1", TicketContract)
    found[EXPERIMENT] = build_contract(EXPERIMENT, ExperimentEvaluated)
    return found


def build_files() -> dict[Path, str]:
    """Make the text of every generated file, by its path below the root of the checkout."""
    contracts = build_contracts()
    texts = {
        CONTRACTS / f"{name}.schema.json": _as_text(contract)
        for name, contract in contracts.items()
    }
    return {**texts, PAGE: write_page(contracts), CODES_PAGE: write_codes_page()}


def release_breaks(root: Path = ROOT) -> list[str]:
    """List how the generated contracts would break the released ones, missing ones included."""
    contracts = build_contracts()
    found: list[str] = []
    for name, old in read_baseline(root).items():
        new = contracts.get(name)
        changes = ["contract removed"] if new is None else breaking_changes(old, new)
        found += [
            f"{name}{change}" if change[0] == "/" else f"{name}: {change}" for change in changes
        ]
    return found


def read_baseline(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Read the released contracts, by name."""
    paths = sorted((root / BASELINE).glob("*.schema.json"))
    return {
        path.name.removesuffix(".schema.json"): json.loads(path.read_text(encoding="utf-8"))
        for path in paths
    }


def stale_files(root: Path = ROOT) -> list[Path]:
    """List generated files that differ from what is committed, those nobody generates included."""
    texts = build_files()
    stale = [path for path, text in texts.items() if _read(root / path) != text]
    orphans = {path.relative_to(root) for path in (root / CONTRACTS).glob("*.json")} - set(texts)
    return sorted([*stale, *orphans])


def write_files(root: Path = ROOT) -> None:
    """Write every generated file and remove contracts that are generated no more."""
    for path in stale_files(root):
        (root / path).unlink(missing_ok=True)
    for path, text in build_files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def release(root: Path = ROOT) -> None:
    """Make the generated contracts the baseline.

    Errors: ConfigError when that would break a released one; a new version is the way then.
    """
    breaks = release_breaks(root)
    if breaks:
        raise ConfigError(
            do="release",
            kind="contracts",
            found="; ".join(breaks),
            hint="keep this version and add the next one beside it",
        )
    (root / BASELINE).mkdir(parents=True, exist_ok=True)
    for name, contract in build_contracts().items():
        path = root / BASELINE / f"{name}.schema.json"
        path.write_text(_as_text(contract), encoding="utf-8")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; 1 when `--check` finds a difference or a break."""
    parser = ArgumentParser(prog="python -m schemas.contracts_build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--release", action="store_true", help="make them the baseline, too")
    given = parser.parse_args(arguments)
    if given.check:
        faults = [f"{path}: differs from the models" for path in stale_files(root)]
        faults += release_breaks(root)
        sys.stdout.writelines(f"{fault}\n" for fault in faults)
        return 1 if faults else 0
    write_files(root)
    if given.release:
        release(root)
    return 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _as_text(contract: Mapping[str, Any]) -> str:
    return json.dumps(contract, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _without_titles(node: Any) -> Any:
    """Leave out the titles that pydantic makes from names; a property called title stays."""
    if isinstance(node, dict):
        return {
            key: _without_titles(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [_without_titles(item) for item in node] if isinstance(node, list) else node


if __name__ == "__main__":
    sys.exit(main())
