# SPDX-License-Identifier: GPL-2.0-or-later
"""The x86-64 half of the interface: the state of a vCPU, and the hypervisor's part of the address space.

A 64-bit PV guest uses the flat segments of Xen's own GDT page, and 16 slots of every L4 table belong to Xen. Frames,
contexts and selectors here show ring 3, as Xen does: the guest's kernel and its user code differ by VGCF_in_kernel,
never by the privilege level in a selector.

Not modelled: the 32-bit (compat) layout, HVM's emulation flags.

Read beside it: xen/include/public/arch-x86/xen.h, xen-x86_64.h and cpuid.h.
"""

from __future__ import annotations

from pvhv.abi.layout import (
    c_ulong,
    carray,
    char,
    codec,
    cstruct,
    record,
    typedef,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)

xen_pfn_t = typedef("xen_pfn_t", c_ulong)
xen_ulong_t = typedef("xen_ulong_t", c_ulong)
xen_callback_t = typedef("xen_callback_t", c_ulong)
tsc_timestamp_t = typedef("tsc_timestamp_t", uint64_t)

# What this architecture's PV guests have: entry points of their own and a byte that masks upcalls.
XEN_HAVE_PV_GUEST_ENTRY = 1
XEN_HAVE_PV_UPCALL_MASK = 1

# The last two pages of the 16-page GDT belong to Xen; a guest's own descriptors end before them.
FIRST_RESERVED_GDT_PAGE = 14
FIRST_RESERVED_GDT_BYTE = FIRST_RESERVED_GDT_PAGE * 4096
FIRST_RESERVED_GDT_ENTRY = FIRST_RESERVED_GDT_BYTE // 8

# vCPUs whose vcpu_info sits in the shared_info page; a vCPU beyond them must register one of its own.
XEN_LEGACY_MAX_VCPUS = 32

# Flat selectors in Xen's part of the GDT, all of RPL 3.
FLAT_RING3_CS32 = 0xE023
FLAT_RING3_CS64 = 0xE033
FLAT_RING3_DS32 = 0xE02B
FLAT_RING3_DS64 = 0x0000
FLAT_RING3_SS32 = 0xE02B
FLAT_RING3_SS64 = 0xE02B
FLAT_KERNEL_DS64 = FLAT_RING3_DS64
FLAT_KERNEL_DS32 = FLAT_RING3_DS32
FLAT_KERNEL_DS = FLAT_KERNEL_DS64
FLAT_KERNEL_CS64 = FLAT_RING3_CS64
FLAT_KERNEL_CS32 = FLAT_RING3_CS32
FLAT_KERNEL_CS = FLAT_KERNEL_CS64
FLAT_KERNEL_SS64 = FLAT_RING3_SS64
FLAT_KERNEL_SS32 = FLAT_RING3_SS32
FLAT_KERNEL_SS = FLAT_KERNEL_SS64
FLAT_USER_DS64 = FLAT_RING3_DS64
FLAT_USER_DS32 = FLAT_RING3_DS32
FLAT_USER_DS = FLAT_USER_DS64
FLAT_USER_CS64 = FLAT_RING3_CS64
FLAT_USER_CS32 = FLAT_RING3_CS32
FLAT_USER_CS = FLAT_USER_CS64
FLAT_USER_SS64 = FLAT_RING3_SS64
FLAT_USER_SS32 = FLAT_RING3_SS32
FLAT_USER_SS = FLAT_USER_SS64

# L4 slots 256 to 271 are the hypervisor's; the machine-to-physical table is all a guest may read there.
HYPERVISOR_VIRT_START = 0xFFFF_8000_0000_0000
HYPERVISOR_VIRT_END = 0xFFFF_8800_0000_0000
MACH2PHYS_VIRT_START = 0xFFFF_8000_0000_0000
MACH2PHYS_VIRT_END = 0xFFFF_8040_0000_0000
MACH2PHYS_NR_ENTRIES = (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) >> 3

# set_segment_base(which, base)
SEGBASE_FS = 0
SEGBASE_GS_USER = 1
SEGBASE_GS_KERNEL = 2
SEGBASE_GS_USER_SEL = 3

# vcpu_guest_context.flags
VGCF_I387_VALID = 1 << 0
VGCF_IN_KERNEL = 1 << 2
VGCF_i387_valid = VGCF_I387_VALID
VGCF_in_kernel = VGCF_IN_KERNEL
VGCF_failsafe_disables_events = 1 << 3
VGCF_syscall_disables_events = 1 << 4
VGCF_online = 1 << 5
# iret_context.flags: the frame was made by SYSCALL, so rcx and r11 may be left clobbered.
VGCF_in_syscall = 1 << 8
VGCF_IN_SYSCALL = VGCF_in_syscall

# A prefix (ud2; "xen") before CPUID asks Xen to answer in the processor's place.
XEN_EMULATE_PREFIX = b"\x0f\x0bxen"
XEN_HVM_DEBUGCONS_IOPORT = 0xE9

