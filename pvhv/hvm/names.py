# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of techniques and device models, in a file of their own: code that only names one need not import it."""

from __future__ import annotations

BARE, TRAP_EMULATE, BINARY_TRANSLATION = "bare", "trap-emulate", "binary-translation"
HW_SHADOW, HW_NESTED = "hw-shadow", "hw-nested"
NAMES = (BARE, TRAP_EMULATE, BINARY_TRANSLATION, HW_SHADOW, HW_NESTED)
DEFAULT = HW_NESTED
IDE, VIRTIO = "ide", "virtio"  # disks
