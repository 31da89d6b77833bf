# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain of a few instructions, and GDB's side of the protocol, in one process.

    CODE:  xor eax, eax
    LOOP:  inc rax; nop; nop dword [rax]; jmp LOOP
"""

from __future__ import annotations

from pathlib import Path

from pvhv.core.debugger import Debugger
from pvhv.machine.cpustate import RAX
from pvhv.machine.paging import PTE_PRESENT, walk
from pvhv.observe.gdb.packets import Reader, packet
from pvhv.observe.gdb.registers import NUMBERS
from pvhv.observe.gdb.server import Server
from pvhv.testing import Machine
from tests.toolstack.recipes import BASE, Recipe

CODE = BASE + 0x10_0000
LOOP = CODE + 2
INSTRUCTIONS = (LOOP, LOOP + 3, LOOP + 4, LOOP + 7)
DATA = CODE + 0x1100
LOOPING = bytes.fromhex("31c0 48ffc0 90 0f1f00 ebf7")
POWEROFF = bytes.fromhex("b81d000000 bf02000000 488d3502000000 0f05 00000000")  # SCHEDOP_shutdown, reason 0


class Lab:
    """The domain, debugged. `clock` and `vcpus` as a domain file has them; `kernel` is another than that of `code`."""

    def __init__(
        self, directory: Path, code: bytes = LOOPING, clock: str = "virtual", kernel: str = "", vcpus: int = 1
    ) -> None:
        made = directory / "kernel"
        made.write_bytes(Recipe(code=code).build())
        self.machine = Machine(32)
        self.hypervisor = self.machine.hypervisor
        self.guest = self.machine.create(kernel or made, memory=16, clock=clock, vcpus=vcpus)
        self.domain = self.guest.domain
        self.vcpu = self.domain.vcpus[0]
        self.attach()

    def attach(self) -> None:
        """A session, as GDB begins it."""
        self.sent: list[bytes] = []
        self.reader = Reader()
        self.server = Server(lambda on_stop: Debugger(self.domain, on_stop), self._take)
        self.answer(b"$QStartNoAckMode#b0")

    def _take(self, data: bytes) -> None:
        self.sent += [item for item in self.reader.feed(data) if isinstance(item, bytes)]

    def answer(self, data: bytes) -> str:
        """What comes back for these bytes, when it comes."""
        self.sent.clear()
        self.server.feed(data)
        assert self.hypervisor.run_until(lambda: bool(self.sent), 20), f"no answer to {data!r}"
        assert not self.hypervisor.bugs
        return self.sent.pop(0).decode("latin-1")

    def ask(self, payload: str | bytes) -> str:
        """What a packet is answered."""
        return self.answer(packet(payload))

    def tell(self, payload: str) -> None:
        """A packet that is not answered at once."""
        self.sent.clear()
        self.server.feed(packet(payload))
        assert not self.sent

    def run(self, seconds: float = 0.05) -> None:
        """Let the machine run for some of the host's time."""
        self.hypervisor.run_until(lambda: False, seconds)

    def goes_on(self) -> None:
        """The guest loops: RAX counts."""
        before = self.vcpu.state[RAX]
        assert self.hypervisor.run_until(lambda: self.vcpu.state[RAX] > before, 20)

    def register(self, name: str) -> int:
        return int.from_bytes(bytes.fromhex(self.ask(f"p{NUMBERS[name]:x}")), "little")

    def set_register(self, name: str, value: int, size: int = 8) -> str:
        return self.ask(f"P{NUMBERS[name]:x}={value.to_bytes(size, 'little').hex()}")

    @property
    def tables(self) -> int:
        """Where the guest sees its own L4."""
        return BASE + self.hypervisor.m2p[self.vcpu.guest_table] * 4096

    def pte(self, va: int) -> int:
        entry, level, _ = walk(self.hypervisor.ram.words, self.vcpu.guest_table << 12, va)
        assert entry & PTE_PRESENT and level == 1
        return entry

    def close(self) -> None:
        self.server.close()
        self.machine.close()
