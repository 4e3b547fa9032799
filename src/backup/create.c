/* A point is made in its part folder and appears by one rename. Until then everything can be taken back by
 * removing that folder; the mark in it tells whose it is, so that nobody removes another's. */
#include "backup/create.h"

#include "backup/copy.h"
#include "backup/hash.h"
#include "backup/live.h"
#include "base/digest.h"
#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "store/publish.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

#define FOLDER_TRIES 16

typedef struct {
    const StoreTree *tree;
    BackupPlan *plan;
    char *part, *mark; /* paths */
    char *fresh;       /* the part folder's path before it gets its name, with the id in it */
    int mark_fd;       /* locked while this process makes the point; -1 */
    const KhoJob *job; /* the caller's, while a step runs */
    guint64 copied;    /* what the copy said of its bytes last */
} Making;

static char *
fresh_path(const BackupPlan *plan)
{
    g_autofree char *machine = backup_machine_path(plan->store, plan->point->machine);
    g_autofree char *name = g_strdup_printf(".%s.kho-tmp", plan->point->id);

    return g_build_filename(machine, name, NULL);
}

static gpointer
open_plan(const json_t *json, gpointer data, GError **error)
{
    BackupPlan *plan = backup_plan_from_json(json, error);

    if (!plan)
        return NULL;
    Making *making = g_new0(Making, 1);
    making->tree = data;
    making->plan = plan;
    making->part = backup_plan_part(plan);
    making->mark = g_build_filename(making->part, BACKUP_MARK_FILE, NULL);
    making->fresh = fresh_path(plan);
    making->mark_fd = -1;
    return making;
}

static void
close_plan(gpointer context)
{
    Making *making = context;

    fd_clear(&making->mark_fd);
    backup_plan_free(making->plan);
    g_free(making->part);
    g_free(making->mark);
    g_free(making->fresh);
    g_free(making);
}

static gboolean
sync_folder(const char *path, GError **error)
{
    fd_auto int fd = fd_open(path, O_RDONLY | O_DIRECTORY, 0, error);

    return fd >= 0 && fd_sync(fd, path, error);
}

/* --- make-folder -----------------------------------------------------------------------------------------
 */

static char *
mark_text(const BackupPlan *plan)
{
    json_auto json_t *mark = json_object();

    json_set_string(mark, "id", plan->point->id);
    json_set_string(mark, "host", g_get_host_name());
    json_object_set_new(mark, "pid", json_integer(proc_own_pid()));
    json_object_set_new(mark, "since-ms", json_integer(clock_wall_ms()));
    return json_text(mark);
}

