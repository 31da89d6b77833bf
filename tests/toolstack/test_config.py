# SPDX-License-Identifier: GPL-2.0-or-later
"""What the keys of a domain file mean, and how each wrong one is answered."""

import os
import time
from pathlib import Path

import pytest

from pvhv.core.grants import table as grants
from pvhv.toolstack import config, disk_spec, elf, kernel_files
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import prepare
from pvhv.toolstack.keys import KEYS, Fate
from pvhv.toolstack.names import as_bytes
from pvhv.toolstack.xl_json import as_xl_has_it


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "kernel.elf").write_bytes(b"\x7fELF")
    return tmp_path / "lab.cfg"


def load(file: Path, text: str, *arguments: str) -> config.DomainConfig:
    file.write_text('kernel = "kernel.elf"\n' + text)
    return config.load(file, arguments)


def complaint(file: Path, text: str, *arguments: str) -> str:
    with pytest.raises(ToolstackError) as caught:
        load(file, text, *arguments)
    return str(caught.value)


def test_defaults(file: Path) -> None:
    """Those of xl, but for a crash: there is something to look at."""
    made = load(file, "")
    assert made == config.DomainConfig(
        name="lab", kernel=file.parent / "kernel.elf", memory=32, maxmem=32, given=["kernel"]
    )
    assert (made.on_poweroff, made.on_reboot, made.on_crash) == ("destroy", "restart", "preserve")
    assert (made.on_watchdog, made.on_soft_reset) == ("preserve", "soft-reset")
    assert (made.memory, made.vcpus, made.clock, made.max_event_channels) == (32, 1, "wall", 1023)


