/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Operations so small that only a loop in the kernel can show what one of them costs: `measure` asks for them, and
 * whoever watches from outside counts what happens between two marks.  What needs an instruction of the column's own
 * is in its privileged.c.  (The names `measure` has for them are those of Adams and Agesen, ASPLOS 2006.)
 */
#include <api/errno.h>
#include <api/syscalls.h>
#include <lib.h>
#include <nanobench.h>
#include <pv_ops.h>

#define WARM_UP 2

/* nanoloops.S */
u64 nanobench_calls(u64 count), nanobench_loads(u64 count), nanobench_divides(u64 count);
void nanobench_mark(u64 kind);
extern const char nanobench_load[], nanobench_load_failed[], nanobench_divide[], nanobench_divide_failed[];

static int loop(int op, u64 count)
{
    switch (op) {
    case PRIVILEGED_CALL_RETURN:
        return nanobench_calls(count) == count ? 0 : -EIO;
    case PRIVILEGED_PAGE_FAULT:
        return nanobench_loads(count) == count ? 0 : -EIO;
    case PRIVILEGED_DIVIDE_ERROR:
        return nanobench_divides(count) == count ? 0 : -EIO;
    }
    return pv.privileged(op, count);
}

static __attribute__((noinline)) int between_marks(int op, u64 count)
{
    int error;

    nanobench_mark(MARK_BEGIN);
    error = loop(op, count);
    nanobench_mark(MARK_END);
    return error;
}

/* The last pair of marks counts. The first is there so that nothing happens for the first time between these. */
int nanobench(int op, u64 count)
{
    int error = count ? between_marks(op, WARM_UP) : -EINVAL;

    return error ? error : between_marks(op, count);
}

bool nanobench_fixup(u64 *rip)
{
    if (*rip == (u64)nanobench_load)
        *rip = (u64)nanobench_load_failed;
    else if (*rip == (u64)nanobench_divide)
        *rip = (u64)nanobench_divide_failed;
    else
        return false;
    return true;
}
