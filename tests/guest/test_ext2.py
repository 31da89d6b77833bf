# SPDX-License-Identifier: GPL-2.0-or-later
"""The teaching kernel's file system, ext2, beside those who know it better: mke2fs makes what it mounts, debugfs reads
what it wrote, and e2fsck says whether that is clean. Damaged disks, on which nothing has to be right, hurt nobody."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pvhv.testing import Machine, Result, boot
from tests.guest.machines import Outcome, PvhvMachine, script

LAYOUTS = [("1024", "128"), ("1024", "256"), ("2048", "128"), ("4096", "256")]  # bytes of a block, of an inode
BIG = random.Random(5).randbytes(700_001)
NUMBERS = "".join(f"{number}\n" for number in range(5000))
LONG = "n" * 200


def host_tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install e2fsprogs)")
    return found


def made(
    path: Path, *options: str, size: str = "6M", block: str = "1024", inode: str = "256", tree: bool = True
) -> Path:
    """An image with a file system, made by mke2fs, and in it the tree that is beside it."""
    files = path.parent / "tree"
    if not files.is_dir():
        (files / "sub/deep").mkdir(parents=True)
        (files / "motd").write_text("hello from ext2\n")
        (files / "link").symlink_to("motd")
        (files / "long-link").symlink_to("/" + "x" * 70)
        (files / "big").write_bytes(BIG)
        (files / "sub/numbers").write_text(NUMBERS)
        (files / "sub/deep" / LONG).write_text("long name\n")
        for number in range(150):
            (files / "sub" / f"file-{number}").write_text(str(number))
    source = ("-d", str(files)) if tree else ()
    command = [host_tool("mke2fs"), "-q", "-t", "ext2", "-b", block, "-I", inode, *source, *options, str(path), size]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return made(tmp_path / "disk.img")


def disks(*images: Path, mode: str = "rw") -> list[str]:
    return [f"{path},raw,xvd{letter},{mode}" for letter, path in zip("abcdefghijklmnop", images, strict=False)]


def run(*commands: str, on: Sequence[str], timeout: float = 60) -> Result:
    result = boot("guest-pv", stdin=script(commands), disks=on, timeout=timeout)
    assert result.ending == "poweroff", result.output + result.report
    return result


def answers(*commands: str, on: Sequence[str]) -> dict[str, list[str]]:
    result = run(*commands, on=on)
    return Outcome(result.output, result.ending).answers


def fsck(path: Path) -> None:
    done = subprocess.run([host_tool("e2fsck"), "-fn", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def contents(path: Path, file: str) -> bytes:
    """The bytes of a file in an image, as debugfs finds them."""
    command = [host_tool("debugfs"), "-R", f"cat {file}", str(path)]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize(("block", "inode"), LAYOUTS)
def test_what_others_made_is_read_and_what_it_writes_they_read(tmp_path: Path, block: str, inode: str) -> None:
    image = made(tmp_path / "disk.img", block=block, inode=inode)
    said = answers(
        "mount /dev/xvda /mnt", "mount", "cat /mnt/motd", "wc /mnt/sub/numbers", "ls /mnt/sub | wc",
        "ls /mnt/sub/deep", "cat /mnt/link", "cd /mnt/sub/deep", "pwd", "cat ../../motd", "cd ../..",
        "mkdir new", "mkdir new/a", "cp big new/a/copy", "echo one > new/file", "echo two >> new/file", "cat new/file",
        "echo three >> motd", "rm link", "rm long-link", "rm big", "rm sub", "rm sub/file-7",
        "dd if=/dev/zero of=new/hole bs=64k seek=90 count=1", "cp /bin/hello hello", "./hello", "umount /mnt",
        "cd /", "umount /mnt", "ls /mnt",
        on=disks(image),
    )  # fmt: skip
    assert said["mount"] == ["/dev/xvda on /mnt, ext2"]
    assert said["cat /mnt/motd"] == ["hello from ext2"]
    assert said["wc /mnt/sub/numbers"] == [f"5000 5000 {len(NUMBERS)} /mnt/sub/numbers"]
    assert said["ls /mnt/sub | wc"][0].split()[0] == "152"
    assert said["ls /mnt/sub/deep"] == [LONG]
    assert said["cat /mnt/link"] == ["cat: /mnt/link: not supported"]
    assert said["pwd"] == ["/mnt/sub/deep"] and said["cat ../../motd"] == ["hello from ext2"]
    assert said["cat new/file"] == ["one", "two"]
    assert said["rm sub"] == ["rm: sub: directory not empty"]
    assert said["./hello"] == ["Hello, world!"]
    assert said["umount /mnt"] == ["umount: /mnt: busy"] and said["ls /mnt"] == []  # the second time it is not
    fsck(image)
    assert contents(image, "/new/a/copy") == BIG
    assert contents(image, "/motd") == b"hello from ext2\nthree\n"
    assert contents(image, "/new/hole") == bytes(91 * 65536)
    assert contents(image, "/sub/file-8") == b"8" and contents(image, "/sub/file-7") == b""


def test_the_kernels_own_promises_about_files_hold_on_a_disk(image: Path) -> None:
    """Holes, files that are open and have no name any more, programs that write: usertest works in /tmp."""
    said = run("mount /dev/xvda /tmp", "usertest files programs descriptors", on=disks(image))
    assert "usertest: ok" in said.lines
    fsck(image)


MACHINES = [(None, "xvda"), ("bare", "hda"), ("trap-emulate", "vda"), ("binary-translation", "hda"),
            ("hw-shadow", "vda"), ("hw-nested", "hda")]  # fmt: skip


@pytest.mark.parametrize(("technique", "disk"), MACHINES)
def test_one_disk_under_every_technique(image: Path, technique: str | None, disk: str) -> None:
    """By the front end, by IDE and by virtio: the same files, and as clean."""
    commands = [f"mount /dev/{disk} /mnt", "wc /mnt/sub/numbers", "cp /mnt/big /mnt/copy", "rm /mnt/big", "umount /mnt"]
    kernel = "guest-native" if technique else "guest-pv"
    said = boot(kernel, stdin=script(commands), technique=technique, disks=[f"{image},raw,{disk},rw"], timeout=60)
    assert said.ending == "poweroff" and f"5000 5000 {len(NUMBERS)} /mnt/sub/numbers" in said.lines
    fsck(image)
    assert contents(image, "/copy") == BIG and contents(image, "/big") == b""


@pytest.mark.parametrize("size", [64 << 10, (1 << 20) + 700, 8193 << 10, 8300 << 10, 40 << 20])
def test_mkfs(tmp_path: Path, size: int) -> None:
    """Too small for a second group, with a second one that is too small, and with many."""
    image = tmp_path / "new.img"
    with image.open("wb") as file:
        file.truncate(size)
    said = answers(
        "mkfs /dev/xvda", "mount /dev/xvda /mnt", "ls -l /mnt", "mkdir /mnt/d", "cp /bin/echo /mnt/d/echo",
        "/mnt/d/echo works", "mkfs /dev/xvda", on=disks(image),
    )  # fmt: skip
    assert said["ls -l /mnt"] == ["d     1024 lost+found"] and said["/mnt/d/echo works"] == ["works"]
    assert said["mkfs /dev/xvda"][-1] == "mkfs: /dev/xvda: busy"
    fsck(image)


def test_mkfs_says_what_it_cannot(tmp_path: Path) -> None:
    image = tmp_path / "small.img"
    image.write_bytes(bytes(32 << 10))
    said = answers("mkfs /dev/xvda", "mkfs /dev/xvdb", "mkfs", on=disks(image))
    assert said["mkfs /dev/xvda"] == ["mkfs: /dev/xvda: too small"]
    assert said["mkfs /dev/xvdb"] == ["mkfs: /dev/xvdb: no such file"] and said["mkfs"] == ["usage: mkfs DEVICE"]


def test_many_at_once(image: Path) -> None:
    copies = [f"cp /mnt/big /mnt/copy-{number} &" for number in range(4)]
    run("mount /dev/xvda /mnt", *copies, "find /mnt | wc", "rm /mnt/big", "rm /mnt/motd", "sleep 9", on=disks(image))
    fsck(image)
    assert all(contents(image, f"/copy-{number}") == BIG for number in range(4))


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    image = made(tmp_path / "disk.img", size="2M", block="4096")
    said = answers(
        "mount /dev/xvda /mnt", "dd if=/dev/zero of=/mnt/full bs=64k", "echo x > /mnt/more", "mkdir /mnt/d", "df",
        "rm /mnt/full", "mkdir /mnt/e", on=disks(image),
    )  # fmt: skip
    assert said["dd if=/dev/zero of=/mnt/full bs=64k"][-1] == "dd: writing: no space left"
    assert said["echo x > /mnt/more"] == ["echo: no space left"]
    assert said["mkdir /mnt/d"] == ["mkdir: /mnt/d: no space left"]
    assert said["df"][1].split()[2] == "0" and said["mkdir /mnt/e"] == []
    fsck(image)


def test_no_more_inodes(tmp_path: Path) -> None:
    image = made(tmp_path / "disk.img", "-N", "16", tree=False)
    names = " ".join(f"/mnt/{number}" for number in range(8))
    said = answers("mount /dev/xvda /mnt", f"mkdir {names}", "ls /mnt | wc", on=disks(image))
    assert said[f"mkdir {names}"] == ["mkdir: /mnt/5: no space left"]
    assert said["ls /mnt | wc"][0].split()[0] == "6"  # lost+found is one
    fsck(image)


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_read_only(image: Path, mode: str) -> None:
    """The disk is, or it is mounted so: nothing of it changes."""
    was = image.read_bytes()
    said = answers(
        f"mount {'-r ' if mode == 'rw' else ''}/dev/xvda /mnt", "mount", "cat /mnt/motd", "echo x > /mnt/motd",
        "echo x > /mnt/x", "rm /mnt/motd", "mkdir /mnt/d", on=disks(image, mode=mode),
    )  # fmt: skip
    assert said["mount"] == ["/dev/xvda on /mnt, ext2, read-only"] and said["cat /mnt/motd"] == ["hello from ext2"]
    assert said["rm /mnt/motd"] == ["rm: /mnt/motd: read-only"] and said["mkdir /mnt/d"] == ["mkdir: /mnt/d: read-only"]
    assert said["echo x > /mnt/motd"] == ["sh: /mnt/motd: read-only"]
    assert image.read_bytes() == was


def test_what_it_does_not_know_it_does_not_mount(tmp_path: Path) -> None:
    other = tmp_path / "ext4.img"
    subprocess.run([host_tool("mke2fs"), "-q", "-t", "ext4", str(other), "8M"], check=True, capture_output=True)
    harmless = made(tmp_path / "harmless.img", "-O", "huge_file")
    none = tmp_path / "none.img"
    none.write_bytes(bytes(1 << 20))
    said = answers(
        "mount /dev/xvda /mnt", "mount /dev/xvdc /mnt", "mount /dev/xvdd /mnt", "mount /dev/xvdb /etc/motd",
        "mount /dev/xvdb /", "mount /dev/xvdb /no", "mount /dev/xvdb /mnt", "mount", "mount /dev/xvdb /tmp",
        "echo x > /mnt/x", "rm /mnt", on=disks(other, harmless, none),
    )  # fmt: skip
    assert said["mount /dev/xvda /mnt"][-1] == "mount: /dev/xvda on /mnt: not supported"
    assert said["mount /dev/xvdc /mnt"] == ["mount: /dev/xvdc: there is no ext2 file system"]
    assert said["mount /dev/xvdd /mnt"] == ["mount: /dev/xvdd on /mnt: no such device"]
    assert said["mount /dev/xvdb /etc/motd"] == ["mount: /dev/xvdb on /etc/motd: not a directory"]
    assert said["mount /dev/xvdb /"] == ["mount: /dev/xvdb on /: busy"]
    assert said["mount /dev/xvdb /no"] == ["mount: /dev/xvdb on /no: no such file"]
    assert said["mount"] == ["/dev/xvdb on /mnt, ext2, read-only"]
    assert said["mount /dev/xvdb /tmp"] == ["mount: /dev/xvdb on /tmp: busy"]
    assert said["echo x > /mnt/x"] == ["sh: /mnt/x: read-only"] and said["rm /mnt"] == ["rm: /mnt: busy"]


@pytest.mark.parametrize("word", ["poweroff", "reboot"])
def test_the_toolstack_asks_it_to_go(image: Path, word: str) -> None:
    """By then somebody has a file open that has no name any more, and nothing is synced."""
    commands = "mount /dev/xvda /mnt; echo late > /mnt/late; sleep 1000 < /mnt/big & rm /mnt/big; echo now"
    with Machine() as machine:
        guest = machine.create("guest-pv", clock="wall", disks=disks(image), stdin=f"{commands}\n")
        assert machine.hypervisor.run_until(lambda: guest.console.output().endswith(b"\nnow\r\n$ "), 30)
        machine.host.ask(guest, word)
        assert machine.run(guest, timeout=30)
        assert machine.result(guest).ending == word
    fsck(image)
    assert contents(image, "/late") == b"late\n" and contents(image, "/big") == b""


def test_after_a_crash_it_is_not_clean_but_whole(image: Path) -> None:
    commands = ["mount /dev/xvda /mnt", "cp /mnt/big /mnt/copy", "sync", "crash"]
    assert boot("guest-pv", stdin=script(commands), disks=disks(image)).ending == "crash"
    assert contents(image, "/copy") == BIG
    state = subprocess.run([host_tool("dumpe2fs"), "-h", str(image)], check=True, capture_output=True, text=True).stdout
    assert "not clean" in state
    said = run("mount /dev/xvda /mnt", "rm /mnt/copy", on=disks(image)).output
    assert "xvda: ext2: it was not unmounted, or is damaged: e2fsck would help" in said


def test_a_disk_that_ends_early(image: Path) -> None:
    with Machine() as machine:
        guest = machine.create("guest-pv", disks=disks(image), paused=True, stdin=script(
            ["mount /dev/xvda /mnt", "dd if=/mnt/big of=/dev/null bs=64k", "cat /mnt/motd", "sync"]))  # fmt: skip
        with image.open("r+b") as file:
            file.truncate(400_000)
        guest.start()
        assert machine.run(guest, timeout=30)
        said = machine.result(guest).output
    assert "/mnt/big: input/output error" in said


def test_two_runs_are_the_same(image: Path) -> None:
    was, results = image.read_bytes(), []
    for _ in range(2):
        image.write_bytes(was)
        results.append(run("mount /dev/xvda /mnt", "cp /mnt/big /mnt/copy", "rm /mnt/sub/numbers", on=disks(image)))
    assert results[0].output == results[1].output and results[0].counters == results[1].counters


# -- damaged disks -----------------------------------------------------------------------------------------------------

WORDS = [bytes(4), b"\xff" * 4, *((1 << bit).to_bytes(4, "little") for bit in range(0, 32, 3))]


def damaged(whole: bytes, seed: int) -> bytes:
    """Words of the superblock and the groups' descriptions, or bits, bytes and numbers of whatever is in use."""
    dice, data = random.Random(seed), bytearray(whole)
    if seed % 4 == 0:
        for _ in range(dice.randrange(1, 4)):
            at = dice.choice([1024 + 4 * dice.randrange(30), 2048 + 4 * dice.randrange(24)])
            data[at : at + 4] = dice.choice([*WORDS, dice.randbytes(4), dice.randrange(4096).to_bytes(4, "little")])
        return bytes(data)
    used = [at for at in range(0, 300_000, 128) if any(data[at : at + 128])]
    for _ in range(dice.choice([30, 100, 300, 1000, 3000])):
        at = dice.choice(used) + dice.randrange(32) * 4
        data[at : at + 4] = dice.choice([*WORDS, dice.randbytes(4), dice.randrange(4096).to_bytes(4, "little")])
    return bytes(data)


