# SPDX-License-Identifier: GPL-2.0-or-later
"""The techniques, and what some of them share. hvm/technique.py defines what a technique is; registry.py lists them."""
