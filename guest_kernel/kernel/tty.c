/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The terminal, /dev/console: see tty.h for the idea.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <process.h>
#include <tty.h>
#include <vm.h>

enum { CTRL_C = 3, CTRL_D = 4, BACKSPACE = 8, CTRL_U = 21, DELETE = 127 };

static const struct wire *wire;
static bool raw;
static int foreground;   /* the process group that ^C kills */
static bool interrupted; /* ... and has killed: what joins it later is too late */

static char input[1024];
static u32 input_end, input_start; /* bytes ever stored and ever taken */

static char line[256]; /* being edited by the reader */
static u32 line_length, line_given;
static bool line_done;

static void interrupt(void)
{
    interrupted = true;
    process_kill_group(foreground);
}

bool tty_interrupted(int group)
{
    return interrupted && group == foreground;
}

bool tty_input(char byte)
{
    if (byte == CTRL_C && !raw && foreground) {
        input_start = input_end; /* what was typed ahead is void */
        line_length = 0;
        interrupt();
        return true;
    }
    if (input_end - input_start == sizeof(input))
        return false;
    input[input_end++ % sizeof(input)] = byte;
    wake_up(&input_end);
    return true;
}

static int next_byte(void)
{
    char byte;

    while (input_end == input_start)
        if (sleep_on(&input_end))
            return -EINTR;
    byte = input[input_start++ % sizeof(input)];
    if (input_end - input_start == sizeof(input) / 2) /* seldom, so that a long script is not fetched byte by byte */
        wire->refill();
    return (u8)byte;
}

void tty_output_ready(void)
{
    wake_up(&wire);
}

static int put(const char *bytes, size_t n)
{
    while (n) {
        size_t taken = wire->put(bytes, n);

        bytes += taken;
        n -= taken;
        if (n && sleep_on(&wire))
            return -EINTR;
    }
    return 0;
}

static long tty_write(struct file *file, u64 from, size_t n)
{
    char bytes[256], lines[2 * sizeof(bytes)];

    for (size_t done = 0; done < n; done += sizeof(bytes)) {
        size_t piece = MIN(n - done, sizeof(bytes));

        if (copy_from_user(bytes, from + done, piece))
            return -EFAULT;
        if (put(lines, with_carriage_returns(lines, bytes, piece)))
            return -EINTR;
    }
    return (long)n;
}

/* Read until there is a whole line; ^D on an empty one is the end of the file. */
static int edit_line(void)
{
    while (!line_done) {
        int c = next_byte();
        char echo = (char)c;

        if (c < 0)
            return c;
        if (c == '\r')
            c = echo = '\n';
        if (c == CTRL_D) {
            line_done = true;
        } else if (c == BACKSPACE || c == DELETE) {
            if (line_length) {
                line_length--;
                put("\b \b", 3);
            }
        } else if (c == CTRL_U) {
            for (; line_length; line_length--)
                put("\b \b", 3);
        } else if (line_length < sizeof(line)) {
            line[line_length++] = (char)c;
            put(c == '\n' ? "\r\n" : &echo, c == '\n' ? 2 : 1);
            line_done = c == '\n';
        }
    }
    return 0;
}

static long tty_read(struct file *file, u64 to, size_t n)
{
    if (raw) {
        char byte;
        int c = next_byte();

        if (c < 0)
            return c;
        byte = (char)c;
        return copy_to_user(to, &byte, 1) ? -EFAULT : 1;
    }
    if (edit_line())
        return -EINTR;
    n = MIN(n, line_length - line_given);
    if (copy_to_user(to, line + line_given, n))
        return -EFAULT;
    line_given += n;
    if (line_given == line_length) {
        line_length = line_given = 0;
        line_done = false;
    }
    return (long)n;
}

int tty_control(int command, u64 argument)
{
    switch (command) {
    case TTY_RAW:
        raw = true;
        return 0;
    case TTY_LINES:
        raw = false;
        return 0;
    case TTY_GROUP:
        foreground = (int)argument;
        interrupted = false;
        /* A ^C typed while the shell was still busy starting this group was meant for it. */
        while (foreground && input_start != input_end && input[input_start % sizeof(input)] == CTRL_C) {
            input_start++;
            interrupt();
        }
        return 0;
    }
    return -EINVAL;
}

static const struct device console = { .name = "console", .read = tty_read, .write = tty_write };

void tty_init(void)
{
    device_register(&console);
}

void tty_attach(const struct wire *to)
{
    wire = to;
}
