"""Where the data of infra/ is: beside the packages in a checkout, inside them in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_IN_WHEEL: Final = _HERE / "_infra"
INFRA: Final = _IN_WHEEL if _IN_WHEEL.is_dir() else _HERE.parent / "infra"

POLICY: Final = INFRA / "policy.yaml"
MIGRATIONS: Final = INFRA / "clickhouse"
