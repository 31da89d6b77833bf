# SPDX-License-Identifier: GPL-2.0-or-later
"""The store as guests see it, through their rings: messages in, messages out."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvhv.abi.io import xs_wire as wire
from pvhv.abi.io.xs_wire import XSD_SOCKMSG_CODEC
from pvhv.devices.xenstore.permissions import DOM0, READ, Permission
from pvhv.devices.xenstore.requests import process
from pvhv.devices.xenstore.ring import (
    CONNECTION,
    ERROR,
    REQ,
    REQ_PROD,
    RSP,
    RSP_CONS,
    RSP_PROD,
    Ring,
)
from pvhv.devices.xenstore.store import Store

Reply = tuple[int, int, int, bytes]  # type, req_id, tx_id, payload


class Guest:
    """A guest's driver over a ring page."""

    def __init__(self, store: Store, domid: int) -> None:
        self.page = memoryview(bytearray(4096))
        self.words = self.page.cast("I")
        self.notified = 0
        home = f"/local/domain/{domid}"
        if store.read(home) is None:
            store.make(home, "", Permission(0, 0), Permission(domid, READ))
            store.make(f"{home}/data", "", Permission(domid, 0))
        self.ring = Ring(store, domid, self.page, self._notify)
        self.received = b""
        self.events: list[tuple[str, str]] = []
        self.serial = 0

    def _notify(self) -> None:
        self.notified += 1

    def put(self, data: bytes) -> None:
        """Write bytes as the ring takes them."""
        while data:
            prod = self.words[REQ_PROD]
            used = prod - self.words[REQ_PROD - 1] & 0xFFFF_FFFF
            step = data[: min(1024 - used, 1024 - prod % 1024)]
            assert step, "the store does not take our requests"
            at = REQ + prod % 1024
            self.page[at : at + len(step)] = step
            self.words[REQ_PROD] = prod + len(step) & 0xFFFF_FFFF
            data = data[len(step) :]
            self.ring.pump()
            self.drain()

    def drain(self) -> None:
        while (cons := self.words[RSP_CONS]) != (prod := self.words[RSP_PROD]):
            start = cons % 1024
            size = min(prod - cons & 0xFFFF_FFFF, 1024 - start)
            self.received += bytes(self.page[RSP + start : RSP + start + size])
            self.words[RSP_CONS] = cons + size & 0xFFFF_FFFF
            self.ring.pump()

    def messages(self) -> Iterator[Reply]:
        self.drain()
        while len(self.received) >= 16:
            kind, req_id, tx_id, length = XSD_SOCKMSG_CODEC.unpack_from(self.received)
            payload, self.received = self.received[16 : 16 + length], self.received[16 + length :]
            if kind == wire.XS_WATCH_EVENT:
                path, token, _rest = payload.split(b"\0")
                self.events.append((path.decode("latin-1"), token.decode()))
            yield kind, req_id, tx_id, payload

    def ask(self, kind: int, payload: bytes, tx_id: int = 0) -> bytes:
        """One request, its answer; an error comes back as its name."""
        self.serial += 1
        self.put(XSD_SOCKMSG_CODEC.pack(kind, self.serial, tx_id, len(payload)) + payload)
        answers = [message for message in self.messages() if message[0] != wire.XS_WATCH_EVENT]
        assert [(message[1], message[2]) for message in answers] == [(self.serial, tx_id)]
        assert answers[0][0] in (kind, wire.XS_ERROR)
        return answers[0][3]

    def read(self, path: str, tx_id: int = 0) -> bytes:
        return self.ask(wire.XS_READ, path.encode() + b"\0", tx_id)

    def write(self, path: str, value: bytes, tx_id: int = 0) -> bytes:
        return self.ask(wire.XS_WRITE, path.encode() + b"\0" + value, tx_id)

    def begin(self) -> int:
        return int(self.ask(wire.XS_TRANSACTION_START, b"\0").rstrip(b"\0"))

    def end(self, tx_id: int, commit: bool = True) -> bytes:
        return self.ask(wire.XS_TRANSACTION_END, b"T\0" if commit else b"F\0", tx_id)

    def watch(self, path: str, token: str) -> bytes:
        return self.ask(wire.XS_WATCH, f"{path}\0{token}\0".encode())

    def take_events(self) -> list[tuple[str, str]]:
        for _message in self.messages():
            pass
        events, self.events = self.events, []
        return events


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def guest(store: Store) -> Guest:
    return Guest(store, 1)


