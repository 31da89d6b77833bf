# SPDX-License-Identifier: GPL-2.0-or-later
"""The wheel's build hook: whoever installs pvhv gets its guest kernels and pacer compiled on the way.

A wheel is built from products in a directory of this build's own, so that the source tree need not be
writable and nothing stale can get in.  An editable install builds into the tree (pvhv/_built/, which git
ignores), where the package looks for them; `tools/dev.py` keeps them fresh from then on.  Wheels hold the
products of every platform, so they are py3-none-any.

Needs only what [build-system] names: hatchling and the pinned ziglang.
"""

from __future__ import annotations

import shutil
import sys
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

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
