/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Between kernel and user memory.  The user's half of the address space is mapped while the kernel works for a
 * process, so copying is two instructions.  They may fault: if the areas allow the access, the page appears and
 * the instruction goes on; if not, the trap handler skips to the end, and what is left in %rcx says so.
 */
#include <api/errno.h>
#include <process.h>

extern const char usercopy_words[], usercopy_bytes[], usercopy_end[];

static __attribute__((noinline)) size_t copy_bytes(void *to, const void *from, size_t n)
{
    size_t words = n / 8, bytes = n % 8;

    asm volatile(".globl usercopy_words, usercopy_bytes, usercopy_end\n"
                 "usercopy_words:\n"
                 "    rep movsq\n"
                 "    movq %3, %%rcx\n"
                 "usercopy_bytes:\n"
                 "    rep movsb\n"
                 "usercopy_end:\n"
                 : "+D"(to), "+S"(from), "+c"(words)
                 : "r"(bytes)
                 : "memory");
    return words; /* what %rcx still held: zero, if all went well */
}

/* Asked by the trap handler about a fault it could not resolve. */
bool usercopy_fixup(u64 *rip)
{
    if (*rip != (u64)usercopy_words && *rip != (u64)usercopy_bytes)
        return false;
    *rip = (u64)usercopy_end;
    return true;
}

static bool in_user_half(u64 va, size_t n)
{
    return va < USER_END && n <= USER_END - va;
}

int copy_from_user(void *to, u64 from, size_t n)
{
    return in_user_half(from, n) && !copy_bytes(to, (const void *)from, n) ? 0 : -EFAULT;
}

int copy_to_user(u64 to, const void *from, size_t n)
{
    return in_user_half(to, n) && !copy_bytes((void *)to, from, n) ? 0 : -EFAULT;
}

int copy_string_from_user(char *to, u64 from, size_t room)
{
    for (size_t n = 0; n < room; n++) {
        if (copy_from_user(to + n, from + n, 1))
            return -EFAULT;
        if (!to[n])
            return (int)n;
    }
    return -ENAMETOOLONG;
}
