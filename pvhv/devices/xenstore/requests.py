# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages: what each type means, and what is answered.

`REQUESTS` is the whole protocol: a handler gets its payload and returns the answer's, or raises the
StoreError that is sent instead. A type without a row is ENOSYS; one for tools only is EACCES to everybody
else.

Not modelled: CONTROL (there is no daemon of its own to control), INTRODUCE, RELEASE, RESUME and SET_TARGET as
messages: they are for toolstacks, and ours calls the daemon's methods of those names.

Read beside it: wire_funcs and process_message in tools/xenstore/xenstored_core.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pvhv.abi.io import xs_wire
from pvhv.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XENSTORE_REL_PATH_MAX
from pvhv.devices.xenstore import permissions, tree
from pvhv.devices.xenstore.connection import Connection
from pvhv.devices.xenstore.permissions import StoreError
from pvhv.devices.xenstore.transactions import MAX_TRANSACTIONS, Transaction
from pvhv.devices.xenstore.tree import Layer
from pvhv.devices.xenstore.watches import MAX_WATCHES, Watch

if TYPE_CHECKING:
    from pvhv.devices.xenstore.daemon import Xenstore

OK = b"OK\0"
SPECIAL_WATCHES = ("@introduceDomain", "@releaseDomain")


class Call(NamedTuple):
    """A request being handled. `number` is its transaction, 0 for none."""

    store: Xenstore
    connection: Connection
    layer: Layer
    number: int
    payload: bytes

    def strings(self, least: int) -> list[bytes]:
        """The NUL-terminated strings of the payload; what follows the last NUL is none."""
        found = self.payload.split(b"\0")[:-1]
        if len(found) < least:
            raise StoreError("EINVAL")
        return found

    def one(self) -> bytes:
        """The payload's only string."""
        if self.payload.count(b"\0") != 1 or not self.payload.endswith(b"\0"):
            raise StoreError("EINVAL")
        return self.payload[:-1]

    def path(self, text: bytes) -> str:
        """A path of the payload, from the root; whether it is a valid one is asked later."""
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
    offset = _number(strings[1])
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


def do_rm(call: Call) -> bytes:
    tree.remove(call.layer, call.connection.caller, call.path(call.one()))
    return OK


def do_get_perms(call: Call) -> bytes:
    found = tree.get_permissions(call.layer, call.connection.caller, call.path(call.one()))
    return b"".join(str(permission).encode() + b"\0" for permission in found)


def do_set_perms(call: Call) -> bytes:
    path, *texts = call.strings(2)
    wanted = tuple(permissions.parse(text.decode("latin-1")) for text in texts)
    if path.startswith(b"@"):
        raise StoreError("EACCES" if not call.connection.caller.privileged else "EINVAL")
    tree.set_permissions(call.layer, call.connection.caller, call.path(path), wanted)
    return OK


def do_watch(call: Call) -> bytes:
    text, token = _two(call)
    connection = call.connection
    relative = not text.startswith((b"/", b"@"))
    path = call.path(text)
    if not (path in SPECIAL_WATCHES or tree.valid(path)):
        if not path.startswith("@") or len(path) > XENSTORE_REL_PATH_MAX:
            raise StoreError("EINVAL")
    if (path, token) in connection.watches:
        raise StoreError("EEXIST")
    if not connection.caller.privileged and len(connection.watches) >= MAX_WATCHES:
        raise StoreError("E2BIG")
    watch = Watch(path, token, connection.home if relative else "")
    connection.watches[path, token] = watch
    # A new watch is told once at once, after the answer to the request.
    call.store.afterwards.append(lambda: connection.event(watch, path))
    return OK


def do_unwatch(call: Call) -> bytes:
    text, token = _two(call)
    if call.connection.watches.pop((call.path(text), token), None) is None:
        raise StoreError("ENOENT")
    return OK


def do_reset_watches(call: Call) -> bytes:
    call.connection.reset()
    return OK


