/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * xs: xenstore by hand.
 *
 *     xs ls [path]    xs read path    xs write path value    xs mkdir path    xs rm path    xs test
 *
 * Requests go out through /dev/xenstore in xenstore's own wire format: type, request id, transaction id, length, and
 * then strings.  `xs test` changes two keys in one transaction and gives another up.
 */
#include <user.h>

enum { XS_DIRECTORY = 1, XS_READ = 2, XS_TRANSACTION_START = 6, XS_TRANSACTION_END = 7, XS_WRITE = 11, XS_MKDIR = 12,
       XS_RM = 13, XS_ERROR = 16 };

struct header {
    u32 type, request, transaction, length;
};

static struct {
    struct header header;
    char body[4096];
} message;

static int device;
static u32 transaction;

/* One request: a string with its zero byte, perhaps more bytes. The reply is left in message; its length, or -1. */
static long ask(u32 type, const char *first, const char *more, size_t more_length)
{
    size_t n = strlen(first) + 1;

    if (n + more_length > sizeof(message.body))
        fail("xs: too long\n");
    message.header = (struct header){ .type = type, .request = 1, .transaction = transaction,
                                      .length = (u32)(n + more_length) };
    memcpy(message.body, first, n);
    memcpy(message.body + n, more, more_length);
    if (write(device, &message, sizeof(message.header) + message.header.length) < 0 ||
        read(device, &message, sizeof(message)) < (long)sizeof(message.header))
        fail("xs: /dev/xenstore does not answer\n");
    if (message.header.length < sizeof(message.body))
        message.body[message.header.length] = 0;
    return message.header.type == XS_ERROR ? -1 : (long)message.header.length;
}

static void need(long result, const char *what)
{
    if (result < 0)
        fail("xs: %s: %s\n", what, message.body); /* xenstore's errors are words: ENOENT, EACCES ... */
}

/* This domain's own directory: relative paths begin there, but it has no relative name itself. */
static const char *own_directory(void)
{
    static char path[64];

    need(ask(XS_READ, "domid", "", 0), "domid");
    sprintf(path, "/local/domain/%s", message.body);
    return path;
}

/* A directory is the names of its children, each with its zero byte. */
static void list(const char *path, int depth)
{
    char *names, *child = malloc(1024);
    long n = ask(XS_DIRECTORY, path, "", 0);

    if (n < 0) {
        if (depth == 0)
            need(n, path);
        free(child);
        return;
    }
    names = malloc(n + 1);
    memcpy(names, message.body, n);
    for (char *name = names; name < names + n; name += strlen(name) + 1) {
        sprintf(child, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", name);
        long length = ask(XS_READ, child, "", 0);

        for (int i = 0; i < depth; i++)
            printf(" ");
        printf("%s = \"%s\"\n", name, length >= 0 ? message.body : "");
        list(child, depth + 1);
    }
    free(names);
    free(child);
}

static void write_key(const char *path, const char *value)
{
    need(ask(XS_WRITE, path, value, strlen(value)), path);
}

static int key_is(const char *path, const char *value)
{
    long n = ask(XS_READ, path, "", 0);

    return n == (long)strlen(value) && !memcmp(message.body, value, n);
}

static void end(const char *how)
{
    need(ask(XS_TRANSACTION_END, how, "", 0), "transaction end");
    transaction = 0;
}

static void begin(void)
{
    need(ask(XS_TRANSACTION_START, "", "", 0), "transaction start");
    transaction = (u32)atol(message.body);
}

static void test(void)
{
    begin();
    write_key("data/test/a", "one");
    write_key("data/test/b", "two");
    u32 inside = transaction;

    transaction = 0;
    if (key_is("data/test/a", "one"))
        fail("xs: an open transaction is seen from outside\n");
    transaction = inside;
    end("T");
    if (!key_is("data/test/a", "one") || !key_is("data/test/b", "two"))
        fail("xs: a finished transaction is not seen\n");
    begin();
    write_key("data/test/a", "three");
    end("F");
    if (!key_is("data/test/a", "one"))
        fail("xs: a given-up transaction changed something\n");
    need(ask(XS_RM, "data/test", "", 0), "rm");
    if (ask(XS_READ, "data/test/a", "", 0) >= 0 || strcmp(message.body, "ENOENT"))
        fail("xs: what was removed is still there\n");
    printf("xs test: ok\n");
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "", *path = argc > 2 ? argv[2] : NULL;

    device = open("/dev/xenstore", O_READ | O_WRITE);
    if (device == -ENOENT)
        fail("xs: this machine has no xenstore: it is not a guest of Xen's\n");
    if (device < 0)
        fail("xs: /dev/xenstore: %s\n", error_text(device));
    if (!strcmp(verb, "ls"))
        list(path ? path : own_directory(), 0);
    else if (!strcmp(verb, "read") && path) {
        need(ask(XS_READ, path, "", 0), path);
        printf("%s\n", message.body);
    } else if (!strcmp(verb, "write") && argc > 3)
        write_key(path, argv[3]);
    else if (!strcmp(verb, "mkdir") && path)
        need(ask(XS_MKDIR, path, "", 0), path);
    else if (!strcmp(verb, "rm") && path)
        need(ask(XS_RM, path, "", 0), path);
    else if (!strcmp(verb, "test"))
        test();
    else
        fail("usage: xs ls [path] | read path | write path value | mkdir path | rm path | test\n");
    return 0;
}
