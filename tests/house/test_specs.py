# SPDX-License-Identifier: GPL-2.0-or-later
"""Every row is whole: numbers, reasons, handlers, and no error that no spec declares."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pvhv.abi import xen
from pvhv.abi.errno import Errno
from pvhv.abi.hypercalls import HYPERCALLS, specs
from pvhv.abi.spec import IMPLEMENTED, Command, Hypercall, Spec

ROOT = Path(__file__).resolve().parents[2]
ALL: list[tuple[Hypercall, Command | None]] = list(specs())
needs_core = pytest.mark.skipif(
    importlib.util.find_spec("pvhv.core") is None or importlib.util.find_spec("pvhv.core.traps.dispatch") is None,
    reason="pvhv.core.traps.dispatch is not there yet")


def name_of(spec: Spec) -> str:
    return spec.full_name if isinstance(spec, (Hypercall, Command)) else repr(spec)


def every_spec() -> Iterator[Spec]:
    for row, command in ALL:
        yield command or row


def handlers() -> Mapping[Any, Any]:
    for path in sorted((ROOT / "pvhv" / "core" / "calls").glob("[a-z]*.py")):
        importlib.import_module(f"pvhv.core.calls.{path.stem}")
    table: Mapping[Any, Any] = importlib.import_module("pvhv.core.traps.dispatch").HANDLERS
    return table


def test_every_number_has_its_row_in_order() -> None:
    numbers = {value: name.removeprefix("HYPERVISOR_") for name, value in vars(xen).items()
               if re.match(r"HYPERVISOR_[a-z]", name)}
    assert {row.number: row.name for row in HYPERCALLS.values()} == numbers
    assert list(HYPERCALLS) == sorted(HYPERCALLS)


@pytest.mark.parametrize(("module", "namespace", "left_out"), [
    ("event_channel", "EVTCHNOP", r""),
    ("grant_table", "GNTTABOP", r""),
    ("memory", "XENMEM", r"RDM_ALL|resource_\w+"),
    ("sched", "SCHEDOP", r""),
    ("vcpu", "VCPUOP", r""),
    ("version", "XENVER", r""),
    ("callback", "CALLBACKOP", r""),
    ("callback", "XENNMI", r""),
    ("physdev", "PHYSDEVOP", r"DBGP_\w+|pirq_eoi_gmfn"),
    ("mmu", "MMUEXT", r""),
    ("cpu", "CONSOLEIO", r""),
])
def test_every_command_number_has_a_command(module: str, namespace: str, left_out: str) -> None:
    home = importlib.import_module(f"pvhv.abi.{module}")
    numbers = xen if namespace in ("MMUEXT", "CONSOLEIO") else home
    named = {name.removeprefix(f"{namespace}_"): value for name, value in vars(numbers).items()
             if name.startswith(f"{namespace}_")}
    named = {name: value for name, value in named.items() if not (left_out and re.fullmatch(left_out, name))}
    assert {command.name: command.number for command in getattr(home, namespace)} == named


@pytest.mark.parametrize("spec", list(every_spec()), ids=name_of)
def test_a_spec_says_what_it_must(spec: Any) -> None:
    assert spec.doc.rstrip().endswith("."), "a sentence"
    assert spec.status == IMPLEMENTED or len(spec.status) > 10, "not implemented needs a reason"
    assert not (spec.refusal and spec.status != IMPLEMENTED), "refused or not implemented, not both"
    assert spec.refusal is None or spec.refusal in spec.errors
    assert set(spec.unreachable) <= set(spec.errors), "unreachable errors are declared ones"
    for reason in (*spec.errors.values(), *spec.unreachable.values()):
        assert reason.strip() and not reason.endswith(".")
    assert (spec.arg is None) == (spec.direction == "none"), "an argument has a direction"
    assert (spec.direction == "inout") == bool(spec.out), "inout says which fields come out"
    for path in spec.out:
        assert path in {field.name for field in spec.arg.abi.fields}
    if isinstance(spec, Command):
        assert not spec.statuses or "status" in spec.out
    assert not spec.test or (ROOT / spec.test).is_file(), f"{spec.test} is not there"
    if isinstance(spec, Hypercall) and spec.implemented:
        assert spec.test, f"{spec.name}: which test argues it?"


@needs_core
def test_what_is_implemented_has_a_handler_and_nothing_else_has() -> None:
    found = handlers()
    missing, surplus = [], []
    for row, command in ALL:
        spec: Spec = command or row
        # A handler that takes a hypercall whole stands for all its commands.
        whole = row in found
        if command is None and row.commands:
            expected = whole
        else:
            expected = row.implemented and spec.implemented and not (command and whole)
        if expected and spec not in found:
            missing.append(name_of(spec))
        if spec in found and not spec.implemented:
            surplus.append(name_of(spec))
    assert (missing, surplus) == ([], []), "implemented without a handler; handled without being implemented"


def raised(function: Any, seen: set[Any]) -> set[str]:
    """Names of the errors a function raises as HypercallError(Errno.X), and those of the functions it calls.

    Followed are calls by plain name to functions of pvhv.core; calls of methods are not: what they raise is
    checked by the dispatcher when tests run it.
    """
    function = inspect.unwrap(function)
    if function in seen or not inspect.isfunction(function):
        return set()
    seen.add(function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) \
                and isinstance(node.exc.func, ast.Name) and node.exc.func.id == "HypercallError":
            found |= {part.attr for argument in node.exc.args for part in ast.walk(argument)
                      if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)
                      and part.value.id == "Errno"}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = function.__globals__.get(node.func.id)
            if inspect.isfunction(called) and (called.__module__ or "").startswith("pvhv.core"):
                found |= raised(called, seen)
    return found


@needs_core
def test_no_handler_raises_what_its_spec_does_not_declare() -> None:
    undeclared = []
    for spec, handler in handlers().items():
        declared = set(spec.errors)
        if isinstance(spec, Hypercall):
            for command in spec.commands or ():
                declared |= set(command.errors)
        else:
            declared |= next(set(row.errors) for row, command in ALL if command is spec)
        undeclared += [f"{spec.full_name}: {name}" for name in sorted(raised(handler, set()))
                       if Errno[name] not in declared]
    assert undeclared == []


def test_the_scan_sees_what_it_should() -> None:
    source = "def helper():\n    raise HypercallError(Errno.ESRCH)\n"
    source += "def handler(x):\n    helper()\n    raise HypercallError(Errno.EPERM if x else Errno.EINVAL)\n"
    import linecache
    import types

    module = types.ModuleType("pvhv.core.pretended")
    linecache.cache["<pretended>"] = (len(source), None, source.splitlines(True), "<pretended>")
    exec(compile(source, "<pretended>", "exec"), module.__dict__)
    assert raised(module.__dict__["handler"], set()) == {"ESRCH", "EPERM", "EINVAL"}
