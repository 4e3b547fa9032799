#include "block/nbd_link.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"
#include "base/sock.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <string.h>

#define LIBNBD_NAME "libnbd.so.0"
#define LIBNBD_CALLS(CALL)                                                                                   \
    CALL(nbd_add_meta_context)                                                                               \
    CALL(nbd_aio_block_status)                                                                               \
    CALL(nbd_aio_command_completed)                                                                          \
    CALL(nbd_aio_connect_socket)                                                                             \
    CALL(nbd_aio_connect_tcp)                                                                                \
    CALL(nbd_aio_disconnect)                                                                                 \
    CALL(nbd_aio_flush)                                                                                      \
    CALL(nbd_aio_is_closed)                                                                                  \
    CALL(nbd_aio_is_dead)                                                                                    \
    CALL(nbd_aio_is_ready)                                                                                   \
    CALL(nbd_aio_pread)                                                                                      \
    CALL(nbd_aio_pwrite)                                                                                     \
    CALL(nbd_aio_trim)                                                                                       \
    CALL(nbd_aio_zero)                                                                                       \
    CALL(nbd_can_flush)                                                                                      \
    CALL(nbd_can_meta_context)                                                                               \
    CALL(nbd_can_multi_conn)                                                                                 \
    CALL(nbd_can_trim)                                                                                       \
    CALL(nbd_can_zero)                                                                                       \
    CALL(nbd_close)                                                                                          \
    CALL(nbd_create)                                                                                         \
    CALL(nbd_get_block_size)                                                                                 \
    CALL(nbd_get_errno)                                                                                      \
    CALL(nbd_get_error)                                                                                      \
    CALL(nbd_get_size)                                                                                       \
    CALL(nbd_is_read_only)                                                                                   \
    CALL(nbd_poll)                                                                                           \
    CALL(nbd_set_export_name)                                                                                \
    CALL(nbd_set_pread_initialize)

#define CALL(name) __typeof__(name) *name;
static struct {
    LIBNBD_CALLS(CALL)
} libnbd;
#undef CALL

/* How often a wait looks at the cancel flag. */
#define TICK_MS 100
/* A server that is to be told goodbye gets no longer than this. */
#define GOODBYE_MS 500
/* As the protocol has it where the server says nothing: 1 and 32 MiB. More than 2 MiB at a time gains
 * nothing, and delays a cancel. */
#define REQUEST_BYTES_MAX ((guint64) 2 << 20)
#define BLOCK_BYTES_MAX   65536

struct NbdLink {
    struct nbd_handle *handle;
    NbdTerms terms;
    NbdDisk disk;
    int answer;      /* to the last request: 1, or -1 with libnbd's error */
    gboolean broken; /* a request was given up: its answer may still come, into memory that is gone */
};

