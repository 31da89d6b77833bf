# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypercalls that a PV guest is refused: those for dom0, for other kinds of guests, and removed ones.

dom0's toolstack is part of pvhv and calls Python methods with the same checks. So domctl, sysctl and platform_op as
hypercalls always have a caller without privilege. They still make the checks that Xen makes first: the argument can be
read, it has the right interface version, and others that depend on the command.

Not modelled: everything these calls do for a privileged caller.

Read beside it: xen/include/public/domctl.h, sysctl.h, platform.h; xen/include/xsm/dummy.h for who may do
what.
"""

from __future__ import annotations

from pvhv.abi import xen
from pvhv.abi.errno import Errno
from pvhv.abi.layout import char, cstruct, cunion, int32_t, record, uint16_t, uint32_t, uint64_t
from pvhv.abi.spec import Arg, Command, Commands, Hypercall

XEN_DOMCTL_INTERFACE_VERSION = 0x15
XEN_SYSCTL_INTERFACE_VERSION = 0x15
XENPF_INTERFACE_VERSION = 0x0300_0001

# The domctls that name no domain, or may name none, and those that look at more before they refuse.
XEN_DOMCTL_createdomain = 1
XEN_DOMCTL_getdomaininfo = 5
XEN_DOMCTL_shadow_op = 10
XEN_DOMCTL_irq_permission = 19
XEN_DOMCTL_iomem_permission = 20
XEN_DOMCTL_ioport_permission = 21
XEN_DOMCTL_assign_device = 37
XEN_DOMCTL_bind_pt_irq = 38
XEN_DOMCTL_memory_mapping = 39
XEN_DOMCTL_ioport_mapping = 40
XEN_DOMCTL_test_assign_device = 45
XEN_DOMCTL_set_target = 46
XEN_DOMCTL_deassign_device = 47
XEN_DOMCTL_unbind_pt_irq = 48
XEN_DOMCTL_get_device_group = 50
XEN_DOMCTL_vm_event_op = 56

XEN_VM_EVENT_GET_VERSION = 3
VM_EVENT_INTERFACE_VERSION = 7

XENOPROF_init = 0
XENOPROF_reset_active_list = 1
XENOPROF_reset_passive_list = 2
XENOPROF_set_active = 3
XENOPROF_set_passive = 4
XENOPROF_reserve_counters = 5
XENOPROF_counter = 6
XENOPROF_setup_events = 7
XENOPROF_enable_virq = 8
XENOPROF_start = 9
XENOPROF_stop = 10
XENOPROF_disable_virq = 11
XENOPROF_release_counters = 12
XENOPROF_shutdown = 13
XENOPROF_get_buffer = 14
XENOPROF_set_backtrace = 15
XENOPROF_get_ibs_caps = 16
XENOPROF_ibs_counter = 17

# Their heads are all a refusal needs; the rest of each is a union of 128 bytes, aligned as its 64-bit
# members.
xen_domctl = cstruct(
    "xen_domctl",
    "cmd" / uint32_t,
    "interface_version" / uint32_t,
    "domain" / xen.domid_t,
    "_pad" / uint16_t[3],
    "u" / cunion(None, "pad" / uint64_t[16]),
)
XenDomctl = record(xen_domctl)

xen_sysctl = cstruct(
    "xen_sysctl", "cmd" / uint32_t, "interface_version" / uint32_t, "u" / cunion(None, "pad" / uint64_t[16]))
XenSysctl = record(xen_sysctl)

xen_platform_op = cstruct(
    "xen_platform_op",
    "cmd" / uint32_t,
    "interface_version" / uint32_t,
    "u" / cunion(None, "pad" / uint64_t[16]),
)
XenPlatformOp = record(xen_platform_op)

xenoprof_init = cstruct(
    "xenoprof_init", "num_events" / int32_t, "is_primary" / int32_t, "cpu_type" / char[64], typedef=None)
XenoprofInit = record(xenoprof_init)

_EFAULT = {Errno.EFAULT: "the argument cannot be read"}
_ONLY_DOM0 = {Errno.EPERM: "only the control domain may"}

DOMCTL = Hypercall(
    xen.HYPERVISOR_domctl, "domctl", (Arg("op", "xen_domctl_t *", role="arg"),),
    arg=XenDomctl, direction="in", refusal=Errno.EPERM, refused_by_handler=True,
    doc="Create, pause, describe and destroy domains. Anybody may ask for one thing: the version of vm_event_op.",
    errors={
        **_EFAULT,
        Errno.EACCES: f"`interface_version` is not {XEN_DOMCTL_INTERFACE_VERSION:#x}",
        Errno.ESRCH: "`domain` names no domain, and `cmd` is not one that needs none; or set_target's other one",
        Errno.EINVAL: "a range that wraps, is empty or goes too far (I/O ports and memory, interrupts); a PV domain's "
                      "interrupts; `set_target` of oneself; getdomaininfo from beyond the ids domains have",
        Errno.EOPNOTSUPP: "ports of a PV domain, devices' groups without an IOMMU, a target that is PV",
        **_ONLY_DOM0,
    },
    test="tests/core/test_control.py",
)

SYSCTL = Hypercall(
    xen.HYPERVISOR_sysctl, "sysctl", (Arg("op", "xen_sysctl_t *", role="arg"),),
    arg=XenSysctl, direction="in", refusal=Errno.EPERM, refused_by_handler=True,
    doc="Ask about and tune the machine.",
    errors={
        **_EFAULT,
        Errno.EACCES: f"`interface_version` is not {XEN_SYSCTL_INTERFACE_VERSION:#x}",
        **_ONLY_DOM0,
    },
    test="tests/core/test_control.py",
)

PLATFORM_OP = Hypercall(
    xen.HYPERVISOR_platform_op, "platform_op", (Arg("op", "xen_platform_op_t *", role="arg"),),
    arg=XenPlatformOp, direction="in", refusal=Errno.EPERM, refused_by_handler=True,
    doc="Firmware, microcode, processors and clock of the machine.",
    errors={
        **_EFAULT,
        Errno.EACCES: f"`interface_version` is not {XENPF_INTERFACE_VERSION:#x}",
        **_ONLY_DOM0,
    },
    test="tests/core/test_control.py",
)

XSM_OP = Hypercall(
    xen.HYPERVISOR_xsm_op, "xsm_op", (Arg("op", "void *"),),
    doc="Call the security module.", status="there is no security module; Xen built without one answers "
                                            "the same")

_ONLY_PRIMARY = {Errno.EPERM: "only the profiling domain may; the hardware domain becomes that by `init`"}


def _xenoprof(number: int, name: str, doc: str) -> Command:
    return Command(name, number, refusal=Errno.EPERM, doc=doc, errors=_ONLY_PRIMARY)


XENOPROF = Commands(
    "XENOPROF",
    Command("init", XENOPROF_init, XenoprofInit, "inout", refusal=Errno.ENODEV, reads_first=True,
            out=("num_events", "is_primary", "cpu_type"), doc="Begin to profile; answers what can be counted.",
            errors={Errno.ENODEV: "there are no performance counters"}),
    _xenoprof(XENOPROF_reset_active_list, "reset_active_list", "Empty the list of active domains."),
    _xenoprof(XENOPROF_reset_passive_list, "reset_passive_list", "Empty the list of passive domains."),
    _xenoprof(XENOPROF_set_active, "set_active", "Profile an active domain: one that collects its own samples."),
    _xenoprof(XENOPROF_set_passive, "set_passive", "Profile a passive domain: one that takes no part in it."),
    _xenoprof(XENOPROF_reserve_counters, "reserve_counters", "Reserve the counters."),
    _xenoprof(XENOPROF_counter, "counter", "Set up one counter."),
    _xenoprof(XENOPROF_setup_events, "setup_events", "Write the counters' settings to the processor."),
    _xenoprof(XENOPROF_enable_virq, "enable_virq", "Get VIRQ_XENOPROF for new samples."),
    _xenoprof(XENOPROF_start, "start", "Start the counters."),
    _xenoprof(XENOPROF_stop, "stop", "Stop the counters."),
    _xenoprof(XENOPROF_disable_virq, "disable_virq", "Get VIRQ_XENOPROF no longer."),
    _xenoprof(XENOPROF_release_counters, "release_counters", "Release the counters."),
    _xenoprof(XENOPROF_shutdown, "shutdown", "End the profile."),
    Command("get_buffer", XENOPROF_get_buffer, refusal=Errno.EBUSY,
            doc="Share the pages that samples are written to.",
            errors={Errno.EBUSY: "the counters are in use, by Xen's own watchdog for example"}),
    _xenoprof(XENOPROF_set_backtrace, "set_backtrace", "Set the depth of the call chain in a sample."),
    _xenoprof(XENOPROF_get_ibs_caps, "get_ibs_caps", "The features of AMD's instruction-based sampling."),
    _xenoprof(XENOPROF_ibs_counter, "ibs_counter", "Set up instruction-based sampling."),
)

XENOPROF_OP = Hypercall(
    xen.HYPERVISOR_xenoprof_op, "xenoprof_op", (Arg("op", "int", role="cmd"), Arg("arg", "void *", role="arg")),
    XENOPROF,
    doc="Profile by performance counters, of which the engine has none.",
    errors={Errno.EFAULT: "`arg` cannot be read or written", Errno.EINVAL: "`op` is not one of these"},
    test="guest_kernel/tests/refusals/refusals.c",
)

KEXEC_OP = Hypercall(
    xen.HYPERVISOR_kexec_op, "kexec_op", (Arg("op", "unsigned long"), Arg("arg", "void *")),
    refusal=Errno.EPERM, errors=_ONLY_DOM0,
    doc="Load and start another kernel in the hypervisor's place.")

TMEM_OP = Hypercall(
    xen.HYPERVISOR_tmem_op, "tmem_op", (Arg("ops", "void *"),),
    doc="Transcendent memory.", status="Xen 4.17 has dropped it; only the number is left")

ARGO_OP = Hypercall(
    xen.HYPERVISOR_argo_op, "argo_op",
    (
        Arg("cmd", "unsigned int"),
        Arg("arg1", "void *"),
        Arg("arg2", "void *"),
        Arg("arg3", "unsigned long"),
        Arg("arg4", "unsigned long"),
    ),
    doc="Messages between domains.", status="not modelled; a default build of Xen has it off, too")

XENPMU_OP = Hypercall(
    xen.HYPERVISOR_xenpmu_op, "xenpmu_op", (Arg("op", "unsigned int"), Arg("arg", "xen_pmu_params_t *")),
    refusal=Errno.EOPNOTSUPP,
    errors={Errno.EOPNOTSUPP: "virtual performance counters are off, as they are in Xen unless asked for"},
    doc="Virtual performance counters.")

HYPFS_OP = Hypercall(
    xen.HYPERVISOR_hypfs_op, "hypfs_op",
    (
        Arg("cmd", "unsigned int"),
        Arg("arg1", "const char *"),
        Arg("arg2", "unsigned long"),
        Arg("arg3", "void *"),
        Arg("arg4", "unsigned long"),
    ),
    refusal=Errno.EPERM, errors=_ONLY_DOM0,
    doc="The hypervisor's parameters as a tree of files.")

MCA = Hypercall(
    xen.HYPERVISOR_arch_0, "arch_0", (Arg("op", "xen_mc_t *"),), refusal=Errno.EPERM, errors=_ONLY_DOM0,
    doc="Machine check: fetch what the hardware reported (do_mca).")

PAGING_DOMCTL_CONT = Hypercall(
    xen.HYPERVISOR_arch_1, "arch_1", (Arg("op", "xen_domctl_t *", role="arg"),),
    arg=XenDomctl, direction="inout", out=("u",), refusal=Errno.EPERM, refused_by_handler=True,
    doc="How Xen continues a long shadow_op domctl (do_paging_domctl_cont); no guest calls it.",
    errors={
        **_EFAULT,
        Errno.EOPNOTSUPP: f"`interface_version` is not {XEN_DOMCTL_INTERFACE_VERSION:#x}, or `cmd` not shadow_op",
        Errno.ESRCH: "`domain` names no domain",
        Errno.EPERM: "only the control domain may; the union is written back, and EFAULT if it cannot be",
    },
    test="guest_kernel/tests/refusals/refusals.c",
)


def _unassigned(number: int) -> Hypercall:
    return Hypercall(number, f"arch_{number - xen.HYPERVISOR_arch_0}", doc="Set aside for the architecture.",
                     status="x86 gives it no meaning, and Xen answers the same")


ARCH_2 = _unassigned(xen.HYPERVISOR_arch_2)
ARCH_3 = _unassigned(xen.HYPERVISOR_arch_3)
ARCH_4 = _unassigned(xen.HYPERVISOR_arch_4)
ARCH_5 = _unassigned(xen.HYPERVISOR_arch_5)
ARCH_6 = _unassigned(xen.HYPERVISOR_arch_6)
ARCH_7 = _unassigned(xen.HYPERVISOR_arch_7)
