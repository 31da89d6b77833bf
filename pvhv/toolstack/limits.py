# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounds of everything that a guest, a client or a file can make grow, and what happens beyond each.

A bound is a constant in the module that enforces it. The list is here to be read, and to be tested: for each bound
tests/toolstack/test_limits.py names a test that goes beyond it. `pvhv daemon limits` shows the list.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pvhv.abi.event_channel import EVTCHN_FIFO_NR_CHANNELS
from pvhv.core import hypervisor, keyhandler, xenlog
from pvhv.core.calls import console_io
from pvhv.core.grants import table as grants
from pvhv.core.mm import guestmem
from pvhv.core.sched import timeline
from pvhv.devices.block import control, disk, pages
from pvhv.devices.console import console, record
from pvhv.devices.xenstore import quotas, sockets
from pvhv.hvm.monitor import translator
from pvhv.hvm.platform import ata, virtio_blk
from pvhv.hvm.techniques import binary_translation
from pvhv.images import opening
from pvhv.images.image import SECTOR_SIZE
from pvhv.images.qcow2 import discarding as qcow2_discarding
from pvhv.images.qcow2 import header as qcow2_header
from pvhv.images.qcow2 import tables as qcow2_tables
from pvhv.machine import engine
from pvhv.observe import capture, device_probes, following, orc, symbols, tally
from pvhv.observe.gdb import packets
from pvhv.observe.gdb import server as gdb_server
from pvhv.toolstack import (
    bzimage,
    config,
    console_log,
    daemon_log,
    debugging,
    dump_access,
    elf,
    elf_symbols,
    follow,
    host,
    lifecycle,
    looking,
    names,
    problems,
    ramdisk,
    rpc,
    server,
    tracing,
)

BYTES = "bytes"
STORE = quotas.Quotas()


class Limit(NamedTuple):
    """One bound: each `of` may have `most` `unit` of `what`; `beyond` says what happens then."""

    name: str
    of: str
    what: str
    most: int
    unit: str
    beyond: str


def limits() -> list[Limit]:
    """All bounds, with their values in this process."""
    return [*_of_the_process(), *_of_a_client(), *_of_a_domain(), *_of_a_file()]


def plain() -> list[dict[str, Any]]:
    """The same as plain values."""
    return [limit._asdict() for limit in limits()]


def _of_the_process() -> list[Limit]:
    of = "pvhvd"
    return [
        Limit("domains", of, "domains, those that are kept among them",
              host.MOST_DOMAINS, "domains", "another is refused"),
        Limit("clients", of, "clients, as far as there are descriptors",
              server.most_clients(), "clients", "others wait until one goes"),
        Limit("strangers", of, "connections that have not said who they are",
              server.MOST_STRANGERS, "connections", "the one that was silent longest is closed"),
        Limit("cores", of, "cores that are dumped at once for clients",
              dump_access.CLIENTS, "cores", "another is refused"),
        Limit("log", of, "pvhvd.log",
              daemon_log.LARGEST_LOG, BYTES, "it becomes pvhvd.log.1, in place of the one before"),
        Limit("log-lines", of, "lines of pvhvd.log in a second",
              daemon_log.LINES_A_SECOND, "lines", "the others are left out and counted"),
        Limit("log-entry", of, "one entry of pvhvd.log",
              daemon_log.LONGEST_ENTRY, BYTES, "it is cut"),
        Limit("dmesg", of, "what `pvhv dmesg` shows",
              xenlog.LINES, "lines", "the oldest go"),
        Limit("dmesg-line", of, "one line of it",
              xenlog.LONGEST_LINE, "characters", "it is cut"),
        Limit("bugs", of, "tracebacks of our own mistakes",
              hypervisor.BUGS_KEPT, "tracebacks", "the oldest go; all are counted"),
        Limit("cancelled-timers", of, "timers that were cancelled and wait for their time",
              timeline.CANCELLED_KEPT, "timers, or as many as are armed", "they are taken out"),
    ]  # fmt: skip


