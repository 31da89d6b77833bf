# SPDX-License-Identifier: GPL-2.0-or-later
"""A physical CPU: runs guest code, and calls the hypervisor at every exit.

The hypervisor is not called back through layers: the function it puts into `on_syscall`,
`on_exception[vector]` and their like runs inside the engine's own callback, on the live CPU
state.  `state[RIP]` there *is* the guest's RIP.  An exit costs one ctypes callback and one call
(behind pacer.c, through which all pass).

PV guests run under the engine's AMD-V with all exception intercepts on (svm.py), kernel and users at
CPL 3 (rings.py), so every exception is a #VMEXIT with RIP at the instruction, the error code in
`aux[ERROR_CODE]` and, for #PF, the address in `vmcb[FAULT_ADDRESS]` (CR2 is the hypervisor's).

Invariants: a run ends only between two guest instructions.  What a handler raises ends the run
and comes out of `run`.  Whenever no guest code runs, `state[EFLAGS]` is RFLAGS, whole: in handlers,
between runs, in what `save` returns.  (The engine holds it so between runs; pacer.c sees to it at exits.)
CR0.WP is always 1.  Nothing of the private region (VMCB, identity map)
is in any table a guest runs on, nor ever in a TLB set a guest uses.

It does not know domains, vCPUs, hypercalls or Xen.  Read beside it: cpustate.py for the names,
pacer.c for exits and counting, proof.py for what is checked before the first guest runs; in Xen,
xen/arch/x86/x86_64/entry.S is what the handlers' side of this does.

Not modelled: a fetch fault on the second page of a block that crosses pages is reported at the block's first
instruction; counts are not exact in 16-bit code, nor in 32-bit code where CS has a base. On the stock engine, too: INS
has already overwritten its destination when it is refused; icebp (F1) is #UD; breakpoints of debug registers never
fire; a syscall with prefixes resumes as many bytes late; flush_page flushes everything.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, c_int, c_uint32, c_uint64
from functools import partial
from typing import Final, Literal

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer as pace
from pvhv.machine import proof, seam, svm
from pvhv.machine.cpustate import CR3, EFLAGS, HFLAGS, RIP
from pvhv.machine.debug import Debug
from pvhv.machine.exits import ExceptionHandlers, Exits, Handler, IntHandler, IOHandler, MayIO, Unhandled
from pvhv.machine.features import FEATURES, VENDOR, Features
from pvhv.machine.guard import Guard
from pvhv.machine.private import Private
from pvhv.machine.ram import PAGE_SIZE, Ram
from pvhv.machine.stops import StopSwitch
from pvhv.machine.ticker import Ticker
from pvhv.machine.watch import Watch
from pvhv.machine.x86 import CR4_TSD, DR7_DEFAULT, FLAT_CODE64, FLAT_DATA

__all__ = ["CR0_PV", "CR4_PV", "FAULT_ADDRESS", "PCPU", "Unhandled"]

# Index of the faulting address in PCPU.vmcb.
FAULT_ADDRESS: Final = svm.EXITINFO2 // 8

CR0_PV: Final = 0x8005_0033  # PG AM WP NE ET MP PE
CR4_PV: Final = 0x6A0  # OSXMMEXCPT OSFXSR PGE PAE
MOST_BLOCKS: Final = 1 << 18  # that the engine may remember: 20 MiB
EFER_PV: Final = 0x1D01  # SVME NXE LMA LME SCE
_HFLAGS_PV: Final = (
    cs.HF_PE | cs.HF_MP | cs.HF_LMA | cs.HF_CS64 | cs.HF_CS32 | cs.HF_SS32 | cs.HF_SVME | cs.HF_GUEST
    | cs.HF_OSFXSR | cs.HF_IOBPT
)  # fmt: skip

_ARMED: Final = 0xFF  # in DR7: some breakpoint is enabled


class PCPU:
    """One engine on one Ram, for one clock.

    `state` (64-bit words) and `aux` (32-bit words) view the CPU state, by cpustate's names;
    `vmcb` views the VMCB.  They are the same objects for the life of the PCPU.
    """

    def __init__(
        self,
        ram: Ram,
        clock: Literal["wall", "virtual"] = "wall",
        *,
        copy_state: bool = False,
        block_stops: bool = False,
        by_mode: bool = False,
        guard_code: bool = False,
        features: Features = FEATURES,
    ) -> None:
        """`block_stops` has the pacer stop the guest on the wall clock too, where an interrupt window (below) is
        wanted; it and `copy_state` are otherwise chosen only where the switch that makes the engine's own stop safe,
        or the live state, cannot be found. `by_mode` counts those of users, at CPL 3, apart (virtual clock).
        `guard_code` makes a page read-only in the nested page tables when code is translated from it.
        `features` are the instructions there are (the stock engine has all of its own)."""
        if clock not in ("wall", "virtual"):
            raise ValueError(f"a clock is wall or virtual, not {clock!r}")
        self.ram: Final = ram
        self.virtual: Final = clock == "virtual"
        self._by_mode, self._guard_code, self._features = by_mode, guard_code, features
        self._running = False
        self._runner = 0
        self.on_break: Handler = lambda: None
        self._guard: Guard | None = None
        self._ticker: Ticker | None = None
        self._tick: Callable[[], int | None] | None = None

        self._build(copy_state, block_stops)
        if not proof.prove(self) and self.engine_stops:
            # The switch is there, but does not do what it should: let the pacer stop us.
            self._engine.close()
            self._build(copy_state, True)
            proof.prove(self)
        if self.virtual:
            self.state[cs.CR4] |= CR4_TSD
        self._words[pace.EXECUTED] = self._words[pace.EXECUTED_USER] = 0
        kick = weakref.WeakMethod(self._kick)  # the thread must not keep us alive
        self._ticker = Ticker(lambda: method() if (method := kick()) else None)
        self.initial: Final = self.save()

    def _build(self, copy_state: bool, block_stops: bool) -> None:
        engine = self._engine = uc.Engine()
        self._handle = engine.handle
        engine.map(0, self.ram.size, self.ram.address)
        self.watch = Watch(engine)
        self._private = Private(engine, self.ram)
        self.vmcb = self._private.vmcb
        self.msr_permissions = self._private.msr_permissions

        cs.check_layout(engine)
        live = None if copy_state else seam.cpu_state(engine.handle) if seam.present else cs.find_live(engine)
        self.live = live is not None
        context = self._context = None if live is not None else cs.Context(engine)
        if context is not None:
            context.save()
        address = live if context is None else context.data
        assert address is not None
        raw = memoryview((ctypes.c_char * cs.STATE_BYTES).from_address(address)).cast("B")
        self.state = raw.cast("Q")
        self.aux = raw.cast("I")
        self._saved = raw[: cs.SAVED_BYTES]
        self._fpu = raw[cs.FPU_BEGIN : cs.SAVED_BYTES]

        switch = None if block_stops else StopSwitch.find(engine)
        if switch is not None:
            switch.at_blocks(True)
        # Whether a stop from another thread is safe as the engine does it; else the pacer stops us.
        self.engine_stops = switch is not None and not self.virtual

        pointer = context.pointer if context is not None else None
        self._pacer = pace.Pacer(engine, self.ram, address, cs.ERROR_CODE * 4, pointer)
        self._words = self._pacer.words
        self._switch = switch
        self._start = self._starter()
        self.debug = Debug(self, engine, self._pacer, switch)
        refuse_io = partial(seam.refuse_io, engine.handle) if seam.present else None
        self._exits = Exits(self.state, self.aux, self._end_run, refuse_io)
        self._exits.table[svm.EXIT_BASE + svm.VMEXIT_WATCH] = self.debug.watch_exit
        self.on_exception: ExceptionHandlers = self._exits.on_exception
        self._build_fast_calls()
        self._register_hooks()
        self._reset()

    def _starter(self) -> Callable[[int], int]:
        """What runs guest code from an address, and returns the engine's error."""
        handle = self._handle
        if not seam.present:
            return lambda rip: int(uc.uc_emu_start(handle, rip, 0, 0, 0))
        seam.catch_signals()
        seam.keep_features(handle, (c_uint32 * 3)(*VENDOR), (c_uint32 * len(self._features))(*self._features))
        seam.watch_words(handle, *map(self._pacer.address_of, (pace.STOP, pace.IN_PYTHON, pace.USER_ROOT)))
        self._pacer.have_io_asked_for()
        return partial(seam.run, handle)

    def _died(self, rip: int) -> uc.EngineDied:
        """The engine died. It is made anew where it was, with the registers it had; who ran on it is told how.

        What else was to be told of this run is not the next one's."""
        death = seam.how_it_died()
        self._running = False  # nobody stops an engine that is half made
        if self._context is not None:
            self._context.save()
        registers = self.save()
        uc.check("making the engine anew", seam.reopen(self._handle))
        self._engine.revived()
        self._start = self._starter()
        self.debug.made_anew()
        self._reset_to(registers)
        words = self._words
        words[pace.LAST] = words[pace.STEP] = words[pace.BROKEN] = words[pace.ESCAPED] = 0
        self._exits.failure = None
        return uc.EngineDied(f"{death.said()}, while it ran guest code from {rip:#x} on")

    def _reset_to(self, registers: bytes) -> None:
        """All of the CPU is reset but the guest's registers, which somebody may want to look at."""
        self._reset()
        self._saved[:] = registers

    # ---- the state ------------------------------------------------------------------------------

    def _reset(self) -> None:
        """Long mode, paging on, WP, NX, AMD-V intercepts, flat segments: what no PV guest changes."""
        state, aux = self.state, self.aux
        for n in range(16):
            state[n] = 0
        state[cs.CR0], state[cs.CR2], state[CR3], state[cs.CR4] = CR0_PV, 0, self._private.cr3, CR4_PV
        state[cs.EFER] = EFER_PV
        state[HFLAGS] = _HFLAGS_PV
        state[EFLAGS] = 2
        state[cs.DR7] = DR7_DEFAULT
        state[cs.VM_VMCB] = self._private.vmcb_address
        aux[cs.OLD_EXCEPTION] = 0xFFFF_FFFF
        aux[cs.EXCEPTION_IS_INT] = 0
        aux[cs.INTERCEPT_EXCEPTIONS] = 0xFFFF_FFFF
        state[cs.INTERCEPT] = 0
        if self._guard is not None:
            self._guard.intercept()
        self.load_flat_segments(0xE030, 0xE028, 1)
        self.set_gdtr(0, 0)
        self.set_ldtr(0, 0, 0)

    def load_flat_segments(self, cs_selector: int, ss_selector: int, cpl: int) -> None:
        """Flat 64-bit CS and SS at `cpl`; DS, ES, FS, GS null with base 0."""
        self.set_segment(cs.CS, cs_selector, 0, 0xFFFF_FFFF, FLAT_CODE64 | cpl << 13)
        self.set_segment(cs.SS, ss_selector, 0, 0xFFFF_FFFF, FLAT_DATA | cpl << 13)
        for segment in (cs.DS, cs.ES, cs.FS, cs.GS):
            self.set_segment(segment, 0, 0, 0, 0)
        self.set_cpl(cpl)

    def set_segment(self, segment: int, selector: int, base: int, limit: int, flags: int) -> None:
        """Selector and hidden descriptor.  `flags`: as bits 8..23 of a descriptor's high word."""
        state = self.state
        state[segment] = selector
        state[segment + cs.BASE] = base
        state[segment + cs.LIMIT_FLAGS] = limit | flags << 32

    def set_gdtr(self, base: int, limit: int) -> None:
        """Where the guest's own segment loads find descriptors, in guest-virtual space."""
        self.set_segment(cs.GDT, 0, base, limit, 0)

    def set_ldtr(self, selector: int, base: int, limit: int) -> None:
        self.set_segment(cs.LDT, selector, base, limit, 0x8200)

    def save(self) -> bytes:
        """A vCPU's whole context: registers, flags, segments, CRs, FPU and SSE."""
        return bytes(self._saved)

    def save_into(self, context: bytearray) -> None:
        """The same, into a context that is there already."""
        context[:] = self._saved

    def load(self, context: bytes | bytearray, cr3: int | None = None) -> None:
        """Become the vCPU of `context`, on the tables at `cr3` if that is given, else on its own.

        The TLB is flushed if `cr3` is given, or if CR3 changes.
        """
        state = self.state
        before = state[CR3]
        self._saved[:] = context
        if cr3 is not None:
            self.load_cr3(cr3)
        elif state[CR3] != before:
            self.flush_tlb()

    def msr_words(self) -> dict[int, int]:
        """MSR number -> index in `state`, of those MSRs that are plain registers (STAR, LSTAR, ...)."""
        return cs.find_msrs(self._engine)

    def fpu_save(self) -> bytes:
        return bytes(self._fpu)

    def fpu_load(self, image: bytes) -> None:
        self._fpu[:] = image

    def load_debug_registers(self, registers: Sequence[int]) -> None:
        """DR0-3, DR6 and DR7 of who runs from now on, out of eight; at #DB, `state[DR6]` says why.

        They are no part of a context. On the stock engine they never fire."""
        if not seam.present:
            return
        for n, value in enumerate(registers):
            self.state[cs.DR0 + n] = value
        self._on_engine(seam.debug_registers)

    def _on_engine(self, call: Callable[..., None]) -> None:
        """Make a call that works on the engine's own state."""
        context = self._context
        if context is None:
            call(self._handle)
        else:
            context.restore()
            call(self._handle)
            context.save()

    # ---- calls of the hot path: closures, without attribute chains ---------------------------------

    set_cpl: Callable[[int], None]
    set_ts: Callable[[bool], None]
    """CR0.TS: the next FPU or SSE instruction raises #NM."""
    flush_tlb: Callable[[], object]
    flush_on_entry: Callable[[], None]
    """Have the TLB flushed before guest code runs again: once, however often it is asked for."""
    load_cr3: Callable[[int], None]
    """Set CR3 (a machine address), and have the TLB flushed on entry."""
    set_user_tables: Callable[[int], None]
    """Have users at CPL 3 run on the L4 at a machine address, whatever CR3 is; 0 for one that maps nothing. What the
    TLB knows of users' mappings is as old as it was. Only where `has_user_tables`."""
    forget_code: Callable[[int], None]
    """Drop what was translated from a frame: its bytes changed other than by a guest's store."""
    _apart: Callable[..., None]
    """Make a call that has the engine look for code, on other page tables, by their root."""

    def _build_fast_calls(self) -> None:
        state, words, handle, context = self.state, self._words, self._handle, self._context
        identity, nothing = self._private.cr3, self._private.nothing
        ctl, remove = uc.uc_ctl, uc.CTL_REMOVE_CACHE

        # Word numbers are written out here (and only here): a constant is cheaper than a name.
        def set_cpl(cpl: int) -> None:
            state[22] = state[22] & ~3 | cpl  # HFLAGS

        def set_ts(on: bool) -> None:
            if on:
                state[53] |= 0x8  # CR0
                state[22] |= 0x800  # HFLAGS
            else:
                state[53] &= ~0x8
                state[22] &= ~0x800

        def apart(root: int, call: Callable[..., object], *arguments: object) -> None:
            # The engine finds code by a virtual address, in the TLB set of the current mode: we borrow
            # the set of "supervisor with SMAP", which no guest is ever in, and page tables of our own.
            # So it neither finds a guest's entry, nor leaves one that a guest finds.
            hflags, cr3, eflags = state[HFLAGS], state[CR3], state[EFLAGS]
            state[HFLAGS] = hflags & ~(cs.HF_CPL | cs.HF2_NPT) | cs.HF_SMAP
            state[EFLAGS] = eflags & ~cs.AC
            state[CR3] = root
            if context is not None:
                context.restore()
            call(*arguments)
            state[HFLAGS], state[CR3], state[EFLAGS] = hflags, cr3, eflags
            if context is not None:
                context.restore()

        forget = seam.forget_code

        def forget_code(mfn: int) -> None:
            address = mfn << 12
            if forget is not None:
                forget(handle, address)
            else:
                apart(identity, ctl, handle, remove, c_uint64(address), c_uint64(address + PAGE_SIZE))

        flush_tlb = self._pacer.flush_tlb

        def flush_on_entry() -> None:
            words[35] = 1  # FLUSH

        def load_cr3(maddr: int) -> None:
            state[56] = maddr
            words[35] = 1

        def set_user_tables(maddr: int) -> None:
            words[55] = maddr or nothing  # USER_ROOT

        self.set_cpl, self.set_ts, self.set_user_tables = set_cpl, set_ts, set_user_tables
        self.flush_tlb, self.flush_on_entry = flush_tlb, flush_on_entry
        self.load_cr3, self.forget_code, self._apart = load_cr3, forget_code, apart
        self._tsc = pace.library().pacer_tsc

    def forget_blocks(self) -> None:
        """Let the engine begin anew to remember what it translated under a block hook.

        The stock engine remembers of each such block where it is, for as long as the hook is there, in some 80 bytes: a
        guest that writes ever new code would fill the host's memory. With the hook it drops all code it finds at those
        addresses. Where nothing is mapped it finds none, which is quick, and right: the new hook is the old one.
        """
        self.flush_tlb()
        self._apart(self._private.nothing, self._pacer.forget_blocks)

    def flush_page(self, va: int) -> None:
        """Forget one page's translation (on the stock engine, which offers no less, all of them)."""
        if seam.present:
            seam.flush_page(self._handle, va)
        else:
            self.flush_on_entry()

    # ---- exits -----------------------------------------------------------------------------------

    def _register_hooks(self) -> None:
        exits = self._exits
        callbacks = pace.Callbacks(
            CFUNCTYPE(None, c_int)(exits.exit_hook),
            CFUNCTYPE(None)(exits.syscall_hook),
            CFUNCTYPE(None)(exits.sysenter_hook),
            CFUNCTYPE(None)(exits.int_6_hook),
            CFUNCTYPE(None)(exits.cpuid_hook),
            CFUNCTYPE(c_uint32, c_uint32, c_int)(exits.in_hook),
            CFUNCTYPE(None, c_uint32, c_int, c_uint32)(exits.out_hook),
            CFUNCTYPE(c_uint32, c_uint32, c_int)(exits.may_io_hook),
        )
        stop = not self.engine_stops
        self._pacer.hook(callbacks, count=self.virtual, stop=stop, by_mode=self._by_mode, guard=self._guard_code)

    @property
    def on_syscall(self) -> Handler:
        """Called at a syscall instruction, RIP behind it, RCX that RIP and R11 RFLAGS: as the CPU leaves them.

        CPL, segments and where to go on are the handler's to change."""
        return self._exits.handlers()[0]

    @on_syscall.setter
    def on_syscall(self, handler: Handler) -> None:
        self._exits.set_syscall(handler)

    @property
    def on_int(self) -> IntHandler:
        """Called with n at `int n` (3 for int3), RIP behind it."""
        return self._exits.handlers()[1]

    @on_int.setter
    def on_int(self, handler: IntHandler) -> None:
        self._exits.set_int(handler)

    def on_fault(self, handler: IntHandler) -> None:
        """What is called with the vector of an exception whose intercept is off, RIP at the instruction.

        The error code is in `aux` all the same; CR2 is set by the engine."""
        self._exits.on_fault = handler

    @property
    def on_cpuid(self) -> Handler:
        """Called at a cpuid instruction, RIP on it (and not to be changed): puts RAX, RBX, RCX, RDX."""
        return self._exits.handlers()[2]

    @on_cpuid.setter
    def on_cpuid(self, handler: Handler) -> None:
        self._exits.set_cpuid(handler)

    @property
    def on_io(self) -> IOHandler:
        """Called as (port, size, is_write, value); None refuses: #GP(0) at the instruction.

        For `in` it returns the value read; for `out` anything but None.  RIP is at the instruction,
        and nothing in the state may be changed: a refusal's handler is on_exception[13].
        """
        return self._exits.handlers()[3]

    @on_io.setter
    def on_io(self, handler: IOHandler) -> None:
        self._exits.set_io(handler)

    @property
    def on_may_io(self) -> MayIO:
        """Called as (port, size) before INS or OUTS reaches for memory; False refuses, as `on_io` does.

        Not on the stock engine, where INS has written zeroes when `on_io` refuses."""
        return self._exits.on_may_io

    @on_may_io.setter
    def on_may_io(self, handler: MayIO) -> None:
        self._exits.on_may_io = handler

    def syscall_leaves(self, code: int, stack: int) -> None:
        """Have CS and SS say these two selectors behind every syscall, as the hypervisor goes back by a sysret: all
        else of the two segments is as it was."""
        self._words[pace.LEAVES_CS], self._words[pace.LEAVES_SS] = code, stack

    def undo_syscall(self) -> None:
        """In `on_syscall`: it raises an exception instead. RIP is on it again, RCX and R11 are what they were."""
        state, words = self.state, self._words
        state[RIP] = words[pace.SYSCALL_RIP]
        state[cs.RCX], state[cs.R11] = words[pace.SYSCALL_RCX], words[pace.SYSCALL_R11]

    def on_exit(self, code: int, handler: Handler) -> None:
        """A handler for any other #VMEXIT code (see svm.py); `state[INTERCEPT]` makes it happen."""
        self._exits.table[svm.EXIT_BASE + code] = handler

    def on_address(self, va: int, handler: Handler) -> None:
        """Call `handler` before the instruction at `va`, wherever that is mapped: to look, not to change anything.

        It is no exit, and costs nothing elsewhere. The instruction must begin its block (be called or jumped to)."""
        words = self._words

        def here() -> None:
            words[pace.IN_PYTHON] += 1
            try:
                handler()
            except BaseException as failure:
                self._exits.fail(failure)
            words[pace.IN_PYTHON] -= 1

        self._engine.add_hook(uc.HOOK_CODE, CFUNCTYPE(None)(here), begin=va, end=va)

    has_user_tables: Final = seam.present
    """Whether users, at CPL 3, can have page tables of their own beside CR3's."""

    def contain(self) -> None:
        """Look at every exit whether the guest is where it can be (guard.py): for paravirtual guests."""
        self._guard = Guard(self)

    def keep_kernel_cpl(self) -> None:
        """A guest kernel that the stock engine has at CPL 1 stays there, though its own iretq may say otherwise (which
        no exit tells)."""
        self._words[pace.KEEPS_CPL] = not seam.present

    # ---- breakpoints: for a hypervisor that does some of a deprivileged kernel's instructions itself ---

    def on_translated(self, handler: Callable[[int, int], object]) -> None:
        """Call `handler` with the address and bytes of each block that the engine translates, before it is run.

        No guest code may be forgotten there; `pause` lets `on_break` do so before anything else is executed."""

        words = self._words

        def translated(_engine: object, block: int, _before: object, _data: object) -> None:
            words[pace.IN_PYTHON] += 1
            try:
                made = (c_uint64 * 2).from_address(block)
                handler(made[0], made[1] >> 16 & 0xFFFF)  # struct uc_tb: pc; icount, size
            except BaseException as failure:
                self._exits.fail(failure)
            words[pace.IN_PYTHON] -= 1

        kind = CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
        self._engine.add_hook(uc.HOOK_EDGE_GENERATED, kind(translated))

    def break_at(self, va: int, user: bool = False) -> None:
        """Stop before the instruction at `va` whenever that is reached at CPL 1 (`user`: CPL 3), and call `on_break`,
        which does it and leaves RIP where the guest goes on. Code translated before keeps what it has until it is
        forgotten. Needs `block_stops`."""
        self._pacer.break_at(va, 3 if user else 1)

    def pause(self) -> None:
        """Have `on_break` called before the next block is run."""
        self._words[pace.BROKEN] = pace.IS_BROKEN
        self._words[pace.LIMIT] = 0

    def pass_once(self) -> None:
        """In `on_break`: let the guest execute the instruction at RIP itself this time."""
        self._words[pace.BROKEN] = self.state[RIP]

    # ---- running ---------------------------------------------------------------------------------

    def interrupt_window(self, wanted: bool) -> None:
        """Have runs end where the guest could take an interrupt: RFLAGS.IF set, not right behind STI or MOV SS.

        Needs a pCPU whose pacer stops it (virtual clock, or `block_stops`)."""
        self._words[pace.WINDOW] = wanted
        if wanted:
            self._words[pace.LIMIT] = 0

    def run(self, budget: int | None = None) -> None:
        """Run guest code until `stop`, a handler's exception, or `budget` instructions (virtual clock).

        A budget ends at the first block boundary where it is used up: at most 511 instructions
        late, and always at the same one.
        """
        words = self._words
        if budget is not None and not self.virtual:
            raise ValueError("a budget of instructions needs the virtual clock")
        if words[pace.BLOCKS] > MOST_BLOCKS and not seam.present:
            self.forget_blocks()
        # The limit first, then the loop's look at STOP: `stop` writes them in the other order.
        goal = pace.NO_LIMIT if budget is None else words[pace.EXECUTED] + budget
        words[pace.GOAL] = goal
        words[pace.LIMIT] = 0 if words[pace.WINDOW] or words[pace.STEP] else goal
        words[pace.LAST] = 0
        state, aux, start = self.state, self.aux, self._start
        context, exits, guard = self._context, self._exits, self._guard
        begin, end = self._pacer.begin, self._pacer.end
        self._runner = threading.get_ident()
        self._running = True
        try:
            while not words[pace.STOP]:
                # A fetch that faults while the engine is about to stop is told to nobody, and comes again.
                aux[cs.OLD_EXCEPTION] = 0xFFFF_FFFF
                if state[EFLAGS] & cs.RF and not state[cs.DR7] & _ARMED:
                    state[EFLAGS] ^= cs.RF  # as where a run goes on: it says nothing, and would cost a block of its own
                if guard is None:
                    words[pace.ENTERED_MODE] = 0
                else:
                    begin()
                if words[pace.FLUSH]:
                    words[pace.FLUSH] = 0
                    self.flush_tlb()
                if context is not None:
                    context.restore()
                error = start(state[RIP])
                if error == seam.DIED:
                    raise self._died(state[RIP])
                if context is not None:
                    context.save()
                failure = exits.failure
                exits.failure = None
                if guard is not None and end():
                    failure = guard.found()
                    self._reset_to(self.save())
                if failure is not None:
                    raise failure
                if error:
                    raise uc.EngineError(f"the engine gave up at RIP {state[RIP]:#x}", error)
                if words[pace.BROKEN] == pace.IS_BROKEN:
                    words[pace.BROKEN] = 0
                    words[pace.LIMIT] = 0 if words[pace.WINDOW] or words[pace.STOP] else goal
                    self.on_break()
                    continue
                if self.virtual and words[pace.EXECUTED] >= goal:
                    break
                # Else a kick meant for the run before came late: go on.
        finally:
            self._running = False
            words[pace.STOP] = 0
            if self._ticker is not None:
                self._ticker.disarm()

    def run_wall(
        self, deadline_ns: int, budget: int | None = None, tick: Callable[[], int | None] | None = None
    ) -> None:
        """`run`, but stopped when time.monotonic_ns() reaches `deadline_ns`.

        Before it is, `tick` is asked, on a thread of its own while guest code goes on: it may name a later deadline.
        """
        assert self._ticker is not None
        self._tick = tick
        self._ticker.arm(deadline_ns)
        self.run(budget)

    def stop(self) -> None:
        """End the run (or, between runs, the next one at once) at a block boundary.  Any thread may."""
        words = self._words
        words[pace.STOP] = 1
        words[pace.LIMIT] = 0
        if self.engine_stops and self._running:
            uc.uc_emu_stop(self._handle)
            # The stock engine forgets a stop that comes while it starts up: the ticker repeats ours.
            if not seam.present and self._ticker is not None and threading.get_ident() != self._runner:
                self._ticker.arm_by(time.monotonic_ns() + 200_000)

    def _end_run(self) -> None:
        words = self._words
        words[pace.STOP] = 1
        words[pace.LIMIT] = 0
        if self.engine_stops:
            uc.uc_emu_stop(self._handle)

    def _kick(self) -> int | None:
        if not self._running:
            return None
        tick, words = self._tick, self._words
        later = tick() if tick is not None and not words[pace.STOP] else None
        if later is None:
            self._end_run()
        return later

    @property
    def stop_pending(self) -> bool:
        return bool(self._words[pace.STOP])

    @property
    def executed(self) -> int:
        """Guest instructions executed so far, exact at every exit (virtual clock; else 0)."""
        return self._words[pace.EXECUTED]

    @property
    def executed_user(self) -> int:
        """Those of them that users executed, at CPL 3, if the pCPU counts by mode."""
        return self._words[pace.EXECUTED_USER]

    # ---- time ------------------------------------------------------------------------------------

    @property
    def tsc_khz(self) -> int:
        """The frequency of what a native rdtsc reads, as measured in the engine."""
        return proof.tsc_khz(self)

    def read_tsc(self) -> int:
        """The counter that the guest's rdtsc reads, now."""
        return self._tsc() or time.monotonic_ns()

    # ---- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the engine back.  `state` must not be touched afterwards."""
        ticker: Ticker | None = self.__dict__.get("_ticker")
        if ticker is not None:
            ticker.close()
        self._engine.close()

    def __del__(self) -> None:
        if "_engine" in self.__dict__ and threading is not None:
            self.close()
