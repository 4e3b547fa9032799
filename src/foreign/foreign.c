#include "foreign/foreign.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/sock.h"
#include "block/nbd.h"
#include "foreign/caged.h"
#include "foreign/monitor.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM "qemu-storage-daemon"
#define PACKAGE "qemu-system-common"
/* The daemon's ends. */
#define MONITOR_FD  3
#define LISTENER_FD 4
#define LINKS       4
/* What it has to say where it does not start. */
#define WORDS_MAX 65536
/* Its last act writes the image's tables. */
#define END_MS 60000

struct Foreign {
    char *format, *path;
    gboolean writable, alone, is_device;
    const KhoJob *job;
    Caged caged;
    Monitor *monitor;
    int links[LINKS]; /* connected to the daemon; -1 where the store has them */
    int words;        /* what it prints */
};

/* Sockets without a name: a listening one, and callers that wait in its queue. The name that they need for a
 * moment is in a folder of this user's alone, and gone before the daemon starts. */
static int
make_sockets(int links[LINKS], GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *folder = g_dir_make_tmp("kho-XXXXXX", &cause);

    if (!folder) {
        fail(error, KHO_ERROR_IO, "%s", cause->message);
        return -1;
    }
    fd_auto int dirfd = fd_open(folder, O_RDONLY | O_DIRECTORY, 0, error);
    fd_auto int listener = dirfd >= 0 ? sock_listen(dirfd, "nbd", error) : -1;
    gboolean good = listener >= 0;

    for (int i = 0; good && i < LINKS; i++)
        good = (links[i] = sock_connect(dirfd, "nbd", deadline_in(1000), error)) >= 0;
    if (listener >= 0)
        entry_unlink(dirfd, "nbd", folder, NULL);
    entry_remove_folder(folder, NULL);
    return good ? fd_steal(&listener) : -1;
}

/* The daemon, caged, with its broker. */
static gboolean
launch(Foreign *foreign, const ForeignSpec *spec, int listener, int monitor, GError **error)
{
    g_autofree char *server =
        g_strdup_printf("addr.type=fd,addr.str=%d,max-connections=%d", LISTENER_FD, LINKS);
    g_autofree char *chardev = g_strdup_printf("socket,id=monitor,fd=%d", MONITOR_FD);
    const char *argv[] = { PROGRAM,           "--chardev",    chardev, "--monitor",
                           "chardev=monitor", "--nbd-server", server,  NULL };
    const SpawnFd fds[] = { { foreign->words, 2 }, { monitor, MONITOR_FD }, { listener, LISTENER_FD } };
    const SpawnSpec start = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds) };
    const BrokerSpec rules = { .path = spec->path,
                               .fd = spec->fd,
                               .writable = spec->writable,
                               .admit = spec->admit,
                               .claim = spec->claim,
                               .data = spec->data };

    return caged_start(&foreign->caged, &start, PACKAGE, &rules, error);
}

/* The last line that the daemon printed. */
static gboolean
fail_start(Foreign *foreign, GError *cause, GError **error)
{
    gsize len = 0;
    g_autofree char *text = fd_seek(foreign->words, 0, PROGRAM, NULL)
                                ? fd_read_all(foreign->words, WORDS_MAX, &len, PROGRAM, NULL)
                                : NULL;

    if (!text || len == 0) {
        g_propagate_error(error, cause);
        return FALSE;
    }
    g_error_free(cause);
    g_autofree char *shown = error_one_line(text);
    return fail(error, KHO_ERROR_UNSUPPORTED, "%s: cannot start %s: %s", foreign->path, PROGRAM, shown);
}

static gboolean
tell(Foreign *foreign, const char *command, json_t *arguments, GError **error)
{
    json_auto json_t *answer = monitor_ask(foreign->monitor, command, arguments, error);

    return answer != NULL;
}

/* The node of the file. Its locks are taken by kho, on the descriptor that the daemon's is a copy of. */
static gboolean
add_file(Foreign *foreign, GError **error)
{
    json_t *node =
        json_pack("{s:s,s:s,s:s,s:b,s:s}", "driver", foreign->is_device ? "host_device" : "file", "node-name",
                  "file", "locking", "off", "read-only", !foreign->writable, "discard", "unmap");

    if (!g_utf8_validate(foreign->path, -1, NULL)) {
        json_decref(node);
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s: its name is not UTF-8, and QEMU is not told of others: give it another name",
                    foreign->path);
    }
    json_set_string(node, "filename", foreign->path);
    return tell(foreign, "blockdev-add", node, error);
}

Foreign *
foreign_start(const ForeignSpec *spec, GError **error)
{
    g_autoptr(Foreign) foreign = g_new0(Foreign, 1);
    g_autoptr(GError) cause = NULL;
    fd_auto int ours = -1;
    fd_auto int theirs = -1;
    struct stat st;

    for (int i = 0; i < LINKS; i++)
        foreign->links[i] = -1;
    foreign->caged.child.pidfd = -1;
    foreign->format = g_strdup(spec->format);
    foreign->path = g_strdup(spec->path);
    foreign->writable = spec->writable;
    foreign->alone = spec->alone;
    foreign->job = spec->job;
    foreign->words = pipe_memory(PROGRAM, "", 0, error);
    if (foreign->words < 0 || !fd_stat(spec->fd, &st, spec->path, error) || !sock_pair(&ours, &theirs, error))
        return NULL;
    foreign->is_device = S_ISBLK(st.st_mode);
    fd_auto int listener = make_sockets(foreign->links, error);
    if (listener < 0 || !launch(foreign, spec, listener, theirs, error))
        return NULL;
    fd_clear(&theirs);
    foreign->monitor = monitor_new(fd_steal(&ours), spec->path, spec->job ? spec->job->cancelled : NULL);
    if (!monitor_greet(foreign->monitor, &cause)) {
        fail_start(foreign, g_steal_pointer(&cause), error);
        return NULL;
    }
    return add_file(foreign, error) ? g_steal_pointer(&foreign) : NULL;
}

