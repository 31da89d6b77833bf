# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's core: the sections that Xen's format asks for, filled with what the domain is; and nobody is held up."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from pvhv.abi.arch_x86 import VcpuGuestContext
from pvhv.testing import Machine
from pvhv.toolstack import core_writer
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.core_dump import CoreDump
from pvhv.toolstack.core_writer import write_core
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest, prepare
from tests.toolstack.recipes import BASE, SPIN, Recipe

PAGE = 4096
# mov $0x1122334455667788, %rbx; jmp .
MARKED = b"\x48\xbb" + 0x1122334455667788.to_bytes(8, "little") + SPIN


class Dumping:
    """A dump under way on a thread of its own, while the hypervisor runs on this one."""

    def __init__(self, machine: Machine, guest: Guest, use: Callable[[Iterator[bytes]], Any]) -> None:
        self.machine = machine
        self.longest = 0.0
        self.steps = 0
        self.found: Any = None
        self.failure: BaseException | None = None
        dump = CoreDump(guest)

        def run() -> None:
            try:
                self.found = use(dump.pieces(self._ask))
            except BaseException as failure:
                self.failure = failure

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def _ask(self, step: Callable[[], Any]) -> Any:
        def timed() -> Any:
            begun = time.thread_time()
            try:
                return step()
            finally:
                self.steps += 1
                self.longest = max(self.longest, time.thread_time() - begun)

        return self.machine.hypervisor.post(timed).result(30)

    def finish(self) -> Any:
        assert self.machine.hypervisor.run_until(lambda: not self.thread.is_alive(), 60)
        if self.failure is not None:
            raise self.failure
        return self.found


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(256) as made:
        yield made


def spinning(machine: Machine, tmp_path: Path, code: bytes = MARKED, memory: int = 8, **more: Any) -> Guest:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(Recipe(code=code).build())
    guest = machine.host.create(prepare(DomainConfig("guest", kernel, memory=memory, maxmem=memory, **more)))
    machine.hypervisor.run_until(lambda: guest.domain.vcpus[0].ran > 0, 10)
    machine.hypervisor.run_until(lambda: False, 0.05)
    return guest


def notes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        name_size, size, kind, name = struct.unpack_from("<III4s", data)
        assert (name_size, name) == (4, b"Xen\0")
        found[kind], data = data[16 : 16 + size], data[16 + size :]
    return found


def test_the_file_is_what_xen_writes(machine: Machine, tmp_path: Path) -> None:
    guest = spinning(machine, tmp_path, vcpus=2)
    machine.host.pause(guest)
    path = tmp_path / "core"
    dumping = Dumping(machine, guest, lambda pieces: write_core(path, pieces))
    assert dumping.finish() == path.stat().st_size
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert (elf["e_type"], elf["e_machine"], elf.num_segments()) == ("ET_CORE", "EM_X86_64", 0)
        sections = {section.name: section for section in elf.iter_sections()}
        data = {name: section.data() for name, section in sections.items()}
    assert list(data) == ["", ".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_pages", ".xen_p2m", ".shstrtab"]
    pages = guest.domain.tot_pages
    told = notes(data[".note.Xen"])
    assert list(told) == [0x2000000, 0x2000001, 0x2000002, 0x2000003]
    assert struct.unpack("<QQQQ", told[0x2000001]) == (0xF00FEBED, 1, pages, PAGE)  # of two vCPUs one was brought up
    assert struct.unpack_from("<QQ", told[0x2000002]) == (4, 17) and len(told[0x2000002]) == 1280
    assert struct.unpack("<Q", told[0x2000003]) == (1,)

    [context] = [VcpuGuestContext.from_buffer_copy(data[".xen_prstatus"])]
    assert context.user_regs.rbx == 0x1122334455667788
    assert context.user_regs.rip == BASE + 0x10_0000 + len(MARKED) - 2
    assert context.flags == 1 << 2 | 1 << 5  # in its kernel, online
    assert context.ctrlreg[3] == guest.domain.vcpus[0].guest_table << 12
    assert (context.user_regs.cs, context.user_regs.ss) == (0xE033, 0xE02B)

    ram, table = machine.hypervisor.ram, list(struct.iter_unpack("<QQ", data[".xen_p2m"]))
    assert [pfn for pfn, _mfn in table] == list(range(pages))
    assert data[".xen_shared_info"] == bytes(ram.frame(guest.domain.shared_info))
    for index, (_pfn, mfn) in enumerate(table):
        assert data[".xen_pages"][index * PAGE : (index + 1) * PAGE] == bytes(ram.frame(mfn))
    assert sections[".xen_pages"]["sh_offset"] % PAGE == 0
    assert os.stat(path).st_blocks * 512 < path.stat().st_size / 2  # what is zero takes no room