def test_everything_set(file: Path) -> None:
    made = load(
        file,
        'name = "one"; memory = 32; maxmem = 64; vcpus = 2; clock = "virtual"; timeline = "lab"\n cpu_weight = 512\n'
        'root = "/dev/x"; extra = "ro"; on_crash = "restart"; type = "pv"; ramdisk = "kernel.elf"\n'
        'uuid = "5F0C9D5E-7F1C-4F3E-9A43-0C3F3C7A1E52"\n'
        'max_event_channels = 4095; max_grant_frames = "0x10"; max_maptrack_frames = 8; max_grant_version = 1\n'
        'rtc_timeoffset = "-60"',
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
        max_event_channels=4095,
        max_grant_frames=16,
        max_maptrack_frames=8,
        max_grant_version=1,
        time_offset=-60,
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
        ("memory = 0", "'memory' must lie between 1 and"),
        ("memory = '-5'", "'memory' must lie between 1 and"),
        ("vcpus = 99", "'vcpus' must lie between 1 and 32"),
        ("vcpus = 2; maxvcpus = 1", "lab.cfg:2: maxvcpus = 1 is less than vcpus = 2"),
        ("cpu_weight = 0", "'cpu_weight' must lie between 1 and 65535"),
        ("max_grant_frames = 'many'", "'max_grant_frames' has to be a number from 1 to 64"),
        (r"cmdline = 'a\x00b'", "lab.cfg:2: 'cmdline' has a NUL character"),
        (r"kernel = 'a\x00b'", "lab.cfg:2: 'kernel' has a NUL character"),
        ("name = 'a\0b'", "lab.cfg:2: a string has a NUL character"),
        (f"name = '{'x' * 1025}'", "lab.cfg:2: 'name' may have 1024 bytes at most"),
        ("on_crash = 'destory'", "did you mean destroy?"),
        ("on_crash = 'coredump'", "coredump-destroy, coredump-restart, soft-reset"),
        ("clock = 'slow'", "is one of wall, virtual"),
        ("type = 'pvh'", "runs with type"),
        ("type = 'vm'", '"pv" (paravirtual) and "hvm"'),
        ("type = 'pv'; builder = 'hvm'", "contradict each other"),
        ("technique = 'bare'", "for fully virtualized domains"),
        ("type = 'hvm'\ntechnique = 'hw-nestd'", "did you mean hw-nested?"),
        ("type = 'hvm'\nvcpus = 2", "one vCPU"),
        ("type = 'hvm'\nmemory = 64\nmaxmem = 128", "cannot grow"),
        ("type = 'hvm'\ntimeline = 'lab'", "timeline to itself"),
        ("uuid = 'x'", "wants a UUID"),
        ("disk = ['lab.cfg,b,xvda']", "lab.cfg:2: 'disk': 'b' is not a format; there are raw and qcow2\na disk is"),
        ("disk = ['lab.cfg,qed,xvda']", "the format qed is not here yet\nqemu-img convert -O qcow2 lab.cfg NEW"),
        ("disk = ['lab.cfg,raw']", "it has no vdev"),
        ("disk = [',raw,xvda']", "it has no target"),
        ("disk = ['none,raw,xvda']", "none 64M makes an empty disk"),
        ("disk = ['/,raw,xvda']", "is a directory"),
        ("disk = ['/dev/null,raw,xvda']", "not a plain file"),
        ("disk = ['lab.cfg,raw,vdq']", "'vdq' is not the name of a disk; use xvda"),
        ("disk = ['lab.cfg,raw,xvda,x']", "'x' is not an access mode; there are rw and ro"),
        ("disk = ['lab.cfg,raw,xvda,rw,x']", "'x' is one part too many"),
        ("disk = ['lab.cfg,raw,xvda,vdev=xvdb']", "it has two values for vdev"),
        ("disk = ['lab.cfg,raw,xvda,rw,sector-size=2048']", "the sector size is 512 or 4096"),
        ("disk = [',empty,xvda']", "only a CD-ROM drive can be empty"),
        ("disk = ['lab.cfg,empty,xvda,,cdrom']", "its format is empty, but it has a target"),
        ("disk = ['lab.cfg,raw,xvda:tape']", "'tape' is not a kind of disk; there are disk and cdrom"),
        ("disk_latency = 1000001", "'disk_latency' must lie between 0 and 1000000 (of microseconds)"),
        ("disk = ['lab.cfg,raw,xvda,rw,script=x']", "'script': no scripts run here"),
        ("disk = ['lab.cfg,raw,xvda,rw,backend=d']", "'backend': domain 0 has all backends here"),
        ("disk = ['lab.cfg,raw,xvda,rw,wath=x']", "a disk has no 'wath'"),
        ("disk = ['phy:/dev/null,xvda,w']", "/dev/null is not a plain file"),
        ("disk = ['phy:/dev/vg/none,xvda,w']", "there is no file /dev/vg/none"),
        ("disk = ['nbd:host:1,xvda,w']", "'nbd:': no scripts run here"),
        ("disk = ['lab.cfg,,xvda,devtype=floppy']", "'floppy' is not a kind of disk"),
        ("disk = ['lab.cfg,,xvda,specification=virtio']", "vda, of a domain of type hvm, is a virtio disk"),
        ("disk = ['lab.cfg,,xvda,w!']", "'w!' is not an access mode"),
        ("disk = ['lab.cfg,,xvda,rw,colo']", "'colo': there is no replication here"),
        ("disk = ['lab.cfg,,xvda', 'lab.cfg,,xvda']", "two of them are xvda"),
        ("disk = ['lab.cfg,,d0p0', 'lab.cfg,,xvda']", "two of them are d0p0, which is xvda as well"),
        (
            "type = 'hvm'\ndisk = ['lab.cfg,,xvda']",
            "lab.cfg:3: 'disk': a fully virtualized domain has no disk xvda here, for it has no xenbus",
        ),
        ("type = 'hvm'\ndisk = ['lab.cfg,,hda,ro']", "lab.cfg:3: 'disk': an IDE disk (hda) cannot be read-only"),
        ("type = 'hvm'\ndisk = ['lab.cfg,,vda', 'lab.cfg,,vda']", "lab.cfg:3: 'disk': two of them are vda"),
        ("disk = ['lab.cfg,,vda']", "lab.cfg:2: 'disk': a paravirtual domain has no disk vda"),
        ("ramdisk = 'none.img'", "there is no file"),
        ("bootloader = 'pygrub'", "there is no bootloader"),
        (f"kernel = '{'x' * 300}'", "lab.cfg:2: cannot look for"),
        (f"cmdline = '{'x' * 1024}'", "lab.cfg:2: the command line is longer"),
    ],
)
def test_complaints(file: Path, text: str, words: str) -> None:
    assert words in complaint(file, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memroy = 64", "lab.cfg:2: there is no key 'memroy', so it has no effect; did you mean 'memory'?"),
        ("zzzz = 64", "lab.cfg:2: there is no key 'zzzz', so it has no effect"),
        ("loader = 'generic'", "lab.cfg:2: there is no key 'loader', so it has no effect"),
        ("memory = 'much'", "lab.cfg:2: 'memory' has to be a number, not 'much'; it is passed over, as xl does"),
        ("memory += 64", "lab.cfg:2: 'memory' is made by +=, which makes no number; it is passed over, as xl does"),
        ("vcpus = ['2']", "lab.cfg:2: 'vcpus' is a list, and should be a single value; it is passed over, as xl does"),
        ("disk = 'a,b,c'", "lab.cfg:2: 'disk' is a single value, and should be a list; it is passed over, as xl does"),
        ("memory = 64\nmaxmem = 32", "lab.cfg:3: maxmem = 32 is less than memory = 64, which it becomes"),
        ("cap = 50", "lab.cfg:2: 'cap' is passed over: the scheduler here knows cpu_weight alone"),
        (
            "vif = ['']",
            "lab.cfg:2: 'vif' is passed over: there are no network interfaces here yet; the domain has none",
        ),
        ("cmdline = 'a'\nextra = 'b'", "lab.cfg:3: 'extra' is passed over, as xl does: there is a cmdline"),
        (
            "localtime = 1\nclock = 'virtual'",
            "lab.cfg:2: 'localtime' is passed over: a virtual clock is the same everywhere",
        ),
        (
            r"cmdline = 'a\101b'",
            r"lab.cfg:2: \101 in a string stands for nothing, as in xl, which reads no octal escapes",
        ),
        (
            "type = 'hvm'\nboot = 'c'",
            "lab.cfg:3: 'boot' is passed over: the kernel that the file names is what is booted",
        ),
    ],
)
def test_what_nothing_comes_of_is_told_in_one_line(file: Path, text: str, words: str) -> None:
    assert [each.removeprefix(f"{file.parent}/") for each in load(file, text).warnings] == [words]


