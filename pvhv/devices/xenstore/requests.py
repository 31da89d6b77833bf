# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages: what each type means, and what is answered.

`REQUESTS` is the whole protocol: a handler gets its payload and returns the answer's, or raises the
StoreError that is sent instead. For a type without a row the answer is ENOSYS; for a type that only tools may use, it
is EACCES to all others.

What may take long (a subtree is removed, a transaction committed) is done in pieces, and between these the hypervisor
does other work. But no other request is begun meanwhile: to all parties each request is done as a whole.

Read beside it: wire_funcs and process_message in tools/xenstore/xenstored_core.c.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from pvhv.abi.io import xs_wire
from pvhv.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XENSTORE_REL_PATH_MAX
from pvhv.abi.xen import DOMID_SELF
from pvhv.devices.xenstore import control, permissions, tree
from pvhv.devices.xenstore.connection import Connection
from pvhv.devices.xenstore.nodes import valid
from pvhv.devices.xenstore.numbers import number_of
from pvhv.devices.xenstore.permissions import OWNER, WRITE, StoreError, access
from pvhv.devices.xenstore.store import Store
from pvhv.devices.xenstore.transactions import Transaction
from pvhv.devices.xenstore.tree import Layer
from pvhv.devices.xenstore.watches import Watch

OK = b"OK\0"
# What requests cost, in units of about a microsecond.
REQUEST_COST, NODE_COST, DIRECTORY_COST, BYTES_BY_UNIT = 40, 5, 15, 16
WAITED = 4096  # a whole share: somebody else's request has to be done first

Pieces = Generator[int, None, bytes]


class Call(NamedTuple):
    """A request being handled. `number` is its transaction, 0 for none."""

    store: Store
    connection: Connection
    layer: Layer
    number: int
    payload: bytes

    def strings(self, least: int) -> list[bytes]:
        """The NUL-terminated strings of the payload, at least `least`; bytes behind the last NUL are no string. Raises
        StoreError(EINVAL)."""
        found = self.payload.split(b"\0")[:-1]
        if len(found) < least:
            raise StoreError("EINVAL")
        return found

    def one(self) -> bytes:
        """The payload's only string. Raises StoreError(EINVAL)."""
        if self.payload.count(b"\0") != 1 or not self.payload.endswith(b"\0"):
            raise StoreError("EINVAL")
        return self.payload[:-1]

    @property
    def unprivileged(self) -> bool:
        """Whether quotas apply to the caller."""
        return not self.connection.caller.privileged

    def path(self, text: bytes) -> str:
        """The absolute path that a path of the payload stands for; it may not be a valid one."""
        return self.connection.absolute(text.decode("latin-1"))


def do_directory(call: Call) -> bytes:
    node = tree.directory(call.layer, call.connection.caller, call.path(call.one()))
    return b"".join(child.encode() + b"\0" for child in node.children)


def do_directory_part(call: Call) -> bytes:
    strings = call.strings(2)
    if len(strings) != 2:
        raise StoreError("EINVAL")
    node = tree.directory(call.layer, call.connection.caller, call.path(strings[0]))
    children = b"".join(child.encode() + b"\0" for child in node.children)
    offset = number_of(strings[1])
    generation = str(node.generation).encode() + b"\0"
    if offset >= len(children):
        return generation + b"\0"
    end, room = offset, XENSTORE_PAYLOAD_MAX - len(generation) - 1
    while end < len(children):
        after = children.index(b"\0", end) + 1
        if after - offset > room:
            break
        end = after
    return generation + children[offset:end] + (b"\0" if end == len(children) else b"")


def do_read(call: Call) -> bytes:
    return tree.read(call.layer, call.connection.caller, call.path(call.one()))


def do_write(call: Call) -> bytes:
    path = call.strings(1)[0]
    tree.write(call.layer, call.connection.caller, call.path(path), call.payload[len(path) + 1 :])
    return OK


def do_mkdir(call: Call) -> bytes:
    tree.mkdir(call.layer, call.connection.caller, call.path(call.one()))
    return OK


def do_rm(call: Call) -> Pieces:
    yield from tree.removing(call.layer, call.connection.caller, call.path(call.one()))
    return OK


