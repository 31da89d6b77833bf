# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypercall page: one stub of code per hypercall, so that a kernel need not know the instruction that makes one.

Stub N, at N * 32, makes hypercall N and preserves rcx and r11, which `syscall` overwrites. The stub of iret is jumped
to, not called; it pushes the frame that hypercall expects. A kernel names the page in an ELF note
(XEN_ELFNOTE_HYPERCALL_PAGE); the domain builder then has it filled by the domctl, which any privileged domain may make.
Newer kernels do not use the page.

Read beside it: pv_ring3_init_hypercall_page in xen/arch/x86/pv/hypercall.c, XEN_DOMCTL_hypercall_init in
xen/arch/x86/domctl.c.
"""

from __future__ import annotations

from pvhv.abi.errno import Errno
from pvhv.abi.xen import HYPERVISOR_iret
from pvhv.core.domain import Domain
from pvhv.core.errors import HypercallError
from pvhv.core.mm.frames import WRITABLE
from pvhv.machine.ram import PAGE_SIZE

STUBS = 64
STUB_SIZE = 32
INT3 = b"\xcc"

PUSH_RCX_R11 = b"\x51\x41\x53"
POP_R11_RCX_RET = b"\x41\x5b\x59\xc3"
PUSH_RAX = b"\x50"
SYSCALL = b"\x0f\x05"


def stub(number: int) -> bytes:
    """The code of one stub, at most 32 bytes."""
    make_it = b"\xb8" + number.to_bytes(4, "little") + SYSCALL  # mov $number, %eax; syscall
    if number == HYPERVISOR_iret:
        return PUSH_RCX_R11 + PUSH_RAX + make_it
    return PUSH_RCX_R11 + make_it + POP_R11_RCX_RET


def contents() -> bytes:
    """The bytes of the whole page; unused bytes are int3."""
    stubs = b"".join(stub(number).ljust(STUB_SIZE, INT3) for number in range(STUBS))
    return stubs.ljust(PAGE_SIZE, INT3)


def initialise(domain: Domain, mfn: int) -> None:
    """Write the stubs into a frame of `domain`. Raises HypercallError(EACCES) unless the frame may be written."""
    hypervisor = domain.hypervisor
    frames = hypervisor.frames
    if not frames.get_page(mfn, domain.domid):
        raise HypercallError(Errno.EACCES)
    try:
        frames.get_page_type(mfn, WRITABLE)
    except HypercallError:
        raise HypercallError(Errno.EACCES) from None
    else:
        hypervisor.ram.bytes[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE] = contents()
        hypervisor.host_wrote(mfn)
        frames.put_page_type(mfn)
    finally:
        frames.put_page(mfn)
