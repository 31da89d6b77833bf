# SPDX-License-Identifier: GPL-2.0-or-later
"""Privilege: which domain may act on which other domain.

Xen asks its security module at every operation that touches a domain other than the caller's. Without XSM the answers
come down to two questions, asked here under the names of Xen's default actions. Operations open to every domain
(XSM_HOOK: mapping a grant, sending on one's own port) need no check here: the other domain gave its permission before,
by the grant or the port.

Not modelled: the xenstore domain's extra rights (our xenstored runs in domain 0) and FLASK policies.

Read beside it: xsm_default_action in xen/include/xsm/dummy.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError

if TYPE_CHECKING:
    from pvhv.core.domain import Domain


def controls(caller: Domain, domain: Domain) -> bool:
    """XSM_TARGET: one's own domain, the one domain a device model serves, or any for a control domain."""
    return caller is domain or serves(caller, domain)


def serves(caller: Domain, domain: Domain) -> bool:
    """XSM_DM_PRIV: the domain a device model serves, or any for a control domain; not simply oneself."""
    return caller.privileged or caller.target == domain.domid


def require_control(caller: Domain, domain: Domain) -> None:
    """EPERM unless `controls`."""
    if not controls(caller, domain):
        raise HypercallError(Errno.EPERM)


def require_privilege(caller: Domain) -> None:
    """XSM_PRIV: EPERM unless the caller is a control domain."""
    if not caller.privileged:
        raise HypercallError(Errno.EPERM)
