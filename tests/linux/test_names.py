# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel comes without a symbol table, and its addresses have names all the same."""

from __future__ import annotations

import io
import re
import struct
from bisect import bisect_right
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pvhv.observe import orc
from pvhv.testing import Result
from pvhv.toolstack import elf, symbol_files
from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux


def test_its_names_are_read_once_and_kept(linux: Linux, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PVHV_CACHE_DIR", str(tmp_path))
    kernel = elf.read(linux.kernel)
    assert len(kernel.symbols()) == 0
    first = symbol_files.names(kernel)
    assert len(first) > 50_000
    for name in ("startup_xen", "do_sys_openat2", "schedule", "panic"):
        assert first.find(first.by_name[name] + 1) == (name, 1), name
    assert kernel.entry == first.by_name["startup_xen"]
    starts = [start for start, _ in kernel.executable]
    assert min(starts) in first.addresses
    kept = symbol_files.for_debugger(kernel)
    assert kept is not None and tmp_path in kept.parents
    assert symbol_files.names(kernel) is first
    symbol_files._read.clear()
    again = symbol_files.names(kernel)
    assert list(again) == list(first)
    file = ELFFile(io.BytesIO(kept.read_bytes()))
    assert file.get_section_by_name(".text")["sh_addr"] == min(starts)
    symbol_files._read.clear()
    kept.write_bytes(b"\x7fELF, and nothing of the kind")
    assert len(symbol_files.names(kernel)) == 0  # and no exception


def test_the_newest_backport_has_them_too(backports: Linux) -> None:
    """Tables move about from one Linux to the next."""
    kernel = elf.read(backports.kernel)
    names = symbol_files.names(kernel)
    assert kernel.entry == names.by_name["startup_xen"]
    for name in ("do_sys_openat2", "schedule", "panic"):
        assert names.find(names.by_name[name] + 1) == (name, 1), name


@pytest.mark.parametrize("which", ["linux", "backports"])
def test_at_a_functions_entry_only_the_return_address_is_on_the_stack(
    which: str, request: pytest.FixtureRequest
) -> None:
    """The kernel's unwinding tables say so, if they are read as this kernel means them."""
    kernel = elf.read(request.getfixturevalue(which).kernel)
    names = symbol_files.names(kernel).by_name
    image = kernel.image
    assert image is not None
    places, rows = image.section(".orc_unwind_ip"), image.section(".orc_unwind")
    linux = orc.version(image.data)
    assert linux is not None and places is not None and rows is not None
    table = bytes(image.contents(rows))
    addresses = [
        places.address + 4 * n + distance
        for n, (distance,) in enumerate(struct.iter_unpack("<i", image.contents(places)))
    ]
    for name in ("panic", "schedule", "do_sys_openat2", "vfs_read", "kthread"):
        at = (bisect_right(addresses, names[name]) - 1) * orc.ROW_BYTES
        rules = orc._rules(table[at : at + orc.ROW_BYTES], linux, orc._numbers(table))
        assert rules.code.startswith(bytes([orc.DW_CFA_def_cfa, orc.RSP, 8])) and not rules.interrupts, name
        assert orc._saved(orc.RETURN_ADDRESS, -8) in rules.code


def test_a_crash_report_has_them(without_root: Result) -> None:
    report = without_root.report
    assert re.search(r"^rip [0-9a-f]{16} <xen_\w+\+0x", report, re.MULTILINE), report
    trace = report.split("Call trace")[1]
    assert " panic+0x" in trace and " mount_block_root+0x" in trace
