# SPDX-License-Identifier: GPL-2.0-or-later
"""The second translation, below the guest's own: nested page tables, or shadows of the guest's tables."""