def test_a_big_domain_that_runs_is_dumped_in_small_steps(machine: Machine, tmp_path: Path) -> None:
    guest = spinning(machine, tmp_path, memory=128)
    before = guest.domain.vcpus[0].ran
    dumping = Dumping(machine, guest, lambda pieces: sum(map(len, pieces)))
    assert dumping.finish() > 128 << 20
    assert guest.domain.vcpus[0].ran > before  # it had its turns
    assert dumping.steps > 128 << 20 >> 20
    assert dumping.longest < 0.05  # milliseconds; the rest is a busy host's


def test_pages_that_go_meanwhile_are_left_out(machine: Machine, tmp_path: Path) -> None:
    guest = spinning(machine, tmp_path)
    machine.host.pause(guest)
    frames, lost = machine.hypervisor.frames, []

    def use(pieces: Iterator[bytes]) -> bytes:
        head = next(pieces)  # all frames are known by now
        mfn = next(mfn for mfn in frames.owned_by(guest.domid) if frames.refs[mfn] == 1 and not frames.types[mfn] & 7)
        lost.append(mfn)
        machine.hypervisor.post(lambda: frames.release_allocation(mfn)).result(10)
        return head + b"".join(pieces)

    data = Dumping(machine, guest, use).finish()
    path = tmp_path / "core"
    path.write_bytes(data)
    with path.open("rb") as file:
        table = list(struct.iter_unpack("<QQ", ELFFile(file).get_section_by_name(".xen_p2m").data()))
    assert lost[0] not in [mfn for _pfn, mfn in table]
    assert table[-1] == ((1 << 64) - 1,) * 2 and table[-2][0] != (1 << 64) - 1


def test_a_domain_that_goes_meanwhile_is_told_of(machine: Machine, tmp_path: Path) -> None:
    guest = spinning(machine, tmp_path)
    path = tmp_path / "core"

    def use(pieces: Iterator[bytes]) -> None:
        next(pieces)
        machine.hypervisor.post(lambda: machine.host.destroy(guest)).result(10)
        write_core(path, pieces)

    with pytest.raises(ToolstackError, match="domain guest went away while its core was dumped"):
        Dumping(machine, guest, use).finish()
    assert not path.exists()  # half a core is none


def test_who_says_too_much_about_its_pages_is_dumped_all_the_same(machine: Machine, tmp_path: Path) -> None:
    guest = spinning(machine, tmp_path)
    machine.host.pause(guest)
    m2p, mfns = machine.hypervisor.m2p, machine.hypervisor.frames.owned_by(guest.domid)
    for index, mfn in enumerate(mfns[:64]):
        m2p[mfn] = (1 << 64) - 1 - index * (1 << 40) if index % 2 else m2p[mfns[-1]]  # nowhere, or where another is
    data = Dumping(machine, guest, b"".join).finish()
    assert len(data) < (guest.domain.tot_pages + 8) * (PAGE + 16)


def test_where_a_core_may_not_be_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, words in (
        (tmp_path, "Is a directory"), (tmp_path / "none" / "core", "No such file"), (pipe, "No such device or address"),
        ("a\0b", "it is no name of a file"), (tmp_path / ("x" * 300), "File name too long"),
    ):  # fmt: skip
        with pytest.raises(ToolstackError, match=rf"cannot write .*: {words}"):
            write_core(path, iter([b"x"]))


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(core_writer.os, "write", full)
    with pytest.raises(ToolstackError, match=r"cannot write .*core: No space left on device"):
        write_core(tmp_path / "core", iter([bytes(1 << 20), b"x" * 10]))
    assert not (tmp_path / "core").exists()


def test_a_pipe_gets_every_byte() -> None:
    reading, writing = os.pipe()
    got: list[bytes] = []

    def read() -> None:
        while data := os.read(reading, 1 << 20):
            got.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    write_core(f"/dev/fd/{writing}", iter([b"a", bytes(200_000), b"z"]))
    os.close(writing)
    thread.join(10)
    assert b"".join(got) == b"a" + bytes(200_000) + b"z"
