# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's entry points: for events, a failed return, system calls and NMIs.

Every vCPU has its own entry points.  CALLBACKF_mask_events masks events on entry, as an interrupt gate does; at the
entry points for events and NMIs they are always masked.

Read beside it: xen/include/public/callback.h and nmi.h, xen/arch/x86/pv/callback.c.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import xen_callback_t
from pvhv.abi.errno import Errno
from pvhv.abi.layout import c_ulong, cstruct, record, uint16_t
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_callback_op, HYPERVISOR_nmi_op, HYPERVISOR_set_callbacks

CALLBACKTYPE_event = 0
CALLBACKTYPE_failsafe = 1
CALLBACKTYPE_syscall = 2
CALLBACKTYPE_sysenter_deprecated = 3
CALLBACKTYPE_nmi = 4
CALLBACKTYPE_sysenter = 5
CALLBACKTYPE_syscall32 = 7

CALLBACKF_mask_events = 1 << 0

CALLBACKOP_register = 0
CALLBACKOP_unregister = 1

XEN_NMIREASON_io_error = 1 << 0
XEN_NMIREASON_pci_serr = 1 << 1
XEN_NMIREASON_unknown = 1 << 2

XENNMI_register_callback = 0
XENNMI_unregister_callback = 1

callback_register = cstruct(
    "callback_register", "type" / uint16_t, "flags" / uint16_t, "address" / xen_callback_t)
CallbackRegister = record(callback_register)

callback_unregister = cstruct("callback_unregister", "type" / uint16_t, "_unused" / uint16_t)
CallbackUnregister = record(callback_unregister)

xennmi_callback = cstruct("xennmi_callback", "handler_address" / c_ulong, "pad" / c_ulong)
XennmiCallback = record(xennmi_callback)

CALLBACKOP = Commands(
    "CALLBACKOP",
    Command(
        "register", CALLBACKOP_register, CallbackRegister, "in",
        doc="Set one of the calling vCPU's entry points.",
        errors={
            Errno.EINVAL: "`address` is not canonical",
            Errno.ENOSYS: "`type` is not a CALLBACKTYPE_*, or is sysenter_deprecated",
        },
    ),
    Command(
        "unregister", CALLBACKOP_unregister, CallbackUnregister, "in",
        doc="Take one back, which only the NMI's can be.",
        errors={
            Errno.EINVAL: "`type` is one of the others",
            Errno.ENOSYS: "`type` is not a CALLBACKTYPE_*, or is sysenter_deprecated",
        },
    ),
)

CALLBACK_OP = Hypercall(
    HYPERVISOR_callback_op, "callback_op",
    (Arg("cmd", "int", role="cmd"), Arg("arg", "const void *", role="arg")),
    CALLBACKOP,
    doc="Choose where the hypervisor enters the guest.",
    errors={Errno.EFAULT: "`arg` cannot be read", Errno.ENOSYS: "`cmd` is not one of these"},
    test="guest_kernel/tests/callbacks/callbacks.c",
)

SET_CALLBACKS = Hypercall(
    HYPERVISOR_set_callbacks, "set_callbacks",
    (
        Arg("event_address", "unsigned long"),
        Arg("failsafe_address", "unsigned long"),
        Arg("syscall_address", "unsigned long"),
    ),
    doc="The three entry points in one call, as before callback_op. An address that is not canonical is "
        "skipped, without an error.",
    test="guest_kernel/tests/callbacks/callbacks.c",
)

XENNMI = Commands(
    "XENNMI",
    Command(
        "register_callback", XENNMI_register_callback, XennmiCallback, "in",
        doc="Set the calling vCPU's NMI entry point, as callback_op does.",
        errors={Errno.EINVAL: "`handler_address` is not canonical", Errno.EFAULT: "`arg` cannot be read"},
    ),
    Command(
        "unregister_callback", XENNMI_unregister_callback,
        doc="Remove the calling vCPU's NMI entry point. `arg` is not looked at.",
    ),
)

NMI_OP = Hypercall(
    HYPERVISOR_nmi_op, "nmi_op",
    (Arg("cmd", "unsigned int", role="cmd"), Arg("arg", "void *", role="arg")),
    XENNMI,
    doc="Choose where the hypervisor enters the guest on an NMI.",
    errors={Errno.ENOSYS: "`cmd` is not one of these"},
    test="tests/core/test_fuzz_hypercalls.py",
)
