# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of tools/bench.py: bare.py has the yardsticks, guests.py runs benchmark kernels, rows.py says what is
measured, cli.py times the command line, linux.py and linux_rows.py a stock Linux on both sides, profile.py says where
its time goes, report.py prints it all. guest/ is C, for the guest."""
