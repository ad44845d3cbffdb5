/* Fails the k-th call that writes below one folder: preloaded before libc, armed from Python through ctypes.

   Counted are calls that create, write, truncate, sync, rename or link what lies below the folder. A refused
   call does nothing and sets errno, as the kernel does on a full or a broken disk. What libc itself writes for
   a FILE goes round these functions, so fwrite, fflush and fclose are counted too; a refused fclose loses what
   was still in the buffer. Lance renames by the bare system call, which only a filter of the kernel sees. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#define PLACE (2 * PATH_MAX)
#define REAL(name) ((__typeof__(&name))real(#name, &real_##name))

static char folder[PATH_MAX];
static int failure, for_good, log_to = -1;
static long wanted;
static atomic_int armed;
static atomic_long seen;
static char struck[PLACE + 32];
static __thread int passing; /* counted already: libc's own rename may come by the bare call, too */

static void catch_bare_renames(void);

/* Counts from now on the calls below `below`; the `which`-th (0: none) fails with `code`, with `on` all after it
   too. Every counted call is written as a line to the descriptor `log`, unless that is -1. */
void arm(const char *below, long which, int code, int on, int log) {
    atomic_store(&armed, 0);
    snprintf(folder, sizeof folder, "%s/", below);
    wanted = which, failure = code, for_good = on, log_to = log;
    struck[0] = 0;
    atomic_store(&seen, 0);
    catch_bare_renames();
    atomic_store(&armed, 1);
}

/* Gives the number of calls counted. */
long disarm(void) {
    atomic_store(&armed, 0);
    return atomic_load(&seen);
}

/* What failed first, as in "write /store/lock"; empty if nothing did. */
const char *first_failure(void) { return struck; }

static void *real(const char *name, void **known) {
    if (!*known) *known = dlsym(RTLD_NEXT, name);
    return *known;
}

/* Whether this call is to fail; errno is set then. `place` is absolute. */
static int refused(const char *what, const char *place) {
    if (!atomic_load(&armed) || strncmp(place, folder, strlen(folder)) != 0) return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (log_to >= 0) dprintf(log_to, "%s %s\n", what, place);
    if (!wanted || number < wanted || (number > wanted && !for_good)) return 0;
    if (number == wanted) snprintf(struck, sizeof struck, "%s %s", what, place);
    errno = failure;
    return 1;
}

static int refused_open_file(const char *what, int handle) {
    if (!atomic_load(&armed)) return 0;
    char link[64], place[PLACE];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, place, sizeof place - 2);
    errno = before;
    if (length < 0) return 0;
    place[length] = 0;
    if (length == (ssize_t)strlen(folder) - 1) strcat(place, "/"); /* the folder itself */
    return refused(what, place);
}

static int refused_at(const char *what, int at, const char *path) {
    if (!atomic_load(&armed)) return 0;
    if (path[0] == '/') return refused(what, path);
    char link[64], place[PLACE];
    int before = errno;
    snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, place, PATH_MAX);
    errno = before;
    if (length < 0) return 0;
    snprintf(place + length, sizeof place - length, "/%s", path);
    return refused(what, place);
}

static int refused_stream(const char *what, FILE *stream) {
    return __fwritable(stream) && refused_open_file(what, fileno(stream));
}

#define OPENS(name, declared, dir, ...)                                              \
    static void *real_##name;                                                        \
    int name declared {                                                              \
        mode_t mode = 0;                                                             \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                       \
            va_list rest;                                                            \
            va_start(rest, flags);                                                   \
            mode = va_arg(rest, mode_t);                                             \
            va_end(rest);                                                            \
            if (refused_at("create", dir, path)) return -1;                          \
        }                                                                            \
        return REAL(name)(__VA_ARGS__, flags, mode);                                 \
    }
OPENS(open, (const char *path, int flags, ...), AT_FDCWD, path)
OPENS(open64, (const char *path, int flags, ...), AT_FDCWD, path)
OPENS(openat, (int at, const char *path, int flags, ...), at, at, path)
OPENS(openat64, (int at, const char *path, int flags, ...), at, at, path)

#define ON_HANDLE(type, name, what, declared, ...)                                   \
    static void *real_##name;                                                        \
    type name declared { return refused_open_file(what, handle) ? -1 : REAL(name)(__VA_ARGS__); }
