/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * xen_version: who is the hypervisor, and what can it do?
 */
#include "test.h"

const char test_name[] = "xen-version";

void test_main(void)
{
    long version = HYPERVISOR_xen_version(XENVER_version, 0);
    char extra[16], pagesize;
    struct xen_feature_info features = { .submap_idx = 0 };
    struct xen_platform_parameters platform;
    xen_domain_handle_t handle;

    check(version >> 16 == 4);
    check_is(HYPERVISOR_xen_version(XENVER_extraversion, extra), 0);
    say("version %ld.%ld%s\n", version >> 16, version & 0xffff, extra);

    /* pagesize takes no argument buffer; the result is the return value. */
    (void)pagesize;
    check_is(HYPERVISOR_xen_version(XENVER_pagesize, 0), PAGE_SIZE);

    /* A PV64 guest has no shadowed tables: it works on machine frames, and writes them by hypercall. */
    check_is(HYPERVISOR_xen_version(XENVER_get_features, &features), 0);
    say("features %x\n", features.submap);
    check(!(features.submap & (1u << XENFEAT_auto_translated_physmap)));
    check(features.submap & (1u << XENFEAT_mmu_pt_update_preserve_ad));
    features.submap_idx = XENFEAT_NR_SUBMAPS;
    check_is(HYPERVISOR_xen_version(XENVER_get_features, &features), -XEN_EINVAL);

    /* Where the hypervisor's part of the address space begins. */
    check_is(HYPERVISOR_xen_version(XENVER_platform_parameters, &platform), 0);
    check(platform.virt_start == 0xffff800000000000UL);

    /* The UUID the domain was created with. */
    static const xen_domain_handle_t nothing;

    memset(&handle, 0, sizeof(handle));
    check_is(HYPERVISOR_xen_version(XENVER_guest_handle, &handle), 0);
    check(memcmp(&handle, &nothing, sizeof(handle)));

    /* The command line is not for everybody: nine bytes instead, and no more. */
    static char line[32];

    memset(line, 'x', sizeof(line));
    check_is(HYPERVISOR_xen_version(XENVER_commandline, line), 0);
    check(!memcmp(line, "<denied>", 9));
    check(line[9] == 'x');
    static char changeset[64];

    check_is(HYPERVISOR_xen_version(XENVER_changeset, changeset), 0);
    check(memcmp(changeset, "<denied>", 9)); /* that one is */
    check_is(HYPERVISOR_xen_version(XENVER_build_id, line), -XEN_EPERM);

    /* A bad address is -EFAULT; a command nobody has is -ENOSYS. */
    check_is(HYPERVISOR_xen_version(XENVER_extraversion, (void *)0x10), -XEN_EFAULT);
    check_is(HYPERVISOR_xen_version(999, 0), -XEN_ENOSYS);
}
