# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain files to ask xl and us about: each key with each kind of value, the language written in every way, and soup.

All of it comes from a seed. A file has the lines it needs to be one at all, and among them what is tried.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from pvhv.toolstack.keys import ACTIONS, KEYS, Reads

HEAD = b'name = "t"\nkernel = "guest-pv"\n'
NUMBERS = (
    b"0", b"1", b"2", b"31", b"32", b"040", b"0x20", b"0X20", b"007", b"08", b"0x", b"1f", b"64", b"1023", b"1024",
    b"32768", b"2147483648", b"9223372036854775807", b"9223372036854775808", b"99999999999999999999999",
    b"00000000000000000000000000000000000000000000040",
)  # fmt: skip
WORDS = (
    b"", b"a", b"host", b"all", b"none", b"default", b"pv", b"hvm", b"h", b"p", b"pvh", b"generic", b"gen", b"linux",
    b" 64", b"64 ", b"+64", b"-64", b"64M", b"0x20", b"040", b"much", b"a b", b"/dev/xvda1 ro", b"caf\xc3\xa9",
    b"caf\xe9", b"x~y", b"../x", b"a'b", b"%s%n", b"\x1b[31mred", b"5f0c9d5e-7f1c-4f3e-9a43-0c3f3c7a1e52",
    b"5F0C9D5E-7F1C-4F3E-9A43-0C3F3C7A1E52", b"5f0c9d5e7f1c4f3e9a430c3f3c7a1e52", b"Pool-0", b"bridge=xenbr0",
    b"phy:/dev/vg/lv,xvda,w", b"guest-pv", b"\\t\\n\\\\\\\"", b"\\101x", b"\\7", b"\\x41", b"\\q",
    *map(str.encode, ACTIONS), b"restart_rename", b"x" * 300, b"y" * 1023, b"z" * 1024, b"w" * 5000,
)  # fmt: skip
LISTS = (
    b"[]", b"[ ]", b"['']", b"['a']", b"['a','b',]", b"[\n'a'\n,\n'b' # why\n,\n]", b"[1, 0x2, \"c\"]", b"[['a'],'b']",
    b"['a',['b',['c']]]", b"[,]", b"['a' 'b']", b"['a'", b"'a']", b"[a]", b"[\n\n]", b"['vnc=1,vnclisten=0.0.0.0']",
)  # fmt: skip
SYNTAX = (
    b"memory=64", b"memory = 64;vcpus=2", b";;memory=64;;", b"\t memory\t=\t64 \t", b"memory=64 # MiB", b"# memory=64",
    b"memory = 64 vcpus = 2", b"memory 64", b"memory == 64", b"= 64", b"memory =", b"memory\n= 64", b"memory =\n64",
    b"Memory = 64", b"MEMORY = 64", b"memory: 64", b"memory = 6 4", b"memory = -64", b"memory = +64", b"memory = 64.5",
    b"memory = (64)", b"memory = 64M", b"memory = mem", b"_x = 1", b"9x = 1", b"x.y_9 = 1", b"x-y = 1", b"import os",
    b"def f():\n  pass", b"if True:\n  memory=64", b"memory += 64", b"memory = 6\nmemory += 4",
    b"cmdline = 'a'\ncmdline += 'b'", b"cmdline += 'a'", b"cmdline = 1\ncmdline += 2", b"disk = []\ndisk += ['a']",
    b"vif = 'a'\nvif += ['b']", b"vif = []\nvif += 'a'", b"memory = 16\nmemory = 32\nmemory = 64",
    b"cmdline = 'a\\\nb'", b"cmdline = 'a", b"cmdline = \"a'", b"cmdline = 'a'b", b"cmdline = 'a' 'b'",
    b"cmdline = \"it's\"", b"cmdline = 'say \"x\"'", b"# caf\xe9 \xff\xfe", b"# a\0b", b"a\0b = 1",
    b"cmdline = 'a\rb'", b"cmdline = 'a\tb'", b"cmdline = 'a#b'", b"cmdline = 'a;b'",
    b"x = " + b"[" * 200 + b"]" * 200, b"x = [" + b"'a'," * 500 + b"]", b"\xef\xbb\xbfmemory = 64", b"memory = 64 \\",
    b"@ = 1", b"memory = 64 =", b"memory = [64]", b"name = 12", b"name = 12ab", b"name = 12xyz", b"name = 0x1f",
    b"name = 'a'\nname = ''", b"vcpus = 2\nmaxvcpus = 4", b"vcpus = 4\nmaxvcpus = 2", b"memory = 64\nmaxmem = 32",
    b"memory = 32\nmaxmem = 64", b"maxmem = 48", b"maxvcpus = 3", b"root = '/dev/x'\nextra = 'ro'", b"root = '/dev/x'",
    b"extra = 'ro'", b"cmdline = 'a'\nroot = 'b'\nextra = 'c'", b"root = ''", b"cmdline = ''\nextra = 'ro'",
    b"type = 'pv'\nbuilder = 'generic'", b"type = 'pv'\nbuilder = 'hvm'", b"builder = 'linux'",
    b"bootloader = 'pygrub'", b"firmware = 'pvgrub64'", b"on_crash = 1", b"on_crash = ['destroy']",
    b"loader = 'generic'", b"memroy = 64", b"vif = ['']\nvfb = ['vnc=1']",
    b"boot = 'c'\nvncunused = 1\nhap = 1\ncpuid = 'host'",
)  # fmt: skip
DISKS = (
    b"a,raw,xvda,rw", b"a,raw,xvda,w", b"a,raw,xvda,ro", b"a,raw,xvda,r", b"a,raw,xvda", b"a,,xvda", b"a,,xvda,", b"a",
    b"a,xvda", b"a,raw", b",raw,xvda", b"", b",", b",,xvda,", b"a,raw,xvda,rw,more", b" a , raw , xvda , rw ",
    b"a,raw,xvda,rw,", b"vdev=xvda,target=a", b"target=a", b"target=a,vdev=xvda", b"vdev=xvda,access=ro,target=a",
    b"format=raw, vdev=xvda, access=rw, target=a", b"a,vdev=xvda", b"a,vdev=xvda,format=raw,access=ro",
    b"vdev=xvda,a,raw,ro", b"access=r,a,,xvda", b"raw:a,xvda", b"raw:a,xvda,r", b"file:a,xvda,w", b"phy:a,xvda,w",
    b"tap:aio:a,xvda,w", b"qcow2:a,xvda,w", b"a,qcow2,xvda", b"a,vhd,xvda", b"a,nothing,xvda", b"a,raw,xvda,rx",
    b"a,raw,hda", b"a,raw,sda", b"a,raw,d0p1", b"a,raw,51712", b"a,raw,hdc1", b"a,raw,0xca00",
    b"a,raw,xvda,rw,backendtype=qdisk",
    b"a,raw,xvda,rw,backend=0", b"backend=Domain-0,backendtype=phy,vdev=sda,target=a", b"a,raw,xvda,rw,backendtype=x",
    b"a,raw,xvda5", b"a,raw,xvdaa", b"a,raw,xvda,rw,cdrom",
    b"a,raw,xvda,rw,devtype=disk", b"a,raw,xvda,rw,devtype=cdrom", b"a,raw,xvda,rw,discard",
    b"a,raw,xvda,rw,no-discard", b"a,raw,xvda,rw,direct-io-safe", b"a,raw,xvda,rw,backendtype=phy",
    b"a,raw,xvda,rw,script=block", b"a,raw,xvda,rw,backend=0", b"a,raw,xvda,rw,what=ever", b"a,raw,xvda,rw,what",
    b"a,raw,xvda,vdev=xvdb", b"a,format=raw,format=raw,vdev=xvda", b"a,raw,xvda,w!", b"a,raw,xvda,!", b"=a,raw,xvda",
    b"format=,vdev=xvda,target=a", b"vdev= xvda ,target= a ", b"a,raw,xvda,rw, devtype=disk", b"A,RAW,XVDA",
    b"access=ro,a,raw,xvda,rw", b"access=ro,a,raw,xvda", b"foo:bar,,xvda", b"foo:/bar,,xvda", b"iscsi:a,,xvda",
    b",,hdc:cdrom,r", b"file:a,hdc:cdrom,r", b"a,raw,hda:disk,w", b"a,raw,hda:tape,w", b",empty,xvdc,,cdrom",
    b"cdrom,vdev=xvdc", b"vdev=xvdc,format=empty", b"a,empty,xvdc,ro,cdrom", b"a,vdev=xvdc,cdrom,devtype=disk,rw",
    b"a,raw,xvda,rw,discard,no-discard", b"a,raw,xvda,ro,discard", b"a,qcow2,xvdc,rw,cdrom", b"a,vhd,xvdc,rw,cdrom",
    b"vdev=xvda:cdrom,target=a", b"format=empty,vdev=hdc,devtype=cdrom", b"devtype=floppy,a,raw,xvda",
    b"foo:,,xvda", b"a,raw,,vdev=xvda", b"a,raw,,,vdev=xvda", b"vdev=xvda,,a", b"\ta,,xvda", b"a,,xvda,devtype=disk,r",
)  # fmt: skip
DISK_PARTS = (
    b"a", b"x", b"raw", b"xvda", b"xvdb", b"rw", b"ro", b"r", b"w", b"", b"", b"target=a", b"target=x", b"format=raw",
    b"vdev=xvda", b"vdev=xvdc", b"access=rw", b"access=ro", b"raw:a", b"qcow2", b"discard", b"devtype=disk", b"cdrom",
    b"no-discard", b"xvdc:cdrom", b"format=empty",
)  # fmt: skip
PIECES = (
    b"memory", b"vcpus", b"x", b"=", b"=", b"+=", b";", b"\n", b"\n", b" ", b"'a'", b'"b"', b"1", b"0x1", b"[", b"]",
    b",", b"#c\n", b"'", b"-", b"A", b"\t",
)  # fmt: skip


