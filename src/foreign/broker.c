#include "foreign/broker.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGE_BYTES 4096

/* Read by any program that is started: libraries, their settings, what QEMU probes. Whoever may write there
 * is root. */
static const char *const system_paths[] = {
    "/usr/",     "/lib/",     "/lib64/",      "/etc/ld.so.cache", "/etc/gnutls/",          "/etc/ssl/",
    "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random",      "/etc/crypto-policies/",
};
/* Not there, as far as such a program can tell: what tells of processes and of the machine. */
static const char *const hidden_paths[] = { "/proc/", "/sys/", "/etc/ld.so.preload" };

struct Broker {
    int listener, stop_read, stop_write;
    GThread *thread;
    char *path;
    int fd;
    gboolean writable;
    gboolean (*admit)(const char *path, gpointer data, GError **error);
    gboolean (*claim)(int fd, const char *path, gboolean writes, gpointer data, GError **error);
    gpointer data;

    GMutex mutex;
    /* Under mutex. */
    gboolean sealed;
    GHashTable *admitted; /* paths */
    GError *refusal;
};

/* A call that waits for its answer; either kind of notification of the kernel's fits. */
typedef struct {
    struct seccomp_notif call;
    guint8 more[256];
} Request;

static gboolean
is_listed(const char *const *list, gsize n, const char *path)
{
    for (gsize i = 0; i < n; i++)
        if (g_str_has_suffix(list[i], "/") ? g_str_has_prefix(path, list[i]) : g_str_equal(path, list[i]))
            return TRUE;
    return FALSE;
}

/* The text at @address of the program, page by page, since what follows its end may not be there. */
static char *
read_text(pid_t pid, guint64 address)
{
    g_autofree char *text = g_malloc0(PATH_MAX + 1);
    gsize have = 0;

    while (have < PATH_MAX) {
        gsize most = MIN(PATH_MAX - have, PAGE_BYTES - (address + have) % PAGE_BYTES);
        struct iovec here = { text + have, most };
        struct iovec there = { (void *) (guintptr) (address + have), most };
        gssize n = process_vm_readv(pid, &here, 1, &there, 1, 0);

        if (n <= 0)
            return NULL;
        have += (gsize) n;
        if (memchr(text + have - n, '\0', (gsize) n))
            return g_steal_pointer(&text);
    }
    return NULL;
}

typedef struct {
    char *path;
    int flags;
} Wish;

/* What the call asks for. */
static gboolean
read_wish(const struct seccomp_notif *call, Wish *wish)
{
    const guint64 *args = (const guint64 *) call->data.args;
    gboolean has_folder = TRUE;

    switch (call->data.nr) {
#ifdef SYS_open
    case SYS_open:
        has_folder = FALSE;
        wish->flags = (int) args[1];
        break;
#endif
    case SYS_openat: wish->flags = (int) args[2]; break;
    default: return FALSE; /* creat makes files; nothing that runs here takes openat2 */
    }
    wish->path = read_text((pid_t) call->pid, args[has_folder ? 1 : 0]);
    return wish->path != NULL;
}

static int
open_again(int fd, int flags, GError **error)
{
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%d", fd);

    return fd_open(name, flags, 0, error);
}

/* Asks the gate once for each path, and not at all when the image is open. The mutex is held meanwhile, so
 * that nobody seals, and takes the gate away, while it decides. */
static gboolean
is_admitted_locked(Broker *broker, const char *path)
{
    g_autoptr(GError) why = NULL;

    if (broker->sealed || g_hash_table_contains(broker->admitted, path))
        return g_hash_table_contains(broker->admitted, path);
    if (broker->admit ? broker->admit(path, broker->data, &why)
                      : fail(&why, KHO_ERROR_DENIED, "%s names %s, and nothing beside it may be opened here",
                             broker->path, path)) {
        g_hash_table_add(broker->admitted, g_strdup(path));
        return TRUE;
    }
    if (!broker->refusal)
        broker->refusal = g_steal_pointer(&why);
    return FALSE;
}

static gboolean
is_admitted(Broker *broker, const char *path)
{
    g_mutex_lock(&broker->mutex);
    gboolean good = is_admitted_locked(broker, path);
    g_mutex_unlock(&broker->mutex);
    return good;
}

/* A file that the image names: as with backing files, nothing but files and disks. When the image is open it
 * is claimed already, by the daemon's first descriptor of it. */
static int
open_named(Broker *broker, const char *path, int flags)
{
    fd_auto int fd = fd_open(path, flags | O_NONBLOCK | O_NOCTTY, 0, NULL);
    g_autoptr(GError) why = NULL;
    guint64 bytes;

    if (fd < 0 || !fd_size(fd, &bytes, path, NULL))
        return -1;
    g_mutex_lock(&broker->mutex);
    gboolean good = broker->sealed || !broker->claim
                    || broker->claim(fd, path, (flags & O_ACCMODE) != O_RDONLY, broker->data, &why);
    if (!good && !broker->refusal)
        broker->refusal = g_steal_pointer(&why);
    g_mutex_unlock(&broker->mutex);
    return good ? fd_steal(&fd) : -1;
}

