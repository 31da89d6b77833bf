/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * REP MOVS and REP STOS, a stretch of their elements at a time.
 *
 * Translated code calls this before an element that it moves itself (gen_stretch in translate.c), if DF = 0 and RCX is not small. What
 * is moved here is what that code would have moved in its next rounds without leaving the fast path of its loads and
 * stores: the elements that lie whole within one page of either side, if both pages are plain memory in the TLB. One
 * element is always left, so that all that can be special (faults, other pages, the end) stays in one place. Whatever
 * is not plain has a flag in its TLB entry, or no entry: pages that code was translated from, watchpoints, I/O, what
 * has yet to be marked as written. A stop is looked for between two stretches, hence after at most a page.
 */
#pragma once

/* What translated code says of itself: log2 of an element's size, whether addresses have 32 bits, whose TLB it is. */
enum { STRETCH_SIZE = 3, STRETCH_32 = 1 << 2, STRETCH_TLB_SHIFT = 3 };

/* Where in our memory an address lies, if to access it takes nothing more than that; else NULL. Two pages that take
 * the same place in the TLB displace each other there, so one of them is among those displaced. */
static uint8_t *plain_memory(CPUX86State *env, target_ulong address, bool written, uint32_t how)
{
    const unsigned index = how >> STRETCH_TLB_SHIFT;
    const target_ulong page = address & TARGET_PAGE_MASK;
    const CPUTLBEntry *entry = tlb_entry(env, index, address), *displaced = env_tlb(env)->d[index].vtable;

    if ((written ? entry->addr_write : entry->addr_read) == page) {
        return (uint8_t *)((uintptr_t)address + entry->addend);
    }
    for (int n = 0; n < CPU_VTLB_SIZE; n++) {
        if ((written ? displaced[n].addr_write : displaced[n].addr_read) == page) {
            return (uint8_t *)((uintptr_t)address + displaced[n].addend);
        }
    }
    return NULL;
}

/* How many elements there are from an address, which a register makes, to the end of its page. */
static target_ulong elements_here(CPUX86State *env, target_ulong address, int reg, uint32_t how)
{
    target_ulong bytes = -(address | TARGET_PAGE_MASK);

    if (how & STRETCH_32) { /* the register may come round to 0 elsewhere, if its segment has a base */
        bytes = MIN(bytes, (1ull << 32) - (uint32_t)env->regs[reg]);
    }
    return bytes >> (how & STRETCH_SIZE);
}

/* How many elements may be moved here as far as the destination goes. */
static target_ulong stretch(CPUX86State *env, target_ulong to, uint32_t how)
{
    target_ulong count = how & STRETCH_32 ? (uint32_t)env->regs[R_ECX] : env->regs[R_ECX], here;

    if (HOOK_EXISTS(env->uc, UC_HOOK_MEM_READ) || HOOK_EXISTS(env->uc, UC_HOOK_MEM_WRITE)
        || HOOK_EXISTS(env->uc, UC_HOOK_MEM_READ_AFTER)) {
        return 0;
    }
    here = elements_here(env, to, R_EDI, how);
    return MIN(count - 1, here);
}

static void advance(CPUX86State *env, int reg, target_ulong by, uint32_t how)
{
    env->regs[reg] += by;
    if (how & STRETCH_32) {
        env->regs[reg] = (uint32_t)env->regs[reg];
    }
}

typedef uint8_t chunk __attribute__((vector_size(16)));

/* As memmove does it if the target is not within the source. Not with memmove: C libraries use REP MOVSB, which AMD's
 * processors make at an eighth of the speed where the target's place in its page is a little behind the source's. */
static void move_forwards(uint8_t *target, const uint8_t *source, size_t bytes)
{
    chunk a, b, c, d;

    for (; bytes >= 4 * sizeof(chunk); bytes -= 4 * sizeof(chunk)) {
        memcpy(&a, source, sizeof(chunk));
        memcpy(&b, source + sizeof(chunk), sizeof(chunk));
        memcpy(&c, source + 2 * sizeof(chunk), sizeof(chunk));
        memcpy(&d, source + 3 * sizeof(chunk), sizeof(chunk));
        memcpy(target, &a, sizeof(chunk));
        memcpy(target + sizeof(chunk), &b, sizeof(chunk));
        memcpy(target + 2 * sizeof(chunk), &c, sizeof(chunk));
        memcpy(target + 3 * sizeof(chunk), &d, sizeof(chunk));
        source += 4 * sizeof(chunk);
        target += 4 * sizeof(chunk);
    }
    memmove(target, source, bytes);
}

void helper_movs_stretch(CPUX86State *env, target_ulong from, target_ulong to, uint32_t how)
{
    const unsigned size = how & STRETCH_SIZE;
    const target_ulong read = elements_here(env, from, R_ESI, how), written = stretch(env, to, how);
    const target_ulong count = MIN(read, written), bytes = count << size;
    target_ulong distance, done, part;
    const uint8_t *source;
    uint8_t *target;

    if (!count || !(target = plain_memory(env, to, true, how)) || !(source = plain_memory(env, from, false, how))) {
        return;
    }
    distance = target - source; /* very large if the target comes first, where all is one part */
    if (distance < 1 << size) {
        return;
    }
    /* What is read behind the first written byte is what was written: the bytes between the two, again and again. */
    for (done = 0; done < bytes; done += part) {
        part = MIN(distance + done, bytes - done);
        move_forwards(target + done, source, part);
    }
    advance(env, R_ESI, bytes, how);
    advance(env, R_EDI, bytes, how);
    advance(env, R_ECX, -count, how);
}

void helper_stos_stretch(CPUX86State *env, target_ulong to, uint32_t how)
{
    const unsigned size = 1 << (how & STRETCH_SIZE);
    const uint64_t value = env->regs[R_EAX];
    target_ulong count = stretch(env, to, how), bytes = count * size, done, part;
    uint8_t *target;

    if (!count || !(target = plain_memory(env, to, true, how))) {
        return;
    }
    if (!memcmp(&value, (const uint8_t *)&value + 1, size - 1)) { /* all its bytes are equal */
        memset(target, (uint8_t)value, bytes);
    } else {
        memcpy(target, &value, size);
        for (done = size; done < bytes; done += part) {
            part = MIN(done, bytes - done);
            memcpy(target + done, target, part);
        }
    }
    advance(env, R_EDI, bytes, how);
    advance(env, R_ECX, -count, how);
}
