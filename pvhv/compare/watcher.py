# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches a guest from outside, between two marks.

A benchmark in the guest calls a function that does nothing, before its operations and after them. The watcher sees
these calls, and takes the difference of all counts. Watching causes no exit and executes no instruction: the engine
calls us before the instruction at the mark's address.

A fully virtualized guest is counted by its technique (pvhv.hvm.counts). What a paravirtual one does to its hypervisor
is heard from the recorder of `pvhv trace`, since that tells a hypercall of the guest's from one inside a multicall.

Read beside it: guest_kernel/kernel/nanobench.c and user/bin/measure.c.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pvhv.abi.event_channel import EVTCHNOP_send
from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.xen import (
    MMUEXT_INVLPG_LOCAL,
    MMUEXT_NEW_BASEPTR,
    MMUEXT_TLB_FLUSH_LOCAL,
    HYPERVISOR_event_channel_op,
    HYPERVISOR_mmu_update,
    HYPERVISOR_mmuext_op,
    HYPERVISOR_multicall,
    HYPERVISOR_update_va_mapping,
)
from pvhv.compare.records import SCALARS, Step
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.x86 import GENERAL_PROTECTION
from pvhv.observe.record import HypercallRecord, Record
from pvhv.observe.trace import Recorder
from pvhv.toolstack.full_guest import FullGuest
from pvhv.toolstack.guest import Guest

KERNEL_MARK = "nanobench_mark"
USER_MARK = 0x7F_F000  # MARK_ADDRESS of guest_kernel/include/api/syscalls.h
BEGIN, END = 1, 2
RDTSC = b"\x0f\x31"
EXCEPTIONS = {
    svm.DE: "divide-error",
    svm.DB: "debug",
    svm.UD: "invalid-opcode",
    svm.NM: "no-device",
    svm.GP: "general-protection",
    svm.PF: "page-fault",
}


