# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv xenstore-*`: options, output and exit statuses of Xen's tools, over a real pvhvd."""

import json
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvhv.cli.xenstore_text import Shown, lines, sanitise, unsanitise
from tests.cli.conftest import Pvhv
from tests.toolstack.recipes import SPIN

BAD_INPUT: list[tuple[list[str], str, int]] = [
    (["xenstore-write", "/test/a"], "/test/a has no value", 2),
    (["xenstore-write", "/test/a", "1", "/test//b", "2"], "could not write /test//b", 1),
    (["xenstore-write", "/test/" + "x" * 3000, "1"], "(EINVAL)", 1),
    (["xenstore-write", "/test/a", "x" * 5000], "too long for a message (E2BIG)", 1),
    (["xenstore-read", "/test/a\nb"], "could not read '/test/a\\nb'", 1),
    (["xenstore-read", ""], "could not read ''", 1),
    (["xenstore-read"], "Missing argument 'PATH'", 2),
    (["xenstore-list", "/test/none"], "could not list /test/none: there is no such node (ENOENT)", 1),
    (["xenstore-ls", "/test/none"], "could not list /test/none: there is no such node (ENOENT)", 1),
    (["xenstore-rm", "/test/none/none"], "could not remove /test/none/none: there is no such node", 1),
    (["xenstore-rm", "/"], "could not remove /", 1),
    (["xenstore-chmod", "/test", "x1"], "x1 is not a permission", 2),
    (["xenstore-chmod", "/test", "r"], "r is not a permission", 2),
    (["xenstore-chmod", "-u", "domid", "r0"], "domid has nothing above it", 2),
    (["xenstore-chmod", "/test", "n4711"], "there is no domain 4711", 1),
    (["xenstore-chmod", "/none", "n4711"], "could not set the permissions of /none: there is no such node", 1),
    (["xenstore-control", "fly", "high"], "the store does not know fly high", 2),
    (["xenstore-control", "quota", "4711"], "there is no domain 4711", 1),
    (["xenstore-watch", "/test//"], "could not watch /test//", 1),
    (["xenstore-watch", "-n", "x", "/test"], "'--number'", 2),
]


@pytest.fixture(autouse=True)
def nothing_left(shared: Pvhv) -> Iterator[None]:
    shared.ok("xenstore-write", "/test", "")
    yield
    shared.ok("xenstore-rm", "/test")


def test_write_read_list_rm(shared: Pvhv) -> None:
    assert shared.ok("xenstore-write", "/test/a", "one", "/test/b/c", r"two\n\x41\102\\") == ""
    assert shared.ok("xenstore-read", "/test/a") == "one\n"
    assert shared.ok("xenstore-read", "-p", "/test/a", "/test/b/c") == "/test/a: one\n/test/b/c: two\\nAB\\\\\n"
    assert shared.ok("xenstore-read", "-R", "/test/b/c", "/test/a") == "two\nAB\\one"
    assert json.loads(shared.ok("xenstore-read", "--json", "/test/a", "/test")) == {"/test/a": "one", "/test": ""}
    shared.ok("xenstore-write", "-R", "/test/raw", r"a\nb")
    assert shared.ok("xenstore-read", "/test/raw") == "a\\\\nb\n"
    assert shared.ok("xenstore-list", "/test") == "a\nb\nraw\n"
    assert shared.ok("xenstore-list", "-p", "/test/b", "/test/a") == "/test/b/c\n"
    assert json.loads(shared.ok("xenstore-list", "--json", "/test/b")) == {"/test/b": ["c"]}
    shared.ok("xenstore-rm", "/test/a", "/test/raw")
    assert shared.ok("xenstore-list", "/test") == "b\n"


def test_paths_of_domain_0(shared: Pvhv) -> None:
    assert shared.ok("xenstore-read", "name", "domid") == "Domain-0\n0\n"


def test_rm_tidies_what_is_empty(shared: Pvhv) -> None:
    shared.ok("xenstore-write", "/test/kept", "value", "/test/kept/a/b/c", "x")
    shared.ok("xenstore-rm", "-t", "/test/kept/a/b/c")
    assert shared.ok("xenstore-ls", "/test") == 'kept = "value"\n'


