/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The bytes of a file: in the boot archive, or, once written to, in pages.
 */
#include <api/errno.h>
#include <lib.h>
#include <page.h>
#include <ramfs.h>

static const u8 zeroes[PAGE_SIZE];

long content_read(struct inode *inode, u64 offset, u64 to, size_t n, copy_out copy)
{
    struct ram_inode *file = ram_inode(inode);
    size_t done = 0;

    if (offset >= inode->size)
        return 0;
    n = MIN(n, inode->size - offset);
    if (file->packed)
        return copy(to, file->packed + offset, n) ? -EFAULT : (long)n;
    while (done < n) {
        size_t within = (offset + done) % PAGE_SIZE, piece = MIN(n - done, PAGE_SIZE - within);
        struct page *page = file->content[(offset + done) / PAGE_SIZE];

        /* A page never written is a hole, and reads as zeroes. */
        if (copy(to + done, page ? (u8 *)page_virt(page) + within : zeroes, piece))
            return -EFAULT;
        done += piece;
    }
    return (long)done;
}

static struct page *page_for_writing(struct inode *inode, u64 index)
{
    struct page **content = ram_inode(inode)->content;

    if (!content[index])
        content[index] = page_alloc_zeroed();
    return content[index];
}

/* The first write moves a packed file into pages of its own. */
static int unpack(struct inode *inode)
{
    struct ram_inode *file = ram_inode(inode);
    const u8 *packed = file->packed;

    if (!file->content && !(file->content = kmalloc(FILE_PAGES * sizeof(struct page *))))
        return -ENOMEM;
    if (!packed)
        return 0;
    if (inode->size > FILE_PAGES * PAGE_SIZE)
        return -EFBIG;
    for (size_t at = 0; at < inode->size; at += PAGE_SIZE) {
        struct page *page = page_for_writing(inode, at / PAGE_SIZE);

        if (!page)
            return -ENOMEM;
        memcpy(page_virt(page), packed + at, MIN(PAGE_SIZE, inode->size - at));
    }
    file->packed = NULL;
    return 0;
}

long content_write(struct inode *inode, u64 offset, u64 from, size_t n, copy_in copy)
{
    size_t done = 0;
    int error = unpack(inode);

    if (error)
        return error;
    if (offset >= FILE_PAGES * PAGE_SIZE)
        return -EFBIG;
    n = MIN(n, FILE_PAGES * PAGE_SIZE - offset);
    while (done < n) {
        size_t within = (offset + done) % PAGE_SIZE, piece = MIN(n - done, PAGE_SIZE - within);
        struct page *page = page_for_writing(inode, (offset + done) / PAGE_SIZE);

        if (!page)
            return done ? (long)done : -ENOMEM;
        if (copy((u8 *)page_virt(page) + within, from + done, piece))
            return -EFAULT;
        done += piece;
        inode->size = MAX(inode->size, offset + done);
    }
    return (long)done;
}

int content_truncate(struct inode *inode)
{
    struct ram_inode *file = ram_inode(inode);

    file->packed = NULL;
    inode->size = 0;
    if (!file->content)
        return 0;
    for (unsigned i = 0; i < FILE_PAGES; i++)
        if (file->content[i])
            page_put(file->content[i]);
    kfree(file->content);
    file->content = NULL;
    return 0;
}
