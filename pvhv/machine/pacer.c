/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The pacer: safe stops, exact instruction counts and whole flags, from inside the engine.
 *
 * Every exit passes through here on its way to Python.  The engine keeps the arithmetic flags as
 * what they would be computed from, and DF by itself; whenever Python looks, state[EFLAGS] is
 * RFLAGS, whole (leave_guest, enter_guest below).
 *
 * The engine calls pacer_block at the start of every translated block it runs.  A stop asked
 * for there takes effect before the block, hence between two instructions, which no stop from
 * another thread promises.  And as a block's length in instructions is known when it was
 * translated, adding up lengths counts instructions without a hook on each.
 *
 * Three things would make that sum wrong, and are put right here:
 *   - a fault in mid-block: what was not executed is taken back (settle).  Which instruction
 *     faulted is known by address; how many came before it, by measuring their lengths;
 *   - code that overwrites the block it is in: the engine leaves the block without an exit and
 *     runs the writing instruction again alone (see `cut` below);
 *   - two blocks with the same address and size but other bytes: a block is known by the place
 *     it was translated to (our return address), not by where the guest keeps it.
 * The count is that of a UC_HOOK_CODE, to the unit: an instruction that faults counts each time it
 * is tried, a repeated string instruction once an iteration and once to find that it is done.
 *
 * No libc, no state but `struct pacer`, which pacer.py allocates and mirrors word by word.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define LAYOUT 11 /* of struct pacer: the number pacer.py has */
#define TABLE_BITS 15

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
int DllMainCRTStartup(void *instance, u32 reason, void *reserved)
{
    (void)instance, (void)reason, (void)reserved;
    return 1;
}
#else
#define EXPORT __attribute__((visibility("default")))
#endif

struct uc_tb {
    u64 pc;
    u16 icount, size;
};

/* A translated block.  `place` is where in the engine's buffer it calls us from. */
struct entry {
    u64 place, pc;
    u32 size, count;            /* bytes; instructions */
};

/* Every field but the table is one 64-bit word; pacer.py has the same list. */
struct pacer {
    u64 executed;               /* instructions, exact at every exit */
    volatile u64 limit;         /* look closer at the first block boundary where executed >= limit */
    volatile u64 stop;          /* a stop was asked for (which sets limit to 0 as well) */
    u64 goal;                   /* stop at the first block boundary where executed >= goal */
    struct entry *last;         /* the block last entered; 0: none, or it is settled */
    u64 new_pc, new_size, new_count; /* the block last translated; size 0: none */
    void *context;              /* where state is a copy: the uc_context that holds it, else 0 */
    u64 *state;                 /* the CPU state */
    const u64 *ram;             /* guest-physical 0 */
    u64 ram_bytes;
    u64 vmexit_error_code;      /* byte offset of error_code in state */
    int (*emu_stop)(void *);
    int (*ctl)(void *, int, ...);
    int (*context_save)(void *, void *);
    int (*context_restore)(void *, void *);
    void *engine;
    int (*reg_read)(void *, int, void *); /* of the engine, or of the context */
    void *registers;            /* the engine, or the context */
    void (*on_exit)(u32);       /* Python's hooks */
    void (*on_syscall)(void);
    void (*on_sysenter)(void);
    void (*on_invalid)(void);
    void (*on_cpuid)(void);
    u32 (*on_in)(u32, int);
    void (*on_out)(u32, int, u32);
    u64 window;                 /* stop, too, where the guest can take an interrupt */
    u64 executed_user;          /* of `executed`, those at CPL 3; kept if asked for */
    u64 syscall_rcx, syscall_r11; /* as they were before the present syscall */
    u64 broken;                 /* BROKEN: a breakpoint stopped the guest; else the address of one to pass, once */
    u64 step;                   /* STEP_WANTED: stop behind the next block, which is under way (BEGUN), or was LEFT */
    u64 eased, flag;            /* how many blocks pacer_ease has eased; what they look at (0: not known) */
    u64 flush;                  /* the TLB is to be flushed before guest code runs again */
    u64 keeps_cpl, cpl;         /* whether code at CPL 1 is to stay there; the CPL guest code was entered at, if known */
    u64 blocks;                 /* translated under one of our block hooks, since pacer.py last began to count */
    struct entry table[1u << TABLE_BITS] __attribute__((aligned(512)));
};

