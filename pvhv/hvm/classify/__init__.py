# SPDX-License-Identifier: GPL-2.0-or-later
"""Popek and Goldberg's condition, tested for each instruction on the engine: does it trap when it must?

`instructions.py` has the rows, `image.py` what surrounds a row's code in a guest, `bench.py` runs one row at one ring,
`verdict.py` compares. `pvhv classify` prints; the techniques' tests run the same rows as micro guests.
"""
