# SPDX-License-Identifier: GPL-2.0-or-later
"""What only domain 0's tools may ask of the store, and what unprivileged domains may have of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.abi.io import xs_wire as wire
from pvhv.abi.io.xs_wire import XSD_SOCKMSG_CODEC
from pvhv.devices.xenstore.permissions import Permission, parse
from pvhv.devices.xenstore.ring import REQ_PROD
from pvhv.devices.xenstore.store import Store
from pvhv.testing import Machine
from pvhv.toolstack.guest import Guest as Domain
from tests.devices.stores import Tool
from tests.devices.test_xenstore import Guest
from tests.toolstack.recipes import SPIN, Recipe


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def tool(store: Store) -> Tool:
    return Tool(store)


# -- domains -------------------------------------------------------------------------------------------------
@pytest.fixture
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Domain]]:
    kernel = tmp_path_factory.mktemp("kernel") / "spin.elf"
    kernel.write_bytes(Recipe(code=SPIN).build())
    with Machine() as machine:
        yield machine, machine.create(kernel, memory=8, paused=True)


def test_release_and_introduce(domain: tuple[Machine, Domain]) -> None:
    machine, guest = domain
    store = machine.host.store
    tool = Tool(store)
    number, port = str(guest.domid), store.read(f"/local/domain/{guest.domid}/store/port") or b""
    for special in ("@introduceDomain", "@releaseDomain"):
        tool.ask(wire.XS_WATCH, special, "t")
    tool.take_events()
    ports = machine.hypervisor.dom0.events.in_use()
    assert tool.ask(wire.XS_IS_DOMAIN_INTRODUCED, number) == b"T"
    assert tool.ask(wire.XS_RELEASE, number) == b"OK"
    assert tool.take_events() == [("@releaseDomain", "t")]
    assert tool.ask(wire.XS_IS_DOMAIN_INTRODUCED, number) == b"F"
    assert store.read(f"/local/domain/{number}/data") is None  # it was the domain's own
    assert tool.ask(wire.XS_RELEASE, number) == tool.ask(wire.XS_RESUME, number) == b"ENOENT"
    assert tool.ask(wire.XS_INTRODUCE, number, "0", port) == b"OK"
    assert tool.take_events() == [("@introduceDomain", "t")]
    assert tool.ask(wire.XS_INTRODUCE, number, "0", port) == b"OK"  # again: the port anew
    assert tool.take_events() == []
    assert machine.hypervisor.dom0.events.in_use() == ports
    assert tool.ask(wire.XS_RESUME, number) == b"OK"
    store.shut_down(guest.domid)
    store.shut_down(guest.domid)
    assert tool.take_events() == [("@releaseDomain", "t")]
    assert tool.ask(wire.XS_RESUME, number) == b"OK"
    store.shut_down(guest.domid)
    assert tool.take_events() == [("@releaseDomain", "t")]


@pytest.mark.parametrize(
    ("kind", "strings", "error"),
    [
        (wire.XS_INTRODUCE, ("1", "0"), b"EINVAL"),
        (wire.XS_INTRODUCE, ("1", "0", "0"), b"EINVAL"),
        (wire.XS_INTRODUCE, ("77", "0", "1"), b"EINVAL"),
        (wire.XS_INTRODUCE, ("0", "0", "1"), b"EINVAL"),
        (wire.XS_RELEASE, ("0",), b"EINVAL"),
        (wire.XS_RELEASE, ("77",), b"ENOENT"),
        (wire.XS_RESUME, ("x",), b"EINVAL"),
        (wire.XS_SET_TARGET, ("1",), b"EINVAL"),
        (wire.XS_SET_TARGET, ("1", "77"), b"ENOENT"),
        (wire.XS_SET_PERMS, ("/local", "n77"), b"ENOENT"),
        (wire.XS_SET_PERMS, ("@other", "n0"), b"EINVAL"),
        (wire.XS_GET_PERMS, ("@releaseDomain",), b"EINVAL"),
    ],
)
def test_what_cannot_be_asked(
    domain: tuple[Machine, Domain], kind: int, strings: tuple[str, ...], error: bytes
) -> None:
    assert Tool(domain[0].host.store).ask(kind, *strings) == error


def test_a_port_that_is_none(domain: tuple[Machine, Domain]) -> None:
    machine, guest = domain
    tool = Tool(machine.host.store)
    views = set(machine.hypervisor.dom0.grants.views)
    tool.ask(wire.XS_RELEASE, str(guest.domid))
    assert tool.ask(wire.XS_INTRODUCE, str(guest.domid), "0", "4000") == b"EINVAL"
    assert len(machine.hypervisor.dom0.grants.views) == len(views) - 1


def test_introducing_anew_is_a_fresh_start(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    guest.watch("data", "t")
    guest.begin()
    guest.words[518] = wire.XENSTORE_RECONNECT  # as one that found no store yet leaves it
    assert tool.ask(wire.XS_INTRODUCE, "1", "0", "5") == b"OK"
    assert guest.words[512:518].tolist()[:4] == [0, 0, 0, 0]
    connection = store.domains[1].ring.connection
    assert not connection.watches and not connection.transactions
    assert guest.words[517] == wire.XENSTORE_CONNECTED


def test_a_device_model_may_what_its_target_may(store: Store, tool: Tool) -> None:
    model, target = Guest(store, 1), Guest(store, 2)
    target.write("data/secret", b"x")
    path = "/local/domain/2/data/secret"
    assert model.read(path) == b"EACCES\0"
    assert tool.ask(wire.XS_SET_TARGET, "1", "2") == b"OK"
    assert model.read(path) == b"x" and model.write(path, b"y") == b"OK\0"
    assert target.read("/local/domain/1/data") == b"EACCES\0"
    target.ring.close()
    store.make(path, "x", Permission(2, 0))
    assert model.read(path) == b"EACCES\0"


def test_rights_are_not_inherited_by_the_next_of_the_number(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    store.make("/shared", "x", Permission(0, 0), Permission(1, 3))
    assert tool.ask(wire.XS_SET_PERMS, "@releaseDomain", "n0", "r1") == b"OK"
    assert guest.read("/shared") == b"x"
    guest.ring.close()
    guest = Guest(store, 1)
    assert guest.read("/shared") == b"EACCES\0"
    assert tool.ask(wire.XS_GET_PERMS, "/shared") == b"n0\0b1"
    assert store.special["@releaseDomain"] == (Permission(0, 0),)
    assert tool.ask(wire.XS_SET_PERMS, "/shared", "n0", "b1") == b"OK"
    assert guest.read("/shared") == b"x"


def test_the_root_stays_whoever_it_was_given_to(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    assert tool.ask(wire.XS_SET_PERMS, "/", "n1", "r2") == b"OK"
    guest.ring.close()
    assert tool.ask(wire.XS_GET_PERMS, "/") == b"n0\0r2"
    assert store.children("/local/domain") == ("1",)


def test_who_hears_of_domains(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    assert guest.watch("@releaseDomain", "t") == b"OK\0"
    assert guest.take_events() == [("@releaseDomain", "t")]  # the one at once
    Guest(store, 2).ring.close()
    assert guest.take_events() == []
    assert guest.ask(wire.XS_SET_PERMS, b"@releaseDomain\0n1\0") == b"EACCES\0"
    assert tool.ask(wire.XS_SET_PERMS, "@releaseDomain", "n0", "r1") == b"OK"
    Guest(store, 2).ring.close()
    assert guest.take_events() == [("@releaseDomain", "t")]


# -- messages ------------------------------------------------------------------------------------------------
def test_messages_however_they_are_cut(store: Store, tool: Tool) -> None:
    requests = b""
    for path in ("/tool", "/none", "/tool/xenstored"):
        requests += XSD_SOCKMSG_CODEC.pack(wire.XS_READ, 7, 0, len(path) + 1) + path.encode() + b"\0"
    for at in range(len(requests)):
        tool.socket.feed(requests[at : at + 1])
    assert tool.messages() == [b"", b"ENOENT\0", b""]


def test_a_message_too_long_ends_a_tools_connection(store: Store, tool: Tool) -> None:
    tool.ask(wire.XS_WATCH, "/", "t")
    tool.begin()
    tool.socket.feed(XSD_SOCKMSG_CODEC.pack(wire.XS_WRITE, 7, 0, 4097))
    assert tool.socket.closed and not store.watches.by_path
    tool.socket.feed(b"more")


def test_a_tool_that_reads_nothing_costs_a_bounded_amount(store: Store, tool: Tool) -> None:
    tool.ask(wire.XS_WATCH, "/", "t")
    name = "x" * 1000
    for number in range(4000):
        store.write(f"/{name}/{number}", "")
    assert tool.socket.connection.bytes_waiting <= store.quotas.memory
    heard = 0
    while events := tool.take_events():
        heard += len(events)
    assert 2000 < heard < 4000


def test_events_of_a_removal_come_deepest_first(store: Store, tool: Tool) -> None:
    for path in ("/r/a/x", "/r/a/y", "/r/b"):
        store.write(path, "")
    for path in ("/r/a/x", "/r/a/y", "/r/a", "/r/b", "/r"):
        tool.ask(wire.XS_WATCH, path, "t")
    tool.take_events()
    tool.ask(wire.XS_RM, "/r")
    assert [path for path, _token in tool.take_events()] == ["/r/a/x", "/r/a/y", "/r/a", "/r/b", "/r"]


def test_events_of_a_transaction(store: Store, tool: Tool) -> None:
    for path in ("/t/a", "/t/b"):
        store.write(path, "")
    tool.ask(wire.XS_WATCH, "/t", "t")
    tool.take_events()
    tx = tool.begin()
    for kind, path in (
        (wire.XS_READ, "/t/b"), (wire.XS_WRITE, "/t/a"), (wire.XS_WRITE, "/t/b"), (wire.XS_WRITE, "/t/a"),
        (wire.XS_WRITE, "/t/c"), (wire.XS_RM, "/t/c"),
    ):  # fmt: skip
        tool.ask(kind, path, tx=tx)
    assert tool.take_events() == []
    assert tool.end(tx) == b"OK"
    # In the order in which they were first looked at, each once; of one that came and went nothing.
    assert tool.take_events() == [("/t/b", "t"), ("/t/a", "t")]


@pytest.mark.parametrize(
    ("text", "permission"),
    [("n0", (0, 0)), ("r5", (5, 1)), ("w0x10", (16, 2)), ("b010", (8, 3)), ("b 7", (7, 3)), ("n-1", (0xFFFF_FFFF, 0))],
)
def test_permissions_as_text(text: str, permission: tuple[int, int]) -> None:
    assert parse(text) == (*permission, False)


# -- quotas --------------------------------------------------------------------------------------------------
def test_control(store: Store, tool: Tool) -> None:
    lines: list[str] = []
    store.log = lines.append
    Guest(store, 1)
    control = wire.XS_CONTROL
    assert tool.ask(control, "check") == tool.ask(control, "print", "hello") == tool.ask(control, "memreport") == b"OK"
    assert lines[0] == "xenstored: hello" and "nodes" in lines[1]
    assert b"quota\t[set <name> <val>|<domid>]\n" in tool.ask(control, "help")
    assert b"nodes            :     1000 Nodes per domain\n" in tool.ask(control, "quota")
    assert tool.ask(control, "quota", "set", "nodes", "7") == b"OK" and store.quotas.nodes == 7
    assert tool.ask(control, "quota-soft", "set", "memory", "9") == b"OK" and store.quotas.soft_memory == 9
    assert tool.ask(control, "quota", "1").startswith(b"Domain 1:\nnodes           :        1\n")
    assert tool.ask(control, "quota", "9") == b"ENOENT"
    for words in (("",), ("fly",), ("quota", "set", "nodes"), ("quota", "set", "nodes", "0"), ("check", "x"),
                  ("quota", "set", "x", "1"), ("quota-soft", "1"), ("log",), ("log", "maybe"), ("print",)):  # fmt: skip
        assert tool.ask(control, *words) == b"EINVAL"
    assert tool.ask(control) == b"EINVAL"
    lines.clear()
    tool.ask(control, "log", "on")
    tool.ask(wire.XS_READ, "/tool")
    tool.ask(control, "log", "off")
    assert lines[1] == f"xenstored: domain 0 asks {wire.XS_READ} (/tool )"


def test_a_transaction_may_not_end_with_too_many_nodes(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    tool.ask(wire.XS_CONTROL, "quota", "set", "nodes", "5")
    tx = guest.begin()
    for number in range(4):
        assert guest.write(f"data/{number}", b"", tx) == b"OK\0"
    assert guest.end(tx) == b"ENOSPC\0"
    for number in range(4):
        assert guest.write(f"data/{number}", b"") == b"OK\0"
    assert guest.write("data/4", b"") == b"ENOSPC\0"
    tx = guest.begin()
    assert guest.write("data/4", b"", tx) == b"ENOSPC\0"
    assert guest.write("data/3", b"1", tx) == b"OK\0"
    assert guest.end(tx) == b"OK\0"


def test_a_transaction_in_which_a_write_was_refused_is_lost(store: Store) -> None:
    guest = Guest(store, 1)
    tx = guest.begin()
    assert guest.write("data/a", bytes(2048), tx) == b"ENOSPC\0"
    assert guest.write("data/b", b"", tx) == b"OK\0"
    assert guest.end(tx) == b"ENOMEM\0"
    assert guest.read("data/b") == b"ENOENT\0"


def test_a_transaction_may_not_look_at_everything(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    tool.ask(wire.XS_CONTROL, "quota", "set", "transaction-nodes", "4")
    for number in range(6):
        guest.write(f"data/{number}", b"")
    tx = guest.begin()
    assert [guest.read(f"data/{number}", tx) for number in range(5)] == [b""] * 4 + [b"ENOSPC\0"]
    assert guest.end(tx) == b"ENOMEM\0"


def test_memory(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    held = store.accounts.memory[1]
    tool.ask(wire.XS_CONTROL, "quota", "set", "memory", str(held + 3000))
    assert guest.write("data/a", bytes(1500)) == b"OK\0"
    assert guest.write("data/b", bytes(1500)) == b"EIO\0"
    assert store.read("/local/domain/1/data/b") is None
    assert guest.read("data/a") == b"ENOMEM\0"  # the answer would not fit beside it
    assert tool.ask(wire.XS_WRITE, "/local/domain/1/data/a", raw=bytes(2990)) == b"EIO"  # whoever writes it
    assert guest.watch("data", "t" * 1500) == b"ENOMEM\0"
    assert guest.ask(wire.XS_RM, b"data/a\0") == b"OK\0"
    assert store.accounts.memory[1] == held
    tx = guest.begin()
    guest.write("data/c", bytes(1000), tx)
    assert store.accounts.memory[1] > held + 1000
    guest.end(tx, commit=False)
    assert store.accounts.memory[1] == held


def test_a_domain_with_too_much_is_heard_again_once_it_has_less(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    guest.write("data/a", bytes(1500))
    tool.ask(wire.XS_CONTROL, "quota", "set", "memory", str(store.accounts.memory[1] - 1000))
    request = XSD_SOCKMSG_CODEC.pack(wire.XS_READ, 1, 0, 5) + b"data\0"
    at = guest.words[REQ_PROD] % 1024
    assert at + len(request) < 1024
    guest.page[at : at + len(request)] = request
    guest.words[REQ_PROD] += len(request)
    guest.ring.pump()
    assert list(guest.messages()) == []
    assert tool.ask(wire.XS_RM, "/local/domain/1/data/a") == b"OK"  # nobody signals for the guest
    assert [payload for *_head, payload in guest.messages()] == [b""]
    assert not store.stalled


def test_a_path_has_a_longest_form(store: Store, tool: Tool) -> None:
    guest = Guest(store, 1)
    tool.ask(wire.XS_CONTROL, "quota", "set", "path-max", "10")
    assert guest.write("data/67890", b"") == b"OK\0"  # what names the domain does not count
    assert guest.write("data/678901", b"") == b"EINVAL\0"
    assert tool.ask(wire.XS_WRITE, "/345678901") == b"OK" and tool.ask(wire.XS_WRITE, "/3456789012") == b"EINVAL"


def test_a_transaction_that_saw_what_does_not_fit_is_told_so(store: Store, tool: Tool) -> None:
    """It saw no /b, or one without a child; then there is one, and it would remove it."""
    for first, answer in ((), b"EINVAL"), (("/b",), b"EIO"):
        for path in first:
            store.write(path, "")
        tx = tool.begin()
        tool.ask(wire.XS_READ, "/b", tx=tx)
        store.write("/b/a", "")
        assert tool.ask(wire.XS_RM, "/b/a", tx=tx) == answer
        assert tool.end(tx) == b"EAGAIN"
        store.remove("/b")
    store.write("/b/a", "")
    tx = tool.begin()
    tool.ask(wire.XS_READ, "/b", tx=tx)
    store.remove("/b/a")
    assert tool.ask(wire.XS_RM, "/b", tx=tx) == b"EIO"
    assert tool.end(tx) == b"EAGAIN"