def do_get_perms(call: Call) -> bytes:
    found = tree.get_permissions(call.layer, call.connection.caller, call.path(call.one()))
    return b"".join(str(permission).encode() + b"\0" for permission in found)


def do_set_perms(call: Call) -> bytes:
    if call.payload.count(b"\0") < 2:
        raise StoreError("EINVAL")
    store, connection = call.store, call.connection
    path, *texts = call.strings(2)
    if call.unprivileged and len(texts) > store.quotas.permissions:
        raise StoreError("ENOSPC")
    wanted = tuple(permissions.parse(text.decode("latin-1")) for text in texts)
    # One for a domain that is not there is kept without effect; nothing can be its.
    wanted = tuple(each._replace(ignored=not store.exists(each.domid)) for each in wanted)
    if wanted[0].ignored:
        raise StoreError("ENOENT")
    if path.startswith(b"@"):
        name = path.decode("latin-1")
        if name not in store.special:
            raise StoreError("EINVAL")
        if access(store.special[name], connection.caller) & (WRITE | OWNER) != WRITE | OWNER:
            raise StoreError("EACCES")
        store.special[name] = wanted
    else:
        tree.set_permissions(call.layer, connection.caller, call.path(path), wanted)
    return OK


def do_watch(call: Call) -> bytes:
    text, token = _two(call)
    connection, quotas = call.connection, call.store.quotas
    special = text.startswith(b"@")
    path = call.path(text)
    if len(path) > XENSTORE_REL_PATH_MAX if special else not valid(path, quotas.path_max):
        raise StoreError("EINVAL")
    if (path, token) in connection.watches:
        raise StoreError("EEXIST")
    if call.unprivileged and len(connection.watches) > quotas.watches:
        raise StoreError("E2BIG")
    relative = not special and not text.startswith(b"/")
    watch = Watch(path, token, connection.home if relative else "")
    call.store.add_watch(connection, watch)
    # A new watch is told once at once, after the answer to the request.
    call.store.afterwards.append(lambda: connection.event(watch, path))
    return OK


def do_unwatch(call: Call) -> bytes:
    text, token = _two(call)
    call.store.remove_watch(call.connection, call.path(text), token)
    return OK


def do_reset_watches(call: Call) -> bytes:
    call.store.reset(call.connection)
    return OK


def do_transaction_start(call: Call) -> bytes:
    connection = call.connection
    if call.number:
        raise StoreError("EBUSY")
    if call.unprivileged and len(connection.transactions) > call.store.quotas.transactions:
        raise StoreError("ENOSPC")
    number = connection.next_transaction
    while number in connection.transactions or number == 0:
        number = (number + 1) & 0xFFFF_FFFF
    connection.next_transaction = (number + 1) & 0xFFFF_FFFF
    connection.transactions[number] = Transaction(call.store.tree, connection.domid, call.unprivileged)
    return str(number).encode() + b"\0"


def do_transaction_end(call: Call) -> Pieces:
    verdict = call.one()
    if verdict not in (b"T", b"F"):
        raise StoreError("EINVAL")
    if not call.number:
        raise StoreError("ENOENT")
    transaction = call.connection.transactions.pop(call.number)
    try:
        if verdict == b"T":
            yield from transaction.committing()
    finally:
        transaction.close()
    return OK


def do_introduce(call: Call) -> bytes:
    domid, _mfn, port = call.strings(3)[:3]  # the ring is found by its grant
    if number_of(port) == 0:
        raise StoreError("EINVAL")
    call.store.introduce(number_of(domid), number_of(port))
    return OK


def do_release(call: Call) -> bytes:
    domid = _domid(call)
    call.store.release(domid)
    return OK


def do_resume(call: Call) -> bytes:
    call.store.introduced(_domid(call)).shut_down = False
    return OK


def do_set_target(call: Call) -> bytes:
    strings = call.strings(2)
    domid, target = number_of(strings[0]), number_of(strings[1])
    asker = call.store.introduced(domid).ring.connection
    call.store.introduced(target)
    asker.caller = asker.caller._replace(target=target)
    return OK


def do_get_domain_path(call: Call) -> bytes:
    return f"/local/domain/{number_of(call.one())}".encode() + b"\0"


def do_is_domain_introduced(call: Call) -> bytes:
    domid = number_of(call.one())
    return b"T\0" if domid in (0, DOMID_SELF) or domid in call.store.domains else b"F\0"