def test_write_read_directory_rm(guest: Guest) -> None:
    assert guest.write("data/a/b", b"one\0two") == b"OK\0"
    assert guest.read("data/a/b") == b"one\0two"
    assert guest.read("/local/domain/1/data/a") == b""
    assert guest.write("data/a/c", b"") == b"OK\0"
    assert guest.ask(wire.XS_DIRECTORY, b"data/a\0") == b"b\0c\0"
    assert guest.ask(wire.XS_MKDIR, b"data/a/b\0") == b"OK\0"
    assert guest.read("data/a/b") == b"one\0two"
    assert guest.ask(wire.XS_RM, b"data/a\0") == b"OK\0"
    assert guest.read("data/a/b") == b"ENOENT\0"
    assert guest.ask(wire.XS_RM, b"data/a\0") == b"OK\0"  # gone already, its parent is there
    assert guest.ask(wire.XS_RM, b"data/a/b\0") == b"ENOENT\0"


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [
        (wire.XS_READ, b"", b"EINVAL"),
        (wire.XS_READ, b"data", b"EINVAL"),
        (wire.XS_READ, b"data\0more\0", b"EINVAL"),
        (wire.XS_READ, b"/\0", b"EACCES"),
        (wire.XS_READ, b"data//x\0", b"EINVAL"),
        (wire.XS_READ, b"data/\0", b"EINVAL"),
        (wire.XS_READ, b"data/\xff\0", b"EINVAL"),
        (wire.XS_READ, b"data/" + b"x" * 2048 + b"\0", b"EINVAL"),
        (wire.XS_READ, b"data/none\0", b"ENOENT"),
        (wire.XS_READ, b"/local/domain/0/none\0", b"EACCES"),
        (wire.XS_WRITE, b"data", b"EINVAL"),
        (wire.XS_WRITE, b"name\0x", b"EACCES"),
        (wire.XS_WRITE, b"data/big\0" + b"x" * 2040, b"ENOSPC"),
        (wire.XS_RM, b"/\0", b"EACCES"),
        (wire.XS_SET_PERMS, b"data\0", b"EINVAL"),
        (wire.XS_SET_PERMS, b"data\0x1\0", b"EINVAL"),
        (wire.XS_SET_PERMS, b"data\0n2\0", b"EPERM"),
        (wire.XS_SET_PERMS, b"data\0n1\0r2\0r3\0r4\0r5\0r6\0", b"ENOSPC"),
        (wire.XS_WATCH, b"data\0", b"EINVAL"),
        (wire.XS_WATCH, b"data//\0t\0", b"EINVAL"),
        (wire.XS_UNWATCH, b"data\0t\0", b"ENOENT"),
        (wire.XS_TRANSACTION_END, b"T\0", b"ENOENT"),
        (wire.XS_TRANSACTION_END, b"X\0", b"EINVAL"),
        (wire.XS_INTRODUCE, b"1\0001\0001\0", b"EACCES"),
        (wire.XS_IS_DOMAIN_INTRODUCED, b"1\0", b"EACCES"),
        (wire.XS_CONTROL, b"help\0", b"EACCES"),
        (wire.XS_WATCH_EVENT, b"", b"ENOSYS"),
        (77, b"", b"ENOSYS"),
    ],
)
def test_errors_have_xenstoreds_names(guest: Guest, kind: int, payload: bytes, error: bytes) -> None:
    assert guest.ask(kind, payload) == error + b"\0"


def test_domain_paths(guest: Guest) -> None:
    assert guest.ask(wire.XS_GET_DOMAIN_PATH, b"7\0") == b"/local/domain/7\0"