def quoted(word: bytes) -> bytes:
    """A string of that, its escapes as they are."""
    return b'"' + word.replace(b'"', b'\\"').replace(b'\\\\"', b'\\"') + b'"'


def single_keys() -> Iterator[bytes]:
    """Each key there is with values of each kind, a few of them."""
    chance = random.Random(417)
    for name, key in KEYS.items():
        if key.ours:
            continue
        values = (chance.choice(NUMBERS), quoted(chance.choice(WORDS)), chance.choice(LISTS))
        yield from (HEAD + name.encode() + b" = " + value + b"\n" for value in values)


def taken_keys() -> Iterator[bytes]:
    """Those whose value becomes something, with every value."""
    for names, values in (
        (("memory", "vcpus"), (*NUMBERS, *map(quoted, WORDS[:20]), *LISTS)),
        (("name", "type", "on_crash"), (*NUMBERS[:6], *map(quoted, WORDS), *LISTS[:5])),
    ):
        yield from (HEAD + name.encode() + b" = " + value + b"\n" for name in names for value in values)


def syntax() -> Iterator[bytes]:
    """The language, as it may and may not be written."""
    for line in SYNTAX:
        yield HEAD + line + b"\n"
        yield line + b"\n" + HEAD


def disks(count: int) -> Iterator[bytes]:
    """Disks, as one would write them, and their parts in any order."""
    for text in DISKS:
        yield HEAD + b"disk = [" + quoted(text) + b"]\n"
    yield HEAD + b"disk = ['a,raw,xvda,rw', 'x,raw,xvdb,r']\n"
    chance = random.Random(12)
    for _ in range(count):
        parts = [chance.choice(DISK_PARTS) for _ in range(chance.randrange(1, 6))]
        yield HEAD + b"disk = [" + quoted(chance.choice((b",", b",", b" , ")).join(parts)) + b"]\n"


