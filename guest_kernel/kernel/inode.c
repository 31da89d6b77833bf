/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Inodes, whatever file system they are of: counted, and given back to it when nobody needs them.
 */
#include <file.h>

struct inode *root_directory;

struct inode *inode_get(struct inode *inode)
{
    inode->references++;
    return inode;
}

void inode_put(struct inode *inode)
{
    if (--inode->references == 0)
        inode->operations->release(inode);
}