static gpointer
load_libnbd(gpointer data)
{
    void *library = dlopen(LIBNBD_NAME, RTLD_NOW | RTLD_LOCAL);
    gboolean whole = library != NULL;

#define CALL(name)                                                                                           \
    libnbd.name = library ? (__typeof__(name) *) dlsym(library, #name) : NULL;                               \
    whole = whole && libnbd.name;
    LIBNBD_CALLS(CALL)
#undef CALL
    return GINT_TO_POINTER(whole);
}

/* libnbd's own words without the name of its function. */
static char *
last_words(void)
{
    const char *text = libnbd.nbd_get_error();
    const char *rest = text ? strstr(text, ": ") : NULL;

    return error_one_line(rest && g_str_has_prefix(text, "nbd_") ? rest + 2
                          : text                                 ? text
                                                                 : "no reason given");
}

static gboolean
is_ended(NbdLink *link)
{
    return libnbd.nbd_aio_is_dead(link->handle) > 0 || libnbd.nbd_aio_is_closed(link->handle) > 0;
}

/* Lets the connection work until @done says so. FALSE: given up, and the connection is of no use any more. */
static gboolean
work_until(NbdLink *link, gboolean (*done)(NbdLink *link, gint64 cookie), gint64 cookie, GError **error)
{
    const NbdTerms *terms = &link->terms;
    gint64 deadline_ms = clock_now_ms() + terms->patience_ms;

    while (!done(link, cookie)) {
        int left_ms = deadline_left(deadline_ms);

        if (terms->cancelled && g_atomic_int_get(terms->cancelled)) {
            link->broken = TRUE;
            return fail(error, KHO_ERROR_CANCELLED, "cancelled while waiting for %s", terms->label);
        }
        if (left_ms == 0) {
            link->broken = TRUE;
            return fail(error, KHO_ERROR_TIMEOUT,
                        "%s: its server has not answered for %" G_GINT64_FORMAT
                        " s and is given up: see whether it runs and can be reached",
                        terms->label, MAX(terms->patience_ms / 1000, 1));
        }
        libnbd.nbd_poll(link->handle, MIN(left_ms, TICK_MS)); /* a failure shows in the state */
    }
    return TRUE;
}

static gboolean
is_connected(NbdLink *link, gint64 cookie)
{
    return libnbd.nbd_aio_is_ready(link->handle) > 0 || is_ended(link);
}

static gboolean
is_answered(NbdLink *link, gint64 cookie)
{
    link->answer = libnbd.nbd_aio_command_completed(link->handle, (guint64) cookie);
    return link->answer != 0;
}

static gboolean
fail_connect(const NbdTerms *terms, GError **error)
{
    g_autofree char *why = last_words();
    int errno_value = libnbd.nbd_get_errno();
    KhoErrorCode code = errno_value == ECONNREFUSED ? KHO_ERROR_NOT_FOUND
                        : errno_value               ? error_code_of_errno(errno_value)
                                                    : KHO_ERROR_IO;

    return fail(error, code, "cannot connect to %s: %s", terms->label, why);
}

/* The path may be longer than an address of a socket holds. */
static int
connect_unix(const char *path, gint64 deadline_ms, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    fd_auto int dirfd = fd_open(folder, O_RDONLY | O_DIRECTORY, 0, error);

    return dirfd < 0 ? -1 : sock_connect(dirfd, name, deadline_ms, error);
}

static gboolean
connect_to(NbdLink *link, const NbdAddress *address, int fd, GError **error)
{
    struct nbd_handle *handle = link->handle;
    fd_auto int owned = fd;
    int begun;

    if (libnbd.nbd_set_export_name(handle, address->export_name) < 0
        || libnbd.nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0
        || libnbd.nbd_set_pread_initialize(handle, false) < 0)
        return fail_connect(&link->terms, error);
    if (owned < 0 && address->socket) {
        owned = connect_unix(address->socket, clock_now_ms() + link->terms.patience_ms, error);
        if (owned < 0) {
            g_prefix_error(error, "cannot connect to %s: ", link->terms.label);
            return FALSE;
        }
    }
    if (owned >= 0)
        begun = libnbd.nbd_aio_connect_socket(handle, fd_steal(&owned));
    else
        begun = libnbd.nbd_aio_connect_tcp(handle, address->host, address->port);
    if (begun < 0)
        return fail_connect(&link->terms, error);
    if (!work_until(link, is_connected, 0, error))
        return FALSE;
    return !is_ended(link) || fail_connect(&link->terms, error);
}

/* Reads what the server said; FALSE where it makes no sense. */
static gboolean
ask_disk(NbdLink *link, GError **error)
{
    struct nbd_handle *handle = link->handle;
    gint64 bytes = libnbd.nbd_get_size(handle);
    gint64 block = libnbd.nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
    gint64 most = libnbd.nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);

    if (bytes < 0 || (guint64) bytes > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID, "%s says no size that a disk can have", link->terms.label);
    block = MAX(block, 1);
    if (block > BLOCK_BYTES_MAX || !num_is_pow2((guint64) block) || (most > 0 && most < block))
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s wants requests of %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT " bytes",
                    link->terms.label, block, most);
    guint64 request = most > 0 ? MIN((guint64) most, REQUEST_BYTES_MAX) : REQUEST_BYTES_MAX;
    link->disk = (NbdDisk){
        .bytes = (guint64) bytes,
        .block_bytes = (guint32) block,
        .request_bytes = (guint32) num_align_down(request, (guint64) block),
        .writable = libnbd.nbd_is_read_only(handle) == 0,
        .many_connections = libnbd.nbd_can_multi_conn(handle) > 0,
        .can_flush = libnbd.nbd_can_flush(handle) > 0,
        .can_zero = libnbd.nbd_can_zero(handle) > 0,
        .can_trim = libnbd.nbd_can_trim(handle) > 0,
        .has_extents = libnbd.nbd_can_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0,
    };
    return TRUE;
}

NbdLink *
nbd_link_open(const NbdAddress *address, int fd, const NbdTerms *terms, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    fd_auto int owned = fd;

    if (!g_once(&once, load_libnbd, NULL)) {
        fail(error, KHO_ERROR_UNSUPPORTED, "%s cannot be opened without %s: install the package libnbd0",
             terms->label, LIBNBD_NAME);
        return NULL;
    }
    g_autoptr(NbdLink) link = g_new0(NbdLink, 1);
    link->terms = *terms;
    link->handle = libnbd.nbd_create();
    if (!link->handle) {
        fail_connect(terms, error);
        return NULL;
    }
    if (!connect_to(link, address, fd_steal(&owned), error) || !ask_disk(link, error))
        return NULL;
    return g_steal_pointer(&link);
}

const NbdDisk *
nbd_link_disk(const NbdLink *link)
{
    return &link->disk;
}