def soup(count: int) -> Iterator[bytes]:
    """Pieces of the language in any order."""
    chance = random.Random(4170)
    for _ in range(count):
        yield HEAD + b"".join(chance.choices(PIECES, k=chance.randrange(1, 12))) + b"\n"


def mixtures(count: int, seed: int = 41700) -> Iterator[bytes]:
    """Whole files of several lines: values mostly of the kind that their key wants, so that xl takes many of them."""
    chance = random.Random(seed)
    keys = [key for key in KEYS.values() if not key.ours and (key.reads is not Reads.LIST or key.name == "vif")]
    for _ in range(count):
        lines = [HEAD]
        for _line in range(chance.randrange(2, 12)):
            key = chance.choice(keys)
            words = ACTIONS if key.name.startswith("on_") else ("a", "x", "", "guest-pv")
            kinds = {Reads.STRING: [quoted(chance.choice(words).encode())], Reads.LIST: [b"[]", b"['']"]}
            usual = chance.choice(kinds.get(key.reads, NUMBERS[:7]))
            any_value = chance.choice((chance.choice(NUMBERS), quoted(chance.choice(WORDS)), chance.choice(LISTS)))
            sign = chance.choice((b"=", b" = ", b"\t=\t")) if chance.random() < 0.9 else b"+="
            lines.append(key.name.encode() + sign + (usual if chance.random() < 0.93 else any_value) + b"\n")
        chance.shuffle(lines)
        yield b"".join(lines)


# Arguments of `create` behind a file that has memory and cmdline already.
ARGUMENTS = (
    ["memory=128"], ["memory=0x40"], ['name="other"'], ["memory=128", "vcpus=2"], ["memory=48;vcpus=3"],
    ["cmdline+='more'"], ["vif=['']"], ["x=1 # y"], ["memory = 99"], ["vcpus=2", "vcpus=1"], ["memory+=1"],
    ['name="a=b"'], ["extra='e'"],
)  # fmt: skip
