# SPDX-License-Identifier: GPL-2.0-or-later
"""Translation beneath the guest's own: nested tables, and shadows of its tables."""
