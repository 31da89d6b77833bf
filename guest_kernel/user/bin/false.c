/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * false: fails.
 */
int main(int argc, char **argv)
{
    return 1;
}
