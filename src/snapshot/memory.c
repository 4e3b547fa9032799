#include "snapshot/memory.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"
#include "vm/migrate.h"
#include "vm/ramfile.h"
#include "vm/topology.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

/* What QEMU writes beside the guest's memory: video memory, the devices' state. */
#define BESIDE_BYTES   (64 * MIB)
#define FLUSH_EVERY_US (20 * 1000)

gboolean
memory_check_room(const ModelDomain *live, const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    guint64 need = live->memory_kib * KIB + BESIDE_BYTES;
    FdUsage usage;

    if (!fd_usage(folder, &usage, error))
        return FALSE;
    if (usage.available_bytes >= need)
        return TRUE;
    g_autofree char *wanted = num_format_size(need), *there = num_format_size(usage.available_bytes);
    return fail(error, KHO_ERROR_NO_SPACE, "the memory of machine '%s' may need %s, and %s has %s left",
                live->name, wanted, folder, there);
}

/* ---- writing back all the while ---- */

typedef struct {
    GArray *fds;
    GMutex lock;
    GCond woken;
    gboolean over; /* under @lock */
    GThread *thread;
} Flusher;

static gpointer
flush_all_the_while(gpointer data)
{
    Flusher *flusher = data;

    g_mutex_lock(&flusher->lock);
    while (!flusher->over) {
        g_mutex_unlock(&flusher->lock);
        /* what fails here fails again when it counts */
        for (guint i = 0; i < flusher->fds->len; i++)
            fd_sync_data(g_array_index(flusher->fds, int, i), "", NULL);
        g_mutex_lock(&flusher->lock);
        if (!flusher->over)
            g_cond_wait_until(&flusher->woken, &flusher->lock, g_get_monotonic_time() + FLUSH_EVERY_US);
    }
    g_mutex_unlock(&flusher->lock);
    return NULL;
}

static gboolean
flusher_add(Flusher *flusher, const char *path, GError **error)
{
    int fd = fd_open(path, O_RDONLY, 0, error);

    if (fd >= 0)
        g_array_append_val(flusher->fds, fd);
    return fd >= 0;
}

static void
flusher_stop(Flusher *flusher)
{
    if (!flusher->thread)
        return;
    g_mutex_lock(&flusher->lock);
    flusher->over = TRUE;
    g_cond_signal(&flusher->woken);
    g_mutex_unlock(&flusher->lock);
    g_thread_join(g_steal_pointer(&flusher->thread));
}

static gboolean
flusher_start(Flusher *flusher, const MemoryWrite *write, GError **error)
{
    flusher->fds = g_array_new(FALSE, FALSE, sizeof(int));
    if (!flusher_add(flusher, write->path, error))
        return FALSE;
    for (guint i = 0; i < write->also->len; i++)
        if (!flusher_add(flusher, write->also->pdata[i], error))
            return FALSE;
    g_mutex_init(&flusher->lock);
    g_cond_init(&flusher->woken);
    flusher->thread = g_thread_new("flush", flush_all_the_while, flusher);
    return TRUE;
}

/* The last of it, which counts. */
static gboolean
flusher_finish(Flusher *flusher, const MemoryWrite *write, GError **error)
{
    flusher_stop(flusher);
    for (guint i = 0; i < flusher->fds->len; i++) {
        const char *path = i == 0 ? write->path : write->also->pdata[i - 1];
        if (!fd_sync(g_array_index(flusher->fds, int, i), path, error))
            return FALSE;
    }
    return fd_sync_parent(write->path, error);
}

static void
flusher_clear(Flusher *flusher)
{
    flusher_stop(flusher);
    for (guint i = 0; flusher->fds && i < flusher->fds->len; i++)
        fd_clear(&g_array_index(flusher->fds, int, i));
    g_clear_pointer(&flusher->fds, g_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Flusher, flusher_clear)

/* ---- writing ---- */

static VmSaveHead *
make_head(VmClient *client, const MemoryWrite *write, GError **error)
{
    g_autoptr(VmSaveHead) head = vm_savehead_new();

    head->paused = !write->running;
    head->snapshot = TRUE;
    head->saved_ms = write->saved_ms;
    head->live_xml = vm_topology_pin_xml(client, write->live_xml, error);
    if (!head->live_xml || !vm_topology_version(client, &head->qemu_version, error))
        return NULL;
    return g_steal_pointer(&head);
}

gboolean
memory_write(VmClient *client, const MemoryWrite *write, VmSaveHead **head, const KhoJob *job, GError **error)
{
    g_autoptr(VmSaveHead) made = make_head(client, write, error);
    g_auto(Flusher) flusher = { 0 };

    if (!made || !vm_ramfile_make(write->path, made, error) || !flusher_start(&flusher, write, error)
        || !vm_migrate_out(client, write->path, made->stream_off, job, error)
        || !flusher_finish(&flusher, write, error))
        return FALSE;
    *head = g_steal_pointer(&made);
    return TRUE;
}

/* Whether the file is the one that was made at @saved_ms, however far it came. Nothing was there when that
 * was decided. */
static gboolean
is_own(const char *path, gint64 saved_ms)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(VmSaveHead) head = vm_ramfile_read_any(path, &why);
    GStatBuf st;

    if (head)
        return head->saved_ms == saved_ms;
    return g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT) || (g_stat(path, &st) == 0 && st.st_size == 0);
}

gboolean
memory_take_back(const char *path, gint64 saved_ms, GError **error)
{
    return !is_own(path, saved_ms) || (fd_unlink(path, error) && fd_sync_parent(path, error));
}

gboolean
memory_finish(const char *path, VmSaveHead *head, GError **error)
{
    g_autoptr(VmSaveHead) found = head ? NULL : vm_ramfile_read_any(path, error);
    VmSaveHead *known = head ? head : found;

    if (!known)
        return FALSE;
    return known->whole || vm_ramfile_finish(path, known, NULL, NULL, error);
}