static gboolean
fail_request(NbdLink *link, const char *verb, guint64 off, GError **error)
{
    int errno_value = libnbd.nbd_get_errno();

    if (is_ended(link)) {
        link->broken = TRUE;
        return fail(error, KHO_ERROR_IO,
                    "cannot %s %s at byte %" G_GUINT64_FORMAT ": the server ended the connection", verb,
                    link->terms.label, off);
    }
    return fail_errno(error, errno_value ? errno_value : EIO, "cannot %s %s at byte %" G_GUINT64_FORMAT, verb,
                      link->terms.label, off);
}

/* Follows a request that was sent as @cookie (-1: it could not be) to its answer. */
static gboolean
finish(NbdLink *link, gint64 cookie, const char *verb, guint64 off, GError **error)
{
    if (cookie < 0)
        return fail_request(link, verb, off, error);
    return work_until(link, is_answered, cookie, error)
           && (link->answer > 0 || fail_request(link, verb, off, error));
}

gboolean
nbd_link_read(NbdLink *link, guint64 off, void *buf, gsize len, GError **error)
{
    gint64 cookie = libnbd.nbd_aio_pread(link->handle, buf, len, off, NBD_NULL_COMPLETION, 0);

    return finish(link, cookie, "read", off, error);
}

gboolean
nbd_link_write(NbdLink *link, guint64 off, const void *buf, gsize len, GError **error)
{
    gint64 cookie = libnbd.nbd_aio_pwrite(link->handle, buf, len, off, NBD_NULL_COMPLETION, 0);

    return finish(link, cookie, "write", off, error);
}

gboolean
nbd_link_zero(NbdLink *link, guint64 off, guint64 len, gboolean keep_space, GError **error)
{
    guint32 flags = keep_space ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
    gint64 cookie = libnbd.nbd_aio_zero(link->handle, len, off, NBD_NULL_COMPLETION, flags);

    return finish(link, cookie, "zero", off, error);
}

gboolean
nbd_link_trim(NbdLink *link, guint64 off, guint64 len, GError **error)
{
    gint64 cookie = libnbd.nbd_aio_trim(link->handle, len, off, NBD_NULL_COMPLETION, 0);

    return finish(link, cookie, "trim", off, error);
}

gboolean
nbd_link_flush(NbdLink *link, GError **error)
{
    if (!link->disk.can_flush) /* such a server has nothing to flush */
        return TRUE;
    return finish(link, libnbd.nbd_aio_flush(link->handle, NBD_NULL_COMPLETION, 0), "flush", 0, error);
}

/* What the server's answer is collected in. A request that was given up is never answered: nobody polls a
 * broken connection. */
typedef struct {
    GArray *extents;
    guint64 rest; /* of what was asked for */
} Collector;

/* Pairs of length and flags. */
static int
collect(void *data, const char *context, uint64_t off, uint32_t *entries, size_t n, int *errno_value)
{
    Collector *collector = data;

    if (!g_str_equal(context, LIBNBD_CONTEXT_BASE_ALLOCATION))
        return 0;
    for (size_t i = 0; i + 1 < n && collector->rest > 0 && entries[i] > 0; i += 2) {
        NbdExtent extent = { MIN(entries[i], collector->rest), (entries[i + 1] & LIBNBD_STATE_ZERO) != 0 };
        g_array_append_val(collector->extents, extent);
        collector->rest -= extent.bytes;
    }
    return 0;
}

gboolean
nbd_link_extents(NbdLink *link, guint64 off, guint64 len, GArray *extents, GError **error)
{
    Collector collector = { .extents = extents, .rest = len };
    nbd_extent_callback callback = { .callback = collect, .user_data = &collector };
    gint64 cookie = libnbd.nbd_aio_block_status(link->handle, len, off, callback, NBD_NULL_COMPLETION, 0);

    if (!finish(link, cookie, "map", off, error))
        return FALSE;
    return collector.rest < len
           || fail(error, KHO_ERROR_IO,
                   "%s: the server says nothing of its extents at byte %" G_GUINT64_FORMAT, link->terms.label,
                   off);
}

gboolean
nbd_link_is_broken(NbdLink *link)
{
    return link->broken || is_ended(link);
}

static gboolean
is_gone(NbdLink *link, gint64 cookie)
{
    return is_ended(link);
}

void
nbd_link_free(NbdLink *link)
{
    if (link->handle && !link->broken && libnbd.nbd_aio_is_ready(link->handle) > 0) {
        link->terms.patience_ms = GOODBYE_MS;
        link->terms.cancelled = NULL;
        if (libnbd.nbd_aio_disconnect(link->handle, 0) >= 0)
            work_until(link, is_gone, 0, NULL);
    }
    if (link->handle)
        libnbd.nbd_close(link->handle);
    g_free(link);
}