@pytest.mark.parametrize(
    "text",
    ["boot = 'c'\nvncunused = 1\nhap = 1\ncpuid = 'host'", "disk = []\nvif = []\npci = []", "vnc = 0\ncap = 0",
     "tsc_mode = 'default'\npassthrough = 'disabled'\ncpus = 'all'\npool = 'Pool-0'", "localtime = 0\nnomigrate = 0"],
)  # fmt: skip
def test_what_says_nothing_is_not_worth_a_word(file: Path, text: str) -> None:
    assert load(file, text).warnings == []


def test_everything_that_is_wrong_is_told_at_once_in_the_file_s_order(file: Path) -> None:
    text = "memory = 0\nvcpus = 99\n\ndisk = ['x']\ncap = 3\na b\nkernel = 'none'\nmemroy = 3\nx = 'y\nuuid = 'z'"
    told = complaint(file, text, "vcpus=77").replace(f"{file.parent}/", "").splitlines()
    assert told[0] == "7 things are wrong"
    lines = [line for line in told[1:] if not line.startswith("    ")]
    starts = ("lab.cfg:2: 'memory'", "lab.cfg:5: 'disk'", "lab.cfg:7: expected '='", "lab.cfg:8: no kernel 'none'",
              "lab.cfg:10: the string", "lab.cfg:11: 'uuid'", "command line: 'vcpus'", "to know as well:",
              "lab.cfg:6: 'cap'", "lab.cfg:8: 'kernel' is given a second time", "lab.cfg:9: there is no")  # fmt: skip
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start), line


