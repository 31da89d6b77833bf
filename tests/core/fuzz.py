# SPDX-License-Identifier: GPL-2.0-or-later
"""A hostile guest: what it knows, and how it makes calls.

A `Hostile` owns a guest (tests/core/guests.py) and makes hypercalls with it: arguments and structures are filled by the
names and types the specs declare (`typed`), from pools of values that make sense now and then: frames that are its own
or somebody else's, ports that exist, addresses that are mapped, read-only, nowhere, or Xen's. What goes beyond one
call (tables that are built, pinned and then written; grants that are mapped and then torn) is in fuzz_moves.py and its
neighbours; who watches the answers is in fuzz_judge.py.

Nothing here is random but by the seed: the clock is virtual and stands still unless told to move.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from ctypes import sizeof
from typing import Any

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.layout import leaves, size_of
from pvhv.abi.spec import Command, Hypercall
from pvhv.abi.xen import DOMID_SELF, HYPERVISOR_mmuext_op, HYPERVISOR_multicall, MulticallEntry
from pvhv.core.domain import Domain
from pvhv.core.errors import DomainCrash, GuestFault
from pvhv.core.mm.frames import L1, L4, SEG_DESC, TYPE_MASK
from pvhv.core.sched.scheduler import WORK_SHARE
from pvhv.core.sched.timeline import SLICE_NS, Turn
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import RAX, RIP
from tests.core.fuzz_judge import UNTOUCHED, Judge
from tests.core.guests import ARGUMENTS, BASE, ENTRY, Machine

PAGES = 96  # mapped from BASE on
ROOM = 40  # what it may have beyond them
FIRST_FREE_PFN = 16  # below: tables, stack and request pages, which moves leave alone mostly
# What is judged afterwards has a page of its own, below what long lists may run into.
LIST_PAGE, BATCH_PAGE, MULTICALL_PAGE, CONTEXT_PAGE = 4, 5, 6, 8
REQUESTS = range(10, 16)
NOWHERE = BASE - (1 << 30)
XENS = 0xFFFF_8000_0000_0000
HIGH = 0xFFFF_FFFF_8000_0000
NON_CANONICAL = 0x1234_5678_9ABC_D000
MASK64 = 0xFFFF_FFFF_FFFF_FFFF
MOST_CONTINUATIONS = 3000


class Hostile:
    """One guest that means harm."""

    def __init__(self, machine: Machine, rng: random.Random, judge: Judge) -> None:
        self.machine = machine
        self.rng = rng
        self.judge = judge
        self.domain: Domain = machine.guest(PAGES, vcpus=2, room=ROOM)
        self.vcpu = self.domain.vcpus[0]
        self.met: list[Domain] = []
        self.bystanders: list[Domain] = []
        self.log: deque[str] = deque(maxlen=12)
        self.alive = True
        self.meanwhile: Callable[[], object] = lambda: None  # what another of its vCPUs does while a call is put aside
        self.mapped: list[tuple[int, int, int]] = []  # grants it mapped: handle, address, flags
        self.first_l4 = self.vcpu.guest_table
        # Nobody takes the frames of judged lists for anything else, or they would change under the judge.
        judge.untouchable |= {machine.mfn(self.domain, pfn) for pfn in range(LIST_PAGE, CONTEXT_PAGE)}
        self._owned: list[int] = []
        self._owned_at = -1
        if rng.random() < 0.2:
            self.domain.grants.max_mappings = 0
        if rng.random() < 0.2:
            self.domain.grants.max_version = 1
        if rng.random() < 0.2:
            self.domain.events.limit(rng.choice((2, 6)))

    def meet(self, peers: list[Domain], may_serve: bool) -> None:
        """Who else is there. With `may_serve` it may be the device model of one of them, and so control it."""
        self.met = peers
        serves = may_serve and peers and self.rng.random() < 0.5
        self.domain.target = self.rng.choice(peers).domid if serves else None

    @property
    def peers(self) -> list[Domain]:
        """Those it met that are not gone yet."""
        return [peer for peer in self.met if self.machine.hv.domains.get(peer.domid) is peer]

    # -- calling -----------------------------------------------------------------------------------------------
    def call(self, number: int, *arguments: int, subject: Command | None = None) -> int | None:
        """Make a hypercall and have it judged; None when it was not answered: given up, or the guest's end."""
        vcpu = self.vcpu
        machine, rng = self.machine, self.rng
        if number == HYPERVISOR_mmuext_op and subject is None:
            subject = ANY_MMUEXT
        self.log.append(f"{self.domain} {number}({', '.join(map(hex, arguments))})")
        machine.enter(vcpu)
        if not vcpu.kernel_mode:
            machine.cpu.to_kernel(vcpu)
        state = machine.cpu.state
        state[RAX] = number
        for register, value in zip(ARGUMENTS, arguments, strict=False):
            state[register] = value & MASK64
        state[RIP] = ENTRY
        share = rng.choice((1, 3, 16, 200, WORK_SHARE))
        for _ in range(MOST_CONTINUATIONS):
            try:
                self._syscall(vcpu, share)
            except DomainCrash as crash:
                self.judge.crashes[crash.reason.split(":")[0]] += 1
                self.alive = False
                return None
            if state[RIP] != ENTRY - 2:
                break
            state[RIP] = ENTRY
            if rng.random() < 0.05:
                return self._interrupted()
            self.meanwhile()
            share = min(share * 2, WORK_SHARE)
        else:
            return None
        result = state[RAX]
        result -= (1 << 64) if result >> 63 else 0
        self.judge.answer(number, [value & MASK64 for value in arguments], result, subject)
        self._stay_alive()
        return result

    def _syscall(self, vcpu: VCPU, share: int) -> None:
        scheduler = self.machine.hv.scheduler
        unlimited = scheduler.share
        scheduler.current_turn = scheduler.share = Turn(vcpu, 0, SLICE_NS, share)
        try:
            self.machine.cpu.pcpu.on_syscall()
        finally:
            scheduler.current_turn, scheduler.share = None, unlimited

    def _interrupted(self) -> None:
        """An upcall came while a call was put aside, and the guest does something else first, or for ever."""
        state = self.machine.cpu.state
        kept = [state[register] for register in (RAX, *ARGUMENTS)]
        if self.rng.random() < 0.5:
            self.typed()
        if self.rng.random() < 0.5 and self.alive:
            self.call(kept[0], *kept[1:6])

    def _stay_alive(self) -> None:
        """What puts a vCPU to sleep is undone; what ends the domain is its end."""
        hypervisor = self.machine.hv
        for vcpu in self.domain.vcpus:
            hypervisor.activity.wake(vcpu)
            vcpu.nmi_pending = False
        if not self.domain.runs:
            self.alive = False
        elif self.domain.vcpus[0].down:
            hypervisor.activity.bring_up(self.domain.vcpus[0])

    # -- memory, as far as a guest kernel reaches --------------------------------------------------------------
    def store(self, address: int, data: bytes) -> None:
        """Write where the guest can; where it cannot it would fault, and goes on."""
        self.machine.enter(self.vcpu)
        try:
            self.machine.cpu.memory.write(address, data)
        except GuestFault:
            pass

    def load(self, address: int, size: int) -> bytes:
        """Read likewise; zeros where it cannot."""
        self.machine.enter(self.vcpu)
        try:
            return self.machine.cpu.memory.read(address, size)
        except GuestFault:
            return bytes(size)

    def writable(self, mfn: int) -> bool:
        """Whether the guest could have a writable mapping of this frame."""
        frames = self.machine.frames
        state = frames.types[mfn] & TYPE_MASK
        return frames.owner[mfn] == self.domain.domid and not (
            (L1 <= state <= L4 or state == SEG_DESC) and frames.type_counts[mfn]
        )

    def request(self, *records: Any) -> int:
        """Put structures where the hypervisor will read them; most often in a page of their own."""
        rng = self.rng
        data = b"".join(bytes(record) for record in records)
        chance = rng.random()
        if chance < 0.9:
            address = BASE + rng.choice(REQUESTS) * 4096 + rng.choice((0, 0, 0, 64, 4096 - len(data) % 4096))
        elif chance < 0.93:
            address = BASE + PAGES * 4096 - rng.choice((4, 8, len(data), len(data) // 2))  # towards the end of all
        else:
            return self.address()
        self.store(address, data)
        return address

    # -- pools -------------------------------------------------------------------------------------------------
    def pick(self, *choices: tuple[float, Callable[[], int]]) -> int:
        """One of some values, by weight."""
        weights = [weight for weight, _ in choices]
        return self.rng.choices([make for _, make in choices], weights)[0]()

    def domid(self) -> int:
        rng = self.rng
        return self.pick(
            (6, lambda: DOMID_SELF),
            (2, lambda: self.domain.domid),
            (4, lambda: rng.choice(self.met).domid if self.met else 0),
            (1, lambda: 0),
            (1, lambda: rng.choice(self.bystanders).domid if self.bystanders else 0),
            (1, lambda: rng.choice((99, 0x7FF1, 0x7FF2, 0x7FF4, 0x7FFF, 0xFFFF))),
        )

    def port(self) -> int:
        rng = self.rng
        return self.pick(
            (6, lambda: rng.choice([channel.port for channel in self.domain.events.in_use()] or [1])),
            (2, lambda: rng.choice([c.port for peer in self.peers for c in peer.events.in_use()] or [1])),
            (2, lambda: rng.randrange(12)),
            (1, lambda: rng.choice((63, 64, 4095, 4096, 0x7FFF_FFFF, 0xFFFF_FFFF))),
        )

    def own_mfn(self) -> int:
        """A frame behind one of its pages."""
        self.machine.enter(self.vcpu)
        address = BASE + self.rng.randrange(FIRST_FREE_PFN, PAGES) * 4096
        try:
            return self.machine.cpu.memory.translate(address, False) >> 12
        except GuestFault:
            return self.any_own_mfn()

    def owned(self) -> list[int]:
        """The frames it owns, or owned a few calls ago."""
        if not self._owned_at <= self.judge.calls < self._owned_at + 20:
            owned = self.machine.frames.owned_by(self.domain.domid)
            self._owned = [mfn for mfn in owned if mfn not in self.judge.untouchable]
            self._owned_at = self.judge.calls
        return self._owned

    def any_own_mfn(self) -> int:
        """A frame it owns, mapped or not, be it the hypervisor's for it."""
        owned = self.owned()
        return self.rng.choice(owned) if owned else 0

    def peers_mfn(self) -> int:
        """A frame of somebody else's."""
        others = self.peers + self.bystanders
        peer = self.rng.choice(others) if others else self.domain
        owned = [mfn for mfn in self.machine.frames.owned_by(peer.domid) if mfn not in self.judge.untouchable]
        return self.rng.choice(owned) if owned else 0

    def mfn(self) -> int:
        rng, hypervisor = self.rng, self.machine.hv
        return self.pick(
            (8, self.own_mfn),
            (4, self.any_own_mfn),
            (1, lambda: rng.choice(self.domain.hypervisor_frames)),
            (1, self.peers_mfn),
            (0.5, lambda: rng.choice((0, hypervisor.m2p_l3, self.machine.frames.count - 1, self.machine.frames.count))),
            (0.5, lambda: rng.choice((1 << 28, (1 << 40) - 1, 1 << 52, MASK64))),
        )

    def address(self) -> int:
        rng = self.rng
        return self.pick(
            (8, lambda: BASE + rng.choice(REQUESTS) * 4096 + rng.randrange(0, 4096, 8)),
            (4, lambda: BASE + rng.randrange(FIRST_FREE_PFN, PAGES) * 4096 + rng.choice((0, 0, 8, 4088, 1))),
            (1, lambda: BASE + rng.randrange(4) * 4096),
            (1, lambda: BASE + rng.randrange(PAGES, 512) * 4096),
            (1.5, lambda: rng.choice((NOWHERE, XENS, XENS + 4096, HIGH, NON_CANONICAL, (1 << 47) - 8, MASK64 - 7, 0))),
        )

    def small(self) -> int:
        rng = self.rng
        return self.pick((8, lambda: rng.randrange(5)), (2, lambda: rng.randrange(70)),
                         (1, lambda: rng.choice((128, 129, 512, 4096, 1 << 14, 65537))),
                         (0.5, lambda: rng.choice((0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, MASK64))))

    def word(self) -> int:
        rng = self.rng
        bits = rng.choice((8, 32, 64))
        return rng.choice((0, 1, 2, 3, 7, 0xFF, 0x1000, XENS, *(rng.getrandbits(bits) for _ in range(3))))

    def entry(self) -> int:
        """A page-table entry that might do."""
        rng = self.rng
        flags = rng.choice((0x61, 0x63, 0x67, 0x65, 0x63 | 1 << 63, 0x61 | 1 << 63, 0x67 | 1 << 63, 0x63, 0x60, 0))
        if rng.random() < 0.06:
            flags ^= 1 << rng.choice((3, 4, 5, 7, 8, 9, 58, 59, 62, 63))
        return (self.mfn() << 12 & 0xF_FFFF_FFFF_F000) | flags

    def ref(self) -> int:
        return self.pick((8, lambda: self.rng.randrange(8, 24)), (1, lambda: self.rng.choice((0, 511, 512, 1 << 20))))

    def value(self, name: str) -> int:
        """A value for a field or argument of this name."""
        for words, pool in NAMES:
            if any(word in name for word in words):
                return pool(self)
        return self.pick((1, self.small), (1, self.word))

    # -- typed calls -------------------------------------------------------------------------------------------
    def fill(self, record: Any) -> Any:
        """A structure with a plausible value in every field."""
        made = record()
        view = memoryview(made).cast("B")
        for path, kind, offset in leaves(record.abi):
            size = size_of(kind)
            if size <= 8:
                value = self.value(path.rsplit(".", 1)[-1])
                view[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            else:
                view[offset : offset + size] = self.rng.randbytes(size)
        return made

    def arguments(self, spec: Hypercall) -> tuple[list[int], Command | None]:
        """Arguments for one call: a command, its structure, and the rest by name."""
        rng = self.rng
        command: Command | None = None
        if spec.commands is not None:
            command = rng.choice(list(spec.commands))
        values = []
        for argument in spec.args:
            if argument.role == "cmd" and command is not None:
                values.append(command.number if rng.random() < 0.97 else self.word())
            elif argument.role == "arg":
                values.append(self._structures((command or spec).arg))
            else:
                values.append(self.value(argument.name))
        if spec.name == "memory_op" and rng.random() < 0.08:
            values[0] |= rng.choice((1, 1 << 16, 1 << 16, self.small())) << 6
        if spec.name in ("mmu_update", "mmuext_op"):
            values[1] = 1 if rng.random() < 0.6 else values[1]
        if spec.name in ("mmu_update", "mmuext_op") and rng.random() < 0.1:
            values[3] = rng.choice((0, 1, self.domid() + 1)) << 16 | self.domid()
        return values, command

    def _structures(self, record: Any) -> int:
        if record is None:
            self_made = self.rng.randbytes(64)
            return self.request(self_made) if self.rng.random() < 0.5 else self.address()
        return self.request(*(self.fill(record) for _ in range(self.rng.choice((1, 1, 1, 2, 4)))))

    def typed(self) -> None:
        """One call of some spec."""
        spec = self.rng.choice(SPECS)
        values, _ = self.arguments(spec)
        if spec.name == "mmuext_op":
            self.mmuext(values)
        elif self.rng.random() < 0.1 or not deadly(spec, values):
            self.call(spec.number, *values)

    def mmuext(self, values: list[int]) -> None:
        """The judge is told which operation it was about; of several, none."""
        commands = HYPERCALLS[26].commands
        assert commands is not None
        number = int.from_bytes(self.load(values[0], 4), "little")
        single = values[1] & 0xFFFF_FFFF == 1
        subject = commands.by_number.get(number)
        if single and subject is not None:
            self.call(26, *values, subject=subject)
        else:
            self.call(26, *values, subject=ANY_MMUEXT)

    def noise(self) -> None:
        """Anything at all."""
        number = self.rng.randrange(64) if self.rng.random() < 0.9 else self.word()
        values = [self.pick((1, self.word), (1, self.address), (1, self.small), (1, self.mfn)) for _ in range(6)]
        spec = HYPERCALLS.get(number)
        if number == HYPERVISOR_mmuext_op:
            self.mmuext(values)
        elif spec is None or not deadly(spec, values):
            self.call(number, *values)

    def multicall(self) -> None:
        """Several calls in one, judged one by one where their place in the list was left alone."""
        rng = self.rng
        entries = []
        for _ in range(rng.randrange(1, 6)):
            spec = rng.choice(SPECS)
            values, _ = self.arguments(spec)
            if spec.number == HYPERVISOR_mmuext_op or deadly(spec, values):
                continue
            entries.append(MulticallEntry(spec.number, UNTOUCHED, type(MulticallEntry().args)(*values)))
        address = BASE + MULTICALL_PAGE * 4096
        self.store(address, b"".join(map(bytes, entries)))
        if self.call(HYPERVISOR_multicall, address, len(entries)) != 0 or not self.alive:
            return
        size = sizeof(MulticallEntry)
        for index, entry in enumerate(entries):
            done: Any = MulticallEntry.from_buffer_copy(self.load(address + index * size, size))
            result = done.result - (1 << 64) if done.result >> 63 else done.result
            if done.op == entry.op and result != UNTOUCHED:
                self.judge.answer(entry.op, list(entry.args), result)


def deadly(spec: Hypercall, values: list[int]) -> bool:
    """Whether a call ends the guest's life when all goes well."""
    return spec.name == "iret" or any(
        spec.name == name and values and values[0] & 0xFFFF_FFFF in commands for name, commands in DEADLY.items()
    )


class _AnyMmuext(Command):
    """Stands for a batch of which it is not known which operation failed."""

    def __init__(self) -> None:
        commands = HYPERCALLS[26].commands
        assert commands is not None
        errors = {errno: reason for command in commands for errno, reason in command.errors.items()}
        super().__init__("any", -1, errors=errors)
        self.prefix = "MMUEXT"


ANY_MMUEXT = _AnyMmuext()
DEADLY = {"sched_op": (2, 5), "sched_op_compat": (2,), "vcpu_op": (2,)}  # shutdown, shutdown_code; VCPUOP_down
SPECS = [spec for spec in HYPERCALLS.values() for _ in range(1 + 2 * len(spec.commands or ()))]

# What a name says of a value; the first that fits counts.
NAMES: tuple[tuple[tuple[str, ...], Callable[[Hostile], int]], ...] = (
    (("foreigndom", "domid", "remote_dom", "dom"), Hostile.domid),
    (("remote_port", "port"), Hostile.port),
    (("ref",), Hostile.ref),
    (("handle",), lambda it: it.rng.choice([handle for handle, _, _ in it.mapped] or [0, 1, 300, 1 << 20])),
    (("mfn", "gpfn", "frame"), Hostile.mfn),
    (("cr3", "ctrlreg"), lambda it: it.first_l4 << 12),
    (("val", "desc"), lambda it: it.pick((3, it.entry), (1, it.word))),
    (("vcpu",), lambda it: it.rng.choice((0, 0, 0, 1, 1, 2, 31, 32, 0xFFFF_FFFF))),
    (("addr", "eip", "esp", "rip", "rsp", "base", "start", "buffer", "list", "bitmap", "mask", "va", "done_out", "req",
      "idxs", "gpfns", "errs", "uop", "ureqs", ".h", ".v", "ports"), Hostile.address),
    (("cmd",), lambda it: it.rng.choice((0, 1, 2, 5, *range(24)))),
    (("interface_version",), lambda it: it.rng.choice((0x15, 0x15, 0x0300_0001, 0))),
    (("order",), lambda it: it.rng.choice((0, 0, 0, 0, 1, 2, 3, 9, 10, 64))),
    (("mem_flags",), lambda it: it.rng.choice((0, 0, 0, 0, 24, 12, 1 << 16, 1 << 17, 1 << 17 | 1 << 8, 1 << 18))),
    (("virq",), lambda it: it.rng.choice((0, 0, 1, 1, 2, 3, 10, 13, 23, 24))),
    (("timeout", "period"), lambda it: it.rng.choice((0, 1, 1000, 10**6, 10**9, 1 << 62, MASK64))),
    (("flags",), lambda it: it.rng.choice((0, 1, 2, 2, 2, 6, 3, 0x12, 0x1A, 0xA, it.rng.getrandbits(16)))),
    (("count", "nr", "entries", "size", "len"), Hostile.small),
)