/* Another backup that is taken back may remove the machine's folder while that is empty. */
static gboolean
make_fresh(const Making *making, const char *machine, GError **error)
{
    g_autoptr(GError) why = NULL;

    for (guint i = 0; i < FOLDER_TRIES; i++) {
        g_clear_error(&why);
        if (!fd_mkdir(machine, 0700, error))
            return FALSE;
        if (entry_make_folder(making->fresh, 0700, &why))
            return sync_folder(making->plan->store, error);
        if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
            break;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean
write_mark(Making *making, GError **error)
{
    g_autofree char *text = mark_text(making->plan);
    g_autofree char *path = g_build_filename(making->fresh, BACKUP_MARK_FILE, NULL);

    making->mark_fd = fd_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, error);
    return making->mark_fd >= 0 && fd_lock_range(making->mark_fd, 0, 1, TRUE, path, error)
           && fd_write_full(making->mark_fd, text, strlen(text), path, error)
           && fd_sync(making->mark_fd, path, error) && sync_folder(making->fresh, error);
}

/* The part folder gets its name with the mark in it: one without a mark is nobody's. Of several hosts that
 * choose one name the first has it. */
static gboolean
make_folder(gpointer context, const KhoJob *job, GError **error)
{
    Making *making = context;
    const KhoBackupPoint *point = making->plan->point;
    g_autofree char *machine = backup_machine_path(making->plan->store, point->machine);
    g_autofree char *from = g_path_get_basename(making->fresh);
    g_autofree char *to = g_path_get_basename(making->part);
    g_autoptr(GError) why = NULL;

    if (!make_fresh(making, machine, error) || !write_mark(making, error))
        return FALSE;
    fd_auto int folder = fd_open(machine, O_RDONLY | O_DIRECTORY, 0, error);
    if (folder < 0)
        return FALSE;
    if (!entry_exists(folder, point->point) && entry_rename_folder(folder, from, to, making->part, &why))
        return fd_sync(folder, machine, error);
    if (why && !g_error_matches(why, KHO_ERROR, KHO_ERROR_EXISTS)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return fail(
        error, KHO_ERROR_EXISTS,
        "point '%s' of machine '%s' was begun by another kho meanwhile: %s is its own; choose another "
        "name",
        point->point, point->machine, why ? making->part : point->path);
}

/* The id of what stands in a folder that is, or was, a part folder. */
static char *
id_in(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, BACKUP_MANIFEST_FILE, NULL);
    g_autoptr(KhoBackupPoint) read = backup_point_new("", "", folder);
    char *id = backup_part_id(folder, NULL);
    gsize len;
    g_autofree char *text = id ? NULL : fd_read_file(path, BACKUP_MANIFEST_MAX_BYTES, &len, NULL);

    if (text && backup_manifest_parse(text, len, path, read, NULL))
        return g_steal_pointer(&read->id);
    return id;
}

static void
remove_all(const char *folder)
{
    g_autoptr(GPtrArray) names = entry_list(folder, NULL);

    /* The mark last: until then the folder is known as ours. */
    for (guint pass = 0; pass < 2; pass++)
        for (guint i = 0; names && i < names->len; i++) {
            const char *name = names->pdata[i];
            g_autofree char *path = g_build_filename(folder, name, NULL);
            if ((strcmp(name, BACKUP_MARK_FILE) == 0) == (pass == 1))
                fd_unlink(path, NULL);
        }
}

/* A store may be gone by now (its disk unplugged, its file system read-only), and its remains are told by
 * backup-list: the machine must not be held up by that, so that nothing here fails. */
static gboolean
remove_folder(gpointer context, GError **error)
{
    Making *making = context;
    const BackupPlan *plan = making->plan;
    g_autofree char *machine = backup_machine_path(plan->store, plan->point->machine);
    g_autofree char *id = id_in(making->part);

    remove_all(making->fresh);
    entry_remove_folder(making->fresh, NULL);
    if (g_strcmp0(id, plan->point->id) == 0)
        remove_all(making->part);
    /* It goes if it is empty by now. */
    entry_remove_folder(making->part, NULL);
    sync_folder(machine, NULL);
    entry_remove_folder(machine, NULL);
    sync_folder(plan->store, NULL);
    return TRUE;
}

/* --- copy ------------------------------------------------------------------------------------------------
 */

/* The bytes are gone through twice: copied, and read again. */
static void
tell_copy(guint64 done_bytes, guint64 total_bytes, gpointer data)
{
    Making *making = data;

    making->copied = total_bytes;
    making->job->progress(done_bytes, 2 * total_bytes, making->job->data);
}

static void
tell_hash(guint64 done_bytes, guint64 total_bytes, gpointer data)
{
    const Making *making = data;
    double share = (double) done_bytes / (double) MAX(total_bytes, 1);

    making->job->progress(making->copied + (guint64) (share * (double) making->copied), 2 * making->copied,
                          making->job->data);
}

static KhoJob
job_for(Making *making, const KhoJob *job,
        void (*tell)(guint64 done_bytes, guint64 total_bytes, gpointer data))
{
    making->job = job;
    return (KhoJob){ .progress = job && job->progress ? tell : NULL,
                     .data = making,
                     .cancelled = job ? job->cancelled : NULL };
}

/* What the files of the part folder take. */
static guint64
written_bytes(const char *part)
{
    g_autoptr(GPtrArray) names = entry_list(part, NULL);
    guint64 bytes = 0;

    for (guint i = 0; names && i < names->len; i++) {
        g_autofree char *path = g_build_filename(part, names->pdata[i], NULL);
        GStatBuf st;
        if (g_lstat(path, &st) == 0)
            bytes += (guint64) st.st_blocks * 512;
    }
    return bytes;
}

/* A store that ran full is told with the figure; a cancel by what it means, instead of by the file that was
 * just written. */
static gboolean
fail_told(const Making *making, GError *why, GError **error)
{
    const char *store = making->plan->store;
    FdUsage usage;

    if (why->code == KHO_ERROR_CANCELLED)
        fail(error, KHO_ERROR_CANCELLED, "cancelled: no backup was made");
    else if (why->code == KHO_ERROR_NO_SPACE && fd_usage(store, &usage, NULL)) {
        g_autofree char *room = num_format_size(written_bytes(making->part) + usage.available_bytes);
        fail(error, KHO_ERROR_NO_SPACE,
             "%s: the backup needs more than the %s that the store %s had for it: make room there, or take "
             "another store",
             why->message, room, store);
    } else
        g_propagate_error(error, g_error_copy(why));
    return FALSE;
}

static gboolean
copy(gpointer context, const KhoJob *job, GError **error)
{
    Making *making = context;
    KhoJob told = job_for(making, job, tell_copy);
    g_autoptr(GError) why = NULL;
    gboolean done = making->plan->run_path ? backup_copy_live(making->tree, making->plan, &told, &why)
                                           : backup_copy_stopped(making->plan, &told, &why);

    return done || fail_told(making, why, error);
}

static gboolean
end_copy(gpointer context, GError **error)
{
    const Making *making = context;

    return !making->plan->run_path || backup_live_take_back(making->tree, making->plan, error);
}

/* --- describe --------------------------------------------------------------------------------------------
 */

static gboolean
hash_disks(KhoBackupPoint *point, const char *part, const KhoJob *job, GError **error)
{
    guint n = point->disks->len;
    g_autofree HashFile *hashes = g_new0(HashFile, n);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < n; i++) {
        const KhoBackupDisk *disk = point->disks->pdata[i];
        g_ptr_array_add(paths, g_build_filename(part, disk->file, NULL));
        hashes[i].path = paths->pdata[i];
    }
    gboolean read = hash_files(hashes, n, job, error);
    for (guint i = 0; i < n; i++) {
        KhoBackupDisk *disk = point->disks->pdata[i];
        disk->size_bytes = hashes[i].size_bytes;
        disk->sha256 = g_steal_pointer(&hashes[i].sha256);
        if (read && !disk->sha256) {
            g_propagate_error(error, g_steal_pointer(&hashes[i].error));
            read = FALSE;
        }
        hash_file_clear(&hashes[i]);
    }
    return read;
}