def test_a_file_of_nothing_but_mistakes_is_answered_quickly_and_shortly(file: Path) -> None:
    begun = time.monotonic()
    made = load(file, "".join(f"a{n} = 1\n" for n in range(20_000)))
    assert len(made.warnings) == 51 and made.warnings[-1] == "and 19950 more"
    told = complaint(file, "a = 'x\n" * 20_000)
    assert len(told.splitlines()) == 52
    assert time.monotonic() - begun < 20


def test_numbers_are_read_as_c_reads_them(file: Path) -> None:
    for text, memory in (
        ("'040'", 32), ("'0x20'", 32), ("040", 32), ("0x20", 32), ("' 48'", 48), ("'+48'", 48), ("'08'", 32),
    ):  # fmt: skip
        assert load(file, f"memory = {text}").memory == memory


def test_names_may_be_anything(file: Path) -> None:
    for text, name in (
        (
            "'a b/../c'",
            "a b/../c"), ("12", "12"), ("0x1f", "0x1f"), ("'x~y'", "x~y"), (r"'\t\n'", "\t\n"), ("'-x'", "-x",
        ),
        ("''", "lab"), ("'\x1b[2J'", "\x1b[2J"),
    ):  # fmt: skip
        assert load(file, f"name = {text}").name == name


def test_a_type_may_be_said_by_its_beginning_as_in_xl(file: Path) -> None:
    for text, kind in (("type = 'p'", "pv"), ("type = 'h'", "hvm"), ("type = ''", "hvm"), ("builder = 'gen'", "pv")):
        assert load(file, text).type == kind


def test_dev_null_is_a_file_of_nothing_but_the_command_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "kernel.elf").write_bytes(b"")
    made = config.load("/dev/null", [f'kernel="{file.parent}/kernel.elf"', "memory=48"])
    assert (made.name, made.memory) == ("domain", 48)


def test_the_table_s_figures_are_the_core_s() -> None:
    assert "1 to 64;" in KEYS["max_grant_frames"].doc and grants.DEFAULT_MAX_FRAMES == 64
    assert "0 to 1024;" in KEYS["max_maptrack_frames"].doc and grants.DEFAULT_MAX_MAPTRACK_FRAMES == 1024
    for key in KEYS.values():
        assert bool(key.hint) == (key.fate is Fate.REFUSED)


def test_complaints_about_arguments_name_the_command_line(file: Path) -> None:
    assert complaint(file, "", "memory=0").startswith("command line: 'memory'")


def test_kernels_that_came_with_pvhv(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "built"
    built.mkdir()
    for name in ("guest-native", "guest-pv", "bench-exits", "test-traps"):
        (built / name).touch()
    monkeypatch.setattr(kernel_files, "KERNELS", built)
    assert kernel_files.built_kernels() == ["guest-pv", "guest-native", "bench-exits", "test-traps"]
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
        (b"#" * (config.LARGEST_FILE + 1), "larger than any"),
    ):
        file.write_bytes(data)
        with pytest.raises(ToolstackError, match=words):
            config.load(file)
    with pytest.raises(ToolstackError, match="the name of the domain file is empty"):
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
        prepare(config.DomainConfig("x", kernel_files.KERNELS / "guest-pv", ramdisk=Path("/dev/zero")))


def test_bytes_that_are_no_utf_8_are_nobody_s_business(file: Path) -> None:
    file.write_bytes(b"# caf\xe9 \0\nkernel = 'kernel.elf'\ncmdline = 'caf\xe9'\nname = '\xff'")
    made = config.load(file)
    assert as_bytes(made.cmdline) == b"caf\xe9" and as_bytes(made.name) == b"\xff"


def test_a_command_line_that_is_not_utf_8_reaches_the_guest_as_it_is(file: Path) -> None:
    made = load(file, "", "cmdline=caf\udce9")  # as Python reads an argument
    assert as_bytes(made.cmdline) == b"caf\xe9"


