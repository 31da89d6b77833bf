/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * true: succeeds.
 */
int main(int argc, char **argv)
{
    return 0;
}
