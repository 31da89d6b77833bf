# SPDX-License-Identifier: GPL-2.0-or-later
"""A monitor without help from the hardware: the guest's kernel deprivileged, its instructions trapped or translated."""
