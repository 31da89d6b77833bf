# SPDX-License-Identifier: GPL-2.0-or-later
"""The techniques by name."""

from __future__ import annotations

from pvhv.hvm.technique import Technique
from pvhv.hvm.techniques.bare import Bare
from pvhv.hvm.techniques.binary_translation import BinaryTranslation
from pvhv.hvm.techniques.hw_nested import HwNested
from pvhv.hvm.techniques.hw_shadow import HwShadow
from pvhv.hvm.techniques.trap_emulate import TrapEmulate

ALL: tuple[type[Technique], ...] = (Bare, TrapEmulate, BinaryTranslation, HwShadow, HwNested)
TECHNIQUES: dict[str, type[Technique]] = {technique.name: technique for technique in ALL}