def test_disks(file: Path) -> None:
    (file.parent / "a, b.img").touch()
    made = load(file, "disk = ['lab.cfg,qcow2,xvda', 'vdev=xvdb1,access=r,target=a, b.img', 'lab.cfg,raw,xvdaa,w']")
    here = file.parent.absolute()
    assert made.disks == [
        DiskConfig(f"{here}/lab.cfg", "xvda", "rw", "qcow2", "disk", "", "512"),
        DiskConfig(f"{here}/a, b.img", "xvdb1", "ro", "raw", "disk", "", "512"),
        DiskConfig(f"{here}/lab.cfg", "xvdaa", "rw", "raw", "disk", "", "512"),
    ]
    assert load(file, "disk = ['qcow2:lab.cfg,xvda']").disks == made.disks[:1]
    assert not made.warnings and config.DomainConfig.from_wire(made.to_wire()) == made
    assert as_xl_has_it(made)["disks"][1] == {
        "pdev_path": f"{here}/a, b.img", "vdev": "xvdb1", "format": "raw", "readwrite": 0,
    }  # fmt: skip


def test_what_a_disk_may_be_besides(file: Path) -> None:
    made = load(
        file,
        "disk = ['lab.cfg,raw,hdc:cdrom,r', 'vdev=xvdc,cdrom', 'lab.cfg,,xvdd,no-discard', "
        "'sector-size=4096,lab.cfg,,xvde']",
    )
    here = file.parent.absolute()
    assert made.disks == [
        DiskConfig(f"{here}/lab.cfg", "hdc", "ro", "raw", "cdrom", "", "512"),
        DiskConfig("", "xvdc", "ro", "empty", "cdrom", "", "512"),
        DiskConfig(f"{here}/lab.cfg", "xvdd", "rw", "raw", "disk", "no", "512"),
        DiskConfig(f"{here}/lab.cfg", "xvde", "rw", "raw", "disk", "", "4096"),
    ]
    assert [disk.discards for disk in made.disks] == [False, False, False, True]
    assert config.DomainConfig.from_wire(made.to_wire()) == made
    shown = as_xl_has_it(made)["disks"]
    assert (shown[1]["is_cdrom"], shown[1]["removable"], shown[2]["discard_enable"]) == (1, 1, "False")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("phy:/i,xvda,w", "raw xvda rw disk"),
        ("tap:aio:/i,xvda,w", "raw xvda rw disk"),
        ("tapdisk:/i,xvda1,r", "raw xvda1 ro disk"),
        ("tap:qcow2:/i,xvda,w", "qcow2 xvda rw disk"),
        ("qcow2:/i,ioemu:hda,w", "qcow2 hda rw disk"),
        ("file: /i,ioemu:hda,w", "raw hda rw disk"),
        ("file:/i,ioemu:hdc:cdrom,r", "raw hdc ro cdrom"),
        ("phy:/i,0x301,w", "raw 0x301 rw disk"),
        ("phy:/i, xvda1, backendtype=qdisk, specification=xen, trusted, no-colo", "raw xvda1 rw disk"),
        ("format=qcow2,vdev=hda,access=rw,backendtype=qdisk,target=/i", "qcow2 hda rw disk"),
        ("/i,,hdc,cdrom", "raw hdc ro cdrom"),
    ],
)
def test_lines_that_people_have(text: str, found: str, tmp_path: Path) -> None:
    """The disks of files that were written for xm and for older versions of xl; xl reads them so."""
    image = tmp_path / "i"
    image.touch()
    text = text.replace("/i", str(image))
    disk = disk_spec.parse(text, tmp_path)
    assert f"{disk.format} {disk.vdev} {disk.access} {disk.devtype}" == found
    assert disk.target == str(image)


