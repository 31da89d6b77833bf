# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's configuration as xl prints it (`create -n`, `list -l`): libxl's JSON, of the fields that pvhv has.

The names and their nesting are libxl's, so that a program that reads xl's output reads ours. Defaults are filled in.
What xl does not have is under "pvhv".

Read beside it: libxl_domain_config in tools/libs/light/libxl_types.idl.
"""

from __future__ import annotations

from typing import Any

from pvhv.toolstack.config import EVENTS, DomainConfig
from pvhv.toolstack.disk_spec import DiskConfig

ACTION_NAMES = {"rename-restart": "restart_rename"}


def as_xl_has_it(config: DomainConfig, uuid: str | None = None) -> dict[str, Any]:
    """The configuration as a libxl_domain_config; `uuid` is the domain's, if its file does not give one."""
    about: dict[str, Any] = {"type": config.type, "name": config.name}
    if handle := uuid or config.uuid:
        about["uuid"] = handle
    build: dict[str, Any] = {
        "max_vcpus": config.maxvcpus,
        "avail_vcpus": list(range(config.vcpus)),
        "max_memkb": config.maxmem << 10,
        "target_memkb": config.memory << 10,
        "sched_params": {"weight": config.cpu_weight},
        "kernel": str(config.kernel),
    }
    optional = {
        "ramdisk": str(config.ramdisk) if config.ramdisk else None,
        "cmdline": config.cmdline or None,
        "event_channels": config.max_event_channels,
        "max_grant_frames": config.max_grant_frames,
        "max_maptrack_frames": config.max_maptrack_frames,
        "max_grant_version": config.max_grant_version,
        "rtc_timeoffset": config.time_offset or None,
        "localtime": "True" if config.localtime else None,
    }
    build |= {name: value for name, value in optional.items() if value is not None}
    build[f"type.{config.type}"] = {}
    disks = [_disk(disk) for disk in config.disks]
    ours: dict[str, Any] = {"clock": config.clock}
    if config.timeline:
        ours["timeline"] = config.timeline
    if "disk_latency" in config.given:
        ours["disk_latency"] = config.disk_latency
    if config.type == "hvm":
        ours["technique"] = config.technique
    actions = {event: getattr(config, event) for event in EVENTS}
    return {
        "c_info": about,
        "b_info": build,
        **({"disks": disks} if disks else {}),
        **{event: ACTION_NAMES.get(action, action.replace("-", "_")) for event, action in actions.items()},
        "pvhv": ours,
    }


def _disk(disk: DiskConfig) -> dict[str, Any]:
    plain: dict[str, Any] = {"pdev_path": disk.target, "vdev": disk.vdev, "format": disk.format}
    plain["readwrite"] = int(not disk.readonly)
    if disk.cdrom:
        plain |= {"removable": 1, "is_cdrom": 1}
    if disk.ephemeral:
        plain["ephemeral"] = "True"  # ours
    if disk.discard:
        plain["discard_enable"] = "True" if disk.discards else "False"
    return plain
