# SPDX-License-Identifier: GPL-2.0-or-later
"""Popek and Goldberg's question, asked of each instruction on the real engine: does it trap when it must?

`instructions.py` has the rows, `image.py` what surrounds a row's code in a guest, `bench.py` runs one row at one
ring, `verdict.py` judges. `pvhv classify` prints; the techniques' tests run the same rows as micro guests.
"""