def do_transaction_start(call: Call) -> bytes:
    connection = call.connection
    if call.number:
        raise StoreError("EBUSY")
    limited = not connection.caller.privileged
    if limited and len(connection.transactions) > MAX_TRANSACTIONS:
        raise StoreError("ENOSPC")
    number = connection.next_transaction
    while number in connection.transactions or number == 0:
        number = (number + 1) & 0xFFFF_FFFF
    connection.next_transaction = (number + 1) & 0xFFFF_FFFF
    connection.transactions[number] = Transaction(call.store.tree, limited)
    return str(number).encode() + b"\0"


def do_transaction_end(call: Call) -> bytes:
    verdict = call.one()
    if verdict not in (b"T", b"F"):
        raise StoreError("EINVAL")
    if not call.number:
        raise StoreError("ENOENT")
    transaction = call.connection.transactions.pop(call.number)
    if verdict == b"T":
        transaction.commit()
    return OK


def do_get_domain_path(call: Call) -> bytes:
    return f"/local/domain/{_number(call.one())}".encode() + b"\0"


def do_is_domain_introduced(call: Call) -> bytes:
    domid = _number(call.one())
    return b"T\0" if domid == 0 or domid in call.store.connections else b"F\0"


class Request(NamedTuple):
    """One type of message. `outside` ones take no notice of a transaction's number."""

    handler: Callable[[Call], bytes] | None
    tools_only: bool = False
    outside: bool = False


REQUESTS = {
    xs_wire.XS_CONTROL: Request(None, tools_only=True),
    xs_wire.XS_DIRECTORY: Request(do_directory),
    xs_wire.XS_READ: Request(do_read),
    xs_wire.XS_GET_PERMS: Request(do_get_perms),
    xs_wire.XS_WATCH: Request(do_watch, outside=True),
    xs_wire.XS_UNWATCH: Request(do_unwatch, outside=True),
    xs_wire.XS_TRANSACTION_START: Request(do_transaction_start),
    xs_wire.XS_TRANSACTION_END: Request(do_transaction_end),
    xs_wire.XS_INTRODUCE: Request(None, tools_only=True),
    xs_wire.XS_RELEASE: Request(None, tools_only=True),
    xs_wire.XS_GET_DOMAIN_PATH: Request(do_get_domain_path),
    xs_wire.XS_WRITE: Request(do_write),
    xs_wire.XS_MKDIR: Request(do_mkdir),
    xs_wire.XS_RM: Request(do_rm),
    xs_wire.XS_SET_PERMS: Request(do_set_perms),
    xs_wire.XS_IS_DOMAIN_INTRODUCED: Request(do_is_domain_introduced, tools_only=True),
    xs_wire.XS_RESUME: Request(None, tools_only=True),
    xs_wire.XS_SET_TARGET: Request(None, tools_only=True),
    xs_wire.XS_RESET_WATCHES: Request(do_reset_watches),
    xs_wire.XS_DIRECTORY_PART: Request(do_directory_part),
}


def process(
    store: Xenstore, connection: Connection, kind: int, req_id: int, tx_id: int, payload: bytes
) -> None:
    """Handle one message and queue its answer."""
    try:
        request = REQUESTS.get(kind)
        if request is None:
            raise StoreError("ENOSYS")
        if request.tools_only and not connection.caller.privileged:
            raise StoreError("EACCES")
        if request.handler is None:
            raise StoreError("ENOSYS")
        transaction = None if request.outside else connection.transaction(tx_id)
        layer: Layer = store.tree if transaction is None else transaction
        number = 0 if transaction is None else tx_id
        answer = request.handler(Call(store, connection, layer, number, payload))
    except StoreError as error:
        connection.reply_error(req_id, tx_id, error.name)
    else:
        connection.reply(kind, req_id, tx_id, answer)
    finally:
        store.settle()


def _two(call: Call) -> tuple[bytes, bytes]:
    strings = call.strings(2)
    if len(strings) != 2:
        raise StoreError("EINVAL")
    return strings[0], strings[1]


def _number(text: bytes) -> int:
    """C's atoi, as far as anybody relies on it."""
    digits = text.lstrip()[:10]
    end = next((at for at, digit in enumerate(digits) if not 48 <= digit <= 57), len(digits))
    return int(digits[:end] or b"0")
