# SPDX-License-Identifier: GPL-2.0-or-later
"""The techniques by name."""

from __future__ import annotations

from pvhv.hvm.bare import Bare
from pvhv.hvm.binary_translation import BinaryTranslation
from pvhv.hvm.hw_nested import HwNested
from pvhv.hvm.hw_shadow import HwShadow
from pvhv.hvm.technique import Technique
from pvhv.hvm.trap_emulate import TrapEmulate

ALL: tuple[type[Technique], ...] = (Bare, TrapEmulate, BinaryTranslation, HwShadow, HwNested)
TECHNIQUES: dict[str, type[Technique]] = {technique.name: technique for technique in ALL}
