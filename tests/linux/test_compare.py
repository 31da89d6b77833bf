# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stock Linux asks of its hypervisor is counted, exactly, beside the teaching kernel."""

from __future__ import annotations

import json

import pytest

from pvhv import compare
from pvhv.compare import linux as stock
from pvhv.compare.names import LINUX, LIVES, PV
from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux


def kernel(linux: Linux) -> stock.Kernel:
    return stock.Kernel(LINUX, linux.kernel, linux.ramdisk, stock.CMDLINE, stock.MEMORY_MIB, b"poweroff -f\n")


def test_operations(linux: Linux) -> None:
    """The same work by the same program: its own instructions are the same, the kernel's are another's."""
    ours = compare.run([PV], [*stock.OPERATIONS, "callret"])
    whole = stock.add(ours, stock.Linux(*linux), ours.benches, lives=False)
    assert whole.absent[LINUX, "callret"] == stock.IN_KERNEL
    for bench in stock.OPERATIONS:
        one, other = whole.get(PV, bench), whole.get(LINUX, bench)
        assert one is not None and other is not None and one.operations == other.operations
        users = [float(counts.per_operation("instructions.user") or 0) for counts in (one, other)]
        if bench not in ("fork", "exec"):  # where another process comes to its end
            assert users[0] == pytest.approx(users[1], rel=0.35, abs=8), bench
        assert other.exits_per_operation >= one.exits_per_operation, bench
    for bench in ("syscall", "null-call"):
        counts = whole.get(LINUX, bench)
        assert counts is not None and counts.exits_per_operation >= 2
        assert counts.exits["syscall"] == counts.operations <= counts.exits["hypercall:iret"]
    fault = whole.get(LINUX, "page-fault")
    assert fault is not None and fault.exits["page-fault"] >= fault.operations
    fork = whole.get(LINUX, "fork")
    assert fork is not None and (fork.per_operation("page_table_updates") or 0) > 20
    document = json.loads(compare.export.to_json(whole, [compare.costs.load("skylake-kvm")]))
    assert set(document["techniques"]) == {PV, LINUX}
    assert any(
        record["technique"] == LINUX and record["metric"] == "estimated_cycles:skylake-kvm"
        for record in document["records"]
    )
    assert LINUX in compare.report.picture(whole).columns


def test_a_life(linux: Linux) -> None:
    """Once: tests/linux/test_block.py has two on a virtual clock, with the same counts."""
    once = stock.life(kernel(linux))
    boot, shell, poweroff = once
    assert [counts.bench for counts in once] == list(LIVES)
    assert "syscall" not in boot.exits
    assert boot.exits["hypercall:mmu_update"] > 10_000 and shell.exits["syscall"] > 100
    assert poweroff.exits["hypercall:sched_op"] >= 1
    assert sum(boot.exits.values()) > sum(shell.exits.values()) > sum(poweroff.exits.values()) > 50


def test_the_teaching_kernels_life_is_the_same_every_time() -> None:
    once, again = (stock.life(stock.Kernel(PV, "guest-pv", None, "", 64, b"exit\n")) for _ in range(2))
    assert once == again
    assert [counts.bench for counts in once] == list(LIVES)
    assert all(counts.exits_per_operation > 10 for counts in once)
