# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m pvhv.cli`."""

from pvhv.cli import main

main()