def _of_a_client() -> list[Limit]:
    of = "client"
    return [
        Limit("greeting", of, "its first request",
              rpc.LARGEST_GREETING, BYTES, "the connection is ended"),
        Limit("request", of, "a request",
              rpc.LARGEST_REQUEST, BYTES, "the connection is ended"),
        Limit("request-parts", of, "lists and maps in a request",
              rpc.MOST_CONTAINERS, "parts", "the connection is ended"),
        Limit("request-text", of, "a text in a request",
              rpc.LONGEST_TEXT, BYTES, "the connection is ended"),
        Limit("calls", of, "requests under way",
              server.MOST_CALLS, "requests", "another is refused; twice as many end the connection"),
        Limit("calls-bytes", of, "the length of requests under way",
              server.MOST_IN_FLIGHT, BYTES, "another is refused"),
        Limit("notes", of, "what it is told beside a console's output",
              follow.MOST_NOTES, "notes", "the oldest go"),
        Limit("unread-output", of, "output that a run's client has not read",
              console.LOSSLESS_BACKLOG, BYTES, "the guest waits"),
        Limit("trace", of, "records of a trace that it has not read",
              tracing.QUEUE, "records, or entries of multicalls",
              "they are dropped and counted; on a virtual clock the guest's time stands still"),
        Limit("trace-items", of, "elements of a batch that a record has",
              capture.ITEMS_KEPT, "elements", "the others are counted"),
        Limit("trace-entries", of, "entries of a multicall that a record has",
              capture.ENTRIES_KEPT, "entries", "the others are left out"),
        Limit("summary-rows", of, "rows of a trace's summary, and of its system calls",
              tally.MOST_ROWS, "rows", "what has no row is counted as (others)"),
        Limit("followed-calls", of, "system calls followed at once",
              following.MOST_OPEN, "calls", "the oldest is over, as unfinished"),
        Limit("followed-exits", of, "names of exits that one followed call is told of",
              following.MOST_NAMES, "names", "what has no name is counted as (others)"),
        Limit("trace-requests", of, "requests of one disk whose beginning a trace remembers",
              device_probes.MOST_KEPT, "requests", "they have no round trip"),
        Limit("gdb-packet", of, "a packet of GDB's",
              packets.PACKET_SIZE, BYTES, "it is answered with an error"),
        Limit("gdb-unread", of, "what GDB said that is not answered yet",
              debugging.MOST_UNREAD, BYTES, "the connection is ended"),
        Limit("gdb-breakpoints", of, "its breakpoints",
              gdb_server.MOST_BREAKPOINTS, "breakpoints", "another is refused"),
        Limit("gdb-watchpoints", of, "its watchpoints",
              gdb_server.MOST_WATCHPOINTS, "watchpoints", "another is refused"),
        Limit("store-unheard", of, "requests to xenstore that wait",
              sockets.MOST_UNHEARD + rpc.LARGEST_REQUEST, BYTES, "no more is taken until it reads"),
        Limit("store-ahead", of, "answers from xenstore that wait",
              2 * sockets.AHEAD, BYTES, "its requests wait"),
        Limit("store-events", of, "watch events that wait",
              STORE.memory, BYTES, "further events are dropped"),
        Limit("debug-keys", of, "keys of one `pvhv debug-keys`",
              looking.MOST_KEYS, "keys", "the others are passed over"),
        Limit("debug-key-lines", of, "lines that one key prints of a list",
              keyhandler.LINES, "lines", "the others are counted"),
    ]  # fmt: skip