def test_permissions(store: Store, guest: Guest) -> None:
    other = Guest(store, 2)
    guest.write("data/a", b"secret")
    path = "/local/domain/1/data/a"
    assert other.read(path) == b"EACCES\0"
    assert other.read(path + "/none") == b"EACCES\0"  # it may not even know what is not there
    assert guest.ask(wire.XS_SET_PERMS, b"data/a\0n1\0r2\0") == b"OK\0"
    assert guest.ask(wire.XS_GET_PERMS, b"data/a\0") == b"n1\0r2\0"
    assert other.read(path) == b"secret"
    assert other.read(path + "/none") == b"ENOENT\0"
    assert other.write(path, b"mine") == b"EACCES\0"
    assert other.ask(wire.XS_SET_PERMS, path.encode() + b"\0b2\0") == b"EACCES\0"
    assert guest.ask(wire.XS_SET_PERMS, b"data/a\0n1\0b2\0") == b"OK\0"
    assert other.write(path + "/theirs", b"x") == b"OK\0"
    assert other.ask(wire.XS_GET_PERMS, path.encode() + b"/theirs\0") == b"n2\0b2\0"  # made by 2, so 2's


@pytest.mark.parametrize(
    ("number", "meant"),
    [(b"0x" + b"f" * 4070, 0xFFFF_FFFF), (b"9" * 4070, 0xFFFF_FFFF), (b"-" + b"9" * 4070, 0), (b"-2", 0xFFFF_FFFE)],
)
def test_numbers_may_be_as_long_as_a_message(guest: Guest, number: bytes, meant: int) -> None:
    guest.write("data/a", b"")
    assert guest.ask(wire.XS_SET_PERMS, b"data/a\0n1\0r" + number + b"\0") == b"OK\0"
    assert guest.ask(wire.XS_GET_PERMS, b"data/a\0") == f"n1\0r{meant}\0".encode()


def test_watches(store: Store, guest: Guest) -> None:
    assert guest.watch("data", "rel") == b"OK\0"
    assert guest.watch("/local/domain/1/data/a/b", "abs") == b"OK\0"
    assert guest.watch("data", "rel") == b"EEXIST\0"
    assert guest.take_events() == [("data", "rel"), ("/local/domain/1/data/a/b", "abs")]
    guest.write("data/a/b", b"1")
    assert guest.take_events() == [("data/a/b", "rel"), ("/local/domain/1/data/a/b", "abs")]
    store.write("/local/domain/1/data/a", "2")
    assert guest.take_events() == [("data/a", "rel")]
    guest.ask(wire.XS_RM, b"data/a\0")
    assert guest.take_events() == [("/local/domain/1/data/a/b", "abs"), ("data/a", "rel")]
    assert guest.ask(wire.XS_UNWATCH, b"data\0rel\0") == b"OK\0"
    guest.write("data/a/b", b"1")
    assert guest.take_events() == [("/local/domain/1/data/a/b", "abs")]
    assert guest.ask(wire.XS_RESET_WATCHES, b"\0") == b"OK\0"
    guest.write("data/a/b", b"1")
    assert guest.take_events() == []


def test_a_watch_on_what_never_happens_is_told_by_its_own_bytes(guest: Guest) -> None:
    assert guest.ask(wire.XS_WATCH, b"@\xff\xfe\0t\0") == b"OK\0"
    assert guest.take_events() == [("@\xff\xfe", "t")]


def test_a_watch_tells_only_what_may_be_known(store: Store, guest: Guest) -> None:
    other = Guest(store, 2)
    other.watch("/local/domain/1/data", "spy")
    other.take_events()
    guest.write("data/a", b"x")
    assert other.take_events() == []
    guest.ask(wire.XS_SET_PERMS, b"data/a\0n1\0r2\0")
    guest.write("data/a", b"y")
    guest.ask(wire.XS_SET_PERMS, b"data/a\0n1\0")  # losing sight of it is told too
    guest.write("data/a", b"z")
    assert other.take_events() == [("/local/domain/1/data/a", "spy")] * 3


def test_an_event_that_waits_is_not_repeated(store: Store, guest: Guest) -> None:
    guest.watch("data", "t")
    guest.take_events()
    for _time in range(100):
        store.write("/local/domain/1/data/a", "x")
    # Some went into the ring at once; of those that had to wait there is only one.
    assert 1 < len(guest.take_events()) < 60


