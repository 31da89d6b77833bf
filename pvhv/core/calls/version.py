# SPDX-License-Identifier: GPL-2.0-or-later
"""xen_version: what Xen this is.

XENVER_version is the null hypercall of benchmarks, and the call a PV kernel makes to have pending events delivered. So
it is answered before the command is looked up.

Read beside it: xen/common/kernel.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pvhv import __version__
from pvhv.abi import features
from pvhv.abi.arch_x86 import HYPERVISOR_VIRT_START
from pvhv.abi.errno import Errno
from pvhv.abi.version import XEN_VERSION, XENVER, XENVER_version
from pvhv.abi.xen import VMASST_TYPE_pae_extended_cr3
from pvhv.core.errors import HypercallError
from pvhv.core.traps.dispatch import NEG_ENOSYS, command_row, handles, hypercall
from pvhv.core.vcpu import VCPU

VERSION = 4 << 16 | 17
DENIED = b"<denied>\0"
PAE_EXTENDED_CR3 = 1 << VMASST_TYPE_pae_extended_cr3


@handles(XENVER.version)
def version(_vcpu: VCPU, _arg: int) -> int:
    """major << 16 | minor."""
    return VERSION


@handles(XENVER.extraversion)
def extraversion(_vcpu: VCPU, op: Any) -> None:
    """The text that follows the version."""
    op.text = b".0-pvhv"


@handles(XENVER.compile_info)
def compile_info(_vcpu: VCPU, op: Any) -> None:
    """Compiler, builder and date; pvhv is not compiled, so the compiler is given as CPython."""
    op.compiler = b"CPython"
    op.compile_by = b"pvhv"
    op.compile_domain = b"pvhv"
    op.compile_date = b""


@handles(XENVER.capabilities)
def capabilities(_vcpu: VCPU, op: Any) -> None:
    """The kinds of guest the hypervisor runs, as words."""
    op.text = b"xen-3.0-x86_64 "


@handles(XENVER.changeset)
def changeset(_vcpu: VCPU, op: Any) -> None:
    """The source revision; here the version of the package."""
    op.text = f"pvhv {__version__}".encode()


@handles(XENVER.platform_parameters)
def platform_parameters(_vcpu: VCPU, op: Any) -> None:
    """Where the hypervisor's part of the address space begins."""
    op.virt_start = HYPERVISOR_VIRT_START


@handles(XENVER.get_features)
def get_features(vcpu: VCPU, op: Any) -> None:
    """A word of feature bits."""
    if op.submap_idx != 0:
        raise HypercallError(Errno.EINVAL)
    op.submap = feature_bits(vcpu)


def feature_bits(vcpu: VCPU) -> int:
    """XENFEAT_* of submap 0, as a 64-bit PV domain sees them."""
    bits = (
        features.XENFEAT_memory_op_vnode_supported,
        features.XENFEAT_mmu_pt_update_preserve_ad,
        features.XENFEAT_highmem_assist,
        features.XENFEAT_gnttab_map_avail_bits,
        features.XENFEAT_direct_mapped,
    )
    word = sum(1 << bit for bit in bits)
    if vcpu.domain.vm_assist & PAE_EXTENDED_CR3:
        word |= 1 << features.XENFEAT_pae_pgdir_above_4gb
    if vcpu.domain.privileged:
        word |= 1 << features.XENFEAT_dom0
    return word


@handles(XENVER.pagesize)
def pagesize(_vcpu: VCPU, arg: int) -> int:
    """The size of a page, 4096."""
    if arg:
        raise HypercallError(Errno.EINVAL)
    return 4096


@handles(XENVER.guest_handle)
def guest_handle(vcpu: VCPU, op: Any) -> None:
    """The domain's UUID."""
    op.bytes[:] = vcpu.domain.handle.bytes


@handles(XENVER.commandline)
def commandline(vcpu: VCPU, address: int) -> None:
    """Write "<denied>" instead of Xen's command line, as for any unprivileged guest; the rest of the buffer is kept."""
    vcpu.memory.write(address, DENIED)


def _rows() -> dict[int, Callable[..., int]]:
    return {command.number: command_row(command) for command in XENVER}


_ROWS: dict[int, Callable[..., int]] = {}


@hypercall(XEN_VERSION)
def xen_version(vcpu: VCPU, cmd: int, arg: int) -> int:
    """Find the command; XENVER_version is answered at once."""
    if cmd == XENVER_version:
        return VERSION
    if not _ROWS:
        _ROWS.update(_rows())
    row = _ROWS.get(cmd & 0xFFFF_FFFF)
    return NEG_ENOSYS if row is None else row(vcpu, arg)