/* The descriptor that answers the wish, or -1 with *errno_value. */
static int
grant(Broker *broker, const Wish *wish, int *errno_value)
{
    const int kept = O_ACCMODE | O_DSYNC | O_SYNC | O_DIRECT | O_NOATIME;
    gboolean writes = (wish->flags & O_ACCMODE) != O_RDONLY;
    int flags = wish->flags & kept;
    int fd = -1;

    *errno_value = EACCES;
    if (!g_path_is_absolute(wish->path) || (wish->flags & (O_CREAT | O_TRUNC | O_PATH)))
        return -1;
    g_autofree char *path = g_canonicalize_filename(wish->path, "/");
    if (g_str_equal(path, broker->path))
        return writes && !broker->writable ? -1 : open_again(broker->fd, flags, NULL);
    if (is_listed(hidden_paths, G_N_ELEMENTS(hidden_paths), path)) {
        *errno_value = ENOENT;
        return -1;
    }
    if (is_listed(system_paths, G_N_ELEMENTS(system_paths), path)) {
        gboolean null = g_str_equal(path, "/dev/null");
        fd = writes && !null ? -1 : fd_open(path, (wish->flags & O_DIRECTORY) | flags, 0, NULL);
        *errno_value = ENOENT; /* what is not found is looked for elsewhere */
        return fd;
    }
    if ((writes && !broker->writable) || !is_admitted(broker, path))
        return -1;
    fd = open_named(broker, path, flags);
    if (fd < 0)
        *errno_value = g_file_test(path, G_FILE_TEST_EXISTS) ? EACCES : ENOENT;
    return fd;
}

static void
answer(Broker *broker, guint64 id, int fd, gboolean close_on_exec, int errno_value)
{
    if (fd >= 0) {
        struct seccomp_notif_addfd give = { .id = id,
                                            .flags = SECCOMP_ADDFD_FLAG_SEND,
                                            .srcfd = (guint32) fd,
                                            .newfd_flags = close_on_exec ? O_CLOEXEC : 0 };
        if (ioctl(broker->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give) >= 0)
            return;
        errno_value = EMFILE;
    }
    struct seccomp_notif_resp refuse = { .id = id, .error = -errno_value };
    if (ioctl(broker->listener, SECCOMP_IOCTL_NOTIF_SEND, &refuse) != 0)
        g_debug("the program that was to be answered is gone");
}

static void
serve(Broker *broker)
{
    Request request = { 0 };
    Wish wish = { 0 };
    int errno_value = EACCES;

    if (ioctl(broker->listener, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0)
        return;
    gboolean clear = read_wish(&request.call, &wish);
    /* Only now it is sure that the number meant that process still when its memory was read. */
    if (clear && ioctl(broker->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &request.call.id) != 0)
        clear = FALSE;
    fd_auto int fd = clear ? grant(broker, &wish, &errno_value) : -1;
    answer(broker, request.call.id, fd, (wish.flags & O_CLOEXEC) != 0, errno_value);
    g_free(wish.path);
}

static gpointer
work(gpointer data)
{
    Broker *broker = data;

    for (;;) {
        struct pollfd polls[] = { { .fd = broker->listener, .events = POLLIN },
                                  { .fd = broker->stop_read, .events = POLLIN } };

        if (poll(polls, G_N_ELEMENTS(polls), -1) < 0 && errno != EINTR)
            break;
        if (polls[1].revents || (polls[0].revents & (POLLHUP | POLLERR)))
            break;
        if (polls[0].revents & POLLIN)
            serve(broker);
    }
    return NULL;
}

Broker *
broker_start(int listener, const BrokerSpec *spec, GError **error)
{
    g_autoptr(Broker) broker = g_new0(Broker, 1);

    g_mutex_init(&broker->mutex);
    broker->listener = listener;
    broker->stop_read = broker->stop_write = -1;
    broker->path = g_strdup(spec->path);
    broker->fd = spec->fd;
    broker->writable = spec->writable;
    broker->admit = spec->admit;
    broker->claim = spec->claim;
    broker->data = spec->data;
    broker->admitted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!pipe_make(&broker->stop_read, &broker->stop_write, error))
        return NULL;
    broker->thread = g_thread_try_new("broker", work, broker, error);
    return broker->thread ? g_steal_pointer(&broker) : NULL;
}

void
broker_seal(Broker *broker)
{
    g_mutex_lock(&broker->mutex);
    broker->sealed = TRUE;
    g_mutex_unlock(&broker->mutex);
}

GError *
broker_take_refusal(Broker *broker)
{
    g_mutex_lock(&broker->mutex);
    GError *refusal = g_steal_pointer(&broker->refusal);
    g_mutex_unlock(&broker->mutex);
    return refusal;
}

void
broker_free(Broker *broker)
{
    fd_clear(&broker->stop_write);
    if (broker->thread)
        g_thread_join(broker->thread);
    fd_clear(&broker->stop_read);
    fd_clear(&broker->listener);
    g_hash_table_unref(broker->admitted);
    g_clear_error(&broker->refusal);
    g_mutex_clear(&broker->mutex);
    g_free(broker->path);
    g_free(broker);
}