def test_exists_says_so_by_its_status(shared: Pvhv) -> None:
    assert shared.ok("xenstore-exists", "/test", "/tool/xenstored") == ""
    assert shared.fails("xenstore-exists", "/test", "/test/none") == ""
    assert shared.fails("xenstore-exists", "//") == ""


def test_ls(shared: Pvhv) -> None:
    long = "x" * 100
    shared.ok("xenstore-write", "/test/a/b", "1", "/test/a/c", long, "/test/d", "\\t")
    assert shared.ok("xenstore-ls", "/test").splitlines() == [
        'a = ""',
        ' b = "1"',
        f' c = "{"x" * 70}\\..."',
        'd = "\\t"',
    ]
    assert shared.ok("xenstore-ls", "-f", "/test/a", "/test").splitlines()[:3] == [
        '/test/a/b = "1"',
        f'/test/a/c = "{long}"',
        '/test/a = ""',
    ]
    shared.ok("xenstore-chmod", "/test/d", "n0", "b0")
    assert shared.ok("xenstore-ls", "-p", "/test").splitlines()[-1].split(" = ")[1] == (
        '"\\t"' + " ." * 26 + "  (n0,b0)"
    )
    assert shared.ok("xenstore-ls", "-fp", "/test").splitlines()[-1] == '/test/d = "\\t"   (n0,b0)'
    assert shared.ok("xenstore-ls").startswith('tool = ""\n xenstored = ""\n')
    rows = json.loads(shared.ok("xenstore-ls", "--json", "/test"))
    assert rows[1] == {"path": "/test/a/b", "value": "1", "permissions": ["n0"]}


def test_chmod_up_and_down(shared: Pvhv) -> None:
    shared.ok("xenstore-write", "/test/a/b/c", "")
    shared.ok("xenstore-chmod", "-r", "/test/a", "r0")
    shared.ok("xenstore-chmod", "-u", "/test/a/b", "b0")
    found = {row["path"]: row["permissions"] for row in json.loads(shared.ok("xenstore-ls", "--json", "/"))}
    assert {path: found[path] for path in ("/test", "/test/a", "/test/a/b", "/test/a/b/c")} == {
        "/test": ["b0"], "/test/a": ["b0"], "/test/a/b": ["b0"], "/test/a/b/c": ["r0"],
    }  # fmt: skip


def test_watch(shared: Pvhv) -> None:
    watching = shared.start("xenstore-watch", "-n", "4", "/test", "domid")
    assert watching.stdout
    assert [watching.stdout.readline() for _watch in range(2)] == [b"/test\n", b"domid\n"]
    shared.ok("xenstore-write", "/test/a/b", "1")
    shared.ok("xenstore-rm", "/test/a")
    assert watching.communicate(timeout=30)[0] == b"/test/a/b\n/test/a\n"
    assert watching.returncode == 0
    endless = shared.start("xenstore-watch", "--json", "@introduceDomain")
    assert endless.stdout
    special = {"path": "@introduceDomain", "watch": "@introduceDomain"}
    assert json.loads(endless.stdout.readline()) == special
    shared.ok("create", "-p", shared.domain("one", SPIN))
    assert json.loads(endless.stdout.readline()) == special
    endless.send_signal(signal.SIGINT)
    assert endless.communicate(timeout=30) == (b"", b"")
    assert endless.returncode == 130
    shared.ok("destroy", "one")


def test_control_and_what_is_left_of_a_killed_client(shared: Pvhv) -> None:
    assert shared.ok("xenstore-control", "check") == "OK\n"
    assert "nodes            :     1000 Nodes per domain\n" in shared.ok("xenstore-control", "quota")
    assert shared.ok("xenstore-control", "help").startswith("check\t\n")
    killed = shared.start("xenstore-watch", "/test")
    assert killed.stdout and killed.stdout.readline() == b"/test\n"

    def watches() -> str:
        shared.ok("xenstore-control", "memreport")
        return [line for line in shared.ok("dmesg").splitlines() if " watches" in line][-1]

    assert watches().endswith(" 1 watches")
    killed.kill()
    killed.communicate()
    shared.until(lambda: watches().endswith(" 0 watches"))


