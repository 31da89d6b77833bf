/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * exec: another program takes the process over.  The new address space is built whole beside the old one; only
 * when nothing can fail any more do they change places.
 */
#include <api/errno.h>
#include <elf.h>
#include <file.h>
#include <lib.h>
#include <process.h>
#include <pv_ops.h>

u64 user_cs, user_ss;

static int copy_within_kernel(u64 to, const void *from, size_t n)
{
    memcpy((void *)to, from, n);
    return 0;
}

static int read_exactly(struct inode *inode, u64 offset, void *to, size_t n)
{
    long done = inode->operations->read(inode, offset, (u64)to, n, copy_within_kernel);

    return done == (long)n ? 0 : done < 0 ? (int)done : -ENOEXEC;
}

/* One page of a segment: what the file has of it, zeroes around. */
static int load_page(struct address_space *space, struct inode *inode, const struct elf_segment *segment, u64 va,
                     u64 flags)
{
    u64 from = MAX(va, segment->vaddr), to = MIN(va + PAGE_SIZE, segment->vaddr + segment->file_size);
    pte_t *slot = space_pte(space, va, false);
    struct page *page;
    int error;

    if (slot && *slot & PTE_PRESENT) /* two segments meet in this page */
        return -ENOEXEC;
    page = page_alloc_zeroed();
    if (!page)
        return -ENOMEM;
    if (from < to) {
        error = read_exactly(inode, segment->offset + (from - segment->vaddr), page_virt(page) + (from - va),
                             to - from);
        if (error) {
            page_put(page);
            return error;
        }
    }
    error = space_map(space, va, page, flags);
    if (error)
        page_put(page);
    return error;
}

static int load_segment(struct address_space *space, struct inode *inode, const struct elf_segment *segment)
{
    u64 start = PAGE_DOWN(segment->vaddr), end = PAGE_UP(segment->vaddr + segment->memory_size);
    u64 file_end = segment->vaddr + segment->file_size;
    u32 area_flags = (segment->flags & ELF_WRITE ? AREA_WRITE : 0) | (segment->flags & ELF_EXECUTE ? AREA_EXECUTE : 0);
    u64 flags = PTE_PRESENT | PTE_USER | PTE_ACCESSED | (segment->flags & ELF_WRITE ? PTE_WRITE | PTE_DIRTY : 0) |
                (segment->flags & ELF_EXECUTE ? 0 : PTE_NX);
    int error;

    if (segment->vaddr < USER_TEXT || end > USER_MMAP || segment->file_size > segment->memory_size)
        return -ENOEXEC;
    error = area_add(space, start, end, area_flags);
    /* Pages of zeroes only (the rest of .bss) come when they are touched. */
    for (u64 va = start; !error && va < file_end; va += PAGE_SIZE)
        error = load_page(space, inode, segment, va, flags);
    space->program_break = MAX(space->program_break, end);
    return error;
}

static int load_program(struct address_space *space, struct inode *inode, u64 *entry)
{
    struct elf_header header;
    struct elf_segment segment;
    int error = read_exactly(inode, 0, &header, sizeof(header));

    if (error || memcmp(header.magic, "\177ELF", 4) || header.machine != ELF_X86_64)
        return -ENOEXEC;
    for (unsigned i = 0; !error && i < header.program_header_count; i++) {
        error = read_exactly(inode, header.program_headers + i * sizeof(segment), &segment, sizeof(segment));
        if (!error && segment.type == ELF_LOAD && segment.memory_size)
            error = load_segment(space, inode, &segment);
    }
    *entry = header.entry;
    return error;
}

/* The top of the stack: the argument strings, above them nothing, below them argv[]. */
static int make_stack(struct address_space *space, const char *arguments, int count, u64 *rsp, u64 *argv)
{
    struct page *page = page_alloc_zeroed();
    u64 base = USER_STACK_TOP - PAGE_SIZE, at;
    size_t length = 0;
    u64 *pointers;
    int error;

    if (!page)
        return -ENOMEM;
    for (int i = 0; i < count; i++)
        length += strlen(arguments + length) + 1;
    at = (PAGE_SIZE - length - (count + 1) * sizeof(u64)) & ~15UL;
    if (length + (count + 1) * sizeof(u64) > PAGE_SIZE / 2) {
        page_put(page);
        return -E2BIG;
    }
    pointers = page_virt(page) + at;
    for (size_t i = 0, from = 0; i < (size_t)count; i++) {
        pointers[i] = base + PAGE_SIZE - length + from;
        from += strlen(arguments + from) + 1;
    }
    memcpy(page_virt(page) + PAGE_SIZE - length, arguments, length);
    *rsp = *argv = base + at;

    error = area_add(space, USER_STACK_TOP - USER_STACK_SIZE, USER_STACK_TOP, AREA_WRITE);
    if (!error)
        error = space_map(space, base, page,
                          PTE_PRESENT | PTE_USER | PTE_WRITE | PTE_NX | PTE_ACCESSED | PTE_DIRTY);
    if (error)
        page_put(page);
    return error;
}

/* A new address space with the program in it. */
static int build(const char *path, const char *arguments, int count, struct address_space **out, u64 *entry, u64 *rsp,
                 u64 *argv)
{
    struct inode *inode;
    struct address_space *space;
    int error = inode_find(path, &inode);

    if (error)
        return error;
    space = inode->kind == KIND_FILE ? space_create() : NULL;
    if (!space)
        error = inode->kind == KIND_FILE ? -ENOMEM : -EISDIR;
    else if (!(error = load_program(space, inode, entry)))
        error = make_stack(space, arguments, count, rsp, argv);
    if (error && space)
        space_destroy(space);
    inode_put(inode);
    *out = space;
    return error;
}

static const char *last_name(const char *path)
{
    const char *name = path;

    for (; *path; path++)
        if (*path == '/')
            name = path + 1;
    return name;
}

int process_exec(struct trap_frame *frame, const char *path, char *arguments, int count)
{
    struct address_space *space, *old = current->space;
    u64 entry, rsp, argv;
    int error = build(path, arguments, count, &space, &entry, &rsp, &argv);

    if (error)
        return error;

    /* The point of no return. */
    pv.batch_begin();
    space_live(space);
    pv.switch_to(space, (u64)current->kernel_stack + KERNEL_STACK_SIZE, true);
    pv.batch_end();
    current->space = space;
    space_destroy(old);
    fpu_forget(current);
    strlcpy(current->name, last_name(path), sizeof(current->name));

    memset(frame, 0, sizeof(*frame));
    frame->rip = entry;
    frame->cs = user_cs;
    frame->ss = user_ss;
    frame->rflags = 0x202; /* interrupts on */
    frame->rsp = rsp - 8;  /* as if main had been called */
    frame->rdi = count;
    frame->rsi = argv;
    return 0;
}
