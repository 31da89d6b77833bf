# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with a few pages of hand-assembled kernel, under a technique that runs it at CPL 0.

The guest starts as PVH starts one, 32 bits and no paging, turns long mode on by the shortest way there is (`ENTRY`) and
halts. From there `run` has it execute what a test gives, until it halts again, and says what was counted meanwhile.

| guest-physical | what                                                        |
|----------------|-------------------------------------------------------------|
| 0x10000..13000 | the four page tables, which map the first 2 MiB to themselves |
| 0x14000        | GDT; TSS at 0x14100                                          |
| 0x15000        | IDT: vector n goes to HANDLERS + 16 n                        |
| 0x16000        | handlers: each puts its vector into RBX and halts             |
| 0x18000        | stack, downwards                                             |
| 0x20000        | the code of tests; 0x21000 is where it begins in 32 bits      |
| 0x30000..      | data                                                         |
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pvhv.core.hypervisor import Hypervisor
from pvhv.hvm.guest import HvmGuest
from pvhv.hvm.technique import Technique
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import RBX, RIP, RSP

P, RW, US, A, D = 1, 2, 4, 0x20, 0x40
NX = 1 << 63
L4, L3, L2, L1, GDT, TSS, IDT, HANDLERS = 0x10000, 0x11000, 0x12000, 0x13000, 0x14000, 0x14100, 0x15000, 0x16000
STACK, CODE, ENTRY, DATA = 0x18000, 0x20000, 0x21000, 0x30000
PAGES = 512
TABLE = P | RW | US | A
KERNEL_CS, KERNEL_SS, USER_SS, USER_CS, TSS_SELECTOR = 0x08, 0x10, 0x18 | 3, 0x20 | 3, 0x28
CR4, CR0, EFER = 0x6A0, 0x8001_0031, 0x901  # PAE PGE OSFXSR OSXMMEXCPT; PG WP NE ET PE; NXE LME SCE
HAS_CODE = (8, 10, 11, 12, 13, 14, 17)


def prologue() -> bytes:
    """mov cr4; mov cr3; wrmsr EFER; mov cr0; lgdt; far jump to 64-bit code."""
    return b"".join(
        (
            b"\xb8" + struct.pack("<I", CR4) + b"\x0f\x22\xe0",
            b"\xb8" + struct.pack("<I", L4) + b"\x0f\x22\xd8",
            b"\xb9\x80\x00\x00\xc0\x31\xd2\xb8" + struct.pack("<I", EFER) + b"\x0f\x30",
            b"\xb8" + struct.pack("<I", CR0) + b"\x0f\x22\xc0",
            b"\x0f\x01\x15" + struct.pack("<I", GDT + 0x80),
            b"\xea" + struct.pack("<IH", CODE, KERNEL_CS),
        )
    )


# lidt [abs]; mov ax, TSS; ltr ax; mov ss; mov ds, es; hlt
LONG_MODE = bytes.fromhex(
    f"0f011c25{struct.pack('<I', GDT + 0x90).hex()} 66b8{TSS_SELECTOR:02x}00 0f00d8 66b81000 8ed0 8ed8 8ec0 f4"
)


class HwLab:
    """One guest. `counts` of a run: exits by reason, without the HLT at its end."""

    def __init__(
        self, technique: type[Technique], flags: Callable[[int], int] | None = None, start: bytes | None = None
    ) -> None:
        """`flags`: of the first-level entry that maps a page, instead of all rights. `start`: instead of `prologue`."""
        self.hypervisor = Hypervisor(memory_frames=PAGES + 2048)
        self.guest = HvmGuest(self.hypervisor, technique, PAGES)
        self.technique: Any = self.guest.technique
        self.state, self.counts = self.guest.pcpu.state, self.guest.counts
        self.physical = self.guest.physical
        self._build(flags or (lambda page: TABLE | D))
        if start is not None:
            self.physical.write(ENTRY, start)
        self.technique.reset(ENTRY, 0)
        self.guest.domain.paused = self.guest.domain.controller_paused = 0
        self.entry_exits = self.resume()

    def _build(self, flags: Callable[[int], int]) -> None:
        put = self.physical.write
        for at, to in ((L4, L3), (L3, L2), (L2, L1)):
            self.physical.set_word(at, to | TABLE)
        for page in range(PAGES):
            self.physical.set_word(L1 + page * 8, page << 12 | flags(page << 12))
        code, data = 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF
        tss = 0x67 | (TSS & 0xFF_FFFF) << 16 | 0x89 << 40
        put(GDT, struct.pack("<8Q", 0, code, data, data | 3 << 45, code | 3 << 45, tss, 0, 0))
        put(GDT + 0x80, struct.pack("<HI", 63, GDT))
        put(GDT + 0x90, struct.pack("<HQ", 0xFFF, IDT))
        put(TSS + 4, struct.pack("<Q", STACK))
        for vector in range(256):
            to = HANDLERS + vector * 16
            put(IDT + vector * 16, struct.pack("<HHBBHII", to & 0xFFFF, KERNEL_CS, 0, 0xEE, to >> 16, 0, 0))
            put(to, b"\xbb" + struct.pack("<I", vector) + b"\xf4")
        put(ENTRY, prologue())
        put(CODE, LONG_MODE)

    def entry(self, page: int) -> int:
        """The first-level entry that maps a page."""
        return self.physical.word(L1 + (page >> 12) * 8)

    def set_entry(self, page: int, value: int) -> None:
        """Change it as the guest would, told to nobody but whoever watches the monitor's stores."""
        self.technique.cpu.memory.write(L1 + (page >> 12) * 8, value.to_bytes(8, "little"))

    def run(self, code: str, at: int = CODE + 0x100, **registers: int) -> dict[str, int]:
        """Execute `code` (hex) and the HLT behind it; the exits that took, by reason."""
        data = bytes.fromhex(code) + b"\xf4"
        self.technique.cpu.memory.write(at, data)
        self.state[RIP], self.state[RSP] = at, STACK
        for name, value in registers.items():
            self.state[getattr(cs, name.upper())] = value
        return self.resume()

    def resume(self) -> dict[str, int]:
        """Go on until the next HLT."""
        before = self.counts.exits.copy()
        self.hypervisor.activity.wake(self.guest.vcpu)
        done = self.hypervisor.run_until(lambda: self.guest.vcpu.blocked or not self.guest.domain.runs, timeout_s=10)
        assert done and self.guest.domain.shutdown_code is None, f"it ended at {self.state[RIP]:#x}"
        taken = self.counts.exits - before
        taken["HLT"] -= 1
        return {reason: count for reason, count in taken.items() if count}

    def vector(self) -> int:
        """Of the handler that halted."""
        assert HANDLERS <= self.state[RIP] < HANDLERS + 0x1000
        return self.state[RBX]

    def frame(self) -> list[int]:
        """What lies on the stack: (error code,) RIP, CS, RFLAGS, RSP, SS."""
        count = 6 if self.vector() in HAS_CODE else 5
        return list(struct.unpack(f"<{count}Q", self.physical.read(self.state[RSP], 8 * count)))

    def close(self) -> None:
        self.hypervisor.destroy(self.guest.domain)
        self.hypervisor.run_until(lambda: self.guest.domain.dead, timeout_s=10)