def _of_a_domain() -> list[Limit]:
    of = "domain"
    of_store = "xenstore says EIO, ENOMEM, E2BIG or ENOSPC"
    full = [
        Limit("translated-blocks", of, "blocks that the binary translator keeps",
              translator.MOST_BLOCKS, "blocks", "they are translated anew"),
        Limit("callouts", of, "sensitive instructions that it found",
              translator.MOST_CALLOUTS, "instructions", "the guest is ended"),
        Limit("counted-faults", of, "instructions whose stores to page tables are counted",
              binary_translation.MOST_COUNTED, "instructions", "they are counted anew"),
    ]  # fmt: skip
    return [
        Limit("console-head", of, "the beginning of its console's output",
              record.HEAD, BYTES, "it stays"),
        Limit("console-tail", of, "the end of its console's output",
              record.TAIL, BYTES, "the oldest goes, and is counted"),
        Limit("console-log", of, "guest-NAME.log",
              console_log.LARGEST, BYTES, "it becomes guest-NAME.log.1, in place of the one before"),
        Limit("typed", of, "what is typed at its console and it has not read",
              console.TYPED_LIMIT, BYTES, "input waits until it reads"),
        Limit("console_io", of, "a line that it writes with console_io",
              console_io.LINE_LIMIT, BYTES, "it is shown as it is"),
        Limit("disks", of, "its disks",
              config.MOST_DISKS, "disks", "its file is refused"),
        Limit("disk-requests", of, "requests of one of its disks that are under way",
              disk.MOST_UNDER_WAY, "requests", "others wait in the rings"),
        Limit("disk-bytes", of, "the bytes of these requests",
              disk.MOST_BYTES_UNDER_WAY, BYTES, "others wait in the rings"),
        Limit("disk-queues", of, "rings of one of its disks",
              control.MAX_QUEUES, "rings", "the disk is not connected"),
        Limit("disk-pages", of, "pages that are kept mapped for a ring",
              pages.MOST_KEPT, "pages", "others are mapped for one request"),
        Limit("virtio-requests", of, "requests of a virtio disk that are under way",
              virtio_blk.MOST_UNDER_WAY, "requests", "others wait in the queue"),
        Limit("virtio-piece", of, "what one of them moves at a time",
              virtio_blk.PIECE, BYTES, "the rest follows"),
        Limit("ide-chunk", of, "what a command of an IDE disk reads or writes at a time",
              ata.CHUNK * SECTOR_SIZE, BYTES, "the rest follows"),
        Limit("image-tables", of, "tables of a qcow2 image of its that are in memory, of each of two kinds",
              qcow2_tables.MOST_SLICES * qcow2_tables.SLICE_SIZE, BYTES, "they are written, and read anew"),
        Limit("image-dropped", of, "runs of clusters of an image of its that wait for a flush to be free",
              qcow2_discarding.MOST_DROPPED, "runs", "its tables are written"),
        Limit("quick-restarts", of, f"restarts after less than {lifecycle.QUICK_LIFE_S:g} s",
              lifecycle.QUICK_RESTARTS, "restarts", "it is kept as it is"),
        Limit("event-channels", of, "event channels, unless its file says otherwise",
              config.DEFAULT_EVENT_CHANNELS + 1, "ports", "ENOSPC"),
        Limit("event-channels-fifo", of, "event channels, whatever its file says",
              EVTCHN_FIFO_NR_CHANNELS, "ports", "ENOSPC"),
        Limit("grant-frames", of, "frames of its grant table, unless its file says otherwise",
              grants.DEFAULT_MAX_FRAMES, "frames", "GNTST_general_error"),
        Limit("maptrack-frames", of, "frames of grants that it has mapped, unless its file says otherwise",
              grants.DEFAULT_MAX_MAPTRACK_FRAMES, "frames", "GNTST_no_space"),
        Limit("known-pages", of, "pages whose frames are remembered",
              guestmem.MOST_KNOWN, "pages", "they are looked up anew"),
        Limit("code", of, "the engine's translations of its code",
              engine.CODE_BUFFER_BYTES, BYTES, "they are made anew"),
        *full,
        Limit("symbols", of, "symbols of its kernel",
              symbols.MOST_SYMBOLS, "symbols", "none are kept, and a message says why"),
        Limit("symbol-names", of, "their names",
              symbols.MOST_NAME_BYTES, BYTES, "none are kept, and a message says why"),
        Limit("orc-rows", of, "rows of its unwind tables",
              orc.MOST_ROWS, "rows", "its callers are guessed from the stack"),
        Limit("store-nodes", of, "nodes of xenstore",
              STORE.nodes, "nodes", of_store),
        Limit("store-watches", of, "watches",
              STORE.watches, "watches", of_store),
        Limit("store-transactions", of, "transactions",
              STORE.transactions, "transactions", of_store),
        Limit("store-outstanding", of, "answers that it has not read",
              STORE.outstanding, "answers", "no more is taken until it reads"),
        Limit("store-accessed", of, "nodes in one transaction",
              STORE.transaction_nodes, "nodes", of_store),
        Limit("store-memory", of, "all that xenstore keeps for it",
              STORE.memory, BYTES, of_store),
        Limit("store-node-size", of, "one node",
              STORE.node_size, BYTES, of_store),
        Limit("store-path", of, "a node's path",
              STORE.path_max, BYTES, of_store),
        Limit("store-permissions", of, "permissions of one node",
              STORE.permissions, "permissions", of_store),
    ]  # fmt: skip


def _of_a_file() -> list[Limit]:
    of = "file"
    refused = "it is refused"
    return [
        Limit("domain-file", of, "a domain file",
              config.LARGEST_FILE, BYTES, refused),
        Limit("problems", of, "problems told of it",
              problems.MOST_TOLD, "errors, and warnings", "the others are counted"),
        Limit("name", of, "a domain's name",
              names.LONGEST_NAME, BYTES, refused),
        Limit("kernel", of, "a kernel",
              elf.LARGEST_KERNEL, BYTES, refused),
        Limit("unpacked-kernel", of, "a kernel when it is unpacked",
              bzimage.LARGEST, BYTES, refused),
        Limit("kernel-notes", of, "notes in a kernel",
              elf.MOST_NOTES, "notes", refused),
        Limit("symbol-name", of, "a symbol's name",
              elf_symbols.LONGEST_NAME, BYTES, "it is cut"),
        Limit("backing-files", of, "an image and its backing files, together",
              opening.MOST_LAYERS, "files", refused),
        Limit("image-l1", of, "the L1 table of a qcow2 image",
              qcow2_header.MAX_L1_SIZE, BYTES, refused),
        Limit("image-refcount-table", of, "its refcount table",
              qcow2_header.MAX_REFTABLE_SIZE, BYTES, "it is refused, and grows no further"),
        Limit("image-snapshots", of, "its snapshots",
              qcow2_header.MAX_SNAPSHOTS, "snapshots", refused),
        Limit("ramdisk", of, "a ramdisk when it is unpacked",
              ramdisk.LARGEST, BYTES, refused),
    ]  # fmt: skip
