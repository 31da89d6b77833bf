# SPDX-License-Identifier: GPL-2.0-or-later
"""What the keys of a domain file mean, and how each wrong one is answered."""

import os
from pathlib import Path

import pytest

from pvhv.toolstack import config, elf
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import prepare
from pvhv.toolstack.xlcfg import parse_argument


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "kernel.elf").write_bytes(b"\x7fELF")
    return tmp_path / "lab.cfg"


def load(file: Path, text: str, *arguments: str) -> config.DomainConfig:
    file.write_text('kernel = "kernel.elf"\n' + text)
    return config.load(file, map(parse_argument, arguments))


def complaint(file: Path, text: str, *arguments: str) -> str:
    with pytest.raises(ToolstackError) as caught:
        load(file, text, *arguments)
    return str(caught.value)


def test_defaults(file: Path) -> None:
    made = load(file, "")
    assert made == config.DomainConfig(name="lab", kernel=file.parent / "kernel.elf", given=["kernel"])
    assert (made.on_poweroff, made.on_reboot, made.on_crash) == ("destroy", "restart", "preserve")
    assert (made.memory, made.vcpus, made.clock) == (64, 1, "wall")


def test_everything_set(file: Path) -> None:
    made = load(
        file,
        'name = "one"; memory = 32; maxmem = 64; vcpus = 2; clock = "virtual"; timeline = "lab"\n cpu_weight = 512\n'
        'root = "/dev/x"; extra = "ro"; on_crash = "restart"; type = "pv"; ramdisk = "kernel.elf"\n'
        'uuid = "5F0C9D5E-7F1C-4F3E-9A43-0C3F3C7A1E52"',
    )
    assert made == config.DomainConfig(
        name="one",
        kernel=file.parent / "kernel.elf",
        ramdisk=file.parent / "kernel.elf",
        cmdline="root=/dev/x ro",
        memory=32,
        maxmem=64,
        vcpus=2,
        uuid="5f0c9d5e-7f1c-4f3e-9a43-0c3f3c7a1e52",
        on_crash="restart",
        on_watchdog="restart",
        clock="virtual",
        timeline="lab",
        cpu_weight=512,
        given=made.given,
    )
    assert set(made.given) >= {"on_crash", "on_watchdog", "timeline"}
    assert config.DomainConfig.from_wire(made.to_wire()) == made


def test_what_it_starts_with_and_what_it_may_grow_to(file: Path) -> None:
    made = load(file, "vcpus = 2; maxvcpus = 4; memory = 32; maxmem = 64")
    assert (made.vcpus, made.maxvcpus, made.memory, made.maxmem) == (2, 4, 32, 64)
    made = load(file, "maxvcpus = 4; maxmem = 48")  # as xl: one vCPU, all the memory
    assert (made.vcpus, made.maxvcpus, made.memory, made.maxmem) == (1, 4, 48, 48)
    made = load(file, "vcpus = 3; memory = 128")
    assert (made.vcpus, made.maxvcpus, made.memory, made.maxmem) == (3, 3, 128, 128)


def test_a_key_that_is_given_twice_is_told_with_both_lines(file: Path) -> None:
    made = load(file, "memory = 32\n\nmemory = 48\ncmdline = 'a'\ncmdline += 'b'", "memory=16")
    assert made.memory == 16 and made.cmdline == "ab"
    assert made.warnings == []  # the command line is meant to win, and += to add
    assert load(file, "memory = 32\n\nmemory = 48").warnings == [
        f"{file}:4: 'memory' is given a second time; the first ({file}:2) is passed over"
    ]


def test_the_command_line_wins(file: Path) -> None:
    made = load(file, "memory = 32", "memory=48", "name=other")
    assert (made.memory, made.name) == (48, "other")


def test_a_timeline_means_a_virtual_clock(file: Path) -> None:
    assert load(file, 'timeline = "t"').clock == "virtual"
    assert "lab.cfg:2: 'timeline' names a virtual clock" in complaint(file, 'timeline="t"; clock="wall"')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memroy = 64", "lab.cfg:2: unknown key 'memroy'\ndid you mean 'memory'?"),
        ("zzzz = 64", "known keys: name, "),
        ("memory = 'much'", "'memory' wants a number (of MiB), not a string"),
        ("memory = 0", "'memory' must lie between 1 and"),
        ("vcpus = 99", "'vcpus' must lie between 1 and 32"),
        ("name = ['x']", "'name' wants a string in quotes, not a list"),
        ("name = 'a b'", "may hold letters"),
        ("name = '12'", "taken for a domain id"),
        ("vcpus = 2; maxvcpus = 1", "lab.cfg:2: maxvcpus = 1 is less than vcpus = 2"),
        ("memory = 64\nmaxmem = 32", "lab.cfg:3: maxmem = 32 is less than memory = 64"),
        (r"cmdline = 'a\x00b'", "lab.cfg:2: 'cmdline' has a NUL character"),
        (r"name = 'a\0b'", "lab.cfg:2: 'name' "),
        (r"kernel = 'a\0b'", "lab.cfg:2: 'kernel' has a NUL character"),
        ("on_crash = 'destory'", "did you mean destroy?"),
        ("clock = 'slow'", "is one of wall, virtual"),
        ("type = 'pvh'", "runs with type"),
        ("type = 'vm'", '"pv" (paravirtual) and "hvm"'),
        ("technique = 'bare'", "for fully virtualized domains"),
        ("type = 'hvm'\ntechnique = 'hw-nestd'", "did you mean hw-nested?"),
        ("type = 'hvm'\nvcpus = 2", "one vCPU"),
        ("type = 'hvm'\nmemory = 64\nmaxmem = 128", "cannot grow"),
        ("type = 'hvm'\ntimeline = 'lab'", "timeline to itself"),
        ("uuid = 'x'", "wants a UUID"),
        ("disk = ['a,b,c']", "no such device here yet"),
        ("ramdisk = 'none.img'", "there is no file"),
        ("bootloader = 'pygrub'", "there is no bootloader"),
        (f"cmdline = '{'x' * 1024}'", "lab.cfg:2: the command line is longer"),
    ],
)
def test_complaints(file: Path, text: str, words: str) -> None:
    assert words in complaint(file, text)