def rounds(letters: str) -> Iterator[str]:
    for letter in letters:
        at = f"/tmp/{letter}"
        yield from (
            f"mkdir {at}", f"mount /dev/xvd{letter} {at}", f"find {at} | wc", f"dd if={at}/big of=/dev/null bs=1M",
            f"cat {at}/motd", f"ls -l {at}/sub | wc", f"cp /bin/sh {at}/copy", f"mkdir {at}/sub/new",
            f"echo hi > {at}/sub/new/f", f"rm {at}/big", f"rm {at}/link", f"rm {at}/motd", f"rm {at}/sub/deep",
            f"dd if=/dev/zero of={at}/full bs=64k", f"rm {at}/full", "df", f"umount {at}",
        )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS[1::2])
def test_damaged_disks_hurt_nobody(tmp_path: Path, layout: tuple[str, str]) -> None:
    """Eight of them, one after the other: each is mounted or refused, walked through, written and left; what cannot be
    is an error of a program; and the kernel goes on."""
    whole = made(tmp_path / "whole.img", size="3M", block=layout[0], inode=layout[1]).read_bytes()
    images = []
    for seed in range(8):
        images.append(tmp_path / f"{seed}.img")
        images[-1].write_bytes(damaged(whole, seed))
    said = run(*rounds("abcdefgh"), "echo all of it", on=disks(*images), timeout=60).output
    assert "ext2: damaged: " in said and "the file system is damaged" in said
    assert "\nall of it\n" in said


def test_a_directory_that_is_its_own_child(image: Path) -> None:
    """debugfs gives the directory a second name, within itself. The way down ends."""
    for command in ("link sub sub/deep/again", "link / sub/root"):
        subprocess.run([host_tool("debugfs"), "-w", "-R", command, str(image)], check=True, capture_output=True)
    commands = ["cd /mnt/sub/deep/again", "cd /mnt/sub/root", "pwd", "find /mnt | wc"]
    said = answers("mount /dev/xvda /mnt", *commands, on=disks(image))
    assert said["cd /mnt/sub/deep/again"][-1].endswith("the file system is damaged")
    assert said["cd /mnt/sub/root"][-1].endswith("the file system is damaged")
    assert said["pwd"] == ["/"]


def test_the_shell_has_no_disks_without_one() -> None:
    machine = PvhvMachine()
    assert machine.answer("mount") == []
    assert machine.answer("mount /dev/xvda /mnt") == ["mount: /dev/xvda on /mnt: no such device"]
