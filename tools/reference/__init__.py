# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Xen to compare with: Debian's, on an emulated PC, and its answers to our kernels. See xen_reference.py."""
