# SPDX-License-Identifier: GPL-2.0-or-later
"""The wheel's build hook: whoever installs pvhv gets its guest kernels, engine and pacer compiled on the way.

A wheel is built from products in a directory of its own, so that the source tree need not be
writable, and nothing stale gets into the wheel.  An editable install builds into the tree (pvhv/_built/, which git
ignores), where the package looks for them; `tools/dev.py` keeps them fresh from then on.  A wheel holds the
engine of the platform it is built on, and has that platform's tag; one without an engine (its source could
not be fetched, or nobody knows how to build it there) is py3-none-any, and runs on the published engine.

Needs only what [build-system] names: hatchling, the pinned ziglang, and pip, which fetches the engine's source.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GuestKernels(BuildHookInterface[Any]):
    """Called by hatchling around the making of a wheel."""

    scratch: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, self.root)
        from pvhv.build import BuildError, build_tree

        root = Path(self.root)
        editable = version == "editable"
        if not editable:
            self.scratch = Path(tempfile.mkdtemp(prefix="pvhv-wheel-"))
        out = self.scratch or root / "pvhv" / "_built"
        try:
            build_tree(root, out)
        except BuildError as error:
            self.finalize(version, build_data, "")  # hatchling calls it only after a build that went well
            sys.exit(f"building the guest kernels failed: {error}")
        if not editable:
            build_data["force_include"][str(out)] = "pvhv/_built"
            if any(out.glob("engine/*/*")):
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{self._platform_tag()}"

    @staticmethod
    def _platform_tag() -> str:
        """The wheel's platform tag. On Linux it has the oldest C library that the engine runs on."""
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        return tag.replace("linux_", "manylinux_2_17_", 1) if tag.startswith("linux_") else tag

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