def test_domain_0s_own_watches(store: Store, guest: Guest) -> None:
    seen: list[str] = []
    number = store.watch("/local/domain/1/data", seen.append)
    guest.write("data/state", b"4")
    store.unwatch(number)
    guest.write("data/state", b"5")
    assert seen == ["/local/domain/1/data/state"]


def test_a_transaction_is_seen_as_a_whole(store: Store, guest: Guest) -> None:
    other = Guest(store, 1)  # a second connection of the same domain would look like this
    tx = guest.begin()
    guest.watch("data", "t")
    guest.take_events()
    assert guest.write("data/a", b"1", tx) == b"OK\0"
    assert guest.read("data/a", tx) == b"1"
    assert other.read("data/a") == b"ENOENT\0"
    assert guest.take_events() == []
    assert guest.end(tx) == b"OK\0"
    assert other.read("data/a") == b"1"
    assert guest.end(tx) == b"ENOENT\0"
    assert guest.ask(wire.XS_TRANSACTION_START, b"\0", tx_id=99) == b"ENOENT\0"


def test_transactions_conflict_where_they_meet(guest: Guest) -> None:
    guest.write("data/a", b"0")
    guest.write("data/b", b"0")
    tx = guest.begin()
    guest.read("data/a", tx)
    guest.write("data/b", b"1")  # not looked at in tx: no matter
    guest.write("data/c", b"2", tx)
    assert guest.end(tx) == b"OK\0"
    tx = guest.begin()
    guest.read("data/a", tx)
    guest.write("data/a", b"0")  # the same value, but written
    guest.write("data/d", b"2", tx)
    assert guest.end(tx) == b"EAGAIN\0"
    assert guest.read("data/d") == b"ENOENT\0"
    tx = guest.begin()
    guest.write("data/e", b"1", tx)
    assert guest.ask(wire.XS_TRANSACTION_START, b"\0", tx) == b"EBUSY\0"
    assert guest.end(tx, commit=False) == b"OK\0"
    assert guest.read("data/e") == b"ENOENT\0"


def test_quotas(guest: Guest) -> None:
    created = 0
    while guest.ask(wire.XS_MKDIR, f"data/{created // 100}/{created}\0".encode()) == b"OK\0":
        created += 1
    assert 980 <= created < 1000
    for number in range(129):
        assert guest.watch("data", f"{number}") == b"OK\0"
    assert guest.watch("data", "one more") == b"E2BIG\0"
    numbers = [guest.begin() for _transaction in range(11)]
    assert guest.ask(wire.XS_TRANSACTION_START, b"\0") == b"ENOSPC\0"
    assert len(set(numbers)) == 11 and 0 not in numbers


def test_a_directory_too_long_for_one_answer_comes_in_parts(store: Store, guest: Guest) -> None:
    names = [f"a-rather-long-name-for-a-child-{number:04}" for number in range(300)]
    for name in names:
        store.write(f"/local/domain/1/data/{name}", "")
    assert guest.ask(wire.XS_DIRECTORY, b"data\0") == b"E2BIG\0"
    listed, generations = b"", set()
    while True:
        answer = guest.ask(wire.XS_DIRECTORY_PART, b"data\0" + str(len(listed)).encode() + b"\0")
        generation, _nul, part = answer.partition(b"\0")
        generations.add(generation)
        if part.endswith(b"\0\0") or part == b"\0":
            listed += part[:-1]
            break
        listed += part
    assert listed.split(b"\0")[:-1] == [name.encode() for name in names]
    assert len(generations) == 1


def test_a_broken_ring_ends_the_connection_until_it_is_asked_back(store: Store, guest: Guest) -> None:
    guest.words[REQ_PROD] += 2000
    guest.ring.pump()
    assert guest.words[ERROR] == wire.XENSTORE_ERROR_RINGIDX
    guest.ring.pump()
    guest.words[CONNECTION] = wire.XENSTORE_RECONNECT
    guest.ring.pump()
    assert (guest.words[CONNECTION], guest.words[ERROR]) == (
        wire.XENSTORE_CONNECTED,
        wire.XENSTORE_ERROR_NONE,
    )
    assert guest.read("data") == b""


