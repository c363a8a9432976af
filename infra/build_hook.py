"""Build the native library while the wheel or an editable install is made, where that is possible."""  # noqa: INP001, E501 - infra is no package; run by the build backend alone

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILD = Path("connectors/native/build.py")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg] # no settings of its own
    """Compiles the library; without a compiler the install goes on, and stays pure."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build in place, and take the library along when a wheel is made."""
        native = _load(Path(self.root) / _BUILD)
        try:
            library = native.build()
        except native.BuildError as err:
            self.app.display_warning(f"the native level is not built, which is fine: {err}")
            return
        if version == "editable":
            return
        build_data["force_include"][str(library)] = str(_BUILD.with_name(library.name))
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"


def _load(path: Path) -> Any:
    """Our own build script, which needs nothing installed."""
    spec = importlib.util.spec_from_file_location("airside_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