def test_what_only_tunes_is_passed_over_with_a_word(file: Path) -> None:
    assert load(file, "cap = 50\ndisk = []\nvif = ['']").warnings == [
        f"{file}:2: 'cap' is passed over: {config.TUNING}"
    ]


def test_complaints_about_arguments_name_the_command_line(file: Path) -> None:
    assert complaint(file, "", "memory=0").startswith("command line: 'memory'")


def test_kernels_that_came_with_pvhv(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "built"
    built.mkdir()
    for name in ("guest-native", "guest-pv", "bench-exits", "test-traps"):
        (built / name).touch()
    monkeypatch.setattr(config, "KERNELS", built)
    assert config.built_kernels() == ["guest-pv", "guest-native", "bench-exits", "test-traps"]
    assert load(file, 'kernel = "guest-pv"').kernel == built / "guest-pv"
    assert "did you mean the built-in 'guest-pv'?" in complaint(file, 'kernel = "guest-vp"')
    assert "lab.cfg:2: there is no file" in complaint(file, 'kernel = "./guest-pv"')
    (file.parent / "guest-pv").touch()
    assert load(file, 'kernel = "guest-pv"').kernel == file.parent / "guest-pv"


def test_files_that_are_none(file: Path, tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "nothing.cfg", "there is no domain file"),
        (tmp_path, "is a directory"),
    ):
        with pytest.raises(ToolstackError, match=words):
            config.load(path)
    for data, words in (
        (b"\x7fELF\0\xff\xfe", "is not text"),
        (b"kernel = 'x'\0", "is not text"),
        (b"# ok\n# caf\xe9\n", "lab.cfg:2: byte 0xe9 is not UTF-8"),
        (b"#" * (config.LARGEST_FILE + 1), "larger than any"),
    ):
        file.write_bytes(data)
        with pytest.raises(ToolstackError, match=words):
            config.load(file)
    with pytest.raises(ToolstackError, match="its name is empty"):
        config.load("")
    for text in ("memory = 3", "kernel = ''"):
        file.write_text(text)
        with pytest.raises(ToolstackError, match="no kernel is named"):
            config.load(file)


def test_pipes_and_devices_are_not_waited_for(file: Path) -> None:
    pipe = file.parent / "pipe"
    os.mkfifo(pipe)
    for path, words in (
        (pipe, "cannot read the domain file .*pipe: it is a pipe, not a plain file"),
        (Path("/dev/zero"), "it is a device, not a plain file"),
        (Path("/dev/tty"), "cannot read the domain file /dev/tty"),
    ):
        with pytest.raises(ToolstackError, match=words):
            config.load(path)
    (file.parent / "directory").mkdir()
    assert "lab.cfg:2: " in complaint(file, "kernel = 'pipe'")
    assert "pipe is not a plain file" in complaint(file, "kernel = 'pipe'")
    assert "directory is a directory" in complaint(file, "kernel = 'directory'")
    assert "zero is not a plain file" in complaint(file, "ramdisk = '/dev/zero'")
    with pytest.raises(ToolstackError, match=r"cannot read the kernel .*: it is a pipe"):
        elf.read(pipe)
    with pytest.raises(ToolstackError, match=r"cannot read the ramdisk .*: it is a device"):
        prepare(config.DomainConfig("x", config.KERNELS / "guest-pv", ramdisk=Path("/dev/zero")))


def test_a_command_line_that_is_not_utf_8_reaches_the_guest_as_it_is(file: Path) -> None:
    made = load(file, "", "cmdline=caf\udce9")  # as Python reads an argument
    assert config.as_bytes(made.cmdline) == b"caf\xe9"


def test_a_config_of_newer_code_is_refused_by_name() -> None:
    plain = config.DomainConfig("x", Path("k")).to_wire()
    with pytest.raises(ToolstackError, match=r"older code.*does not know wings\n.*daemon stop"):
        config.DomainConfig.from_wire({**plain, "wings": 2})