ON_HANDLE(ssize_t, write, "write", (int handle, const void *data, size_t size), handle, data, size)
ON_HANDLE(ssize_t, pwrite, "write", (int handle, const void *data, size_t size, off_t at), handle, data, size, at)
ON_HANDLE(ssize_t, pwrite64, "write", (int handle, const void *data, size_t size, off64_t at), handle, data, size, at)
ON_HANDLE(ssize_t, writev, "write", (int handle, const struct iovec *parts, int count), handle, parts, count)
ON_HANDLE(ssize_t, pwritev, "write", (int handle, const struct iovec *parts, int count, off_t at), handle, parts, count, at)
ON_HANDLE(ssize_t, pwritev64, "write", (int handle, const struct iovec *parts, int count, off64_t at), handle, parts, count, at)
ON_HANDLE(int, ftruncate, "truncate", (int handle, off_t size), handle, size)
ON_HANDLE(int, ftruncate64, "truncate", (int handle, off64_t size), handle, size)
ON_HANDLE(int, fsync, "sync", (int handle), handle)
ON_HANDLE(int, fdatasync, "sync", (int handle), handle)
ON_HANDLE(int, syncfs, "sync", (int handle), handle)

#define ON_NAME(name, what, declared, dir, path, ...)                                \
    static void *real_##name;                                                        \
    int name declared {                                                              \
        if (refused_at(what, dir, path)) return -1;                                  \
        passing++;                                                                   \
        int done = REAL(name)(__VA_ARGS__);                                          \
        passing--;                                                                   \
        return done;                                                                 \
    }
ON_NAME(rename, "rename", (const char *old, const char *new), AT_FDCWD, new, old, new)
ON_NAME(renameat, "rename", (int from, const char *old, int to, const char *new), to, new, from, old, to, new)
ON_NAME(renameat2, "rename", (int from, const char *old, int to, const char *new, unsigned int flags), to, new, from, old, to, new, flags)
ON_NAME(link, "link", (const char *old, const char *new), AT_FDCWD, new, old, new)
ON_NAME(linkat, "link", (int from, const char *old, int to, const char *new, int flags), to, new, from, old, to, new, flags)

static int exists(int at, const char *path) {
    int before = errno, found = faccessat(at, path, F_OK, 0) == 0;
    errno = before;
    return found;
}

static void *real_mkdir, *real_mkdirat;
int mkdir(const char *path, mode_t mode) {
    if (!exists(AT_FDCWD, path) && refused_at("mkdir", AT_FDCWD, path)) return -1;
    return REAL(mkdir)(path, mode);
}

int mkdirat(int at, const char *path, mode_t mode) {
    if (!exists(at, path) && refused_at("mkdir", at, path)) return -1;
    return REAL(mkdirat)(at, path, mode);
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define ARGUMENT(context, at) ((context)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10}[at]])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define ARGUMENT(context, at) ((context)->uc_mcontext.regs[at])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#endif

#ifdef ARCHITECTURE
/* The kernel sends SIGSYS in place of a bare renameat; the handler counts it, and carries it out as renameat2. */
static void on_rename(int number, siginfo_t *info, void *where) {
    (void)number, (void)info;
    ucontext_t *context = where;
    int from = ARGUMENT(context, 0), to = ARGUMENT(context, 2), before = errno;
    const char *old = (const char *)ARGUMENT(context, 1), *new = (const char *)ARGUMENT(context, 3);
    int failed = (!passing && refused_at("rename", to, new)) || syscall(SYS_renameat2, from, old, to, new, 0) != 0;
    RESULT(context) = failed ? -errno : 0;
    errno = before;
}

static void catch_bare_renames(void) {
    static int done;
    if (done++) return;
    struct sigaction action = {.sa_sigaction = on_rename, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof steps / sizeof *steps, .filter = steps};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}
#else
static void catch_bare_renames(void) {}
#endif

static void *real_copy_file_range;
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *there, size_t size, unsigned int flags) {
    return refused_open_file("write", to) ? -1 : REAL(copy_file_range)(from, at, to, there, size, flags);
}

static void *real_fopen, *real_fopen64, *real_fwrite, *real_fflush, *real_fclose;
FILE *fopen(const char *path, const char *mode) {
    if (strpbrk(mode, "wa+") && refused_at("create", AT_FDCWD, path)) return NULL;
    return REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
    if (strpbrk(mode, "wa+") && refused_at("create", AT_FDCWD, path)) return NULL;
    return REAL(fopen64)(path, mode);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    return refused_stream("write", stream) ? 0 : REAL(fwrite)(data, size, count, stream);
}

int fflush(FILE *stream) {
    return stream && refused_stream("write", stream) ? EOF : REAL(fflush)(stream);
}

int fclose(FILE *stream) {
    int lost = refused_stream("close", stream);
    if (lost) __fpurge(stream);
    int closed = REAL(fclose)(stream);
    if (lost) errno = failure;
    return lost ? EOF : closed;
}
