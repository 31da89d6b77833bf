/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The shell.
 *
 *     sh            from the terminal, with a prompt       sh FILE     from a file
 *     sh -login     the same, and `exit` powers off        sh -c TEXT  one line
 *
 * A line is a list of pipelines with ; & && || between them; a pipeline is commands with | between them; a command
 * is words, < file, > file, >> file.  'single' and "double" quotes make one word of many; $? is the last exit code.
 */
#include <edit.h>
#include <user.h>

#define WORDS_MAX 64
#define COMMANDS_MAX 8

enum kind { WORD, PIPE, SEMICOLON, BACKGROUND, AND, OR, FROM, TO, APPEND, THE_END };

struct token {
    enum kind kind;
    char *text;
};

struct command {
    char *argv[WORDS_MAX];
    int argc;
    char *input, *output;
    int output_mode;
};

#define LAST_CODE '\001' /* stands in a word where $? was, until the word is used */

static int last_code, is_login, is_interactive;

/* -- a line into tokens ------------------------------------------------------------------------------------------- */

static char *copy_word(const char **at, char *to)
{
    char quote = 0;

    for (; **at && (quote || !strchr(" \t;|&<>", **at)); (*at)++) {
        char c = **at;

        if (c == quote)
            quote = 0;
        else if (!quote && (c == '\'' || c == '"'))
            quote = c;
        else if (!quote && c == '\\' && (*at)[1])
            *to++ = *++*at;
        else if (quote != '\'' && c == '$' && (*at)[1] == '?')
            *to++ = LAST_CODE, (*at)++;
        else
            *to++ = c;
    }
    *to++ = 0;
    return quote ? NULL : to;
}

/* 0, or a complaint was made. `text` has room for every word with its zero byte. */
static int tokenize(const char *line, struct token *tokens, char *text)
{
    int n = 0;

    for (;;) {
        while (*line == ' ' || *line == '\t')
            line++;
        if (n == WORDS_MAX - 1) {
            fprintf(2, "sh: the line is too long\n");
            return -1;
        }
        struct token *token = &tokens[n++];
        char c = *line, twice = c && line[1] == c;

        token->text = NULL;
        if (!c || c == '#') {
            token->kind = THE_END;
            return 0;
        }
        if (!strchr(";|&<>", c)) {
            token->kind = WORD;
            token->text = text;
            text = copy_word(&line, text);
            if (!text) {
                fprintf(2, "sh: a quote is not closed\n");
                return -1;
            }
            continue;
        }
        token->kind = c == ';'   ? SEMICOLON
                      : c == '|' ? (twice ? OR : PIPE)
                      : c == '&' ? (twice ? AND : BACKGROUND)
                      : c == '<' ? FROM
                                 : (twice ? APPEND : TO);
        line += twice && token->kind != SEMICOLON && token->kind != FROM ? 2 : 1;
    }
}

/* Put the last exit code where $? was written. */
static char *expand(char *word)
{
    char *expanded, *to;

    if (!strchr(word, LAST_CODE))
        return word;
    to = expanded = malloc(strlen(word) * 4 + 1);
    for (; *word; word++) {
        if (*word == LAST_CODE)
            to += sprintf(to, "%d", last_code);
        else
            *to++ = *word;
    }
    *to = 0;
    return expanded;
}

/* -- tokens into commands ----------------------------------------------------------------------------------------- */

static int complain(const char *about)
{
    fprintf(2, "sh: %s\n", about);
    return -1;
}

/* One pipeline, up to a token that ends it. The number of its commands, or -1. */
static int parse(struct token **at, struct command *commands)
{
    int n = 0;
    struct command *command = commands;

    memset(command, 0, sizeof(*command));
    for (;; (*at)++) {
        enum kind kind = (*at)->kind;

        switch (kind) {
        case WORD:
            command->argv[command->argc++] = expand((*at)->text);
            break;
        case FROM:
        case TO:
        case APPEND:
            if ((*at)[1].kind != WORD)
                return complain("a file name is missing");
            (*at)++;
            if (kind == FROM) {
                command->input = expand((*at)->text);
            } else {
                command->output = expand((*at)->text);
                command->output_mode = O_WRITE | O_CREATE | (kind == TO ? O_TRUNCATE : O_APPEND);
            }
            break;
        case PIPE:
            if (!command->argc)
                return complain("a command is missing before |");
            if (++n == COMMANDS_MAX)
                return complain("the pipeline is too long");
            command = &commands[n];
            memset(command, 0, sizeof(*command));
            break;
        default:
            if (n && !command->argc)
                return complain("a command is missing after |");
            if (!command->argc && (command->input || command->output))
                return complain("a command is missing");
            return command->argc ? n + 1 : 0;
        }
    }
}

/* -- commands into processes -------------------------------------------------------------------------------------- */

static void redirect(const char *path, int mode, int fd)
{
    int opened = open(path, mode);

    if (opened < 0)
        fail("sh: %s: %s\n", path, error_text(opened));
    dup2(opened, fd);
    close(opened);
}

/* In the child, for good. */
static void become(struct command *command)
{
    char path[128];
    int error;

    if (command->input)
        redirect(command->input, O_READ, 0);
    if (command->output)
        redirect(command->output, command->output_mode, 1);
    if (strlen(command->argv[0]) > 100)
        fail("sh: the name is too long\n");
    if (strchr(command->argv[0], '/'))
        strcpy(path, command->argv[0]);
    else
        sprintf(path, "/bin/%s", command->argv[0]);
    error = exec(path, command->argv);
    fprintf(2, "sh: %s: %s\n", command->argv[0], error == -ENOENT ? "not found" : error_text(error));
    exit(error == -ENOENT ? 127 : 126);
}

