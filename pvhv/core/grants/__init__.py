# SPDX-License-Identifier: GPL-2.0-or-later
"""Grants: a domain lets another one use a page of its own.

    table.py    a domain's table, its uses and its mappings   map.py       into another's page tables, and out
    entries.py  what entries look like, in both versions      copy.py      bytes, without a mapping
    version.py  from one version to the other                 acquire.py   ... and whose page that is
                                                              transfer.py  a page given away
                                                              view.py      how domain 0 maps
"""
