# SPDX-License-Identifier: GPL-2.0-or-later
"""The version, build and features of Xen.

Answers are strings in fixed arrays, padded with NULs.  The command line and the build id are for dom0. Other domains
get the text "<denied>" as command line, and an error for the build id.

Read beside it: xen/include/public/version.h, xen/common/kernel.c.
"""

from __future__ import annotations

from pvhv.abi.arch_x86 import XenDomainHandle, xen_ulong_t
from pvhv.abi.errno import Errno
from pvhv.abi.layout import c_uint, carray, char, cstruct, record, uchar, uint32_t
from pvhv.abi.spec import Arg, Command, Commands, Hypercall
from pvhv.abi.xen import HYPERVISOR_xen_version

XENVER_version = 0
XENVER_extraversion = 1
XENVER_compile_info = 2
XENVER_capabilities = 3
XENVER_changeset = 4
XENVER_platform_parameters = 5
XENVER_get_features = 6
XENVER_pagesize = 7
XENVER_guest_handle = 8
XENVER_commandline = 9
XENVER_build_id = 10

XEN_EXTRAVERSION_LEN = 16
XEN_CAPABILITIES_INFO_LEN = 1024
XEN_CHANGESET_INFO_LEN = 64

xen_extraversion = carray("xen_extraversion_t", "text" / char[XEN_EXTRAVERSION_LEN])
XenExtraversion = record(xen_extraversion)

xen_compile_info = cstruct(
    "xen_compile_info",
    "compiler" / char[64],
    "compile_by" / char[16],
    "compile_domain" / char[32],
    "compile_date" / char[32],
)
XenCompileInfo = record(xen_compile_info)

xen_capabilities_info = carray("xen_capabilities_info_t", "text" / char[XEN_CAPABILITIES_INFO_LEN])
XenCapabilitiesInfo = record(xen_capabilities_info)

xen_changeset_info = carray("xen_changeset_info_t", "text" / char[XEN_CHANGESET_INFO_LEN])
XenChangesetInfo = record(xen_changeset_info)

xen_platform_parameters = cstruct("xen_platform_parameters", "virt_start" / xen_ulong_t)
XenPlatformParameters = record(xen_platform_parameters)

xen_feature_info = cstruct("xen_feature_info", "submap_idx" / c_uint, "submap" / uint32_t)
XenFeatureInfo = record(xen_feature_info)

xen_commandline = carray("xen_commandline_t", "text" / char[1024])

xen_build_id = cstruct("xen_build_id", "len" / uint32_t, "buf" / uchar[0])
XenBuildId = record(xen_build_id)

XENVER = Commands(
    "XENVER",
    Command("version", XENVER_version, doc="The version.", returns="major << 16 | minor"),
    Command("extraversion", XENVER_extraversion, XenExtraversion, "out", doc="The text that "
                                                                             "follows the version."),
    Command("compile_info", XENVER_compile_info, XenCompileInfo, "out", doc="Who built it, with what and "
                                                                            "when."),
    Command("capabilities", XENVER_capabilities, XenCapabilitiesInfo, "out",
            doc="The kinds of guest it runs, as words: \"xen-3.0-x86_64\"."),
    Command("changeset", XENVER_changeset, XenChangesetInfo, "out", doc="The source it was built from."),
    Command("platform_parameters", XENVER_platform_parameters, XenPlatformParameters, "out",
            doc="Where the hypervisor's part of the address space begins."),
    Command(
        "get_features", XENVER_get_features, XenFeatureInfo, "inout", out=("submap",),
        doc="A word of feature bits (XENFEAT_*).",
        errors={Errno.EINVAL: "`submap_idx` is not 0"},
    ),
    Command(
        "pagesize", XENVER_pagesize, doc="The size of a page; `arg` must be NULL.", returns="4096",
        errors={Errno.EINVAL: "`arg` is not NULL"},
    ),
    Command("guest_handle", XENVER_guest_handle, XenDomainHandle, "out", doc="The domain's UUID."),
    Command(
        "commandline", XENVER_commandline,
        doc="Xen's command line. A guest reads \"<denied>\", which is nine bytes with its NUL: no more is "
            "written, whatever room there is.",
    ),
    Command(
        "build_id", XENVER_build_id, refusal=Errno.EPERM,
        doc="The linker's build id of the hypervisor.",
        errors={Errno.EPERM: "only the control domain may ask"},
    ),
)

XEN_VERSION = Hypercall(
    HYPERVISOR_xen_version, "xen_version",
    (Arg("cmd", "int", role="cmd"), Arg("arg", "void *", role="arg")),
    XENVER,
    doc="Version, build and features. `version` is the cheapest of all hypercalls, and the one to time.",
    errors={Errno.EFAULT: "`arg` cannot be read or written", Errno.ENOSYS: "`cmd` is not one of these"},
    test="guest_kernel/tests/xen-version/xen-version.c",
)