def test_a_disk_without_a_format_is_raw(file: Path) -> None:
    """As under xl. If it looks like a qcow2 image, that gets a warning; a guest's own disk may look so, so no more."""
    (file.parent / "a.img").write_bytes(bytes(1024))
    (file.parent / "b.img").write_bytes(b"QFI\xfb" + bytes(1020))
    made = load(file, "disk = ['a.img,,xvda', 'b.img,,xvdb', 'b.img,raw,xvdc', 'b.img,qcow2,xvdd']")
    assert [disk.format for disk in made.disks] == ["raw", "raw", "raw", "qcow2"]
    image = file.parent.resolve() / "b.img"
    words = f"'disk': {image} looks like a qcow2 image, but without a format it is a raw one; say qcow2, or raw"
    assert [each.removeprefix(f"{file}:2: ") for each in made.warnings] == [words]


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        ("xvda hda", "xvda and hda"),
        ("sdb xvda xvdb", "sdb and xvdb"),
        ("hdc xvdb xvdc1", "hdc and xvdc1"),
        ("xvda xvda1", "xvda and xvda1"),
        ("xvda1 xvda2 hdb sdc xvdd xvdq xvdz", ""),
    ],
)
def test_disks_that_linux_takes_for_one(file: Path, names: str, clash: str) -> None:
    """xl says nothing. Other kernels have them both, so it is a warning. In a PC they are two disks."""
    (file.parent / "i").write_bytes(bytes(1024))
    text = f"disk = {[f'i,raw,{name},ro' for name in names.split()]}"
    words = [f"'disk': Linux makes one disk of {clash}, and does without the other"] if clash else []
    assert [each.removeprefix(f"{file}:2: ") for each in load(file, text).warnings] == words


def test_how_long_a_disk_takes(file: Path) -> None:
    assert load(file, "clock = 'virtual'").disk_latency == 100
    made = load(file, "clock = 'virtual'\ndisk_latency = 0")
    assert made.disk_latency == 0 and as_xl_has_it(made)["pvhv"]["disk_latency"] == 0
    (warning,) = load(file, "disk_latency = 5").warnings
    assert "on the wall clock a disk takes as long as it takes" in warning


def test_a_domain_has_so_many_disks(file: Path) -> None:
    names = [f"xvd{letter}" for letter in "abcdefghijklmnopq"]
    disks = [f"lab.cfg,,{name}" for name in names]
    assert len(load(file, f"disk = {disks[:-1]}").disks) == config.MOST_DISKS
    assert "'disk': a domain has 16 disks at most" in complaint(file, f"disk = {disks * 100}")
    plain = load(file, f"disk = {disks[:-1]}").to_wire()
    too_many = [list(DiskConfig("x", name, "rw")) for name in names]
    with pytest.raises(ToolstackError, match="16 disks at most"):
        config.DomainConfig.from_wire({**plain, "disks": too_many})


@pytest.mark.parametrize(
    "disk",
    [["x", "xvda"], ["x", "vda", "rw", "raw"], ["x", "xvda", "w", "raw"], ["x\0", "xvda", "rw", "raw"],
     ["x", "xvda", "rw", "y"], ["x", "xvda", "rw", "raw", "disk", "", "512", "", "y"], ["", "xvda", "ro", "raw"],
     ["x", "xvda", "ro", "empty", "cdrom"], ["x", "xvda", "rw", "raw", "cdrom"], ["x", "xvda", "rw", "raw", "tape"],
     ["x", "xvda", "rw", "raw", "disk", "maybe"], ["x", "xvda", "rw", "raw", "disk", "", "1024"],
     ["x", "xvda", "rw", "raw", "disk", "", "512", "no"]],
)
def test_disks_that_no_file_comes_to(disk: list[str]) -> None:
    disk += DiskConfig("x", "xvda", "rw")[len(disk) :] if len(disk) > 3 else ()
    plain = config.DomainConfig("x", Path("k")).to_wire()
    with pytest.raises(ToolstackError, match="disk"):
        config.DomainConfig.from_wire({**plain, "disks": [disk]})


def test_a_config_of_newer_code_is_refused_by_name() -> None:
    plain = config.DomainConfig("x", Path("k")).to_wire()
    with pytest.raises(ToolstackError, match=r"older code.*does not know wings\n.*daemon stop"):
        config.DomainConfig.from_wire({**plain, "wings": 2})
