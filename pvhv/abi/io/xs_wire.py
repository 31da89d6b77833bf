# SPDX-License-Identifier: GPL-2.0-or-later
"""The xenstore protocol: a header, then a payload of NUL-separated strings, over a ring of two byte queues.

Requests and replies carry the same ``req_id``; a watch event comes without a request, with ``req_id`` 0.  An error is a
reply of type XS_ERROR whose payload is an errno's name.  The ring's frame and port are ``start_info.store_mfn`` and
``store_evtchn``.

Read beside it: xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt, xenstore-ring.txt.
"""

from __future__ import annotations

from pvhv.abi.layout import char, codec, cstruct, record, typedef, uint32_t

# enum xsd_sockmsg_type
XS_CONTROL = 0
XS_DEBUG = XS_CONTROL
XS_DIRECTORY = 1
XS_READ = 2
XS_GET_PERMS = 3
XS_WATCH = 4
XS_UNWATCH = 5
XS_TRANSACTION_START = 6
XS_TRANSACTION_END = 7
XS_INTRODUCE = 8
XS_RELEASE = 9
XS_GET_DOMAIN_PATH = 10
XS_WRITE = 11
XS_MKDIR = 12
XS_RM = 13
XS_SET_PERMS = 14
XS_WATCH_EVENT = 15
XS_ERROR = 16
XS_IS_DOMAIN_INTRODUCED = 17
XS_RESUME = 18
XS_SET_TARGET = 19
# 20 was XS_RESTRICT, gone since 4.8.
XS_RESET_WATCHES = 21
XS_DIRECTORY_PART = 22
XS_TYPE_COUNT = 23
XS_INVALID = 0xFFFF

XS_WRITE_NONE = b"NONE"
XS_WRITE_CREATE = b"CREATE"
XS_WRITE_CREATE_EXCL = b"CREATE|EXCL"

# The errors a reply may name; the number is the guest's own errno of that name.
XSD_ERRORS = (
    "EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC", "EIO",
    "ENOTEMPTY", "ENOSYS", "EROFS", "EBUSY", "EAGAIN", "EISCONN", "E2BIG", "EPERM",
)

# enum xs_watch_type: the strings of a watch event, in this order.
XS_WATCH_PATH = 0
XS_WATCH_TOKEN = 1

XENSTORE_RING_SIZE = 1024
XENSTORE_PAYLOAD_MAX = 4096
XENSTORE_ABS_PATH_MAX = 3072
XENSTORE_REL_PATH_MAX = 2048

# server_features, connection and error of the ring page.
XENSTORE_SERVER_FEATURE_RECONNECTION = 1
XENSTORE_SERVER_FEATURE_ERROR = 2
XENSTORE_CONNECTED = 0
XENSTORE_RECONNECT = 1
XENSTORE_ERROR_NONE = 0
XENSTORE_ERROR_COMM = 1
XENSTORE_ERROR_RINGIDX = 2
XENSTORE_ERROR_PROTO = 3

XENSTORE_RING_IDX = typedef("XENSTORE_RING_IDX", uint32_t)

xsd_sockmsg = cstruct(
    "xsd_sockmsg",
    "type" / uint32_t,
    "req_id" / uint32_t,
    "tx_id" / uint32_t,
    "len" / uint32_t,
    typedef=None,
)
XsdSockmsg = record(xsd_sockmsg)
XSD_SOCKMSG_CODEC = codec(xsd_sockmsg)

xenstore_domain_interface = cstruct(
    "xenstore_domain_interface",
    "req" / char[XENSTORE_RING_SIZE],
    "rsp" / char[XENSTORE_RING_SIZE],
    "req_cons" / XENSTORE_RING_IDX,
    "req_prod" / XENSTORE_RING_IDX,
    "rsp_cons" / XENSTORE_RING_IDX,
    "rsp_prod" / XENSTORE_RING_IDX,
    "server_features" / uint32_t,
    "connection" / uint32_t,
    "error" / uint32_t,
    typedef=None,
)
XenstoreDomainInterface = record(xenstore_domain_interface)
