/* Disks come under hidden names first; they get their own names when all of them are there and right; then
 * the machine is defined. A hidden name stays beside the disk's until the end: it proves whose the disk is.
 */
#include "backup/restore.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "model/domain.h"
#include "pool/formats.h"
#include "store/publish.h"
#include "store/tree.h"
#include "vm/definition.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <kho/image_convert.h>
#include <string.h>

/* Whoever records another volume's format is done in milliseconds. */
#define FORMATS_TIMEOUT_MS 5000

typedef struct {
    const StoreTree *tree;
    RestorePlan *plan;
} Restoring;

static gpointer
open_plan(const json_t *json, gpointer data, GError **error)
{
    RestorePlan *plan = restore_plan_from_json(json, error);

    if (!plan)
        return NULL;
    Restoring *restoring = g_new0(Restoring, 1);
    *restoring = (Restoring){ .tree = data, .plan = plan };
    return restoring;
}

static void
close_plan(gpointer context)
{
    Restoring *restoring = context;

    restore_plan_free(restoring->plan);
    g_free(restoring);
}

/* --- place-disks -----------------------------------------------------------------------------------------
 */

/* A file of the point is hashed by a thread of its own while its contents are copied: the disk is read once,
 * and the copy gets its name only if the hash is right. */
typedef struct {
    const RestoreDisk *disk;
    KhoJob job; /* without progress */
    GThread *thread;
    gboolean right;
    GError *why;
} Check;

static gpointer
check(gpointer data)
{
    Check *self = data;

    self->right = restore_check_file(self->disk, &self->job, &self->why);
    return NULL;
}

static void
check_start(Check *self)
{
    self->thread = g_thread_try_new("hash", check, self, NULL);
    if (!self->thread)
        check(self);
}

static void
check_wait(Check *self)
{
    g_clear_pointer(&self->thread, g_thread_join);
}

static gboolean
confirm(gpointer data, GError **error)
{
    Check *self = data;

    check_wait(self);
    if (!self->right)
        g_propagate_error(error, g_steal_pointer(&self->why));
    return self->right;
}

static gboolean
place_one(const RestoreDisk *disk, const KhoJob *job, GError **error)
{
    Check self = { .disk = disk, .job = { .cancelled = job ? job->cancelled : NULL } };
    KhoImageConvert convert = {
        .source_format = "qcow2",
        .target = { .format = disk->format, .mode = 0600 },
        .confirm = confirm,
        .confirm_data = &self,
    };
    g_autoptr(GError) why = NULL;

    check_start(&self);
    gboolean placed = kho_image_convert(disk->source, disk->hidden, &convert, NULL, job, &why);
    check_wait(&self);
    /* What a damaged file does to the copy is told by the damage. */
    if (!placed && self.why && self.why->code == KHO_ERROR_CORRUPT) {
        g_clear_error(&why);
        why = g_steal_pointer(&self.why);
    }
    if (!placed)
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk %s: ", disk->target);
    g_clear_error(&self.why);
    return placed;
}

/* Progress over all disks, in bytes of the points' files. */
typedef struct {
    const KhoJob *job;
    guint64 before, share; /* in parts of the whole */
    guint64 n;
} Whole;

static void
tell(guint64 done_bytes, guint64 total_bytes, gpointer data)
{
    const Whole *whole = data;

    whole->job->progress(
        whole->before
            + (guint64) ((double) whole->share * (double) done_bytes / (double) MAX(total_bytes, 1)),
        whole->n, whole->job->data);
}

static guint64
file_bytes(const RestoreDisk *disk)
{
    GStatBuf st;

    return g_stat(disk->source, &st) == 0 ? (guint64) st.st_size : 0;
}

