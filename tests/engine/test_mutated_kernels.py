# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole kernels with a few bytes of their code changed, as domains of every kind: they may do what they like, but only
to themselves. No bug of the hypervisor is met, no engine dies, and a domain beside them is served."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pvhv.machine import seam
from pvhv.testing import Machine
from pvhv.toolstack.kernel_files import KERNELS

PV, NATIVE = "guest-pv", "guest-native"
DOMAINS = {
    "pv, wall": (PV, "wall", None),
    "pv, virtual": (PV, "virtual", None),
    **{
        technique: (NATIVE, "virtual", technique)
        for technique in ("bare", "trap-emulate", "binary-translation", "hw-shadow", "hw-nested")
    },
}
SEEDS = range(3)


def mutated(kernel: str, seed: int, to: Path) -> Path:
    """The kernel with some bytes of its text changed, most of them late, so that it comes some way."""
    dice = random.Random(seed)
    image = bytearray((KERNELS / kernel).read_bytes())
    section = ELFFile(io.BytesIO(bytes(image))).get_section_by_name(".text")
    begin, size = section["sh_offset"], section["sh_size"]
    for _ in range(dice.choice((1, 4, 40))):
        at = begin + dice.randrange(size)
        image[at] = dice.choice((image[at] ^ 1 << dice.randrange(8), dice.randrange(256), 0x0F, 0xF0, 0xC4))
    path = to / f"{kernel}-{seed}"
    path.write_bytes(image)
    return path


@pytest.mark.skipif(not seam.corrected, reason="the stock engine may die of it")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("what", DOMAINS)
def test_a_kernel_that_is_not_what_it_was_hurts_only_itself(what: str, seed: int, tmp_path: Path) -> None:
    kernel, clock, technique = DOMAINS[what]
    with Machine(256) as machine:
        strange = machine.create(
            mutated(kernel, seed, tmp_path), name="strange", clock=clock, technique=technique, memory=32,
            stdin="ls\nps\ncat /etc/motd | wc\nforktest\npoweroff\n",
        )  # fmt: skip
        other = machine.create(PV, name="other", stdin="echo served\npoweroff\n", clock="wall")
        machine.run(strange, timeout=0.7)
        assert machine.run(other, timeout=20)
        assert not machine.hypervisor.bugs, machine.hypervisor.bugs[0]
        assert "served" in machine.result(other).lines
        assert "the engine" not in strange.report and "without leaving guest code" not in strange.report, strange.report
