# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical devices. A guest here has none, so only its virtual I/O privilege is left.

An unprivileged PV guest may set its IOPL and I/O bitmap (they decide whether its user code's I/O instructions reach the
hypervisor or fault into the guest's kernel), reserve numbers for interrupts, which never come, and share a page for
end-of-interrupt bits, which is never written. The other commands are for dom0.

Read beside it: xen/include/public/physdev.h, xen/arch/x86/physdev.c.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import xen_pfn_t
from pvhv.abi.errno import Errno
from pvhv.abi.layout import (
    c_int,
    c_ulong,
    cstruct,
    cunion,
    handle,
    record,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_physdev_op, HYPERVISOR_physdev_op_compat, domid_t

PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4
PHYSDEVOP_irq_status_query = 5
PHYSDEVOP_set_iopl = 6
PHYSDEVOP_set_iobitmap = 7
PHYSDEVOP_apic_read = 8
PHYSDEVOP_apic_write = 9
PHYSDEVOP_alloc_irq_vector = 10
PHYSDEVOP_free_irq_vector = 11
PHYSDEVOP_eoi = 12
PHYSDEVOP_map_pirq = 13
PHYSDEVOP_unmap_pirq = 14
PHYSDEVOP_manage_pci_add = 15
PHYSDEVOP_manage_pci_remove = 16
PHYSDEVOP_pirq_eoi_gmfn_v1 = 17
PHYSDEVOP_restore_msi = 19
PHYSDEVOP_manage_pci_add_ext = 20
PHYSDEVOP_setup_gsi = 21
PHYSDEVOP_get_free_pirq = 23
PHYSDEVOP_pci_mmcfg_reserved = 24
PHYSDEVOP_pci_device_add = 25
PHYSDEVOP_pci_device_remove = 26
PHYSDEVOP_restore_msi_ext = 27
PHYSDEVOP_pirq_eoi_gmfn_v2 = 28
PHYSDEVOP_dbgp_op = 29
PHYSDEVOP_prepare_msix = 30
PHYSDEVOP_release_msix = 31
PHYSDEVOP_pirq_eoi_gmfn = PHYSDEVOP_pirq_eoi_gmfn_v2

XENIRQSTAT_needs_eoi = 1 << 0
XENIRQSTAT_shared = 1 << 1

MAP_PIRQ_TYPE_MSI = 0
MAP_PIRQ_TYPE_GSI = 1
MAP_PIRQ_TYPE_UNKNOWN = 2
MAP_PIRQ_TYPE_MSI_SEG = 3
MAP_PIRQ_TYPE_MULTI_MSI = 4

XEN_PCI_MMCFG_RESERVED = 1
XEN_PCI_DEV_EXTFN = 1
XEN_PCI_DEV_VIRTFN = 2
XEN_PCI_DEV_PXM = 4

PHYSDEVOP_DBGP_RESET_PREPARE = 1
PHYSDEVOP_DBGP_RESET_DONE = 2
PHYSDEVOP_DBGP_BUS_UNKNOWN = 0
PHYSDEVOP_DBGP_BUS_PCI = 1

physdev_eoi = cstruct("physdev_eoi", "irq" / uint32_t)
PhysdevEoi = record(physdev_eoi)

physdev_pirq_eoi_gmfn = cstruct("physdev_pirq_eoi_gmfn", "gmfn" / xen_pfn_t)
PhysdevPirqEoiGmfn = record(physdev_pirq_eoi_gmfn)

physdev_irq_status_query = cstruct("physdev_irq_status_query", "irq" / uint32_t, "flags" / uint32_t)
PhysdevIrqStatusQuery = record(physdev_irq_status_query)

physdev_set_iopl = cstruct("physdev_set_iopl", "iopl" / uint32_t)
PhysdevSetIopl = record(physdev_set_iopl)

physdev_set_iobitmap = cstruct("physdev_set_iobitmap", "bitmap" / handle("uint8"), "nr_ports" / uint32_t)
PhysdevSetIobitmap = record(physdev_set_iobitmap)

physdev_apic = cstruct("physdev_apic", "apic_physbase" / c_ulong, "reg" / uint32_t, "value" / uint32_t)
PhysdevApic = record(physdev_apic)

physdev_irq = cstruct("physdev_irq", "irq" / uint32_t, "vector" / uint32_t)
PhysdevIrq = record(physdev_irq)

physdev_map_pirq = cstruct(
    "physdev_map_pirq",
    "domid" / domid_t,
    "type" / c_int,
    "index" / c_int,
    "pirq" / c_int,
    "bus" / c_int,
    "devfn" / c_int,
    "entry_nr" / c_int,
    "table_base" / uint64_t,
)
PhysdevMapPirq = record(physdev_map_pirq)

physdev_unmap_pirq = cstruct("physdev_unmap_pirq", "domid" / domid_t, "pirq" / c_int)
PhysdevUnmapPirq = record(physdev_unmap_pirq)

physdev_manage_pci = cstruct("physdev_manage_pci", "bus" / uint8_t, "devfn" / uint8_t)
PhysdevManagePci = record(physdev_manage_pci)
physdev_restore_msi = cstruct("physdev_restore_msi", "bus" / uint8_t, "devfn" / uint8_t)
PhysdevRestoreMsi = record(physdev_restore_msi)
physdev_manage_pci_ext = cstruct(
    "physdev_manage_pci_ext",
    "bus" / uint8_t,
    "devfn" / uint8_t,
    "is_extfn" / uint32_t,
    "is_virtfn" / uint32_t,
    "physfn" / cstruct(None, "bus" / uint8_t, "devfn" / uint8_t),
)
PhysdevManagePciExt = record(physdev_manage_pci_ext)

# The argument of physdev_op_compat: the command and its structure in one.
physdev_op = cstruct(
    "physdev_op",
    "cmd" / uint32_t,
    "u" / cunion(
        None,
        "irq_status_query" / physdev_irq_status_query,
        "set_iopl" / physdev_set_iopl,
        "set_iobitmap" / physdev_set_iobitmap,
        "apic_op" / physdev_apic,
        "irq_op" / physdev_irq,
    ),
)
PhysdevOp = record(physdev_op)

physdev_setup_gsi = cstruct(
    "physdev_setup_gsi", "gsi" / c_int, "triggering" / uint8_t, "polarity" / uint8_t)
PhysdevSetupGsi = record(physdev_setup_gsi)
physdev_get_free_pirq = cstruct("physdev_get_free_pirq", "type" / c_int, "pirq" / uint32_t)
PhysdevGetFreePirq = record(physdev_get_free_pirq)
physdev_pci_mmcfg_reserved = cstruct(
    "physdev_pci_mmcfg_reserved",
    "address" / uint64_t,
    "segment" / uint16_t,
    "start_bus" / uint8_t,
    "end_bus" / uint8_t,
    "flags" / uint32_t,
)
physdev_pci_device_add = cstruct(
    "physdev_pci_device_add",
    "seg" / uint16_t,
    "bus" / uint8_t,
    "devfn" / uint8_t,
    "flags" / uint32_t,
    "physfn" / cstruct(None, "bus" / uint8_t, "devfn" / uint8_t),
    "optarr" / uint32_t[0],
)
PhysdevPciDeviceAdd = record(physdev_pci_device_add)
physdev_pci_device = cstruct("physdev_pci_device", "seg" / uint16_t, "bus" / uint8_t, "devfn" / uint8_t)
PhysdevPciDevice = record(physdev_pci_device)
physdev_dbgp_op = cstruct(
    "physdev_dbgp_op", "op" / uint8_t, "bus" / uint8_t, "u" / cunion(None, "pci" / physdev_pci_device))

# A PC's, with one I/O APIC: the interrupts of the machine, and how many more a domain without devices may number.
NR_GSIS = 24
NR_ISA_IRQS = 16
NR_PIRQS = NR_GSIS + 32

_HARDWARE = {Errno.EPERM: "only the domain that owns the hardware may"}
_NO_DOMAIN = {Errno.ESRCH: "`domid` names no domain"}
_NO_PIRQ = f"`irq` is not below {NR_PIRQS}, the domain's number of physical interrupts"
_NO_DEVICE = {Errno.ENODEV: "there is no such device: there are none"}
_EOI_PAGE = {
    Errno.EINVAL: "`gmfn` is not a frame that the domain may write",
    Errno.EBUSY: "the domain has given one already",
    Errno.ENOSPC: "no room to map it",
}
_MAPPED = {Errno.ENOSPC: "all of RAM is mapped"}

PHYSDEVOP = Commands(
    "PHYSDEVOP",
    Command("IRQ_UNMASK_NOTIFY", PHYSDEVOP_IRQ_UNMASK_NOTIFY,
            doc="Finish every interrupt at once, as before interface 0x00030202. With no interrupts there is "
                "nothing to do."),
    Command(
        "irq_status_query", PHYSDEVOP_irq_status_query, PhysdevIrqStatusQuery, "inout", out=("flags",),
        doc="Whether an interrupt needs `eoi` and is shared.", errors={Errno.EINVAL: _NO_PIRQ},
    ),
    Command(
        "set_iopl", PHYSDEVOP_set_iopl, PhysdevSetIopl, "in",
        doc="Set the virtual I/O privilege level of the calling vCPU.",
        errors={Errno.EINVAL: "`iopl` is above 3"},
    ),
    Command(
        "set_iobitmap", PHYSDEVOP_set_iobitmap, PhysdevSetIobitmap, "in",
        doc="Give the calling vCPU a bitmap of the ports its user code may reach.",
        errors={Errno.EINVAL: "more than 65536 ports, or the bitmap is in the hypervisor's part of the "
                              "address space"},
    ),
    Command("apic_read", PHYSDEVOP_apic_read, PhysdevApic, "inout", out=("value",), refusal=Errno.EPERM,
            reads_first=True, doc="Read an I/O APIC.", errors=_HARDWARE),
    Command("apic_write", PHYSDEVOP_apic_write, PhysdevApic, "in", refusal=Errno.EPERM, reads_first=True,
            doc="Write an I/O APIC.", errors=_HARDWARE),
    Command("alloc_irq_vector", PHYSDEVOP_alloc_irq_vector, PhysdevIrq, "inout", out=("vector",),
            refusal=Errno.EPERM, reads_first=True, doc="Choose a vector for an interrupt.", errors=_HARDWARE),
    Command("free_irq_vector", PHYSDEVOP_free_irq_vector, PhysdevIrq, "in",
            doc="Give a vector back.", status="Xen knows the number and answers -ENOSYS too"),
    Command(
        "eoi", PHYSDEVOP_eoi, PhysdevEoi, "in", doc="An interrupt has been dealt with.",
        errors={Errno.EINVAL: f"{_NO_PIRQ}, or was not reserved by get_free_pirq"},
    ),
    Command("map_pirq", PHYSDEVOP_map_pirq, PhysdevMapPirq, "inout", out=("type", "pirq"), refusal=Errno.EPERM,
            refused_by_handler=True,
            doc="Give a domain a physical interrupt. The structure is written back in any case but EINVAL's, and where "
                "it cannot be, that is the error.",
            errors={Errno.EINVAL: "`type` is MULTI_MSI and `table_base` is not 0", **_NO_DOMAIN, **_HARDWARE}),
    Command("unmap_pirq", PHYSDEVOP_unmap_pirq, PhysdevUnmapPirq, "in", refusal=Errno.EPERM, refused_by_handler=True,
            doc="Take a physical interrupt from a domain.", errors={**_NO_DOMAIN, **_HARDWARE}),
    Command("manage_pci_add", PHYSDEVOP_manage_pci_add, PhysdevManagePci, "in", refusal=Errno.EPERM, reads_first=True,
            doc="Report a PCI device.", errors=_HARDWARE),
    Command("manage_pci_remove", PHYSDEVOP_manage_pci_remove, PhysdevManagePci, "in", refusal=Errno.EPERM,
            reads_first=True, doc="Report that a PCI device was removed.", errors=_HARDWARE),
    Command("pirq_eoi_gmfn_v1", PHYSDEVOP_pirq_eoi_gmfn_v1, PhysdevPirqEoiGmfn, "in",
            doc="Share a page of bits saying which interrupts need `eoi`, which then unmasks as well.",
            errors=_EOI_PAGE, unreachable=_MAPPED),
    Command("restore_msi", PHYSDEVOP_restore_msi, PhysdevRestoreMsi, "in", refusal=Errno.ENODEV, reads_first=True,
            doc="Restore a device's MSI state.", errors=_NO_DEVICE),
    Command("manage_pci_add_ext", PHYSDEVOP_manage_pci_add_ext, PhysdevManagePciExt, "in", refusal=Errno.EPERM,
            refused_by_handler=True, doc="Report a PCI device with virtual functions.",
            errors={Errno.EINVAL: "`is_extfn` or `is_virtfn` is above 1", **_HARDWARE}),
    Command("setup_gsi", PHYSDEVOP_setup_gsi, PhysdevSetupGsi, "in", refusal=Errno.EPERM, refused_by_handler=True,
            doc="Say how a GSI is triggered.", errors={Errno.EINVAL: f"`gsi` is not below {NR_GSIS}", **_HARDWARE}),
    Command("get_free_pirq", PHYSDEVOP_get_free_pirq, PhysdevGetFreePirq, "inout", out=("pirq",),
            doc=f"Reserve an interrupt number, for as long as the domain lives: from {NR_PIRQS - 1} downwards, but for "
                f"`type` GSI from {NR_ISA_IRQS} upwards as far as there are GSIs.",
            errors={Errno.ENOSPC: "all are reserved", Errno.ENOMEM: "no memory to note it"},
            unreachable={Errno.ENOMEM: "the host's memory is never refused"}),
    Command("pci_mmcfg_reserved", PHYSDEVOP_pci_mmcfg_reserved, refusal=Errno.EPERM,
            doc="Report PCI's memory-mapped configuration space.", errors=_HARDWARE),
    Command("pci_device_add", PHYSDEVOP_pci_device_add, PhysdevPciDeviceAdd, "in", refusal=Errno.EPERM,
            reads_first=True, doc="Report a PCI device.", errors=_HARDWARE),
    Command("pci_device_remove", PHYSDEVOP_pci_device_remove, PhysdevPciDevice, "in", refusal=Errno.EPERM,
            reads_first=True, doc="Report that a PCI device was removed.", errors=_HARDWARE),
    Command("restore_msi_ext", PHYSDEVOP_restore_msi_ext, PhysdevPciDevice, "in", refusal=Errno.ENODEV,
            reads_first=True, doc="Restore a device's MSI state.", errors=_NO_DEVICE),
    Command("pirq_eoi_gmfn_v2", PHYSDEVOP_pirq_eoi_gmfn_v2, PhysdevPirqEoiGmfn, "in",
            doc="Share a page of bits saying which interrupts need `eoi`. As there are none, no bit is ever set.",
            errors=_EOI_PAGE, unreachable=_MAPPED),
    Command("dbgp_op", PHYSDEVOP_dbgp_op, refusal=Errno.EPERM,
            doc="The USB debug port is about to be reset.", errors=_HARDWARE),
    Command("prepare_msix", PHYSDEVOP_prepare_msix, PhysdevPciDevice, "in", refusal=Errno.EPERM, reads_first=True,
            doc="A device's MSI-X table is about to be handed over.", errors=_HARDWARE),
    Command("release_msix", PHYSDEVOP_release_msix, PhysdevPciDevice, "in", refusal=Errno.EPERM, reads_first=True,
            doc="A device's MSI-X table is given back.", errors=_HARDWARE),
)

PHYSDEV_OP = Hypercall(
    HYPERVISOR_physdev_op, "physdev_op",
    (Arg("cmd", "int", role="cmd"), Arg("arg", "void *", role="arg")),
    PHYSDEVOP,
    doc="I/O privilege; and the devices of dom0.",
    errors={Errno.EFAULT: "`arg` cannot be read or written", Errno.ENOSYS: "`cmd` is not one of these"},
    test="tests/core/test_physdev_op.py",
)

PHYSDEV_OP_COMPAT = Hypercall(
    HYPERVISOR_physdev_op_compat, "physdev_op_compat", (Arg("uop", "physdev_op_t *", role="arg"),),
    arg=PhysdevOp, direction="inout", out=("u",),
    doc="The call before interface 0x00030202: command and structure together, answered in place.",
    errors={
        Errno.EFAULT: "`uop` cannot be read, or its union not be written",
        Errno.ENOSYS: "`uop->cmd` is not a command of physdev_op",
        **dict.fromkeys(
            (Errno.EINVAL, Errno.ESRCH, Errno.EPERM, Errno.ENODEV, Errno.EBUSY, Errno.ENOSPC), "as the command's own"
        ),
    },
    test="tests/core/test_physdev_op.py",
)
