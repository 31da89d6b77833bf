/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The bytes of a file: in the boot archive, or, once written to, in pages.
 */
#include <api/errno.h>
#include <file.h>
#include <lib.h>
#include <page.h>

int copy_out_kernel(u64 to, const void *from, size_t n)
{
    memcpy((void *)to, from, n);
    return 0;
}

static const u8 zeroes[PAGE_SIZE];

long content_read(struct inode *inode, u64 offset, u64 to, size_t n, copy_out copy)
{
    size_t done = 0;

    if (offset >= inode->size)
        return 0;
    n = MIN(n, inode->size - offset);
    if (inode->packed)
        return copy(to, inode->packed + offset, n) ? -EFAULT : (long)n;
    while (done < n) {
        size_t within = (offset + done) % PAGE_SIZE, piece = MIN(n - done, PAGE_SIZE - within);
        struct page *page = inode->content[(offset + done) / PAGE_SIZE];

        /* A page never written is a hole, and reads as zeroes. */
        if (copy(to + done, page ? (u8 *)page_virt(page) + within : zeroes, piece))
            return -EFAULT;
        done += piece;
    }
    return (long)done;
}

static struct page *page_for_writing(struct inode *inode, u64 index)
{
    if (!inode->content[index])
        inode->content[index] = page_alloc_zeroed();
    return inode->content[index];
}

/* The first write moves a packed file into pages of its own. */
static int unpack(struct inode *inode)
{
    const u8 *packed = inode->packed;

    if (!inode->content && !(inode->content = kmalloc(FILE_PAGES * sizeof(struct page *))))
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
    inode->packed = NULL;
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

void content_truncate(struct inode *inode)
{
    inode->packed = NULL;
    inode->size = 0;
    if (!inode->content)
        return;
    for (unsigned i = 0; i < FILE_PAGES; i++)
        if (inode->content[i])
            page_put(inode->content[i]);
    kfree(inode->content);
    inode->content = NULL;
}
