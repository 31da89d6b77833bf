# SPDX-License-Identifier: GPL-2.0-or-later
"""The store against models that are too simple to be wrong: a dictionary, and a list of all watches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pvhv.abi.io import xs_wire as wire
from pvhv.devices.xenstore.control import inconsistencies
from pvhv.devices.xenstore.store import Store
from pvhv.devices.xenstore.watches import Watches
from tests.devices.stores import Tool

NAMES = ("a", "b", "c")


class Model:
    """Values and children by path. Answers are those of the wire."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {"/": b"", "/tool": b"", "/tool/xenstored": b""}
        self.children: dict[str, list[str]] = {"/": ["tool"], "/tool": ["xenstored"], "/tool/xenstored": []}

    def make(self, path: str) -> None:
        if path in self.values:
            return
        above, _slash, leaf = path.rpartition("/")
        self.make(above or "/")
        self.values[path], self.children[path] = b"", []
        self.children[above or "/"].append(leaf)

    def read(self, path: str, _value: bytes) -> bytes:
        return self.values.get(path, b"ENOENT\0")

    def directory(self, path: str, _value: bytes) -> bytes:
        if path not in self.values:
            return b"ENOENT\0"
        return b"".join(leaf.encode() + b"\0" for leaf in self.children[path])

    def write(self, path: str, value: bytes) -> bytes:
        self.make(path)
        self.values[path] = value
        return b"OK"

    def mkdir(self, path: str, _value: bytes) -> bytes:
        self.make(path)
        return b"OK"

    def remove(self, path: str, _value: bytes) -> bytes:
        above, _slash, leaf = path.rpartition("/")
        if path not in self.values:
            return b"OK" if (above or "/") in self.values else b"ENOENT"
        self.children[above or "/"].remove(leaf)
        for each in [each for each in self.values if f"{each}/".startswith(f"{path}/")]:
            del self.values[each], self.children[each]
        return b"OK"


OPERATIONS: dict[int, Callable[[Model, str, bytes], bytes]] = {
    wire.XS_READ: Model.read,
    wire.XS_DIRECTORY: Model.directory,
    wire.XS_WRITE: Model.write,
    wire.XS_MKDIR: Model.mkdir,
    wire.XS_RM: Model.remove,
}
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda leaves: "/" + "/".join(leaves))
STEP = st.tuples(
    st.integers(0, 2),
    st.sampled_from([*OPERATIONS, *OPERATIONS, wire.XS_TRANSACTION_START, wire.XS_TRANSACTION_END]),
    PATHS,
    st.binary(max_size=3),
)


def ask(tool: Tool, kind: int, path: str, value: bytes, tx: int) -> bytes:
    return tool.ask(kind, path, raw=value if kind == wire.XS_WRITE else b"", tx=tx)


class Party:
    """A tool with at most one open transaction, and what was said in it."""

    def __init__(self, store: Store) -> None:
        self.tool = Tool(store)
        self.tx = 0
        self.said: list[tuple[int, str, bytes, bytes]] = []
        self.met = False  # whether another party changed anything since it began


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=50))
def test_transactions_are_as_if_one_after_the_other(steps: list[tuple[int, int, str, bytes]]) -> None:
    """What a transaction was told holds when it ends, or it is told to start over; alone it is never told that."""
    store, model = Store(), Model()
    parties = [Party(store) for _party in range(3)]
    for number, kind, path, value in steps:
        party = parties[number]
        if kind == wire.XS_TRANSACTION_START:
            if not party.tx:
                party.tx, party.said, party.met = party.tool.begin(), [], False
            continue
        if kind == wire.XS_TRANSACTION_END:
            if not party.tx:
                continue
            verdict = party.tool.end(party.tx, commit=not value.startswith(b"\0"))
            party.tx = 0
            after = copy.deepcopy(model)
            replayed = [OPERATIONS[kind](after, path, value) for kind, path, value, _answer in party.said]
            if value.startswith(b"\0"):
                assert verdict == b"OK"
            elif verdict == b"OK":
                assert replayed == [answer for *_said, answer in party.said]
                changed, model = after.values != model.values, after
                for other in parties:
                    other.met |= changed or any(said[0] in (wire.XS_WRITE, wire.XS_RM) for said in party.said)
            else:
                assert verdict == b"EAGAIN" and party.met
            continue
        answer = ask(party.tool, kind, path, value, party.tx)
        if party.tx:
            party.said.append((kind, path, value, answer))
        else:
            assert answer == OPERATIONS[kind](model, path, value)
            if kind not in (wire.XS_READ, wire.XS_DIRECTORY):
                for other in parties:
                    other.met = True
    assert {path: node.value for path, node in store.tree.nodes.items()} == model.values
    assert {path: list(node.children) for path, node in store.tree.nodes.items()} == model.children
    assert inconsistencies(store) == []
    for party in parties:
        party.tool.socket.close()
    weights = sum(node.size + len(path) for path, node in store.tree.nodes.items())
    assert store.accounts.memory == {0: weights}


@settings(max_examples=200, deadline=None)
@given(st.lists(PATHS | st.just("/") | st.just("@releaseDomain")), PATHS | st.just("@releaseDomain"), st.booleans())
def test_watches_are_found_as_if_all_were_looked_at(watched: list[str], path: str, exact: bool) -> None:
    exact = exact or path.startswith("@")
    index: Watches[int] = Watches()
    for number, where in enumerate(watched):
        index.add(where, (1, number), number)

    def concerns(where: str) -> bool:
        return where == path or (not exact and (where == "/" or path.startswith(f"{where}/")))

    assert index.concerned(path, exact) == [number for number, where in enumerate(watched) if concerns(where)]
    for number, where in enumerate(watched):
        index.remove(where, (1, number))
    assert index.by_path == {}


class Counting(dict[str, Any]):
    """A dictionary that counts how often it is asked."""

    asked = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.asked += 1
        return super().get(key, default)

    def _refuse(self, *_arguments: object) -> Iterable[Any]:
        raise AssertionError("somebody goes through all of it")

    __iter__ = items = values = keys = _refuse  # type: ignore[assignment]


def test_what_a_change_costs_depends_on_nobody_else() -> None:
    """With hundreds of watches and thousands of nodes, a write looks at its own path and at those above it."""
    store = Store()
    tool, other = Tool(store), Tool(store)
    for number in range(500):
        assert tool.ask(wire.XS_WATCH, f"/many/{number}", "t") == b"OK"
    for number in range(10_000):
        store.write(f"/many/{number}", "")
    other.ask(wire.XS_WATCH, "/one/two", "mine")
    store.write("/one/two/three", "1")
    other.take_events()
    assert len(store.tree.nodes) == 10_007
    store.tree.nodes = nodes = Counting(store.tree.nodes)
    store.watches.by_path = watches = Counting(store.watches.by_path)
    store.write("/one/two/three", "2")
    assert nodes.asked <= 8 and watches.asked <= 4
    assert other.take_events() == [("/one/two/three", "mine")]
    transaction = tool.begin()
    nodes.asked = 0
    assert tool.ask(wire.XS_WRITE, "/one/two/four", raw=b"1", tx=transaction) == b"OK"
    assert tool.end(transaction) == b"OK"
    assert nodes.asked <= 16