class Watcher:
    """What happened in one guest between its marks: `scalars`, `families`, `steps`, and the host's seconds."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.pcpu = guest.domain.timeline.cpu.pcpu
        self.steps: list[Step] = []
        self.scalars: dict[str, int | None] = {}
        self.families: dict[str, dict[Any, int]] = {}
        self.seconds = 0.0
        self.finished = False
        self.failure: BaseException | None = None
        self._inside = False
        self._began: tuple[int, int, dict[str, Any]] = (0, 0, {})
        self._paravirtual = Paravirtual(self._code_at)
        if isinstance(guest, FullGuest):
            self.hvm = guest.hvm
            self.hvm.counts.listener = self._step
        else:
            self.recorder = Recorder(guest.hypervisor)
            self.recorder.start(guest.domain, self._record)
        for address in (guest.symbols.by_name[KERNEL_MARK], USER_MARK):
            self.pcpu.on_address(address, self._mark)

    # -- the marks -------------------------------------------------------------------------------------------------
    def _mark(self) -> None:
        try:
            kind = self.pcpu.state[cs.RDI]
            if kind == BEGIN:
                self._inside = True
                self.steps.clear()
                self._paravirtual = Paravirtual(self._code_at)
                self._began = self._now()
                self.seconds = time.perf_counter()
            elif kind == END and self._inside:
                self.seconds = time.perf_counter() - self.seconds
                self._inside = False
                self.finished = True
                self._difference(self._began, self._now())
        except BaseException as failure:  # it cannot travel through the engine
            self.failure = failure

    def _code_at(self, address: int) -> bytes:
        return bytes(self.guest.domain.vcpus[0].memory.read(address, 2))

    def _now(self) -> tuple[int, int, dict[str, Any]]:
        counts = self.hvm.counts.snapshot() if isinstance(self.guest, FullGuest) else {}
        return self.pcpu.executed_user, self.pcpu.executed, counts

    def _difference(self, before: tuple[int, int, dict[str, Any]], after: tuple[int, int, dict[str, Any]]) -> None:
        user = after[0] - before[0]
        self.scalars = {"instructions.user": user, "instructions.kernel": after[1] - before[1] - user}
        if isinstance(self.guest, FullGuest):
            self._of_the_technique(before[2], after[2])
        else:
            scalars, self.families = self._paravirtual.result()
            self.scalars |= scalars

    def _of_the_technique(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        grown = {
            family: {
                reason: count - before[family].get(reason, 0)
                for reason, count in after[family].items()
                if count != before[family].get(reason, 0)
            }
            for family in after
        }
        events = grown.pop("events")
        counted = self.hvm.technique.counted
        self.scalars |= {name: events.pop(name, 0) if name in counted else None for name in SCALARS if "." not in name}
        self.families = {
            "exits": grown["exits"],
            "callouts": grown["callouts"],
            "engine_assists": grown["assists"],
            "events": events,
        }

    # -- one thing after another --------------------------------------------------------------------------------------
    def _step(self, kind: str, reason: str, detail: str) -> None:
        if self._inside:
            self.steps.append(Step(kind, reason, detail))

    def _record(self, record: Record) -> None:
        if not self._inside:
            return
        step = self._paravirtual.hear(record)
        if step is not None:
            self.steps.append(step)


class Paravirtual:
    """What a paravirtual guest did to its hypervisor, in the terms of the comparison."""

    def __init__(self, code_at: Callable[[int], bytes]) -> None:
        """`code_at` gives two bytes of the guest's code."""
        self.code_at = code_at
        self.exits: Counter[str] = Counter()
        self.batches: Counter[int] = Counter()
        self.scalars: Counter[str] = Counter()
        self.assists: Counter[str] = Counter()
        self.sends = 0  # of event channels

    def hear(self, record: Record) -> Step | None:
        """Count a record of the trace. Returns it as a step, if it is one."""
        reason, detail = "", ""
        match record.kind:
            case "hypercall":
                call: HypercallRecord = record.data[0]
                reason, detail = f"hypercall:{_name(call.number)}", self._hypercall(call)
            case "syscall":
                reason = "syscall"
            case "fault":
                vector, code, address, outcome = record.data
                if vector == GENERAL_PROTECTION and outcome == "handled" and self.code_at(record.rip) == RDTSC:
                    self.assists["rdtsc"] += 1  # it traps only because time is virtual here
                    return Step("assist", "rdtsc")
                reason = EXCEPTIONS.get(vector, f"exception-{vector}")
                detail = f"{address:#x} " if vector == 14 else ""
                detail += f"error code {code:#x}, {outcome}"
                if outcome == "bounced":
                    self.scalars["faults_delivered"] += 1
                elif vector == 14 and outcome == "handled":
                    reason = "page-table-write"
                    self.scalars["page_table_updates"] += 1
            case "int":
                reason = "int"
            case "cpuid" | "io":
                reason = record.kind
            case "upcall":
                self.scalars["interrupts_delivered"] += 1
                return None
            case _:
                return None
        self.exits[reason] += 1
        return Step("exit", reason, detail)

    def _hypercall(self, call: HypercallRecord) -> str:
        if call.number != HYPERVISOR_multicall:
            updates = self._updates(call)
            if updates:
                self.batches[updates] += 1
            return ""
        updates = sum(self._updates(entry) for entry in call.entries)
        if updates:
            self.batches[updates] += 1
        return ", ".join(_name(entry.number) for entry in call.entries)

    def _updates(self, call: HypercallRecord) -> int:
        """Page-table entries a hypercall changes; TLB flushes are counted on the way."""
        if call.number == HYPERVISOR_event_channel_op and call.arguments[0] == EVTCHNOP_send:
            self.sends += 1
        total = getattr(call.given, "total", 0)
        updates = 0
        if call.number == HYPERVISOR_mmu_update:
            updates = total
        elif call.number == HYPERVISOR_update_va_mapping:
            updates = 1
            flags = call.arguments[2]
            if flags & 3 == 1:
                self.scalars["tlb_flushes"] += 1
            elif flags & 3 == 2:
                self.scalars["tlb_page_flushes"] += 1
        elif call.number == HYPERVISOR_mmuext_op:
            for item in getattr(call.given, "items", ()):
                command = int.from_bytes(item[:4], "little")
                if command in (MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_NEW_BASEPTR):
                    self.scalars["tlb_flushes"] += 1
                elif command == MMUEXT_INVLPG_LOCAL:
                    self.scalars["tlb_page_flushes"] += 1
        self.scalars["page_table_updates"] += updates
        return updates

    def result(self) -> tuple[dict[str, int | None], dict[str, dict[Any, int]]]:
        """(scalars, families). A PV guest has no shadow or nested tables, and nothing is translated."""
        names = ("faults_delivered", "interrupts_delivered", "page_table_updates", "tlb_flushes", "tlb_page_flushes")
        scalars: dict[str, int | None] = {name: self.scalars[name] for name in names}
        scalars["ring_crossings"] = 0  # of a 64-bit guest, each takes an exit
        families: dict[str, dict[Any, int]] = {"exits": dict(self.exits), "batch_sizes": dict(self.batches)}
        return scalars, families | {"engine_assists": dict(self.assists)}


def _name(number: int) -> str:
    return HYPERCALLS[number].name if number in HYPERCALLS else str(number)
