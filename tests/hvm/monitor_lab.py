# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine of hw_lab.py under the monitors that have no help from the hardware, and micro guests of `classify`."""

from __future__ import annotations

import struct
from typing import Any

from pvhv.core.hypervisor import Hypervisor
from pvhv.hvm.classify.instructions import REGISTERS, Row, image
from pvhv.hvm.guest import HvmGuest
from pvhv.hvm.technique import Technique
from pvhv.machine import cpustate as cs
from tests.hvm.hw_lab import RW, US, A, D, HwLab, P

MICRO, STUB, TABLES = 0x10_0000, 0x8000, 0x4000
ENDING = b"\xeb\xfe"  # jmp to itself
PAGES = 512


class MonitorLab(HwLab):
    """`run` gives exits; `callouts` has those of the last run."""

    callouts: dict[str, int]

    def resume(self) -> dict[str, int]:
        callouts = self.counts.callouts.copy()
        before = self.counts.exits.copy()
        self.hypervisor.activity.wake(self.guest.vcpu)
        done = self.hypervisor.run_until(lambda: self.guest.vcpu.blocked or not self.guest.domain.runs, timeout_s=10)
        assert done and self.guest.domain.shutdown_code is None, self.guest.domain.crash_report
        taken, called = self.counts.exits - before, self.counts.callouts - callouts
        for counted in (taken, called):
            if counted["hlt"]:
                counted["hlt"] -= 1
        self.callouts = {reason: count for reason, count in called.items() if count}
        return {reason: count for reason, count in taken.items() if count}


class MicroGuests:
    """Rows of `classify`, each in a machine that has just been switched on."""

    def __init__(self, technique: type[Technique]) -> None:
        self.hypervisor = Hypervisor(memory_frames=PAGES + 2048)
        self.guest = HvmGuest(self.hypervisor, technique, PAGES)
        self.physical = self.guest.physical
        self.technique: Any = self.guest.technique
        for level in range(3):
            self.physical.set_word(TABLES + level * 4096, TABLES + (level + 1) * 4096 | P | RW | US | A)
        for page in range(PAGES):
            self.physical.set_word(TABLES + 3 * 4096 + page * 8, page << 12 | P | RW | US | A | D)
        code = bytes.fromhex("b8200600000f22e0")  # mov cr4, PAE OSFXSR OSXMMEXCPT
        code += b"\xb8" + struct.pack("<I", TABLES) + b"\x0f\x22\xd8"
        code += bytes.fromhex("b9800000c031d2b8000900000f30")  # EFER: LME NXE
        code += bytes.fromhex("b8330005800f22c0")  # mov cr0, PG AM WP NE ET MP PE
        code += b"\x0f\x01\x15" + struct.pack("<I", STUB + 0x100)
        code += b"\xea" + struct.pack("<IH", STUB + len(code) + 7, 8)
        code += b"\xb8" + struct.pack("<I", MICRO) + b"\xff\xe0"  # mov eax; jmp rax
        self.physical.write(STUB, code)
        self.physical.write(STUB + 0x100, struct.pack("<HI", 15, STUB + 0x110))
        self.physical.write(STUB + 0x110, struct.pack("<2Q", 0, 0x00AF_9B00_0000_FFFF))

    def observe(self, row: Row) -> tuple[dict[str, int] | None, dict[str, int]]:
        """What the row left in its registers (None: it did not come to its end), and what it should."""
        guest = image(row, MICRO, ENDING)
        self.physical.write(MICRO, guest.data)
        pcpu = self.guest.pcpu
        for mfn in self.physical.mfns:
            pcpu.forget_code(mfn)
        self.technique.reset(STUB, 0)
        pcpu.run(3000)
        state = self.guest.pcpu.state
        if state[cs.RIP] != guest.ending:
            return None, guest.wants
        return {name: state[getattr(cs, name.upper())] for name in REGISTERS}, guest.wants
