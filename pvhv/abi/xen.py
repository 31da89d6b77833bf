# SPDX-License-Identifier: GPL-2.0-or-later
"""The centre of the interface: hypercall numbers, domain ids, virtual interrupts, shared pages.

Constants keep Xen's spelling, but for the two underscores before HYPERVISOR_* hypercall numbers, which Python would
mangle inside a class.  The specs of the hypercalls are in other modules: :mod:`pvhv.abi.mmu` (page tables and
descriptors), :mod:`pvhv.abi.cpu` (traps, context, time), :mod:`pvhv.abi.control` (what only dom0 may do) and the
modules of the other headers; :mod:`pvhv.abi.hypercalls` lists them all by number.

Read beside it: xen/include/public/xen.h.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import XEN_LEGACY_MAX_VCPUS, arch_shared_info, arch_vcpu_info, xen_pfn_t, xen_ulong_t
from pvhv.abi.layout import (
    c_uint,
    c_ulong,
    char,
    codec,
    cstruct,
    cunion,
    handle,
    int8_t,
    record,
    typedef,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)

# A guest that was built for 4.17 says this when asked which interface it speaks.
XEN_LATEST_INTERFACE_VERSION = 0x0004_0E00

HYPERVISOR_set_trap_table = 0
HYPERVISOR_mmu_update = 1
HYPERVISOR_set_gdt = 2
HYPERVISOR_stack_switch = 3
HYPERVISOR_set_callbacks = 4
HYPERVISOR_fpu_taskswitch = 5
HYPERVISOR_sched_op_compat = 6
HYPERVISOR_platform_op = 7
HYPERVISOR_set_debugreg = 8
HYPERVISOR_get_debugreg = 9
HYPERVISOR_update_descriptor = 10
HYPERVISOR_memory_op = 12
HYPERVISOR_multicall = 13
HYPERVISOR_update_va_mapping = 14
HYPERVISOR_set_timer_op = 15
HYPERVISOR_event_channel_op_compat = 16
HYPERVISOR_xen_version = 17
HYPERVISOR_console_io = 18
HYPERVISOR_physdev_op_compat = 19
HYPERVISOR_grant_table_op = 20
HYPERVISOR_vm_assist = 21
HYPERVISOR_update_va_mapping_otherdomain = 22
HYPERVISOR_iret = 23
HYPERVISOR_vcpu_op = 24
HYPERVISOR_set_segment_base = 25
HYPERVISOR_mmuext_op = 26
HYPERVISOR_xsm_op = 27
HYPERVISOR_nmi_op = 28
HYPERVISOR_sched_op = 29
HYPERVISOR_callback_op = 30
HYPERVISOR_xenoprof_op = 31
HYPERVISOR_event_channel_op = 32
HYPERVISOR_physdev_op = 33
HYPERVISOR_hvm_op = 34
HYPERVISOR_sysctl = 35
HYPERVISOR_domctl = 36
HYPERVISOR_kexec_op = 37
HYPERVISOR_tmem_op = 38
HYPERVISOR_argo_op = 39
HYPERVISOR_xenpmu_op = 40
HYPERVISOR_dm_op = 41
HYPERVISOR_hypfs_op = 42
HYPERVISOR_arch_0 = 48
HYPERVISOR_arch_1 = 49
HYPERVISOR_arch_2 = 50
HYPERVISOR_arch_3 = 51
HYPERVISOR_arch_4 = 52
HYPERVISOR_arch_5 = 53
HYPERVISOR_arch_6 = 54
HYPERVISOR_arch_7 = 55

# Virtual interrupts.  TIMER, DEBUG, XENOPROF and XENPMU are a vCPU's own; the others are the domain's
# (global).
VIRQ_TIMER = 0
VIRQ_DEBUG = 1
VIRQ_CONSOLE = 2
VIRQ_DOM_EXC = 3
VIRQ_TBUF = 4
VIRQ_DEBUGGER = 6
VIRQ_XENOPROF = 7
VIRQ_CON_RING = 8
VIRQ_PCPU_STATE = 9
VIRQ_MEM_EVENT = 10
VIRQ_ARGO = 11
VIRQ_ENOMEM = 12
VIRQ_XENPMU = 13
VIRQ_ARCH_0 = 16
VIRQ_ARCH_1 = 17
VIRQ_ARCH_2 = 18
VIRQ_ARCH_3 = 19
VIRQ_ARCH_4 = 20
VIRQ_ARCH_5 = 21
VIRQ_ARCH_6 = 22
VIRQ_ARCH_7 = 23
NR_VIRQS = 24

# The two low bits of mmu_update.ptr.
MMU_NORMAL_PT_UPDATE = 0
MMU_MACHPHYS_UPDATE = 1
MMU_PT_UPDATE_PRESERVE_AD = 2
MMU_PT_UPDATE_NO_TRANSLATE = 3

MMUEXT_PIN_L1_TABLE = 0
MMUEXT_PIN_L2_TABLE = 1
MMUEXT_PIN_L3_TABLE = 2
MMUEXT_PIN_L4_TABLE = 3
MMUEXT_UNPIN_TABLE = 4
MMUEXT_NEW_BASEPTR = 5
MMUEXT_TLB_FLUSH_LOCAL = 6
MMUEXT_INVLPG_LOCAL = 7
MMUEXT_TLB_FLUSH_MULTI = 8
MMUEXT_INVLPG_MULTI = 9
MMUEXT_TLB_FLUSH_ALL = 10
MMUEXT_INVLPG_ALL = 11
MMUEXT_FLUSH_CACHE = 12
MMUEXT_SET_LDT = 13
MMUEXT_NEW_USER_BASEPTR = 15
MMUEXT_CLEAR_PAGE = 16
MMUEXT_COPY_PAGE = 17
MMUEXT_FLUSH_CACHE_GLOBAL = 18
MMUEXT_MARK_SUPER = 19
MMUEXT_UNMARK_SUPER = 20

# update_va_mapping's flags: what to flush in the low bits, whose TLBs above (or a pointer to a bitmap of
# vCPUs).
UVMF_NONE = 0
UVMF_TLB_FLUSH = 1
UVMF_INVLPG = 2
UVMF_FLUSHTYPE_MASK = 3
UVMF_MULTI = 0 << 2
UVMF_LOCAL = 0 << 2
UVMF_ALL = 1 << 2

CONSOLEIO_write = 0
CONSOLEIO_read = 1

VMASST_CMD_enable = 0
VMASST_CMD_disable = 1
VMASST_TYPE_4gb_segments = 0
VMASST_TYPE_4gb_segments_notify = 1
VMASST_TYPE_writable_pagetables = 2
VMASST_TYPE_pae_extended_cr3 = 3
VMASST_TYPE_architectural_iopl = 4
VMASST_TYPE_runstate_update_flag = 5
VMASST_TYPE_m2p_strict = 32

# Domain ids from here up name no domain: they are the caller, or an owner of frames.
DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
DOMID_IO = 0x7FF1
DOMID_XEN = 0x7FF2
DOMID_COW = 0x7FF3
DOMID_INVALID = 0x7FF4
DOMID_IDLE = 0x7FFF
DOMID_MASK = 0x7FFF

# vcpu_time_info.flags
XEN_PVCLOCK_TSC_STABLE_BIT = 1 << 0
XEN_PVCLOCK_GUEST_STOPPED = 1 << 1

# start_info.flags
SIF_PRIVILEGED = 1 << 0
SIF_INITDOMAIN = 1 << 1
SIF_MULTIBOOT_MOD = 1 << 2
SIF_MOD_START_PFN = 1 << 3
SIF_VIRT_P2M_4TOOLS = 1 << 4
SIF_PM_MASK = 0xFF << 8
MAX_GUEST_CMDLINE = 1024

XEN_VGATYPE_TEXT_MODE_3 = 0x03
XEN_VGATYPE_VESA_LFB = 0x23
XEN_VGATYPE_EFI_LFB = 0x70

domid_t = typedef("domid_t", uint16_t)

mmuext_op = cstruct(
    "mmuext_op",
    "cmd" / c_uint,
    "arg1" / cunion(
        None,
        "mfn" / xen_pfn_t,  # [UN]PIN_TABLE, NEW_BASEPTR, NEW_USER_BASEPTR, CLEAR_PAGE, COPY_PAGE
        "linear_addr" / c_ulong,  # INVLPG_*, SET_LDT
    ),
    "arg2" / cunion(
        None,
        "nr_ents" / c_uint,  # SET_LDT
        "vcpumask" / handle("const_void"),  # TLB_FLUSH_MULTI, INVLPG_MULTI
        "src_mfn" / xen_pfn_t,  # COPY_PAGE
    ),
)
MmuextOp = record(mmuext_op)

mmu_update = cstruct("mmu_update", "ptr" / uint64_t, "val" / uint64_t)
MmuUpdate = record(mmu_update)
MMU_UPDATE_CODEC = codec(mmu_update)

multicall_entry = cstruct(
    "multicall_entry",
    "op" / xen_ulong_t,
    "result" / xen_ulong_t,
    "args" / xen_ulong_t[6],
)
MulticallEntry = record(multicall_entry)
MULTICALL_ENTRY_CODEC = codec(multicall_entry)

vcpu_time_info = cstruct(
    "vcpu_time_info",
    "version" / uint32_t,  # odd while the hypervisor is writing
    "pad0" / uint32_t,
    "tsc_timestamp" / uint64_t,
    "system_time" / uint64_t,
    "tsc_to_system_mul" / uint32_t,
    "tsc_shift" / int8_t,
    "flags" / uint8_t,
    "pad1" / uint8_t[2],
)
VcpuTimeInfo = record(vcpu_time_info)
VCPU_TIME_INFO_CODEC = codec(vcpu_time_info)

vcpu_info = cstruct(
    "vcpu_info",
    "evtchn_upcall_pending" / uint8_t,
    "evtchn_upcall_mask" / uint8_t,
    "evtchn_pending_sel" / xen_ulong_t,
    "arch" / arch_vcpu_info,
    "time" / vcpu_time_info,
)
VcpuInfo = record(vcpu_info)

shared_info = cstruct(
    "shared_info",
    "vcpu_info" / vcpu_info[XEN_LEGACY_MAX_VCPUS],
    "evtchn_pending" / xen_ulong_t[64],
    "evtchn_mask" / xen_ulong_t[64],
    "wc_version" / uint32_t,  # odd while the hypervisor is writing
    "wc_sec" / uint32_t,
    "wc_nsec" / uint32_t,
    "wc_sec_hi" / uint32_t,
    "arch" / arch_shared_info,
)
SharedInfo = record(shared_info)

start_info = cstruct(
    "start_info",
    "magic" / char[32],
    "nr_pages" / c_ulong,
    "shared_info" / c_ulong,  # machine address
    "flags" / uint32_t,
    "store_mfn" / xen_pfn_t,
    "store_evtchn" / uint32_t,
    "console" / cunion(
        None,
        "domU" / cstruct(None, "mfn" / xen_pfn_t, "evtchn" / uint32_t),
        "dom0" / cstruct(None, "info_off" / uint32_t, "info_size" / uint32_t),
    ),
    "pt_base" / c_ulong,
    "nr_pt_frames" / c_ulong,
    "mfn_list" / c_ulong,
    "mod_start" / c_ulong,  # a pfn when SIF_MOD_START_PFN is set, else a virtual address
    "mod_len" / c_ulong,
    "cmd_line" / int8_t[MAX_GUEST_CMDLINE],
    "first_p2m_pfn" / c_ulong,
    "nr_p2m_frames" / c_ulong,
)
StartInfo = record(start_info)

xen_multiboot_mod_list = cstruct(
    "xen_multiboot_mod_list",
    "mod_start" / uint32_t,
    "mod_end" / uint32_t,
    "cmdline" / uint32_t,
    "pad" / uint32_t,
    typedef=None,
)

dom0_vga_console_info = cstruct(
    "dom0_vga_console_info",
    "video_type" / uint8_t,
    "u" / cunion(
        None,
        "text_mode_3" / cstruct(
            None,
            "font_height" / uint16_t,
            "cursor_x" / uint16_t,
            "cursor_y" / uint16_t,
            "rows" / uint16_t,
            "columns" / uint16_t,
        ),
        "vesa_lfb" / cstruct(
            None,
            "width" / uint16_t,
            "height" / uint16_t,
            "bytes_per_line" / uint16_t,
            "bits_per_pixel" / uint16_t,
            "lfb_base" / uint32_t,
            "lfb_size" / uint32_t,
            "red_pos" / uint8_t,
            "red_size" / uint8_t,
            "green_pos" / uint8_t,
            "green_size" / uint8_t,
            "blue_pos" / uint8_t,
            "blue_size" / uint8_t,
            "rsvd_pos" / uint8_t,
            "rsvd_size" / uint8_t,
            "gbl_caps" / uint32_t,
            "mode_attrs" / uint16_t,
            "pad" / uint16_t,
            "ext_lfb_base" / uint32_t,
        ),
    ),
)
