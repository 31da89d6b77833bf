# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m pvhv`."""

from pvhv.cli import main

main()
