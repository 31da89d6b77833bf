/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A line from the terminal, with editing and history. The terminal is raw meanwhile: every byte comes to us, and
 * what shall be seen we write ourselves.
 */
#include <edit.h>
#include <user.h>

#define CTRL(letter) ((letter) - '@')
#define HISTORY 32

enum { ESCAPE = 27, DELETE = 127, UP = 256, DOWN, RIGHT, LEFT, HOME, END, DELETE_RIGHT, NOTHING };

static char history[HISTORY][EDIT_LINE_MAX];
static int history_count;

static char *line; /* being edited */
static int length, cursor;
static const char *prompt;

static int next_byte(void)
{
    u8 byte;

    return read(0, &byte, 1) == 1 ? byte : -1;
}

/* Arrows and friends come as ESC [ letter, or ESC [ digit ~. */
static int next_key(void)
{
    static const char letters[] = "ABCDHF";
    int c = next_byte();
    char *found;

    if (c != ESCAPE)
        return c;
    c = next_byte();
    if (c != '[' && c != 'O')
        return NOTHING;
    c = next_byte();
    if (c >= '1' && c <= '9') {
        static const int by_digit[] = { HOME, NOTHING, DELETE_RIGHT, END, NOTHING, NOTHING, HOME, END, NOTHING };
        int key = by_digit[c - '1'];

        while ((c = next_byte()) >= 0 && c != '~')
            ;
        return key;
    }
    found = c > 0 ? strchr(letters, c) : NULL;
    return found ? UP + (int)(found - letters) : NOTHING;
}

static void back(int columns)
{
    if (columns > 0)
        printf("\033[%dD", columns);
}

/* Write what stands from the cursor on, wipe the rest of the row, and go back to the cursor. */
static void show_tail(void)
{
    write(1, line + cursor, length - cursor);
    printf("\033[K");
    back(length - cursor);
}

static void show_all(void)
{
    printf("\r%s", prompt);
    write(1, line, length);
    printf("\033[K");
    back(length - cursor);
}

static void insert(char c)
{
    if (length == EDIT_LINE_MAX - 1)
        return;
    memmove(line + cursor + 1, line + cursor, length - cursor);
    line[cursor] = c;
    length++;
    cursor++;
    write(1, &c, 1);
    if (cursor < length) /* at the end, where nearly all is typed, the letter was all there is to show */
        show_tail();
}

/* Take [from, to) out. The cursor stands somewhere in it, or at its end. */
static void cut(int from, int to)
{
    if (from == to)
        return;
    back(cursor - from);
    memmove(line + from, line + to, length - to);
    length -= to - from;
    cursor = from;
    show_tail();
}

static int word_start(void)
{
    int at = cursor;

    while (at > 0 && line[at - 1] == ' ')
        at--;
    while (at > 0 && line[at - 1] != ' ')
        at--;
    return at;
}

static void recall(int which)
{
    strcpy(line, which < history_count ? history[which % HISTORY] : "");
    length = cursor = (int)strlen(line);
    show_all();
}

static void remember(void)
{
    if (length && (!history_count || strcmp(history[(history_count - 1) % HISTORY], line)))
        strcpy(history[history_count++ % HISTORY], line);
}

static int finish(int result)
{
    line[length] = 0;
    write(1, "\n", 1);
    return result;
}

int edit_line(const char *with_prompt, char *to)
{
    static int last; /* a carriage return and the line feed behind it are one */
    int recalled = history_count;

    line = to;
    length = cursor = 0;
    prompt = with_prompt;
    printf("%s", prompt);
    for (;;) {
        int before = last, key = last = next_key();

        switch (key) {
        case -1:
            return finish(EDIT_END);
        case '\n':
            if (before == '\r')
                break;
            /* fall through */
        case '\r':
            finish(EDIT_LINE);
            remember();
            return EDIT_LINE;
        case CTRL('C'):
            printf("^C");
            length = 0;
            return finish(EDIT_LINE);
        case CTRL('D'):
            if (!length)
                return finish(EDIT_END);
            /* fall through */
        case DELETE_RIGHT:
            if (cursor < length) {
                cursor++;
                write(1, line + cursor - 1, 1);
                cut(cursor - 1, cursor);
            }
            break;
        case CTRL('H'):
        case DELETE:
            if (cursor)
                cut(cursor - 1, cursor);
            break;
        case CTRL('U'):
            cut(0, cursor);
            break;
        case CTRL('W'):
            cut(word_start(), cursor);
            break;
        case CTRL('K'):
            length = cursor;
            show_tail();
            break;
        case CTRL('A'):
        case HOME:
            back(cursor);
            cursor = 0;
            break;
        case CTRL('E'):
        case END:
            write(1, line + cursor, length - cursor);
            cursor = length;
            break;
        case CTRL('B'):
        case LEFT:
            if (cursor)
                back(1), cursor--;
            break;
        case CTRL('F'):
        case RIGHT:
            if (cursor < length)
                write(1, line + cursor++, 1);
            break;
        case CTRL('L'):
            printf("\033[H\033[2J");
            show_all();
            break;
        case CTRL('P'):
        case UP:
            if (recalled > 0 && recalled > history_count - HISTORY)
                recall(--recalled);
            break;
        case CTRL('N'):
        case DOWN:
            if (recalled < history_count)
                recall(++recalled);
            break;
        default:
            if (key >= ' ' && key < DELETE)
                insert((char)key);
        }
    }
}
