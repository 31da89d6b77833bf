# SPDX-License-Identifier: GPL-2.0-or-later
"""Within the core: who knows the handlers, who knows the hypervisor, and how much a handler may ask of it."""

from __future__ import annotations

import ast

from tests.house.test_circles import ROOT, files, imported_files

CORE = ROOT / "pvhv" / "core"


def test_the_core_does_not_know_its_handlers() -> None:
    """Being imported registers them, and the hypervisor does that. Nobody else in the core asks for one by name."""
    known = files()
    asking = {
        str(path.relative_to(CORE)): sorted(named)
        for path in CORE.rglob("*.py")
        if path.parent != CORE / "calls"
        and (named := {name for name in imported_files(path, known) if name.startswith("core.calls")})
    }
    assert asking == {"hypervisor.py": ["core.calls"]}


def test_nobody_in_the_core_knows_the_hypervisor() -> None:
    """But for what dom0 asks it for: domctls and debug keys."""
    known = files()
    asking = {path.name for path in CORE.rglob("*.py") if "core.hypervisor" in imported_files(path, known)}
    assert asking == {"control.py", "keyhandler.py"}


def test_what_a_handler_may_ask_for_fits_on_a_screen() -> None:
    tree = ast.parse((CORE / "services.py").read_text("utf-8"))
    (services,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Services")
    assert services.end_lineno is not None and services.end_lineno - services.lineno < 50
