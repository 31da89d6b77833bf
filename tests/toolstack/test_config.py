# SPDX-License-Identifier: GPL-2.0-or-later
"""What the keys of a domain file mean, and how each wrong one is answered."""

from pathlib import Path

import pytest

from pvhv.toolstack import config
from pvhv.toolstack.errors import ToolstackError
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
        ("on_crash = 'destory'", "did you mean destroy?"),
        ("clock = 'slow'", "is one of wall, virtual"),
        ("type = 'hvm'", "paravirtual guests"),
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
    for name in ("guest-pv", "test-traps"):
        (built / name).touch()
    monkeypatch.setattr(config, "KERNELS", built)
    assert config.built_kernels() == ["guest-pv", "test-traps"]
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
    file.write_bytes(b"\x7fELF\xff\xfe")
    with pytest.raises(ToolstackError, match="is not text"):
        config.load(file)
    file.write_text("memory = 3")
    with pytest.raises(ToolstackError, match="no kernel is named"):
        config.load(file)