static gboolean
describe(gpointer context, const KhoJob *job, GError **error)
{
    Making *making = context;
    KhoJob told = job_for(making, job, tell_hash);
    KhoBackupPoint *point = making->plan->point;
    const char *xml = making->plan->xml;
    g_autofree char *xml_path = g_build_filename(making->part, BACKUP_XML_FILE, NULL);
    g_autofree char *path = g_build_filename(making->part, BACKUP_MANIFEST_FILE, NULL);

    g_autoptr(GError) why = NULL;

    if (!hash_disks(point, making->part, &told, &why))
        return fail_told(making, why, error);
    point->xml_bytes = strlen(xml);
    point->xml_sha256 = digest_of(xml, strlen(xml), error);
    if (!point->xml_sha256)
        return FALSE;
    g_autofree char *text = backup_manifest_format(point, error);
    return text && store_publish(xml_path, xml, strlen(xml), 0600, error)
           && store_publish(path, text, strlen(text), 0600, error);
}

/* --- publish ---------------------------------------------------------------------------------------------
 */

/* Whether the point stands under its name, and it is this one. */
static gboolean
is_published(const Making *making)
{
    const KhoBackupPoint *point = making->plan->point;
    g_autofree char *id = id_in(point->path);

    return id && strcmp(id, point->id) == 0;
}

static gboolean
publish(gpointer context, const KhoJob *job, GError **error)
{
    Making *making = context;
    const KhoBackupPoint *point = making->plan->point;
    g_autofree char *machine = backup_machine_path(making->plan->store, point->machine);
    g_autofree char *part_name = g_path_get_basename(making->part);

    if (is_published(making))
        return sync_folder(machine, error);
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: no backup was made");
    fd_auto int folder = fd_open(machine, O_RDONLY | O_DIRECTORY, 0, error);
    if (folder < 0)
        return FALSE;
    if (g_file_test(making->mark, G_FILE_TEST_EXISTS) && !fd_unlink(making->mark, error))
        return FALSE;
    return sync_folder(making->part, error)
           && entry_rename_folder(folder, part_name, point->point, point->path, error)
           && fd_sync(folder, machine, error);
}

static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    *direction = is_published(context) ? CHANGE_FORWARD : CHANGE_BACK;
    return TRUE;
}

static const ChangeStep steps[] = {
    { .name = "make-folder", .run = make_folder, .undo = remove_folder },
    { .name = "copy", .run = copy, .undo = end_copy },
    { .name = "describe", .run = describe },
    { .name = "publish", .run = publish },
};

const ChangeKind backup_change = {
    .name = "backup",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 3,
    .open = open_plan,
    .close = close_plan,
    .decide = decide,
};
