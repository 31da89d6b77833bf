# SPDX-License-Identifier: GPL-2.0-or-later
"""pvhv: a Xen-like paravirtualizing hypervisor over the Unicorn CPU.

This file holds the version and nothing else, so that the build hook and `pvhv --version` can read it without
importing the hypervisor.  Start reading at `pvhv/abi` (the contract) or `pvhv/core` (the hypervisor).
"""

__version__ = "0.1.0"