# Xen's CPUID leaves: 0 says who is there, 1 the version, 2 the hypercall page MSR, 3 time, 4 HVM, 5 PV.
XEN_CPUID_NO_SUBLEAF = 0xFFFF_FFFF
XEN_CPUID_FIRST_LEAF = 0x4000_0000
XEN_CPUID_SIGNATURE_EBX = 0x566E_6558  # "XenV"
XEN_CPUID_SIGNATURE_ECX = 0x6558_4D4D  # "MMXe"
XEN_CPUID_SIGNATURE_EDX = 0x4D4D_566E  # "nVMM"
XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD = 1 << 0
XEN_HVM_CPUID_APIC_ACCESS_VIRT = 1 << 0
XEN_HVM_CPUID_X2APIC_VIRT = 1 << 1
XEN_HVM_CPUID_IOMMU_MAPPINGS = 1 << 2
XEN_HVM_CPUID_VCPU_ID_PRESENT = 1 << 3
XEN_HVM_CPUID_DOMID_PRESENT = 1 << 4
XEN_HVM_CPUID_EXT_DEST_ID = 1 << 5
XEN_HVM_CPUID_UPCALL_VECTOR = 1 << 6
XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK = 0xFF
XEN_CPUID_MAX_NUM_LEAVES = 5

# One entry of set_trap_table.  flags: bits 0-1 the privilege that may raise it by software, bit 2 mask
# events.
trap_info = cstruct(
    "trap_info",
    "vector" / uint8_t,
    "flags" / uint8_t,
    "cs" / uint16_t,
    "address" / c_ulong,
)
TrapInfo = record(trap_info)
TRAP_INFO = codec(trap_info)


def _both(name: str) -> str:
    """Xen's own header gives one slot the names eax and _eax; the guest's header does the same."""
    return f"union {{ uint64_t r{name}, e{name}; uint32_t _e{name}; }};"


cpu_user_regs = cstruct(
    "cpu_user_regs",
    "r15" / uint64_t,
    "r14" / uint64_t,
    "r13" / uint64_t,
    "r12" / uint64_t,
    "rbp" / uint64_t,
    "rbx" / uint64_t,
    "r11" / uint64_t,
    "r10" / uint64_t,
    "r9" / uint64_t,
    "r8" / uint64_t,
    "rax" / uint64_t,
    "rcx" / uint64_t,
    "rdx" / uint64_t,
    "rsi" / uint64_t,
    "rdi" / uint64_t,
    "error_code" / uint32_t,
    "entry_vector" / uint32_t,
    "rip" / uint64_t,
    "cs" / uint16_t,
    "_pad0" / uint16_t[1],
    "saved_upcall_mask" / uint8_t,
    "_pad1" / uint8_t[3],
    "rflags" / uint64_t,
    "rsp" / uint64_t,
    "ss" / uint16_t,
    "_pad2" / uint16_t[3],
    "es" / uint16_t,
    "_pad3" / uint16_t[3],
    "ds" / uint16_t,
    "_pad4" / uint16_t[3],
    "fs" / uint16_t,
    "_pad5" / uint16_t[3],
    "gs" / uint16_t,
    "_pad6" / uint16_t[3],
    c_fields={"r" + name: _both(name)
              for name in ("bp", "bx", "ax", "cx", "dx", "si", "di", "ip", "flags", "sp")},
)
CpuUserRegs = record(cpu_user_regs)

# The frame a 64-bit kernel pushes before the iret hypercall.
iret_context = cstruct(
    "iret_context",
    "rax" / uint64_t,
    "r11" / uint64_t,
    "rcx" / uint64_t,
    "flags" / uint64_t,
    "rip" / uint64_t,
    "cs" / uint64_t,
    "rflags" / uint64_t,
    "rsp" / uint64_t,
    "ss" / uint64_t,
    typedef=None,
)
IretContext = record(iret_context)
IRET_CONTEXT = codec(iret_context)

# A whole vCPU at rest: what VCPUOP_initialise takes and the domain builder writes.
vcpu_guest_context = cstruct(
    "vcpu_guest_context",
    "fpu_ctxt" / cstruct(None, "x" / char[512]),
    "flags" / c_ulong,
    "user_regs" / cpu_user_regs,
    "trap_ctxt" / trap_info[256],
    "ldt_base" / c_ulong,
    "ldt_ents" / c_ulong,
    "gdt_frames" / c_ulong[16],
    "gdt_ents" / c_ulong,
    "kernel_ss" / c_ulong,
    "kernel_sp" / c_ulong,
    "ctrlreg" / c_ulong[8],
    "debugreg" / c_ulong[8],
    "event_callback_eip" / c_ulong,
    "failsafe_callback_eip" / c_ulong,
    "syscall_callback_eip" / c_ulong,
    "vm_assist" / c_ulong,
    "fs_base" / uint64_t,
    "gs_base_kernel" / uint64_t,
    "gs_base_user" / uint64_t,
)
VcpuGuestContext = record(vcpu_guest_context)

arch_vcpu_info = cstruct("arch_vcpu_info", "cr2" / c_ulong, "pad" / c_ulong)

arch_shared_info = cstruct(
    "arch_shared_info",
    "max_pfn" / c_ulong,
    "pfn_to_mfn_frame_list_list" / xen_pfn_t,
    "nmi_reason" / c_ulong,
    "p2m_cr3" / c_ulong,
    "p2m_vaddr" / c_ulong,
    "p2m_generation" / c_ulong,
)

xen_cpuid_leaf = cstruct(
    "xen_cpuid_leaf",
    "leaf" / uint32_t,
    "subleaf" / uint32_t,
    "a" / uint32_t,
    "b" / uint32_t,
    "c" / uint32_t,
    "d" / uint32_t,
)

xen_msr_entry = cstruct("xen_msr_entry", "idx" / uint32_t, "flags" / uint32_t, "val" / uint64_t)

xen_domain_handle = carray("xen_domain_handle_t", "bytes" / uint8_t[16])
XenDomainHandle = record(xen_domain_handle)