#define BROKEN (~0ull)
enum { STEP_WANTED = 1, STEP_BEGUN = 2, STEP_LEFT = 3 }; /* by an exit */
enum { RCX = 1, R11 = 11, RIP = 16, EFLAGS = 17, CC_SRC = 19, CC_OP_DF = 21, HFLAGS = 22, CR0 = 53, CR3 = 56 };
enum { NESTED_CR3 = 5544 / 8 };
enum { TF = 1 << 8, DF = 1 << 10, IF = 1 << 9, RF = 1 << 16, ARITHMETIC_FLAGS = 0x8d5 };
enum { HF_CPL = 3, HF_INHIBIT_IRQ = 1 << 3, HF_CS64 = 1 << 15, HF2_NPT = 1 << 6 };
enum { CC_OP_EFLAGS = 1, REG_RFLAGS = 253 };
enum { REQUEST_CACHE = (int)(8u | 2u << 26 | 3u << 30), FLUSH_TLB = (int)(11u | 1u << 30) };
enum { RW = 2, WATCHED = 1 << 9 }; /* of a nested entry: the second says that stores need no guard, watch.py sees them */
enum { DB = 1, PF = 14, EXIT_DB = 0x141, EXIT_PF = 0x14e, EXIT_NPF = 0x500, USER = 1 << 2, FETCH = 1 << 4 };

/* ---- how long is an instruction ----------------------------------------------------------- */

/* Which opcodes have a ModRM byte: one bit each, 0x00..0xff from the lowest bit of the first word. */
static const u32 one_byte_modrm[8] = {
    0x0f0f0f0f, 0x0f0f0f0f, 0x00000000, 0x00000000, 0x0000ffff, 0x00000000, 0xff0f00c3, 0xc0c00000,
};

static int one_byte_has_modrm(u32 op, int long_mode)
{
    if (op >= 0x60 && op <= 0x6f)
        return op == 0x63 || op == 0x69 || op == 0x6b || (op == 0x62 && !long_mode);
    if (op == 0xc4 || op == 0xc5)
        return !long_mode;
    return one_byte_modrm[op >> 5] >> (op & 31) & 1;
}

static int two_byte_has_modrm(u32 op)
{
    switch (op >> 4) {
    case 0x0: return op <= 0x03 || op == 0x0d || op == 0x0f;
    case 0x3: return 0;
    case 0x7: return op != 0x77;
    case 0x8: return 0;
    case 0xa: return op >= 0xa3 && op <= 0xa5 ? 1 : op >= 0xab;
    case 0xc: return op < 0xc8;
    default: return 1;
    }
}

/* The length of the instruction at p, of which at least 15 bytes can be read.  Only valid
 * instructions that do not branch are asked about: a block ends at its first branch. */
