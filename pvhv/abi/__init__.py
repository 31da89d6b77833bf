# SPDX-License-Identifier: GPL-2.0-or-later
"""The contract: Xen 4.17's public interface, file by file as in xen/include/public, and no behaviour.

Each module corresponds to one public header and uses its names.  Structures are construct declarations
(:mod:`pvhv.abi.layout` derives the codecs), constants are plain integers, hypercalls and their commands are specs
(:mod:`pvhv.abi.spec`): number, arguments, direction, and every error with its reason.  The guest's C header and
hypercalls.md are printed from the same declarations, so a fact is written once.

Only the 64-bit x86 interface is here; compat (32-bit) guests are not modelled.
"""
