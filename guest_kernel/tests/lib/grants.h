/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For the tests of grant tables: our own table, mapped, and the operations as functions that give the status.
 * (grants.c)
 */
#pragma once

#include "test.h"

#define FIRST_REF 8 /* the lower ones are the console's and xenstore's */

extern struct grant_entry_v1 *grants;

void grants_init(void);
void grant(unsigned ref, unsigned domid, const void *page, unsigned flags); /* GTF_permit_access and more */
int grant_map(unsigned ref, unsigned domid, unsigned flags, const void *at, unsigned *handle);
int grant_unmap(const void *at, unsigned handle);
int grant_copy(struct gnttab_copy *op);
int grant_op(unsigned cmd, void *op); /* one operation; the hypercall's own result */
