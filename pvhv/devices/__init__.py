# SPDX-License-Identifier: GPL-2.0-or-later
"""The backends: what runs in dom0 behind a guest's split drivers, in Python instead of C."""
