/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the files of pv/ and the drivers tell each other. Nothing in kernel/ includes this.
 */
#pragma once

#include <page.h>
#include <pte.h>
#include <types.h>
#include <xen/hypercall.h>

struct address_space;

/* boot.c */
extern struct start_info *start_info;
extern struct shared_info *shared_info;
#define this_vcpu (&shared_info->vcpu_info[0])
static inline bool is_dom0(void) { return start_info->flags & SIF_INITDOMAIN; }

/* frames.c: between pseudo-physical and machine frame numbers */
extern u64 *p2m;
static inline u64 machine_frame(paddr_t physical) { return p2m[physical >> PAGE_SHIFT]; }
static inline u64 pseudo_frame(u64 mfn) { return ((u64 *)MACH2PHYS_VIRT_START)[mfn]; }
static inline u64 machine_address(paddr_t physical)
{
    return (machine_frame(physical) << PAGE_SHIFT) | (physical & (PAGE_SIZE - 1));
}

/* memory.c */
void memory_init(u64 boot_stack);
extern paddr_t physmap_tables; /* the L1 tables of the physmap, one after the other */

/* batch.c: hypercalls, at once or gathered into a multicall */
void batch_begin(void);
void batch_end(void);
void queue_mmu_update(u64 machine_address, u64 value);
void queue_mmuext(unsigned command, u64 arg1, u64 arg2);
void queue_call(unsigned op, u64 a, u64 b, u64 c, u64 d);

/* pagetables.c, traps.c, time.c, cpu.c: rows of the table */
pte_t pv_make_pte(paddr_t to, u64 flags);
paddr_t pv_pte_physical(pte_t pte);
void pv_set_pte(pte_t *slot, pte_t value);
void pv_set_pte_at(u64 va, pte_t *slot, pte_t value);
void pv_table_live(struct page *table);
void pv_space_live(struct address_space *space);
void pv_space_dead(struct address_space *space);
void pv_flush_page(u64 va);
void pv_flush_all(void);
void pv_switch_to(struct address_space *space, u64 stack_top, bool fpu_disable);
void pv_set_traps(void);
u64 pv_now(void);
u64 pv_wallclock(void);
void pv_set_timer(u64 deadline);
u64 pv_tsc_khz(void);
void timer_init(void);
void pv_irq_disable(void);
void pv_irq_enable(void);
void pv_idle(void);
void pv_fpu_disable(bool disable);
u64 pv_fault_address(void);
void pv_cpuid(u32 leaf, u32 out[4]);
void pv_hypervisor(char *name, size_t room);
void pv_shutdown(int how) NORETURN;
int pv_privileged(int op, u64 count);

/* events.c: event channels */
typedef void (*event_handler)(unsigned port);
void events_init(void);
int event_bind_virq(unsigned virq, event_handler handler);   /* each returns the port */
int event_alloc_unbound(unsigned remote, event_handler handler);
int event_bind_interdomain(unsigned remote, unsigned remote_port, event_handler handler);
void event_attach(unsigned port, event_handler handler);     /* a port that is bound already */
void event_send(unsigned port);
void event_close(unsigned port);
bool event_status(unsigned port, char *text, size_t room);   /* false: the port is closed */
unsigned own_domid(void);

/* drivers/ */
void console_write(const char *text, size_t n);   /* waits for room */
void console_init(void);
void xenstore_init(void);
#define DRIVERS_WATCH "drivers" /* the token of drivers' watches: xenbus_fired() is told */
enum { REQUEST_IGNORED = 1, REQUEST_DRIVERS = 10 /* xenbus_answer() is told */, REQUESTS_OF_KERNEL = 100 };
void xenstore_request(u32 type, u32 id, const char *first, const char *second, size_t second_length); /* never waits */
int xenstore_ask(u32 type, const char *path, const char *more, size_t more_length, char *reply, size_t room);
int xenbus_read(const char *directory, const char *node, char *to, size_t room);
int xenbus_read_number(const char *directory, const char *node, u64 *number);
int xenbus_write(const char *directory, const char *node, const char *value);
int xenbus_write_number(const char *directory, const char *node, u64 number);
void xenbus_tell_number(const char *directory, const char *node, u64 number);

struct xenbus_backend { /* the other end of a device */
    char directory[64];
    unsigned state; /* what it said last; Unknown: it is gone */
    void (*changed)(void *driver_data); /* it says something else; never sleeps */
    void *driver_data;
    unsigned id;
    struct xenbus_backend *next;
};
int xenbus_meet(struct xenbus_backend *backend, const char *ours);        /* find it, and watch it from now on */
int xenbus_wait(struct xenbus_backend *backend, unsigned state); /* until its state is this one */
bool xenbus_is_over(unsigned state);
void xenbus_fired(const char *path);
void xenbus_answer(unsigned id, unsigned state);
void *xenbus_make_ring(int *reference, int *port, event_handler handler); /* for domain 0; NULL: no memory */
void xenbus_drop_ring(void *ring, int reference, int port);
void vbds_found(const char *numbers, size_t length);
void blkfront_add(unsigned number, const char *name);
int grants_init(void);
int grant_access(unsigned domid, paddr_t page, bool readonly); /* -> reference */
int grant_end(int reference);
int grants_time(int op, u64 count);
void reports_init(void);