gboolean
foreign_make(Foreign *foreign, guint64 size_bytes, const char *const *options, GError **error)
{
    json_t *create = foreign_format_create_options(foreign->format, size_bytes, options, error);

    return create
           && monitor_run_job(foreign->monitor, "blockdev-create", json_pack("{s:o}", "options", create),
                              "make", error);
}

/* What the broker refused says more than what QEMU made of it. */
static gboolean
fail_open(Foreign *foreign, GError *cause, GError **error)
{
    GError *refusal = broker_take_refusal(foreign->caged.broker);

    if (refusal && cause->code == KHO_ERROR_INVALID) {
        g_error_free(cause);
        cause = refusal;
    } else {
        g_clear_error(&refusal);
        if (strstr(cause->message, "Failed to get \""))
            cause->code = KHO_ERROR_BUSY;
    }
    g_propagate_error(error, cause);
    return FALSE;
}

static gboolean
add_disk(Foreign *foreign, GError **error)
{
    g_autoptr(GError) cause = NULL;
    json_t *node = json_pack("{s:s,s:s,s:s,s:b,s:s}", "driver", foreign->format, "node-name", "disk", "file",
                             "file", "read-only", !foreign->writable, "discard", "unmap");
    json_t *export = json_pack("{s:s,s:s,s:s,s:s,s:b}", "type", "nbd", "id", "disk", "node-name", "disk",
                               "name", "", "writable", foreign->writable);

    if (foreign->alone && foreign_format_has_backing(foreign->format))
        json_object_set_new(node, "backing", json_null());
    if (tell(foreign, "blockdev-add", node, &cause))
        return tell(foreign, "block-export-add", export, error);
    json_decref(export);
    return fail_open(foreign, g_steal_pointer(&cause), error);
}

BlkStore *
foreign_open(Foreign *foreign, GError **error)
{
    int links[LINKS];

    gboolean added = add_disk(foreign, error);
    broker_seal(foreign->caged.broker);
    if (!added)
        return NULL;
    for (int i = 0; i < LINKS; i++)
        links[i] = fd_steal(&foreign->links[i]);
    return blk_nbd_over(links, LINKS, foreign->path, foreign->writable, foreign->job, error);
}

json_t *
foreign_info(Foreign *foreign, GError **error)
{
    json_auto json_t *nodes =
        monitor_ask(foreign->monitor, "query-named-block-nodes", json_pack("{s:b}", "flat", TRUE), error);
    json_t *node;
    gsize i;

    if (!nodes)
        return NULL;
    json_array_foreach (nodes, i, node) {
        json_t *image = json_object_get(node, "image");
        if (image && g_str_equal(json_string_or(node, "node-name", ""), "disk"))
            return json_incref(image);
    }
    fail(error, KHO_ERROR_IO, "%s: the storage daemon says nothing of it", foreign->path);
    return NULL;
}

gboolean
foreign_resize(Foreign *foreign, guint64 bytes, GError **error)
{
    /* An export lets nobody change the size. */
    return monitor_end_export(foreign->monitor, "disk", error)
           && tell(foreign, "block_resize",
                   json_pack("{s:s,s:I}", "node-name", "disk", "size", (json_int_t) bytes), error);
}

/* Asks it to end, which closes the image, and waits for that. */
static gboolean
end_daemon(Foreign *foreign, GError **error)
{
    gboolean ended = FALSE;
    int status = 0;

    if (!tell(foreign, "quit", NULL, error)
        || !proc_wait_end(foreign->caged.child.pidfd, deadline_in(END_MS), PROGRAM, error)
        || !proc_reap(foreign->caged.child.pid, &ended, &status, error))
        return FALSE;
    if (ended) {
        foreign->caged.child.pid = 0;
        fd_clear(&foreign->caged.child.pidfd);
    }
    if (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return TRUE;
    g_autofree char *shown = proc_status_text(status);
    return fail(error, KHO_ERROR_IO, "%s: the storage daemon that wrote it ended badly: %s", foreign->path,
                shown);
}

gboolean
foreign_end(Foreign *foreign, GError **error)
{
    gboolean good = !foreign->writable || end_daemon(foreign, error);

    foreign_free(foreign);
    return good;
}

void
foreign_free(Foreign *foreign)
{
    caged_clear(&foreign->caged);
    g_clear_pointer(&foreign->monitor, monitor_free);
    for (int i = 0; i < LINKS; i++)
        fd_clear(&foreign->links[i]);
    fd_clear(&foreign->words);
    g_free(foreign->format);
    g_free(foreign->path);
    g_free(foreign);
}
