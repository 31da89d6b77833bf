# SPDX-License-Identifier: GPL-2.0-or-later
"""Protocols between a guest and the backends: rings in shared pages, as in xen/include/public/io."""