static u32 instruction_length(const u8 *p, int long_mode)
{
    const u8 *start = p;
    int word = 0, wide = 0, address = 0, rep = 0, repne = 0;
    u32 op, map = 0, modrm = 0;

    for (;; p++) {
        op = *p;
        if (long_mode && (op & 0xf0) == 0x40) {
            wide = op >> 3 & 1;
            continue;
        }
        if (op == 0x66) word = 1;
        else if (op == 0x67) address = 1;
        else if (op == 0xf2) repne = 1;
        else if (op == 0xf3) rep = 1;
        else if (op != 0xf0 && (op & 0xe7) != 0x26 && op != 0x64 && op != 0x65) break;
        wide = 0; /* a REX counts only right before the opcode */
        if (p - start >= 14)
            return 15;
    }
    p++;
    if ((op == 0xc5 || op == 0xc4) && (long_mode || *p >= 0xc0)) { /* VEX */
        map = op == 0xc5 ? 1 : *p++ & 31;
        p++;
        op = *p++;
    } else if (op == 0x0f) {
        map = 1, op = *p++;
        if (op == 0x38) map = 2, op = *p++;
        else if (op == 0x3a) map = 3, op = *p++;
    }

    if (map >= 2 || (map ? two_byte_has_modrm(op) : one_byte_has_modrm(op, long_mode))) {
        u32 mod, rm;
        modrm = *p++;
        mod = modrm >> 6, rm = modrm & 7;
        if (map == 1 && ((op >= 0x20 && op <= 0x23) || op == 0x50 || (op >= 0x71 && op <= 0x73) ||
                         (op == 0xd6 && !word && (rep || repne))))
            mod = 3; /* mov crN, movmskps, psrlw, movq2dq: these have no memory form, and do not look */
        if (!long_mode && address) {
            if (mod == 1) p += 1;
            else if (mod == 2 || (mod == 0 && rm == 6)) p += 2;
        } else if (mod != 3) {
            if (rm == 4 && (*p++ & 7) == 5 && mod == 0) p += 4;
            if (mod == 1) p += 1;
            else if (mod == 2 || (mod == 0 && rm == 5)) p += 4;
        }
    }

    u32 z = word && !wide ? 2 : 4; /* the operand-sized immediate */
    if (map == 3) {
        p += 1;
    } else if (map == 1) {
        if ((op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 ||
            (op >= 0xc4 && op <= 0xc6) || op == 0x0f) p += 1;
        else if ((op & 0xf0) == 0x80) p += z;
        else if (op == 0x78 && (word || repne)) p += 2; /* extrq, insertq */
    } else if (map == 0) {
        u32 reg = modrm >> 3 & 7;
        if (op < 0x40) {
            if ((op & 7) == 4) p += 1;
            else if ((op & 7) == 5) p += z;
        } else switch (op) {
        case 0x68: case 0x69: case 0x81: case 0xa9: case 0xc7: case 0xe8: case 0xe9: p += z; break;
        case 0x6a: case 0x6b: case 0x80: case 0x82: case 0x83: case 0xa8: case 0xc0: case 0xc1: case 0xc6:
        case 0xcd: case 0xd4: case 0xd5: case 0xeb: p += 1; break;
        case 0xa0: case 0xa1: case 0xa2: case 0xa3:
            p += long_mode ? (address ? 4 : 8) : (address ? 2 : 4); break;
        case 0xc2: case 0xca: p += 2; break;
        case 0xc8: p += 3; break;
        case 0x9a: case 0xea: p += z + 2; break;
        case 0xf6: p += reg < 2 ? 1 : 0; break;
        case 0xf7: p += reg < 2 ? z : 0; break;
        default:
            if ((op & 0xf0) == 0x70 || (op & 0xf8) == 0xb0 || (op & 0xf8) == 0xe0) p += 1;
            else if ((op & 0xf8) == 0xb8) p += wide ? 8 : z;
        }
    }
    return (u32)(p - start);
}

/* ---- reading the guest's code ------------------------------------------------------------- */

/* Where a four-level walk of `va` from `table` ends, or ~0; the tables' own addresses go through `second`.
 * *entry becomes the machine address of the last table entry. */
static u64 walk_to(const struct pacer *p, u64 table, u64 va, u64 (*second)(const struct pacer *, u64), u64 *entry)
{
    for (int shift = 39;; shift -= 9) {
        u64 at = (table & 0x000ffffffffff000ull) + (va >> shift & 511) * 8;
        if (second)
            at = second(p, at);
        *entry = at;
        if (at >= p->ram_bytes)
            return ~0ull;
        table = p->ram[at / 8];
        if (!(table & 1))
            return ~0ull;
        if (shift == 12 || (table & 0x80 && shift < 39))
            return (table & 0x000ffffffffff000ull & ~((1ull << shift) - 1)) | (va & ((1ull << shift) - 1));
    }
}

static u64 walk(const struct pacer *p, u64 table, u64 va, u64 (*second)(const struct pacer *, u64))
{
    u64 entry;
    return walk_to(p, table, va, second, &entry);
}

/* Where the entry is that maps `address`, or ~0. */
static u64 leaf(const struct pacer *p, u64 table, u64 address)
{
    u64 entry;
    return walk_to(p, table, address, 0, &entry) == ~0ull ? ~0ull : entry;
}

/* Machine address of a guest-physical one: the same, unless nested paging is on. */
static u64 machine(const struct pacer *p, u64 guest_physical)
{
    if (!(p->state[HFLAGS] >> 32 & HF2_NPT))
        return guest_physical;
    return walk(p, p->state[NESTED_CR3], guest_physical, 0);
}

static const u8 *code_page(const struct pacer *p, u64 va)
{
    u64 at = p->state[CR0] >> 31 & 1 ? walk(p, p->state[CR3], va, machine) : (u32)va;
    if (at != ~0ull)
        at = machine(p, at);
    return at >= p->ram_bytes ? 0 : (const u8 *)p->ram + (at & ~4095ull);
}

/* How many instructions begin in [from, to); *end is where the last of them ends. */
static u64 instructions(const struct pacer *p, u64 from, u64 to, u64 *end)
{
    int long_mode = p->state[HFLAGS] & HF_CS64 ? 1 : 0;
    u64 n = 0;
    while (from < to) {
        u8 bytes[16];
        u32 offset = from & 4095;
        const u8 *page = code_page(p, from);
        if (!page)
            break;
        if (offset > 4096 - 16) {
            const u8 *next = code_page(p, from + 16);
            for (u32 i = 0; i < 16; i++)
                bytes[i] = offset + i < 4096 ? page[offset + i] : next ? next[offset + i - 4096] : 0;
            from += instruction_length(bytes, long_mode);
        } else {
            from += instruction_length(page + offset, long_mode);
        }
        n++;
    }
    *end = from;
    return n;
}

/* ---- counting and stopping ---------------------------------------------------------------------------- */

static struct entry *entry_of(struct pacer *p, u64 place)
{
    return &p->table[place >> 7 & ((1u << TABLE_BITS) - 1)];
}

static void count(struct pacer *p, u64 instructions)
{
    p->executed += instructions;
    if ((p->state[HFLAGS] & HF_CPL) == 3)
        p->executed_user += instructions;
}

/* Whether an interrupt would be taken here that waits for it. */
static int window_open(const struct pacer *p)
{
    return p->window && p->state[EFLAGS] & IF && !(p->state[HFLAGS] & HF_INHIBIT_IRQ);
}

/* How much of the block last entered is not executed if it was left (or has come to) `rip`, before which it
 * tried `tried` instructions that did not complete. */
static u64 remainder_of(const struct pacer *p, u64 rip, u64 tried)
{
    const struct entry *last = p->last;
    u64 done, end;
    if (rip - last->pc >= last->size)
        return 0;
    done = instructions(p, last->pc, rip, &end) + tried;
    return done < last->count ? last->count - done : 0;
}

/* A block of one instruction is entered.  If it lies in the last block and does not reach to that
 * one's end, the engine cut the last block here, because the instruction writes to that block,
 * and runs it again alone.  No exit tells us.  But a single-stepped guest runs such blocks as well,
 * and so may one that jumps into the middle of an instruction. */
static int was_cut(void *uc, u64 pc, u32 size, struct pacer *p)
{
    const struct entry *last = p->last;
    u64 end;
    if (!last || pc - last->pc >= last->size || pc + size >= last->pc + last->size)
        return 0;
    if (p->context)
        p->context_save(uc, p->context);
    instructions(p, last->pc, pc, &end);
    return end == pc && !(p->state[EFLAGS] & TF);
}

/* UC_HOOK_EDGE_GENERATED: a block was translated, and is run next. */
EXPORT void pacer_translated(void *uc, const struct uc_tb *block, const struct uc_tb *before, struct pacer *p)
{
    (void)uc, (void)before;
    p->blocks++;
    p->limit = 0; /* look at the next block slowly: it may lie where a forgotten one lay */
    p->new_pc = block->pc, p->new_size = block->size, p->new_count = block->icount;
}

/* Whether the guest is to stop here. */
static int due(struct pacer *p)
{
    if (window_open(p))
        p->stop = 1;
    if (p->step >= STEP_BEGUN)
        p->broken = BROKEN;
    return p->stop || p->broken == BROKEN || p->executed >= p->goal;
}

/* UC_HOOK_EDGE_GENERATED too, under nested paging: what was translated from is made read-only there, for the engine
 * does not notice every store to it.  The nested fault that such a store is then is Python's, who forgets the code. */
EXPORT void pacer_guard_code(void *uc, const struct uc_tb *block, const struct uc_tb *before, struct pacer *p)
{
    u64 ends[2] = {block->pc, block->pc + block->size - 1};
    int changed = 0;
    (void)before;
    if (!(p->state[HFLAGS] >> 32 & HF2_NPT))
        return;
    for (int n = 0; n < 2; n++) {
        u64 at = p->state[CR0] >> 31 & 1 ? walk(p, p->state[CR3], ends[n], machine) : (u32)ends[n];
        u64 entry = at == ~0ull ? at : leaf(p, p->state[NESTED_CR3], at);
        if (entry != ~0ull && (p->ram[entry / 8] & (RW | WATCHED)) == RW) {
            ((u64 *)p->ram)[entry / 8] &= ~(u64)RW;
            changed = 1;
        }
    }
    if (changed)
        p->ctl(uc, FLUSH_TLB);
}

/* Everything but the usual, apart so that the usual needs no stack frame. */
static __attribute__((noinline, cold)) void block_slowly(void *uc, u64 pc, u32 size, struct pacer *p, u64 place)
{
    struct entry *e = entry_of(p, place);
    u32 n = e->count;

    p->limit = p->window ? 0 : p->goal;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* a stop sets `stop`, then `limit`: one of them is seen */
    if (p->stop || p->broken == BROKEN || p->step)
        p->limit = 0;
    if (p->new_size && p->new_pc == pc && p->new_size == size) {
        n = (u32)p->new_count;
    } else if (e->place != place || e->pc != pc || e->size != size) {
        /* Translated in an earlier run, or evicted from the table: the engine still knows. */
        struct uc_tb block = {0, 0, 0};
        n = p->ctl(uc, REQUEST_CACHE, pc, &block) == 0 && block.size == size ? block.icount : 1;
    }
    p->new_size = 0;
    if (n == 1 && was_cut(uc, pc, size, p)) { /* no stop: resumed here, the guest would be cut here again */
        count(p, -remainder_of(p, pc, 1));
    } else if (due(p)) {
        p->last = 0;
        p->emu_stop(uc);
        return;
    } else if (p->step) {
        p->step = STEP_BEGUN;
    }
    e->place = place, e->pc = pc, e->size = size, e->count = n;
    p->last = e;
    count(p, n);
}

/* UC_HOOK_BLOCK of the virtual clock: the hottest function of all. */
EXPORT void pacer_block(void *uc, u64 pc, u32 size, struct pacer *p)
{
    u64 place = (u64)__builtin_return_address(0);
    struct entry *e = entry_of(p, place);
    u64 executed = p->executed;
    u32 n = e->count;

    if (__builtin_expect(executed >= p->limit || e->place != place || e->pc != pc || e->size != size ||
                         (n == 1 && p->last != e), 0)) {
        block_slowly(uc, pc, size, p, place);
        return;
    }
    p->last = e;
    p->executed = executed + n;
}

/* The same, and who executed them: for guests whose every instruction is accounted for. */
EXPORT void pacer_block_by_mode(void *uc, u64 pc, u32 size, struct pacer *p)
{
    u64 place = (u64)__builtin_return_address(0);
    struct entry *e = entry_of(p, place);
    u32 n = e->count;

    if (p->executed >= p->limit || e->place != place || e->pc != pc || e->size != size || (n == 1 && p->last != e)) {
        block_slowly(uc, pc, size, p, place);
        return;
    }
    p->last = e;
    count(p, n);
}

/* UC_HOOK_CODE of one instruction: the guest's kernel, deprivileged, stops before it, and Python does it. It counts as
 * one instruction, as one that faults would. */
static void break_here(void *uc, u64 address, struct pacer *p, u32 cpl)
{
    if (p->context)
        p->context_save(uc, p->context);
    if ((p->state[HFLAGS] & HF_CPL) != cpl)
        return;
    if (p->broken == address) {
        p->broken = 0;
        return;
    }
    if (p->last)
        count(p, -remainder_of(p, address, 1));
    p->last = 0;
    p->broken = BROKEN;
    p->emu_stop(uc);
}

EXPORT void pacer_break(void *uc, u64 address, u32 size, struct pacer *p)
{
    (void)size;
    break_here(uc, address, p, 1);
}

/* The same for its users. */
EXPORT void pacer_break_user(void *uc, u64 address, u32 size, struct pacer *p)
{
    (void)size;
    break_here(uc, address, p, 3);
}

/* For debuggers, whoever executes it. */
EXPORT void pacer_break_all(void *uc, u64 address, u32 size, struct pacer *p)
{
    (void)size;
    break_here(uc, address, p, p->state[HFLAGS] & HF_CPL);
}

/* UC_HOOK_BLOCK of the wall clock, where the engine's own stop is not safe. */
EXPORT void pacer_stop(void *uc, u64 pc, u32 size, struct pacer *p)
{
    (void)pc, (void)size;
    if (__builtin_expect(p->limit != 0, 1))
        return;
    if (p->step == STEP_WANTED && !p->stop)
        p->step = STEP_BEGUN;
    else if (due(p) || !p->window)
        p->emu_stop(uc);
}

/* ---- a cheaper look for a stop ------------------------------------------------------------- */

/* The engine begins each block with the call of a helper that looks whether a stop was asked for; in short loops it is
 * there that most of the time goes.  Here that call is jumped over for as long as none was.
 *
 * With pacer_ease as a UC_HOOK_BLOCK, a block begins with two calls:
 *
 *     begin:  mov $uc,%rdi; mov $pc,%rsi; mov $size,%edx; mov $p,%rcx; call pacer_ease
 *     next:   mov $uc,%rdi; xor %esi,%esi; call helper_check_exit_request
 *
 * and the first is made once: it writes over itself, which nobody else needs,
 *
 *     begin:  cmpl $0,-flag(%rbp); jns behind the second call; jmp next
 *
 * where %rbp is the CPU state and -flag(%rbp) a word of the engine's that is negative while a stop is asked for.  A
 * block that does not look exactly so (another kind of host, another build of the engine) stays as it is.
 */
#if defined(__x86_64__) && !defined(_WIN32)
enum { FLAG_WITHIN = 64, LONGEST_CALL = 64, SHORTEST_CALL = 12, NO_FLAG = 1 };

/* The length of the instruction at `at` if it loads the first argument with the engine, else 0. */
static u32 loads_engine(const u8 *at, const void *uc)
{
    u64 value;
    int distance;
    if (at[0] == 0x48 && at[1] == 0xbf) { /* mov $imm64,%rdi */
        __builtin_memcpy(&value, at + 2, 8);
        return value == (u64)uc ? 10 : 0;
    }
    if (at[0] == 0x48 && at[1] == 0x8d && at[2] == 0x3d) { /* lea distance(%rip),%rdi */
        __builtin_memcpy(&distance, at + 3, 4);
        return (u64)at + 7 + (u64)(long long)distance == (u64)uc ? 7 : 0;
    }
    return 0;
}

/* How far before the state the word is that a stop makes negative, if there is one such.  This ends the run. */
static u64 find_flag(void *uc, const struct pacer *p)
{
    const volatile int *words = (const volatile int *)p->state - FLAG_WITHIN / 4;
    u64 before = 0, found = 0;
    for (u32 n = 0; n < FLAG_WITHIN / 4; n++)
        before |= (u64)(words[n] < 0) << n;
    p->emu_stop(uc);
    for (u32 n = 0; n < FLAG_WITHIN / 4; n++)
        if (words[n] < 0 && !(before >> n & 1)) {
            if (found)
                return NO_FLAG;
            found = FLAG_WITHIN - 4 * n;
        }
    return found ? found : NO_FLAG;
}

EXPORT void pacer_ease(void *uc, u64 pc, u32 size, struct pacer *p)
{
    u8 *next = __builtin_return_address(0), *begin = next - SHORTEST_CALL, *end;
    u32 length = loads_engine(next, uc);
    (void)pc, (void)size;

    p->blocks++;
    end = next + length + 2;
    if (!length || end[-2] != 0x33 || end[-1] != 0xf6) /* xor %esi,%esi */
        return;
    if (*end != 0xe8 && !(*end == 0xff && end[1] == 0x15)) /* call, direct or indirect */
        return;
    end += *end == 0xe8 ? 5 : 6;
    while (!loads_engine(begin, uc))
        if (next - --begin > LONGEST_CALL)
            return;
    if (!p->flag)
        p->flag = find_flag(uc, p);
    if (p->flag == NO_FLAG)
        return;
    begin[0] = 0x83, begin[1] = 0x7d, begin[2] = (u8)-p->flag, begin[3] = 0; /* cmpl $0,-flag(%rbp) */
    begin[4] = 0x79, begin[5] = (u8)(end - (begin + 6));                     /* jns end */
    begin[6] = 0xeb, begin[7] = (u8)(next - (begin + 8));                    /* jmp next */
    p->eased++;
}
#else
EXPORT void pacer_ease(void *uc, u64 pc, u32 size, struct pacer *p)
{
    (void)uc, (void)pc, (void)size, (void)p;
}
#endif

/* Behind an exit or a syscall no block is begun yet: the engine may stop there and then.  It must, as
 * there may be no next block (a guest that jumped to nowhere faults for ever). */
static void stop_if_due(void *uc, struct pacer *p)
{
    if (p->step)
        p->step = STEP_LEFT; /* even if its instruction could not be fetched */
    if (due(p))
        p->emu_stop(uc);
}

/* An exit: what was not executed of the block it came from is taken back. */
static void settle(struct pacer *p, u32 code)
{
    const u32 *error = (const u32 *)((const u8 *)p->state + p->vmexit_error_code); /* then exception_is_int */
    if (p->last && (code >= 0x100 || (code < 32 && !error[1]))) {
        if (code == EXIT_DB || code == DB) { /* a trap: RIP is past what was executed */
            if (p->last->count > 1)
                count(p, -remainder_of(p, p->state[RIP], 0));
        } else if (!((code == EXIT_PF || code == PF || code == EXIT_NPF) && *error & FETCH)) {
            count(p, -remainder_of(p, p->state[RIP], 1)); /* while a fetch fails between blocks */
        }
    }
    p->last = 0;
}

/* ---- exits: between the guest and Python -------------------------------------------------- */

static void gather_flags(struct pacer *p)
{
    u64 flags = 0;
    p->reg_read(p->registers, REG_RFLAGS, &flags);
    p->state[EFLAGS] = flags;
}

/* From here on the CPU state is Python's. */
static void leave_guest(void *uc, struct pacer *p)
{
    if (p->context)
        p->context_save(uc, p->context);
    gather_flags(p);
}

/* And from here on it is the guest's again. */
static void enter_guest(void *uc, struct pacer *p)
{
    u64 flags = p->state[EFLAGS];
    p->state[CC_SRC] = flags & ARITHMETIC_FLAGS;
    p->state[CC_OP_DF] = (flags & DF ? 0xffffffffull : 1) << 32 | CC_OP_EFLAGS;
    p->state[EFLAGS] = (u32)flags & ~(u32)(ARITHMETIC_FLAGS | DF);
    p->cpl = p->state[HFLAGS] & HF_CPL;
    if (p->context)
        p->context_restore(uc, p->context);
    if (p->flush) {
        p->flush = 0;
        p->ctl(uc, FLUSH_TLB);
    }
}

/* A kernel at CPL 1 took an iretq to itself (a Linux does so to serialize, 100 000 times as it boots), which leaves it at
 * CPL 3 and in a page fault.  It is put back, and nobody else need know. */
static int put_back(void *uc, u32 code, struct pacer *p)
{
    const u32 *error = (const u32 *)((const u8 *)p->state + p->vmexit_error_code);
    if (code != EXIT_PF || p->cpl != 1 || !p->keeps_cpl)
        return 0;
    if (p->context)
        p->context_save(uc, p->context);
    if (!(*error & USER) || (p->state[HFLAGS] & HF_CPL) != 3)
        return 0;
    p->state[HFLAGS] = (p->state[HFLAGS] & ~(u64)HF_CPL) | 1;
    settle(p, code);
    if (p->context)
        p->context_restore(uc, p->context);
    return 1;
}

/* UC_HOOK_INTR: exceptions, `int n`, and the other #VMEXITs. */
EXPORT void pacer_exit(void *uc, u32 code, struct pacer *p)
{
    if (put_back(uc, code, p)) {
        stop_if_due(uc, p);
        return;
    }
    leave_guest(uc, p);
    settle(p, code);
    p->on_exit(code);
    enter_guest(uc, p);
    stop_if_due(uc, p);
}

/* A `syscall`, of which the engine does nothing but to add 2 to RIP afterwards.  Here it is as the CPU
 * does it, as far as one can without knowing where it leads: Python says that. */
EXPORT void pacer_syscall(void *uc, struct pacer *p)
{
    leave_guest(uc, p);
    p->syscall_rcx = p->state[RCX], p->syscall_r11 = p->state[R11];
    p->state[EFLAGS] &= ~(u64)RF;
    p->state[R11] = p->state[EFLAGS];
    p->state[RCX] = p->state[RIP] += 2;
    p->on_syscall();
    p->state[RIP] -= 2;
    enter_guest(uc, p);
    stop_if_due(uc, p);
}

/* A `sysenter`: the same, but that Python has it as an exception, with RIP on it. */
EXPORT void pacer_sysenter(void *uc, struct pacer *p)
{
    leave_guest(uc, p);
    p->on_sysenter();
    p->state[RIP] -= 2;
    enter_guest(uc, p);
    stop_if_due(uc, p);
}

/* UC_HOOK_INSN_INVALID, by which comes what the engine takes for an exception nobody intercepted. */
EXPORT u32 pacer_invalid(void *uc, struct pacer *p)
{
    leave_guest(uc, p);
    p->on_invalid();
    enter_guest(uc, p);
    return 1; /* handled */
}

/* Hooks in mid-block, which goes on afterwards.  For their time, what is still to be executed of it is not
 * counted; and where the translation of what follows looks for the flags is settled, so there they stay. */
struct pause {
    u64 rest, eflags;
};

static struct pause pause_block(void *uc, struct pacer *p)
{
    struct pause pause;
    if (p->context)
        p->context_save(uc, p->context);
    pause.rest = p->last ? remainder_of(p, p->state[RIP], 1) : 0;
    pause.eflags = p->state[EFLAGS];
    count(p, -pause.rest);
    gather_flags(p);
    return pause;
}

static void resume_block(void *uc, struct pacer *p, struct pause pause)
{
    p->state[EFLAGS] = pause.eflags;
    count(p, pause.rest);
    if (p->context)
        p->context_restore(uc, p->context);
}

EXPORT u32 pacer_cpuid(void *uc, struct pacer *p)
{
    struct pause pause = pause_block(uc, p);
    p->on_cpuid();
    resume_block(uc, p, pause);
    return 1; /* the engine is not to answer as well */
}

EXPORT u32 pacer_in(void *uc, u32 port, int size, struct pacer *p)
{
    struct pause pause = pause_block(uc, p);
    u32 result = p->on_in(port, size);
    resume_block(uc, p, pause);
    return result;
}

EXPORT void pacer_out(void *uc, u32 port, int size, u32 value, struct pacer *p)
{
    struct pause pause = pause_block(uc, p);
    p->on_out(port, size, value);
    resume_block(uc, p, pause);
}

/* ---- small services: each is called from Python with as few arguments as can be ----------- */

EXPORT void pacer_flush_tlb(struct pacer *p)
{
    p->ctl(p->engine, FLUSH_TLB);
}

/* The counter that the guest's native rdtsc reads; 0 where that is the host's nanosecond clock. */
EXPORT u64 pacer_tsc(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

EXPORT u32 pacer_layout(void)
{
    return LAYOUT;
}

/* For the tests of the above. */
EXPORT u32 pacer_length(const u8 *code, int long_mode)
{
    return instruction_length(code, long_mode);
}
