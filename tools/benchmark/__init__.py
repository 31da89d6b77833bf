# SPDX-License-Identifier: GPL-2.0-or-later
"""The rooms of tools/bench.py: bare.py has the yardsticks, guests.py runs benchmark kernels, rows.py says what is
measured, report.py prints it."""
