# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypercalls of xen.h that replace privileged instructions, and a few that fit nowhere else.

Traps, stack, FPU, debug registers, segment bases and iret replace what a kernel on the bare processor does with an
instruction; multicall, vm_assist and console_io have no such counterpart.

Structures and constants are in :mod:`pvhv.abi.xen` and :mod:`pvhv.abi.arch_x86`.
Read beside it: xen/arch/x86/pv/misc-hypercalls.c, iret.c, callback.c; xen/common/multicall.c.
"""

from __future__ import annotations

from pvhv.abi import arch_x86, xen
from pvhv.abi.errno import Errno
from pvhv.abi.spec import Arg, Command, Commands, Hypercall

SET_TRAP_TABLE = Hypercall(
    xen.HYPERVISOR_set_trap_table, "set_trap_table",
    (Arg("traps", "const trap_info_t *", role="arg"),),
    arg=arch_x86.TrapInfo, direction="in",
    doc="Set entries of the calling vCPU's virtual IDT, from a list that ends with an address of 0. NULL "
        "clears the whole table.",
    errors={
        Errno.EFAULT: "an entry cannot be read",
        Errno.EINVAL: "an address is not canonical; the entries before it are set",
    },
    test="guest_kernel/tests/trap-gates/trap-gates.c",
)

STACK_SWITCH = Hypercall(
    xen.HYPERVISOR_stack_switch, "stack_switch", (Arg("ss", "unsigned long"), Arg("esp", "unsigned long")),
    doc="Set the stack on which the hypervisor enters the guest's kernel from user code.",
    test="guest_kernel/tests/stack-switch/stack-switch.c",
)

FPU_TASKSWITCH = Hypercall(
    xen.HYPERVISOR_fpu_taskswitch, "fpu_taskswitch", (Arg("set", "int"),),
    doc="Set or clear CR0.TS: with it set, the next FPU or SSE instruction raises #NM, so that a kernel can "
        "switch FPU state only when it is used. Delivering that #NM clears it.",
    test="guest_kernel/tests/fpu-taskswitch/fpu-taskswitch.c",
)

_DR = "`reg` is above 7, or 4 or 5 with debugging extensions (CR4.DE) on"

SET_DEBUGREG = Hypercall(
    xen.HYPERVISOR_set_debugreg, "set_debugreg", (Arg("reg", "int"), Arg("value", "unsigned long")),
    doc="Set a debug register of the calling vCPU.",
    errors={
        Errno.ENODEV: _DR,
        Errno.EPERM: "a breakpoint is in the hypervisor's part of the address space; or DR7 asks for "
                     "general detect, or for an I/O breakpoint with CR4.DE off",
        Errno.EINVAL: "DR6 or DR7 with a bit above 31 set",
    },
    test="guest_kernel/tests/debugreg/debugreg.c",
)

GET_DEBUGREG = Hypercall(
    xen.HYPERVISOR_get_debugreg, "get_debugreg", (Arg("reg", "int"),), returns="the register's value",
    doc="Read a debug register of the calling vCPU.",
    errors={Errno.ENODEV: _DR},
    test="guest_kernel/tests/debugreg/debugreg.c",
)

MULTICALL = Hypercall(
    xen.HYPERVISOR_multicall, "multicall",
    (Arg("call_list", "multicall_entry_t *", role="arg"), Arg("nr_calls", "unsigned int", role="count")),
    arg=xen.MulticallEntry, direction="inout", out=("result",), batch=True,
    doc="Make a list of hypercalls, each answered in its own `result`; one that fails does not stop the "
        "others. An unknown `op` is answered with -ENOSYS there. Events wait until the whole list is done.",
    errors={
        Errno.EFAULT: "an entry cannot be read, or its result not be written; those before it are done",
        Errno.EINVAL: "a multicall inside a multicall (it is that entry's result)",
    },
    test="guest_kernel/tests/multicall/multicall.c",
)

SET_SEGMENT_BASE = Hypercall(
    xen.HYPERVISOR_set_segment_base, "set_segment_base",
    (Arg("which", "unsigned int", "SEGBASE_*"), Arg("base", "unsigned long")),
    doc="Set the base of FS, of the user's GS or the kernel's GS; or load the user's GS with a selector, "
        "which becomes null where it names no segment that can be loaded.",
    errors={Errno.EINVAL: "`which` is above 3, or `base` is not canonical"},
    test="guest_kernel/tests/segment-base/segment-base.c",
)

IRET = Hypercall(
    xen.HYPERVISOR_iret, "iret", returns="rax of the frame; it returns where the frame says",
    doc="Return from an event or trap by the iret_context on top of the stack. Kernel or user mode is "
        "chosen by the privilege level in the frame's CS: 3 is user. IF in its flags unmasks events; "
        "VGCF_in_syscall leaves rip and rflags in rcx and r11. A frame that cannot be read, or user mode without "
        "user page tables, crashes the domain.",
    test="guest_kernel/tests/iret/iret.c",
)

VM_ASSIST = Hypercall(
    xen.HYPERVISOR_vm_assist, "vm_assist",
    (Arg("cmd", "unsigned int", "VMASST_CMD_*", role="cmd"), Arg("type", "unsigned int", "VMASST_TYPE_*")),
    doc="Switch one of the hypervisor's assists on or off: writable_pagetables (stores to L1 page "
        "tables are checked and carried out), architectural_iopl (IOPL is taken from the flags of iret), "
        "runstate_update_flag, m2p_strict (the M2P is in all L4s from the beginning but those that users run on; "
        "else it comes to an L4 when a kernel runs on it), and some that mean nothing to 64-bit guests.",
    errors={
        Errno.EINVAL: "`type` is not an assist (checked before `cmd`)",
        Errno.ENOSYS: "`cmd` neither enables nor disables",
    },
    test="guest_kernel/tests/vm-assist/vm-assist.c",
)

CONSOLEIO = Commands(
    "CONSOLEIO",
    Command("write", xen.CONSOLEIO_write, doc="Write `count` characters to the hypervisor's console, line "
                                              "by line and without what cannot be printed.",
            errors={Errno.EFAULT: "the characters cannot be read"}),
    Command("read", xen.CONSOLEIO_read, refusal=Errno.EPERM, doc="Read what was typed at the hypervisor's "
                                                                 "console.",
            errors={Errno.EPERM: "only the domain that owns the console may"}),
)

CONSOLE_IO = Hypercall(
    xen.HYPERVISOR_console_io, "console_io",
    (
        Arg("cmd", "unsigned int", role="cmd"),
        Arg("count", "unsigned int", role="count"),
        Arg("buffer", "char *", role="arg"),
    ),
    CONSOLEIO,
    doc="The console of a kernel that has none yet. Any guest may write, as with a debug build of Xen; a "
        "release build answers -EPERM to all but dom0.",
    errors={Errno.EPERM: "`cmd` is not a write (checked before anything else)"},
    test="guest_kernel/tests/console-io/console-io.c",
)
