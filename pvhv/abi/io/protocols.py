# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of rings' layouts: a front end writes its own into the node ``protocol`` of its directory.

The structures of a ring are laid out as the guest's compiler does it, so a backend has to know for which processor.

Read beside it: xen/include/public/io/protocols.h.
"""

from __future__ import annotations

XEN_IO_PROTO_ABI_X86_32 = b"x86_32-abi"
XEN_IO_PROTO_ABI_X86_64 = b"x86_64-abi"
XEN_IO_PROTO_ABI_ARM = b"arm-abi"
