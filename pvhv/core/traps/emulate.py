# SPDX-License-Identifier: GPL-2.0-or-later
"""The privileged instructions a PV kernel may still execute.

Outside ring 0 these instructions raise #GP. The emulator carries out those that Xen emulates: reading and writing
control and debug registers, some MSRs (pvhv.core.traps.msrs), clts, hlt's relatives, port I/O and cli/sti where the
vCPU's IOPL allows it, rdtsc where the clock is virtual. Any other one is delivered to the guest as the #GP. CPUID comes
natively (the engine's AMD-V intercepts it) or by Xen's forced-emulation prefix, `ud2; .ascii "xen"; cpuid`.

Each instruction is decoded from the guest's bytes at RIP: a few prefixes, `cli`, `sti`, and the two-byte opcodes named
in the tables.

Not modelled: ins/outs, debug breakpoints, 32-bit call gates.

Read beside it: xen/arch/x86/pv/emul-priv-op.c, emul-inv-op.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pvhv.abi.arch_x86 import XEN_EMULATE_PREFIX
from pvhv.core.errors import GuestFault, HypercallError, Restart
from pvhv.core.traps import cpuid
from pvhv.core.traps.debugregs import get_register, set_register
from pvhv.core.traps.msrs import Msrs
from pvhv.machine.cpustate import CR4, RAX, RBX, RCX, RDX, RIP
from pvhv.machine.x86 import CR0_TS, CR4_DE, CR4_TSD, MASK32, MASK64

if TYPE_CHECKING:
    from pvhv.core.arch import ArchVCPU
    from pvhv.core.pv_cpu import PvCpu
    from pvhv.core.services import Services
    from pvhv.core.traps.bounce import Traps
    from pvhv.core.vcpu import VCPU

CPUID = b"\x0f\xa2"
RDPMC = b"\x0f\x33"

CR0 = 0x8005_003B & ~CR0_TS  # PG AM WP NE ET MP PE, what every PV guest runs with
CR4_GUEST = 0x0000_0660  # OSXMMEXCPT OSFXSR MCE PAE
CR4_CHANGEABLE = CR4_TSD | CR4_DE


class Emulator:
    """Emulation on one pCPU; every method works on the live state of the vCPU that runs."""

    def __init__(self, hypervisor: Services, cpu: PvCpu, traps: Traps) -> None:
        self.hypervisor = hypervisor
        self.cpu = cpu
        self.traps = traps
        self.state = cpu.state
        self.msrs = Msrs(hypervisor, cpu)
        self._again = False
        self._cpuid: dict[int, dict[int, cpuid.Leaf]] = {}
        self._two_byte: dict[int, Callable[[VCPU, bytes, int], bool]] = {
            0x06: self._clts,
            0x09: self._wbinvd,
            0x20: self._read_control,
            0x21: self._read_debug,
            0x22: self._write_control,
            0x23: self._write_debug,
            0x30: self._wrmsr,
            0x31: self._rdtsc,
            0x32: self._rdmsr,
        }

    # -- cpuid -----------------------------------------------------------------------------------------------------
    def cpuid_exit(self) -> None:
        """The guest executed CPUID itself: fill in the answer; the pCPU moves RIP over the instruction."""
        vcpu = self.cpu.current
        vcpu.exits["cpuid"] += 1
        self._do_cpuid(vcpu)

    def forced_emulation(self, vcpu: VCPU) -> bool:
        """Whether a #UD is dealt with: if RIP is at the forced-emulation prefix and a CPUID, emulate the CPUID.

        As in Xen, if the bytes at RIP cannot be read, the guest gets a page fault instead of the #UD.
        """
        rip = self.state[RIP]
        try:
            if self._fetch(vcpu, rip, 5) != XEN_EMULATE_PREFIX or self._fetch(vcpu, rip + 5, 2) != CPUID:
                return False
        except GuestFault as fault:
            self.traps.inject_page_fault(vcpu, fault.address, 0)
            self.traps.deliver_events(vcpu)
            return True
        self._do_cpuid(vcpu)
        self.state[RIP] = rip + 7 & MASK64
        return True

    def performance_counter(self, vcpu: VCPU) -> bool:
        """Whether the instruction at RIP is rdpmc, which raises #GP outside ring 0."""
        try:
            return self._fetch(vcpu, self.state[RIP], 2) == RDPMC
        except GuestFault:
            return False

    def _do_cpuid(self, vcpu: VCPU) -> None:
        state = self.state
        policy = self._cpuid.get(vcpu.vcpu_id)
        if policy is None:
            policy = self._cpuid[vcpu.vcpu_id] = cpuid.leaves(vcpu.vcpu_id)
        leaf = policy.get(state[RAX] & MASK32)
        if leaf is None:
            hypervisor = self.hypervisor
            below = cpuid.subleaves(hypervisor.timekeeper.tsc_kind(vcpu.domain), hypervisor.ram.frames)
            leaf = below.get((state[RAX] & MASK32, state[RCX] & MASK32), cpuid.NOTHING)
        eax, ebx, ecx, edx = leaf
        state[RAX], state[RBX], state[RCX], state[RDX] = eax, ebx, ecx, edx

    # -- what raises #GP -------------------------------------------------------------------------------------------
    def privileged_instruction(self, vcpu: VCPU) -> bool:
        """Emulate the instruction at RIP and move RIP over it; False when the guest is to get the #GP."""
        rip = self.state[RIP]
        try:
            code = self.fetch_some(vcpu, rip)
        except GuestFault:
            return False
        at = 0
        rex = 0
        while at < len(code) and code[at] in (0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65):
            at += 1
        if at < len(code) and code[at] & 0xF0 == 0x40:
            rex = code[at]
            at += 1
        if at >= len(code):
            return False
        opcode = code[at]
        if opcode in (0xFA, 0xFB):  # cli, sti: allowed by IOPL, and then without effect
            done = self._iopl_allows(vcpu)
            length = at + 1
        elif opcode == 0x0F and at + 1 < len(code):
            second = code[at + 1]
            if second == 0x01 and code[at + 2 : at + 3] == b"\xf9":
                done = self._rdtscp(vcpu)
                length = at + 3
            else:
                emulate = self._two_byte.get(second)
                if emulate is None or (not vcpu.kernel_mode and second != 0x31):
                    return False
                done = emulate(vcpu, code[at + 2 : at + 3], rex)
                length = at + (3 if 0x20 <= second <= 0x23 else 2)
        else:
            return False
        if self._again:
            self._again = False
        elif done:
            self.state[RIP] = rip + length & MASK64
        return done

    def io_exit(self, port: int, size: int, write: bool, value: int) -> int | None:
        """in/out: all ones if IOPL or the I/O bitmap allows the access (no domain owns a port), else None for #GP."""
        self.cpu.current.exits["io"] += 1
        return (1 << 8 * size) - 1 if self.may_io(port, size) else None

    def may_io(self, port: int, size: int) -> bool:
        """Whether the current vCPU's IOPL or I/O bitmap allows an access of `size` bytes at `port`."""
        vcpu = self.cpu.current
        return self._iopl_allows(vcpu) or self._bitmap_allows(vcpu, port, size)

    def _bitmap_allows(self, vcpu: VCPU, port: int, size: int) -> bool:
        """Whether the I/O bitmap (PHYSDEVOP_set_iobitmap) allows it; a byte that cannot be read allows nothing."""
        if port + size > vcpu.iobmp_limit:
            return False
        allowed = 0xFFFF
        for index in range(2):
            try:
                allowed ^= self.cpu.memory.read(vcpu.iobmp + (port >> 3) + index, 1)[0] << 8 * index
            except GuestFault:
                allowed &= ~(0xFF << 8 * index)
        wanted = (1 << size) - 1 << (port & 7)
        return allowed & wanted == wanted

    def _iopl_allows(self, vcpu: VCPU) -> bool:
        level = 3 if not vcpu.kernel_mode else 0 if vcpu.architectural_iopl else 1
        return vcpu.iopl >= level

    # -- control and debug registers -------------------------------------------------------------------------------
    def _clts(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        self.cpu.fpu_taskswitch(vcpu, False)
        return True

    def _wbinvd(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        return True  # without devices there is nothing to write back for

    @staticmethod
    def _registers(modrm: bytes, rex: int) -> tuple[int, int]:
        """(special register, general register) that the ModRM byte of a 0f 20..23 names."""
        byte = modrm[0]
        return byte >> 3 & 7 | (rex & 4) << 1, byte & 7 | (rex & 1) << 3

    def _read_control(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        special, general = self._registers(modrm, rex)
        if special == 0:
            value = CR0 | (CR0_TS if vcpu.ts else 0)
        elif special == 2:
            value = self.cpu.words[vcpu.vcpu_info + 16 >> 3]
        elif special == 3:
            value = vcpu.guest_table << 12
        elif special == 4:
            value = vcpu.cr4
        else:
            return False
        self.state[general] = value
        return True

    def _write_control(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        special, general = self._registers(modrm, rex)
        value = self.state[general]
        if special == 0:
            if (value ^ CR0) & ~CR0_TS:
                return False
            self.cpu.fpu_taskswitch(vcpu, bool(value & CR0_TS))
        elif special == 2:
            self.cpu.words[vcpu.vcpu_info + 16 >> 3] = value
        elif special == 3:
            try:
                self.hypervisor.new_guest_cr3(vcpu, value >> 12)
            except HypercallError:
                return False
            except Restart:
                self._again = True  # executed again after everybody else had a turn
                self.cpu.pcpu.stop()
        elif special == 4:
            vcpu.cr4 = CR4_GUEST | value & CR4_CHANGEABLE
            if not self.cpu.pcpu.virtual:  # there rdtsc traps always
                self.state[CR4] = self.state[CR4] & ~CR4_TSD | vcpu.cr4 & CR4_TSD
        else:
            return False
        return True

    def _read_debug(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        special, general = self._registers(modrm, rex)
        try:
            self.state[general] = get_register(vcpu, special)
        except HypercallError:
            return False
        return True

    def _write_debug(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        special, general = self._registers(modrm, rex)
        try:
            set_register(vcpu, special, self.state[general])
        except HypercallError:
            return False
        return True

    # -- MSRs and time ---------------------------------------------------------------------------------------------
    def _rdmsr(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        state = self.state
        value = self.msrs.read(vcpu, state[RCX] & MASK32)
        if value is None:
            return False
        state[RAX], state[RDX] = value & MASK32, value >> 32
        return True

    def _wrmsr(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        state = self.state
        value = (state[RAX] & MASK32) | (state[RDX] & MASK32) << 32
        return self.msrs.write(vcpu, state[RCX] & MASK32, value)

    def _rdtsc(self, vcpu: VCPU, modrm: bytes, rex: int) -> bool:
        if vcpu.cr4 & CR4_TSD and not vcpu.kernel_mode:
            return False
        value = self.hypervisor.timekeeper.tsc(vcpu.domain.timeline)
        self.state[RAX], self.state[RDX] = value & MASK32, value >> 32
        return True

    def _rdtscp(self, vcpu: VCPU) -> bool:
        self.state[RCX] = 0
        return self._rdtsc(vcpu, b"", 0)

    # -- code bytes ------------------------------------------------------------------------------------------------
    def _fetch(self, vcpu: ArchVCPU, rip: int, size: int) -> bytes:
        """`size` code bytes at `rip`, through the page tables of the vCPU's current mode. Raises GuestFault."""
        memory = self.cpu.memory
        if vcpu.kernel_mode or memory.root == vcpu.guest_table_user:
            return memory.read(rip, size)
        return memory.read_through(vcpu.guest_table_user, rip, size)

    def fetch_some(self, vcpu: ArchVCPU, rip: int) -> bytes:
        """Up to 15 code bytes: those of the next page only if it is mapped. Raises GuestFault if none can be read."""
        try:
            return self._fetch(vcpu, rip, 15)
        except GuestFault:
            room = 0x1000 - (rip & 0xFFF)
            if room >= 15:
                raise
            return self._fetch(vcpu, rip, room)