def test_what_xl_makes_of_a_domain_is_there_and_goes(shared: Pvhv) -> None:
    number = shared.ok("create", "-p", shared.domain("one", SPIN, 'cmdline = "a b"\nvcpus = 2')).split()[-1]
    home = f"/local/domain/{number}"
    values = {row["path"]: row["value"] for row in json.loads(shared.ok("xenstore-ls", "--json"))}
    rights = {row["path"]: row["permissions"] for row in json.loads(shared.ok("xenstore-ls", "--json"))}
    vm = values[f"{home}/vm"]
    expected = {
        f"{home}/name": "one",
        f"{home}/domid": number,
        f"{home}/memory/static-max": "8192",
        f"{home}/memory/target": "8192",
        f"{home}/memory/videoram": "0",
        f"{home}/cpu/0/availability": "online",
        f"{home}/cpu/1/availability": "online",
        f"{home}/control/shutdown": "",
        f"{home}/control/platform-feature-xs_reset_watches": "1",
        f"{home}/console/type": "xenconsoled",
        f"{home}/console/limit": "1048576",
        f"{home}/console/backend": f"/local/domain/0/backend/console/{number}/0",
        f"/local/domain/0/backend/console/{number}/0/frontend": f"{home}/console",
        f"{vm}/name": "one",
        f"{vm}/uuid": vm.rpartition("/")[2],
        f"{vm}/image/ostype": "linux",
        f"{vm}/image/cmdline": "a b",
        f"/libxl/{number}/type": "pv",
        f"/libxl/{number}/dm-version": "qemu_xen",
    }
    assert {path: values.get(path) for path in expected} == expected
    assert values[f"{home}/store/port"].isdigit() and values[f"{home}/store/ring-ref"].isdigit()
    assert f"{vm}/image/ramdisk" not in values
    owner = f"n{number}"
    assert [rights[path] for path in (home, f"{home}/data", f"{home}/console/tty", f"/libxl/{number}", vm)] == [
        ["n0", f"r{number}"], [owner], ["n0", f"r{number}"], ["n0"], ["n0", f"r{number}"],
    ]  # fmt: skip
    shared.ok("destroy", "one")
    left = {row["path"] for row in json.loads(shared.ok("xenstore-ls", "--json"))}
    roots = {"/tool", "/tool/xenstored", "/local", "/local/domain", "/vm", "/libxl", "/test"}
    assert left == roots | {"/local/domain/0", "/local/domain/0/domid", "/local/domain/0/name"}


def test_a_directory_of_thousands(shared: Pvhv) -> None:
    """More names than one message holds; and many requests on their way at a time."""
    pairs = [word for number in range(3000) for word in (f"/test/many/{number:04}", str(number))]
    for at in range(0, len(pairs), 1500):
        shared.ok("xenstore-write", *pairs[at : at + 1500])
    assert shared.ok("xenstore-list", "/test/many").split() == [f"{number:04}" for number in range(3000)]
    assert len(shared.ok("xenstore-ls", "/test/many").splitlines()) == 3000


def test_what_was_read_before_an_error_is_shown(shared: Pvhv) -> None:
    done = shared.run("xenstore-read", "domid", "/test/none", "name")
    assert (done.returncode, done.stdout) == (1, "0\n")
    assert done.stderr.startswith("pvhv: could not read /test/none: there is no such node (ENOENT)\n")


def test_bad_input_is_a_sentence(shared: Pvhv) -> None:
    for arguments, words, status in BAD_INPUT:
        assert words in shared.fails(*arguments, status=status), arguments
    assert shared.ok("xenstore-list", "/test") == ""  # all or nothing


@given(st.binary())
def test_text_of_a_value_can_be_written_back(value: bytes) -> None:
    text = sanitise(value)
    assert text.isascii() and text.isprintable()
    assert unsanitise(text.encode()) == value


def test_text_that_nobody_sanitised() -> None:
    assert unsanitise(rb"\q\x\xg\1\777\\") == b"qxxg\1\xff\\"
    assert unsanitise(b"end\\") == b"end\0"
    assert sanitise(bytes(range(10))) == "\\000\\001\\002\\003\\004\\005\\006\\007\\x08\\t"


def test_a_node_that_cannot_be_read_has_no_value() -> None:
    assert list(lines([Shown(b"/a/b", 1, None, None)], 80)) == [" b:\n"]
    assert list(lines([Shown(b"/a/" + b"n" * 40, 0, b"v", ["n0"])], 20)) == ["n" * 12 + ' = "\\..."  (n0)']
