# SPDX-License-Identifier: GPL-2.0-or-later
"""Full virtualization: what an unmodified native kernel needs in order to run as a guest.

The techniques differ in how they run the guest's CPU; the machine they show it is one and the same, and lives in
`platform`. Nothing in here is used by paravirtual domains.
"""
