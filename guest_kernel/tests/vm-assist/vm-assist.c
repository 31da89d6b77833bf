/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * vm_assist: which liberties the hypervisor takes for us. Enabling and disabling twice is no error.
 */
#include "test.h"

const char test_name[] = "vm-assist";

void test_main(void)
{
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_pae_extended_cr3), 0);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_disable, VMASST_TYPE_pae_extended_cr3), 0);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_architectural_iopl), 0);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_disable, VMASST_TYPE_architectural_iopl), 0);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, 31), -XEN_EINVAL);
    check_is(HYPERVISOR_vm_assist(77, VMASST_TYPE_writable_pagetables), -XEN_ENOSYS);
}
