# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypercalls a PV guest is refused: dom0's, other kinds of guests', and those that came and went.

dom0's toolstack is part of pvhv and asks the core by Python calls with the same checks, so domctl, sysctl and
platform_op as hypercalls only ever meet a caller that may not.  They still look at what Xen looks at first:
that their argument can be read and speaks the interface version they know.

Not modelled: everything these calls do for a privileged caller.

Read beside it: xen/include/public/domctl.h, sysctl.h, platform.h; xen/include/xsm/dummy.h for who may do
what.
"""

from __future__ import annotations

from pvhv.abi import xen
from pvhv.abi.errno import Errno
from pvhv.abi.layout import cstruct, cunion, record, uint16_t, uint32_t, uint64_t
from pvhv.abi.spec import Arg, Hypercall

XEN_DOMCTL_INTERFACE_VERSION = 0x15
XEN_SYSCTL_INTERFACE_VERSION = 0x15
XENPF_INTERFACE_VERSION = 0x0300_0001

# The two domctls that name no domain, or may name none.
XEN_DOMCTL_createdomain = 1
XEN_DOMCTL_getdomaininfo = 5

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

_EFAULT = {Errno.EFAULT: "the argument cannot be read"}
_ONLY_DOM0 = {Errno.EPERM: "only the control domain may"}

DOMCTL = Hypercall(
    xen.HYPERVISOR_domctl, "domctl", (Arg("op", "xen_domctl_t *", role="arg"),),
    arg=XenDomctl, direction="in", refusal=Errno.EPERM, refused_by_handler=True,
    doc="Create, pause, describe and destroy domains.",
    errors={
        **_EFAULT,
        Errno.EACCES: f"`interface_version` is not {XEN_DOMCTL_INTERFACE_VERSION:#x}",
        Errno.ESRCH: "`domain` names no domain, and `cmd` is not one that needs none",
        Errno.EINVAL: "`cmd` is getdomaininfo and `domain` is beyond the ids domains have",
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
    doc="Talk to the security module.", status="there is no security module; Xen built without one answers "
                                            "the same")

XENOPROF_OP = Hypercall(
    xen.HYPERVISOR_xenoprof_op, "xenoprof_op", (Arg("op", "int"), Arg("arg", "void *")),
    doc="Profile by performance counters.", status="the engine has no performance counters")

HVM_OP = Hypercall(
    xen.HYPERVISOR_hvm_op, "hvm_op", (Arg("op", "unsigned long"), Arg("arg", "void *")),
    doc="Parameters and events of HVM guests.", status="for HVM guests; PV guests have start_info")

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

DM_OP = Hypercall(
    xen.HYPERVISOR_dm_op, "dm_op",
    (Arg("domid", "domid_t"), Arg("nr_bufs", "unsigned int"), Arg("bufs", "xen_dm_op_buf_t *")),
    doc="A device model's work for an HVM guest.", status="needs HVM guests")

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
    arg=XenDomctl, direction="in",
    doc="How Xen continues a long shadow_op domctl (do_paging_domctl_cont); no guest calls it.",
    status="no domctl is continued this way; Xen answers -EOPNOTSUPP or -EPERM")


def _unassigned(number: int) -> Hypercall:
    return Hypercall(number, f"arch_{number - xen.HYPERVISOR_arch_0}", doc="Set aside for the architecture.",
                     status="x86 gives it no meaning, and Xen answers the same")


ARCH_2 = _unassigned(xen.HYPERVISOR_arch_2)
ARCH_3 = _unassigned(xen.HYPERVISOR_arch_3)
ARCH_4 = _unassigned(xen.HYPERVISOR_arch_4)
ARCH_5 = _unassigned(xen.HYPERVISOR_arch_5)
ARCH_6 = _unassigned(xen.HYPERVISOR_arch_6)
ARCH_7 = _unassigned(xen.HYPERVISOR_arch_7)