static int code_of(int status)
{
    if (status >= STATUS_KILLED)
        return 137;
    return status >= STATUS_FAULT ? 139 : status;
}

static void terminal(int command, int argument)
{
    if (is_interactive)
        tty(command, argument);
}

/* The processes of a pipeline are one group, so that ^C reaches all of them and not the shell. */
static void run_pipeline(struct command *commands, int count, int background)
{
    int pids[COMMANDS_MAX], group = 0, input = -1;

    for (int i = 0; i < count; i++) {
        int fds[2] = { -1, -1 };

        if (i + 1 < count && pipe(fds)) {
            complain("no more pipes");
            count = i;
            break;
        }
        pids[i] = fork();
        if (pids[i] == 0) {
            setgroup(0, group);
            /* The first of them takes the terminal before it reads there: a ^C that was typed already waits for that. */
            if (!group && !background) {
                terminal(TTY_LINES, 0);
                terminal(TTY_GROUP, getpid());
            }
            if (input >= 0)
                dup2(input, 0), close(input);
            else if (background && !commands[i].input)
                redirect("/dev/null", O_READ, 0);
            if (fds[1] >= 0)
                dup2(fds[1], 1), close(fds[0]), close(fds[1]);
            become(&commands[i]);
        }
        if (input >= 0)
            close(input);
        if (fds[1] >= 0)
            close(fds[1]);
        input = fds[0];
        if (pids[i] < 0) {
            fprintf(2, "sh: fork: %s\n", error_text(pids[i]));
            last_code = 126;
            count = i;
            break;
        }
        if (!group)
            group = pids[i];
        setgroup(pids[i], group); /* both of us do this, whoever comes first */
    }
    if (input >= 0)
        close(input);
    if (background) {
        printf("[%d]\n", group);
        last_code = 0;
        return;
    }
    for (int i = 0; i < count; i++) {
        int status = 0;

        wait(pids[i], &status, 0);
        last_code = code_of(status);
        if (status == STATUS_KILLED && i == count - 1 && is_interactive)
            printf("Killed\n");
    }
    terminal(TTY_GROUP, 0);
    terminal(TTY_RAW, 0);
}

static __attribute__((noreturn)) void leave(int code)
{
    if (is_login)
        shutdown(SHUTDOWN_HOW_POWEROFF);
    exit(code);
}

/* What must happen in this process, and not in a child. */
static int builtin(struct command *command)
{
    const char *name = command->argv[0], *argument = command->argv[1];

    if (!strcmp(name, "cd")) {
        int error = chdir(argument ? argument : "/");

        if (error)
            fprintf(2, "cd: %s: %s\n", argument, error_text(error));
        last_code = error != 0;
    } else if (!strcmp(name, "pwd")) {
        char path[128];

        last_code = getcwd(path, sizeof(path)) < 0;
        if (!last_code)
            printf("%s\n", path);
    } else if (!strcmp(name, "exit")) {
        leave(argument ? (int)atol(argument) : last_code);
    } else {
        return 0;
    }
    return 1;
}

static void run_line(const char *line)
{
    static char text[2 * EDIT_LINE_MAX];
    static struct token tokens[WORDS_MAX];
    static struct command commands[COMMANDS_MAX];
    struct token *at = tokens;
    enum kind before = SEMICOLON;

    if (tokenize(line, tokens, text)) {
        last_code = 2;
        return;
    }
    for (;; at++) {
        int count = parse(&at, commands);
        /* `a && b` runs b if a succeeded; `a || b`, if not. What is skipped leaves the code as it is. */
        int skip = (before == AND && last_code) || (before == OR && !last_code);

        if (count < 0) {
            last_code = 2;
            return;
        }
        if (count > 0 && !skip && (count > 1 || at->kind == BACKGROUND || commands->input || commands->output ||
                                   !builtin(commands)))
            run_pipeline(commands, count, at->kind == BACKGROUND);
        if (at->kind == THE_END)
            return;
        before = at->kind;
    }
}

static void bury_finished_jobs(void)
{
    int status, pid;

    while ((pid = wait(-1, &status, WAIT_NOHANG)) > 0)
        if (is_interactive)
            printf("[%d] done, %d\n", pid, code_of(status));
}

int main(int argc, char **argv)
{
    static char line[EDIT_LINE_MAX];

    if (argc > 2 && !strcmp(argv[1], "-c")) {
        run_line(argv[2]);
        return last_code;
    }
    is_login = argc > 1 && !strcmp(argv[1], "-login");
    if (argc > 1 && !is_login) {
        struct lines lines = { .fd = open(argv[1], O_READ) };

        if (lines.fd < 0)
            fail("sh: %s: %s\n", argv[1], error_text(lines.fd));
        while (next_line(&lines, line, sizeof(line)))
            run_line(line);
        return last_code;
    }
    is_interactive = 1;
    setgroup(0, 0);
    terminal(TTY_GROUP, 0);
    terminal(TTY_RAW, 0);
    while (bury_finished_jobs(), edit_line("$ ", line) == EDIT_LINE)
        run_line(line);
    if (is_login)
        printf("exit\n");
    leave(last_code);
}