static gboolean
place_disks(gpointer context, const KhoJob *job, GError **error)
{
    const RestorePlan *plan = ((Restoring *) context)->plan;
    Whole whole = { .job = job };
    KhoJob part = { .progress = job && job->progress ? tell : NULL,
                    .data = &whole,
                    .cancelled = job ? job->cancelled : NULL };

    for (guint i = 0; i < plan->disks->len; i++)
        whole.n += file_bytes(plan->disks->pdata[i]);
    for (guint i = 0; i < plan->disks->len; i++) {
        whole.share = file_bytes(plan->disks->pdata[i]);
        g_autoptr(GError) why = NULL;
        if (!place_one(plan->disks->pdata[i], &part, &why)) {
            if (why->code == KHO_ERROR_CANCELLED)
                return fail(error, KHO_ERROR_CANCELLED, "cancelled: nothing was restored");
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        whole.before += whole.share;
    }
    return TRUE;
}

static gboolean
drop_hidden(gpointer context, GError **error)
{
    const RestorePlan *plan = ((Restoring *) context)->plan;

    for (guint i = 0; i < plan->disks->len; i++)
        if (!entry_remove_if_there(((const RestoreDisk *) plan->disks->pdata[i])->hidden, error))
            return FALSE;
    return TRUE;
}

/* --- name-disks ------------------------------------------------------------------------------------------
 */

/* Whether the disk's own name leads to what was placed. */
static gboolean
is_ours(const RestoreDisk *disk)
{
    fd_auto int fd = fd_open(disk->hidden, O_RDONLY | O_NOFOLLOW, 0, NULL);

    return fd >= 0 && entry_is_file(AT_FDCWD, disk->path, fd);
}

/* Where no file has two names the hidden one goes; who is killed then leaves the disk under its own name. */
static gboolean
rename_one(RestoreDisk *disk, int folder, const char *name, GError **error)
{
    g_autofree char *hidden = g_path_get_basename(disk->hidden);

    disk->renamed = entry_rename(folder, hidden, name, FALSE, disk->path, error);
    return disk->renamed;
}

static gboolean
name_one(RestoreDisk *disk, GError **error)
{
    g_autofree char *folder_path = g_path_get_dirname(disk->path);
    g_autofree char *name = g_path_get_basename(disk->path);
    fd_auto int folder = fd_open(folder_path, O_RDONLY | O_DIRECTORY, 0, error);
    fd_auto int fd = folder < 0 ? -1 : fd_open(disk->hidden, O_RDONLY | O_NOFOLLOW, 0, error);
    g_autoptr(GError) why = NULL;

    if (fd < 0)
        return FALSE;
    if (!entry_is_file(folder, name, fd) && !entry_link(fd, folder, name, disk->path, &why)) {
        if (why->code == KHO_ERROR_DENIED || why->code == KHO_ERROR_UNSUPPORTED)
            return rename_one(disk, folder, name, error) && fd_sync(folder, folder_path, error);
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return fd_sync(folder, folder_path, error);
}

static gboolean
name_disks(gpointer context, const KhoJob *job, GError **error)
{
    const RestorePlan *plan = ((Restoring *) context)->plan;

    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: nothing was restored");
    for (guint i = 0; i < plan->disks->len; i++)
        if (!name_one(plan->disks->pdata[i], error))
            return FALSE;
    return TRUE;
}

/* A file that came to a disk's name by another way is not ours to remove. */
static gboolean
unname_disks(gpointer context, GError **error)
{
    const RestorePlan *plan = ((Restoring *) context)->plan;

    for (guint i = 0; i < plan->disks->len; i++) {
        const RestoreDisk *disk = plan->disks->pdata[i];
        if ((disk->renamed || is_ours(disk)) && !entry_remove_if_there(disk->path, error))
            return FALSE;
    }
    return TRUE;
}

/* --- define ----------------------------------------------------------------------------------------------
 */

/* What its guest will write into a raw disk must not be able to make another format of it. */
static gboolean
record_formats(const Restoring *restoring, GError **error)
{
    const StoreWait wait = { .timeout_ms = FORMATS_TIMEOUT_MS };

    for (guint i = 0; i < restoring->plan->disks->len; i++) {
        const RestoreDisk *disk = restoring->plan->disks->pdata[i];
        g_autofree char *folder = g_path_get_dirname(disk->path);
        g_autofree char *name = g_path_get_basename(disk->path);
        const ModelPool pool = { .uuid = disk->pool, .target_path = folder };
        if (disk->pool && !pool_formats_set(restoring->tree, &pool, name, disk->format, &wait, error))
            return FALSE;
    }
    return TRUE;
}

/* Whether the machine's definition stands. */
static gboolean
is_defined(const Restoring *restoring)
{
    g_autoptr(ModelDomain) model = vm_definition(restoring->tree, restoring->plan->name, NULL);

    return model && g_strcmp0(model->uuid, restoring->plan->uuid) == 0;
}

static gboolean
define(gpointer context, const KhoJob *job, GError **error)
{
    const Restoring *restoring = context;
    const RestorePlan *plan = restoring->plan;
    g_autofree char *path = store_path_domain(restoring->tree, plan->name);
    g_autofree char *mark = store_path_domain_autostart(restoring->tree, plan->name);

    if (!is_defined(restoring)) {
        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return fail(error, KHO_ERROR_EXISTS, "machine '%s' exists already", plan->name);
        /* a mark without a definition is what a killed undefine left */
        if (!record_formats(restoring, error) || !store_autostart_set(mark, FALSE, error)
            || !vm_definition_publish(restoring->tree, plan->name, plan->xml, error))
            return FALSE;
    }
    return drop_hidden(context, error);
}

static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    *direction = is_defined(context) ? CHANGE_FORWARD : CHANGE_BACK;
    return TRUE;
}

static const ChangeStep steps[] = {
    { .name = "place-disks", .run = place_disks, .undo = drop_hidden },
    { .name = "name-disks", .run = name_disks, .undo = unname_disks },
    { .name = "define", .run = define },
};

const ChangeKind restore_change = {
    .name = "restore-backup",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 2,
    .open = open_plan,
    .close = close_plan,
    .decide = decide,
};