def do_control(call: Call) -> Pieces:
    return (yield from control.performing(call.store, call.payload))


class Request(NamedTuple):
    """One type of message. A request of an `outside` type ignores its transaction number."""

    handler: Callable[[Call], bytes | Pieces]
    tools_only: bool = False
    outside: bool = False


REQUESTS = {
    xs_wire.XS_CONTROL: Request(do_control, tools_only=True),
    xs_wire.XS_DIRECTORY: Request(do_directory),
    xs_wire.XS_READ: Request(do_read),
    xs_wire.XS_GET_PERMS: Request(do_get_perms),
    xs_wire.XS_WATCH: Request(do_watch, outside=True),
    xs_wire.XS_UNWATCH: Request(do_unwatch, outside=True),
    xs_wire.XS_TRANSACTION_START: Request(do_transaction_start),
    xs_wire.XS_TRANSACTION_END: Request(do_transaction_end),
    xs_wire.XS_INTRODUCE: Request(do_introduce, tools_only=True),
    xs_wire.XS_RELEASE: Request(do_release, tools_only=True),
    xs_wire.XS_GET_DOMAIN_PATH: Request(do_get_domain_path),
    xs_wire.XS_WRITE: Request(do_write),
    xs_wire.XS_MKDIR: Request(do_mkdir),
    xs_wire.XS_RM: Request(do_rm),
    xs_wire.XS_SET_PERMS: Request(do_set_perms),
    xs_wire.XS_IS_DOMAIN_INTRODUCED: Request(do_is_domain_introduced, tools_only=True),
    xs_wire.XS_RESUME: Request(do_resume, tools_only=True),
    xs_wire.XS_SET_TARGET: Request(do_set_target, tools_only=True),
    xs_wire.XS_RESET_WATCHES: Request(do_reset_watches),
    xs_wire.XS_DIRECTORY_PART: Request(do_directory_part),
}


def processing(
    store: Store, connection: Connection, kind: int, req_id: int, tx_id: int, payload: bytes
) -> Iterator[int]:
    """Handle one message, queue its answer, and tell watchers: in pieces; each item is a number of units of work."""
    while store.busy is not None:
        yield WAITED
    try:
        request = REQUESTS.get(kind)
        if request is None:
            raise StoreError("ENOSYS")
        if request.tools_only and not connection.caller.privileged:
            raise StoreError("EACCES")
        transaction = None if request.outside else connection.transaction(tx_id)
        layer: Layer = store.tree if transaction is None else transaction
        number = 0 if transaction is None else tx_id
        found = request.handler(Call(store, connection, layer, number, payload))
        answer = found if isinstance(found, bytes) else (yield from _in_pieces(store, connection, found))
    except StoreError as error:
        connection.reply_error(req_id, tx_id, error.name)
    else:
        if answer is not None:
            connection.reply(kind, req_id, tx_id, answer)
    yield REQUEST_COST + len(payload) // BYTES_BY_UNIT + payload.count(b"/") * DIRECTORY_COST
    yield from store.settling()
    if store.traces:
        store.log(control.traced(connection, kind, payload))


def _in_pieces(store: Store, connection: Connection, pieces: Pieces) -> Generator[int, None, bytes | None]:
    """The answer of a request that takes long; None if the asker went meanwhile (the request is still done)."""
    store.busy = connection, pieces
    try:
        while True:
            yield next(pieces) * NODE_COST
    except StopIteration as over:
        answer: bytes | None = over.value
        return answer
    finally:
        store.busy = None


def process(
    store: Store, connection: Connection, kind: int, req_id: int, tx_id: int, payload: bytes
) -> None:
    """Handle one message likewise, in one go."""
    for _piece in processing(store, connection, kind, req_id, tx_id, payload):
        pass


def _two(call: Call) -> tuple[bytes, bytes]:
    strings = call.strings(2)
    if len(strings) != 2:
        raise StoreError("EINVAL")
    return strings[0], strings[1]


def _domid(call: Call) -> int:
    """The payload's only string as a domid: not domain 0's. Raises StoreError(EINVAL)."""
    domid = number_of(call.one())
    if not domid:
        raise StoreError("EINVAL")
    call.store.introduced(domid)
    return domid
