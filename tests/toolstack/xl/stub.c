/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What Debian's xl takes for a machine with Xen on it: preloaded, so that `xl create -n` reads a domain file, fills in
 * what goes without saying, and prints what came of it, with neither a hypervisor nor a xenstore there.
 *
 * Nothing of the reading is in here: the parser, the keys and the defaults are xl's, libxlutil's and libxenlight's own.
 * Only what they ask a hypervisor is answered (eight processors, 16 GiB, the credit2 scheduler), and where they say
 * which key they look for, or which node of xenstore, that is written down.
 *
 * No header of Xen's is needed to compile it, nor a C library: what it calls is found when xl runs.
 */

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long size_t;

void *dlsym(void *handle, const char *symbol);
char *getenv(const char *name);
int atoi(const char *text);
int dprintf(int descriptor, const char *format, ...);
void *calloc(size_t count, size_t size);
int strcmp(const char *one, const char *other);
size_t strlen(const char *text);
char *strdup(const char *text);

int *__errno_location(void);

#define ENOENT 2
#define ENOSYS 38
#define NEXT ((void *)-1L) /* RTLD_NEXT */
#define CPUS 8
#define CREDIT2 6

static int something; /* a handle that nobody looks into */

/* -- libxenctrl ------------------------------------------------------------------------------------------------ */
struct physinfo { /* struct xen_sysctl_physinfo */
    u32 threads_per_core, cores_per_socket, nr_cpus, max_cpu_id, nr_nodes, max_node_id, cpu_khz, capabilities;
    u32 arch_capabilities, pad;
    u64 total_pages, free_pages, scrub_pages, outstanding_pages, max_mfn;
    u32 hw_cap[8];
};

void *xc_interface_open(void *logger, void *dombuild_logger, unsigned flags) { return &something; }
int xc_interface_close(void *xch) { return 0; }

int xc_physinfo(void *xch, struct physinfo *info) {
    *info = (struct physinfo){.threads_per_core = 1, .cores_per_socket = CPUS, .nr_cpus = CPUS,
                              .max_cpu_id = CPUS - 1, .nr_nodes = 1, .cpu_khz = 2000000, .capabilities = 0x3ff,
                              .total_pages = 1 << 22, .free_pages = 1 << 22, .max_mfn = 1 << 22};
    return 0;
}

int xc_sched_id(void *xch, int *id) { *id = CREDIT2; return 0; }
int xc_get_max_cpus(void *xch) { return CPUS; }
int xc_get_max_nodes(void *xch) { return 1; }
long xc_sharing_freed_pages(void *xch) { return 0; }
long xc_sharing_used_frames(void *xch) { return 0; }
int xc_version(void *xch, int command, void *argument) { return 0; }

int xc_flask_context_to_sid(void *xch, char *label, u32 size, u32 *sid) { /* as where XSM is off, which it is in Debian */
    *__errno_location() = ENOSYS;
    return -1;
}

int xc_numainfo(void *xch, unsigned *nodes, void *memory, u32 *distance) {
    if (nodes) *nodes = 1;
    return 0;
}

struct cpupoolinfo { u32 id, sched_id, domains; unsigned char *cpumap; };

void *xc_cpupool_getinfo(void *xch, u32 id) {
    if (id) return 0;
    struct cpupoolinfo *pool = calloc(1, sizeof *pool);
    pool->sched_id = CREDIT2;
    pool->cpumap = calloc(1, sizeof(u64));
    *pool->cpumap = (1 << CPUS) - 1;
    return pool;
}

void xc_cpupool_infofree(void *xch, void *pool) {}

/* -- libxenstore ------------------------------------------------------------------------------------------------ */
void *xs_open(unsigned long flags) { return &something; }
void xs_close(void *xsh) {}
char *xs_get_domain_path(void *xsh, unsigned domid) { return strdup("/local/domain/0"); }

void *xs_read(void *xsh, u32 transaction, const char *path, unsigned *length) {
    const char *descriptor = getenv("XL_READS");
    if (descriptor) dprintf(atoi(descriptor), "%s\n", path);
    const char *value = !strcmp(path, "/local/pool/0/name") ? "Pool-0" : !strcmp(path, "/libxl/1/device/vbd") ? "" : 0;
    if (!value) {
        *__errno_location() = ENOENT;
        return 0;
    }
    if (length) *length = strlen(value);
    return strdup(value);
}

/* -- libxenlight: before it is printed, a domain gets its defaults, as it would before it is made --------------- */
char *libxl_domain_config_to_json(void *ctx, void *config) {
    char *(*real)(void *, void *) = dlsym(NEXT, "libxl_domain_config_to_json");
    int (*set_defaults)(void *, void *, u32, u64 *) = dlsym(NEXT, "libxl_domain_need_memory");
    u64 need;
    if (set_defaults(ctx, config, -1, &need)) return 0;
    return real(ctx, config);
}

/* -- libxlutil: which keys are looked for ----------------------------------------------------------------------- */
static void looked_for(const void *config, const char *how, const char *key) {
    const char *descriptor = getenv("XL_KEYS");
    if (descriptor) dprintf(atoi(descriptor), "%p %s %s\n", config, key, how); /* xl.conf first, then the domain file */
}

#define LOOKUP(name, how, more_parameters, more)                    \
    int name(const void *config, const char *key, void *value more_parameters, int quiet) {  \
        int (*real)(const void *, const char *, void *more_parameters, int) = dlsym(NEXT, #name); \
        looked_for(config, how, key);                                       \
        return real(config, key, value more, quiet);                \
    }
#define PLAIN
#define COMMA ,

LOOKUP(xlu_cfg_get_string, "string", PLAIN, PLAIN)
LOOKUP(xlu_cfg_replace_string, "string", PLAIN, PLAIN)
LOOKUP(xlu_cfg_get_long, "number", PLAIN, PLAIN)
LOOKUP(xlu_cfg_get_defbool, "boolean", PLAIN, PLAIN)
LOOKUP(xlu_cfg_get_list, "list", COMMA int *count, COMMA count)
LOOKUP(xlu_cfg_get_list_as_string_list, "list", PLAIN, PLAIN)

int xlu_cfg_get_bounded_long(const void *config, const char *key, long low, long high, long *value, int quiet) {
    int (*real)(const void *, const char *, long, long, long *, int) = dlsym(NEXT, "xlu_cfg_get_bounded_long");
    looked_for(config, "number", key);
    return real(config, key, low, high, value, quiet);
}