def test_a_message_too_long_ends_the_connection(guest: Guest) -> None:
    guest.put(XSD_SOCKMSG_CODEC.pack(wire.XS_READ, 1, 0, 4097))
    assert guest.words[ERROR] == wire.XENSTORE_ERROR_PROTO


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(512, 518), st.integers(0, 0xFFFF_FFFF) | st.integers(0, 3) | st.integers(1000, 1100)),
        max_size=30,
    ),
    st.binary(max_size=200),
)
def test_whatever_stands_in_the_page(changes: list[tuple[int, int]], garbage: bytes) -> None:
    """The store does what it can do, and after a reconnection all is well."""
    store = Store()
    guest, other = Guest(store, 1), Guest(store, 2)
    guest.watch("data", "t")
    guest.page[REQ : REQ + len(garbage)] = garbage
    for word, value in changes:
        guest.words[word] = value
        guest.ring.pump()
        store.write("/local/domain/1/data/a", str(value))
    assert other.write("data/a", b"1") == b"OK\0"
    guest.words[CONNECTION] = wire.XENSTORE_RECONNECT
    guest.ring.pump()
    guest.received = b""
    assert guest.read("data") == b"" and store.domains[1].ring.connection.watches == {}
    guest.ring.close()
    guest.ring.pump()
    assert store.accounts.memory[1] == 0


def test_when_a_domain_goes_so_do_its_nodes(store: Store, guest: Guest) -> None:
    other = Guest(store, 2)
    store.make("/shared", "", Permission(1, 3))
    other.write("/shared/theirs", b"x")
    guest.write("data/a/b", b"x")
    told: list[str] = []
    store.watch("@releaseDomain", told.append)
    before = dict(store.tree.owned)
    assert before[1] == 4
    guest.ring.close()
    assert store.tree.owned[1] == 0
    assert store.read("/local/domain/1/data") is None
    assert store.read("/local/domain/1") == b""  # domain 0's own
    assert store.read("/shared/theirs") is None
    assert told == ["@releaseDomain"]
    assert 1 not in store.domains


def test_domain_0_asks_about_domains(store: Store, guest: Guest) -> None:
    connection = store.connect(DOM0)
    for domid, answer in (("0", b"T"), ("1", b"T"), ("3", b"F")):
        process(store, connection, wire.XS_IS_DOMAIN_INTRODUCED, 1, 0, domid.encode() + b"\0")
        assert connection.next_mail()[16:] == answer + b"\0"


PATHS = st.sampled_from(["data", "data/a", "data/a/x", "data/b", "name", "/local/domain/2/data/a", "@x", ""])
STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.sampled_from(sorted({1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 21})),
        PATHS,
        st.integers(0, 3),
        st.binary(max_size=6),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_tree_stays_whole(steps: list[tuple[int, int, str, int, bytes]]) -> None:
    """Whatever two domains ask, parents know their children, accounts are right, and all goes at the end."""
    store = Store()
    guests = {1: Guest(store, 1), 2: Guest(store, 2)}
    for domid, kind, path, tx_id, value in steps:
        payload = path.encode() + b"\0" + value
        if kind == wire.XS_TRANSACTION_END:
            payload = b"T\0" if value else b"F\0"
        elif kind not in (wire.XS_WRITE, wire.XS_WATCH, wire.XS_UNWATCH, wire.XS_SET_PERMS):
            payload = path.encode() + b"\0"
        elif kind != wire.XS_WRITE:
            payload = path.encode() + (b"\0n1\0r2\0" if kind == wire.XS_SET_PERMS else b"\0t\0")
        guests[domid].ask(kind, payload, tx_id)
    nodes = store.tree.nodes
    for path, node in nodes.items():
        assert len(set(node.children)) == len(node.children)
        for child in node.children:
            assert (f"/{child}" if path == "/" else f"{path}/{child}") in nodes
        above, _slash, leaf = path.rpartition("/")
        assert path == "/" or leaf in nodes[above or "/"].children
    for domid in (0, 1, 2):
        assert store.tree.owned[domid] == sum(node.owner == domid for node in nodes.values())
    for guest in guests.values():
        guest.ring.close()
    assert store.tree.owned[1] == store.tree.owned[2] == 0
