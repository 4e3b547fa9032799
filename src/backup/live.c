#include "backup/live.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "vm/blockdev.h"
#include "vm/job.h"
#include "vm/nodes.h"
#include "vm/reach.h"

#include <fcntl.h>
#include <kho/image.h>
#include <string.h>

#define CALL_TIMEOUT_MS 10000
/* The transaction waits for the requests that are under way on all disks. */
#define POINT_TIMEOUT_MS 60000
/* kho-vm writes down how QEMU ended, and clears up. */
#define END_TIMEOUT_MS 15000
/* A store with less room than this is full: what QEMU writes at once may be as much. */
#define FULL_BYTES ((guint64) 1 << 20)
/* How often a kho-vm that dies is replaced. */
#define ATTEMPTS 5

/* kho-vm's words. */
#define STATE_RUNNING   "running"
#define STATE_PAUSED    "paused"
#define REASON_IO_ERROR "I/O error"

/* A connection, and what it is for. */
typedef struct {
    const StoreTree *tree;
    BackupPlan *plan;
    VmClient *client; /* NULL: not connected */
} Live;

static void
live_clear(Live *live)
{
    g_clear_pointer(&live->client, vm_client_close);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Live, live_clear)

/* --- names in QEMU: the point's id makes them used once ----------------------------------------------------
 */

static char *
node_of(const BackupPlan *plan, guint index)
{
    return g_strdup_printf("backup-%.8s-%u", plan->point->id, index);
}

static char *
file_node_of(const BackupPlan *plan, guint index)
{
    return g_strdup_printf("backup-%.8s-%u-file", plan->point->id, index);
}

/* The jobs have the names of the nodes that they write. */
static GStrv
jobs_of(const BackupPlan *plan)
{
    g_autoptr(GStrvBuilder) ids = g_strv_builder_new();

    for (guint i = 0; i < plan->sources->len; i++) {
        g_autofree char *id = node_of(plan, i);
        g_strv_builder_add(ids, id);
    }
    return g_strv_builder_end(ids);
}

/* --- asking ------------------------------------------------------------------------------------------------
 */

static gboolean
fail_ended(const BackupPlan *plan, GError **error)
{
    return fail(error, KHO_ERROR_INVALID,
                "machine '%s' ended while it was backed up: back it up again, as it is now",
                plan->point->name);
}

/* Connects where there is no connection. *runs: whether there is a machine. */
static gboolean
reach(Live *live, gboolean *runs, GError **error)
{
    if (live->client && !vm_client_is_open(live->client))
        g_clear_pointer(&live->client, vm_client_close);
    if (!live->client && !vm_reach(live->tree, live->plan->point->name, &live->client, error))
        return FALSE;
    *runs = live->client != NULL;
    return TRUE;
}

static gboolean
need(Live *live, GError **error)
{
    gboolean runs;

    return reach(live, &runs, error) && (runs || fail_ended(live->plan, error));
}

static json_t *
ask(Live *live, const char *command, json_t *arguments, GError **error)
{
    return vm_client_call(live->client, command, arguments, CALL_TIMEOUT_MS, error);
}

static gboolean
tell(Live *live, const char *command, json_t *arguments, GError **error)
{
    return vm_client_tell(live->client, command, arguments, CALL_TIMEOUT_MS, error);
}

/* A QEMU that has ended has a kho-vm that is about to: waits for that, so that whoever looks next finds no
 * machine. */
static void
await_end(Live *live)
{
    gint64 deadline_ms = deadline_in(END_TIMEOUT_MS);
    g_autoptr(GError) why = NULL;

    if (!live->client || !vm_client_is_open(live->client) || tell(live, "query-version", NULL, &why)
        || why->code != KHO_ERROR_IO)
        return;
    for (;;) {
        json_auto json_t *event = vm_client_next_event(live->client, deadline_ms, NULL);
        if (!event)
            return;
    }
}

/* --- taking back -------------------------------------------------------------------------------------------
 */

static gboolean
drop_nodes(Live *live, GError **error)
{
    for (guint i = 0; i < live->plan->sources->len; i++) {
        g_autofree char *node = node_of(live->plan, i);
        g_autofree char *file_node = file_node_of(live->plan, i);
        if (!vm_blockdev_drop(live->client, node, error) || !vm_blockdev_drop(live->client, file_node, error))
            return FALSE;
    }
    return TRUE;
}

/* What a QEMU whose guest does not run has kept of them goes when the guest goes on. */
static gboolean
close_files(Live *live, GError **error)
{
    for (guint i = 0; i < live->plan->sources->len; i++)
        if (!vm_fdset_close_each(live->client, live->plan->first_fdset + i, error)
            || !vm_fdset_close(live->client, live->plan->first_fdset + i, error))
            return FALSE;
    return TRUE;
}

static gboolean
let_go(Live *live, GError **error)
{
    g_auto(GStrv) jobs = jobs_of(live->plan);

    return vm_jobs_cancel(live->client, (const char *const *) jobs, error) && drop_nodes(live, error)
           && close_files(live, error);
}

/* A block that cannot be copied before the guest writes it is an error of the guest's write: on a full store
 * the guest stands still since. Now that nothing is copied any more it writes as ever. (Where its own disk is
 * full too, it stops again at once.) */
static gboolean
let_guest_go_on(Live *live, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(live->client, CALL_TIMEOUT_MS, error);

    if (!status)
        return FALSE;
    return strcmp(live->plan->point->state, STATE_RUNNING) != 0 || strcmp(status->state, STATE_PAUSED) != 0
           || g_strcmp0(status->reason, REASON_IO_ERROR) != 0 || tell(live, "cont", NULL, error);
}

gboolean
backup_live_take_back(const StoreTree *tree, const BackupPlan *plan, GError **error)
{
    g_auto(Live) live = { .tree = tree, .plan = (BackupPlan *) plan };
    g_autoptr(GError) why = NULL;
    gboolean runs = TRUE;

    /* A kho-vm or QEMU that ends meanwhile is looked at anew: what is left may be nothing. */
    for (guint i = 0; i < ATTEMPTS; i++) {
        g_clear_error(&why);
        if (reach(&live, &runs, &why) && (!runs || (let_go(&live, &why) && let_guest_go_on(&live, &why))))
            return TRUE;
        await_end(&live);
        if (live.client && vm_client_is_open(live.client))
            break;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* --- the targets -------------------------------------------------------------------------------------------
 */

static gboolean
open_target(Live *live, guint index, const char *path, GError **error)
{
    g_autofree char *node = node_of(live->plan, index);
    g_autofree char *file_node = file_node_of(live->plan, index);
    json_int_t fdset = (json_int_t) live->plan->first_fdset + index;
    g_autofree char *file = g_strdup_printf("/dev/fdset/%" G_GINT64_FORMAT, (gint64) fdset);

    return vm_fdset_open(live->client, fdset, path, FALSE, error)
           && tell(live, "blockdev-add",
                   json_pack("{s:s,s:s,s:s,s:s}", "driver", "file", "node-name", file_node, "filename", file,
                             "discard", "unmap"),
                   error)
           && tell(live, "blockdev-add",
                   json_pack("{s:s,s:s,s:s,s:s,s:s}", "driver", "qcow2", "node-name", node, "file", file_node,
                             "discard", "unmap", "detect-zeroes", "unmap"),
                   error);
}

/* How large QEMU says that a disk is: the target must be exactly so. */
static gboolean
size_of_node(Live *live, const char *name, guint64 *bytes, GError **error)
{
    json_auto json_t *nodes = ask(live, "query-named-block-nodes", json_pack("{s:b}", "flat", TRUE), error);
    size_t i;
    json_t *node;

    json_array_foreach (nodes, i, node)
        if (strcmp(json_string_or(node, "node-name", ""), name) == 0) {
            *bytes = (guint64) json_int_or(json_object_get(node, "image"), "virtual-size", 0);
            return TRUE;
        }
    return nodes && fail(error, KHO_ERROR_NOT_FOUND, "QEMU has no block node '%s'", name);
}

static gboolean
make_target(Live *live, guint index, char **source_node, const KhoJob *job, GError **error)
{
    const BackupSource *source = live->plan->sources->pdata[index];
    KhoBackupDisk *disk = live->plan->point->disks->pdata[index];
    g_autofree char *path = backup_plan_file(live->plan, disk->file);
    g_autoptr(GPtrArray) layers = vm_nodes_of_device(live->client, source->alias, error);

    if (!layers)
        return FALSE;
    if (layers->len == 0)
        return fail(error, KHO_ERROR_INVALID, "disk %s is empty in QEMU", disk->target);
    *source_node = g_strdup(((const VmNode *) layers->pdata[0])->node);
    if (!size_of_node(live, *source_node, &disk->capacity_bytes, error))
        return FALSE;
    const KhoImageCreate create = {
        .format = disk->format,
        .size_bytes = disk->capacity_bytes,
        .compression = live->plan->compress ? disk->compression : NULL,
        .mode = 0600,
    };
    return kho_image_create(path, &create, NULL, job, error) && open_target(live, index, path, error);
}

/* --- copying -----------------------------------------------------------------------------------------------
 */

/* Builds with tests let a test say how many bytes a second are copied, so that it can come in between. */
static void
hold_back(json_t *data)
{
#ifdef KHO_STEPS
    const char *speed = g_getenv("KHO_BACKUP_SPEED");

    if (speed)
        json_object_set_new(data, "speed", json_integer(g_ascii_strtoll(speed, NULL, 10)));
#else
    (void) data;
#endif
}

/* One transaction: all disks at one moment. A job that fails ends the others. */
static gboolean
take_point(Live *live, char *const *source_nodes, GError **error)
{
    const BackupPlan *plan = live->plan;
    json_t *actions = json_array();

    for (guint i = 0; i < plan->sources->len; i++) {
        g_autofree char *node = node_of(plan, i);
        json_t *data = json_pack("{s:s,s:s,s:s,s:b}", "device", source_nodes[i], "target", node, "sync",
                                 "full", "compress", plan->compress);
        hold_back(data);
        json_array_append_new(
            actions, json_pack("{s:s,s:o}", "type", "blockdev-backup", "data", vm_job_arguments(node, data)));
    }
    json_auto json_t *done = vm_client_call(
        live->client, "transaction",
        json_pack("{s:o,s:{s:s}}", "actions", actions, "properties", "completion-mode", "grouped"),
        POINT_TIMEOUT_MS, error);
    return done != NULL;
}

/* Where kho-vm died before its answer came, QEMU is asked what it did. */
static gboolean
take_point_once(Live *live, char *const *source_nodes, GError **error)
{
    g_autofree char *first = node_of(live->plan, 0);
    VmJobState state = VM_JOB_ABSENT;
    g_autoptr(GError) why = NULL;
    gboolean taken = take_point(live, source_nodes, &why);

    if (!taken && !vm_client_is_open(live->client) && need(live, NULL))
        taken = vm_job_look(live->client, first, &state, NULL) && state != VM_JOB_ABSENT;
    live->plan->point->when_ms = clock_wall_ms();
    if (!taken)
        g_propagate_error(error, g_steal_pointer(&why));
    return taken;
}

static gboolean
note_machine(Live *live, GError **error)
{
    KhoBackupPoint *point = live->plan->point;
    g_autoptr(VmStatus) status = vm_client_status(live->client, CALL_TIMEOUT_MS, error);
    json_auto json_t *version = status ? ask(live, "query-version", NULL, error) : NULL;
    const json_t *qemu = json_object_get(version, "qemu");

    if (!version)
        return FALSE;
    g_free(point->state);
    point->state = g_strdup(status->state);
    g_free(point->qemu_version);
    point->qemu_version = g_strdup_printf("%" G_GINT64_FORMAT ".%" G_GINT64_FORMAT ".%" G_GINT64_FORMAT,
                                          json_int_or(qemu, "major", 0), json_int_or(qemu, "minor", 0),
                                          json_int_or(qemu, "micro", 0));
    return TRUE;
}

static gboolean
begin(Live *live, const KhoJob *job, GError **error)
{
    guint n = live->plan->sources->len;
    g_auto(GStrv) source_nodes = g_new0(char *, n + 1);

    for (guint i = 0; i < n; i++)
        if (!make_target(live, i, &source_nodes[i], job, error)) {
            const KhoBackupDisk *disk = live->plan->point->disks->pdata[i];
            g_prefix_error(error, "disk %s of machine '%s': ", disk->target, live->plan->point->name);
            return FALSE;
        }
    return note_machine(live, error) && take_point_once(live, source_nodes, error);
}

/* Does what may be done any number of times, with a new kho-vm where one dies: QEMU goes on without it, and
 * the jobs are found by their ids. */
static gboolean
persist(Live *live, gboolean (*act)(Live *live, const KhoJob *job, GError **error), const KhoJob *job,
        GError **error)
{
    for (guint i = 0;; i++) {
        g_autoptr(GError) why = NULL;
        gboolean met = need(live, &why);
        if (met && act(live, job, &why))
            return TRUE;
        await_end(live);
        gboolean died = met ? !vm_client_is_open(live->client) : why->code == KHO_ERROR_IO;
        if (i < ATTEMPTS && died)
            continue;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
}

/* QEMU's job tells the error of the request that failed last, and on a full store that may be any. */
static gboolean
fail_copy(const BackupPlan *plan, const GError *why, GError **error)
{
    FdUsage usage;
    gboolean full = why->code == KHO_ERROR_IO && fd_usage(plan->store, &usage, NULL)
                    && usage.available_bytes < FULL_BYTES;

    return fail(error, full ? KHO_ERROR_NO_SPACE : (KhoErrorCode) why->code,
                "backup of machine '%s' to %s: %s%s", plan->point->name, plan->store,
                full ? "No space left on device: " : "", why->message);
}

static gboolean
follow(Live *live, const KhoJob *job, GError **error)
{
    g_auto(GStrv) jobs = jobs_of(live->plan);
    g_autoptr(GError) why = NULL;

    if (vm_jobs_wait(live->client, (const char *const *) jobs, VM_JOB_PENDING, TRUE, job, &why))
        return TRUE;
    if (why->code == KHO_ERROR_CANCELLED && kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: no backup was made");
    return fail_copy(live->plan, why, error);
}

/* QEMU says whether its tables reached the file, and the kernel whether the file reached the disk. */
static gboolean
sync_targets(Live *live, const KhoJob *job, GError **error)
{
    for (guint i = 0; i < live->plan->sources->len; i++) {
        const KhoBackupDisk *disk = live->plan->point->disks->pdata[i];
        g_autofree char *path = backup_plan_file(live->plan, disk->file);
        g_autofree char *node = node_of(live->plan, i);
        fd_auto int fd = fd_open(path, O_RDONLY, 0, error);
        if (fd < 0 || !vm_node_flush(live->client, node, "unmap", error) || !fd_sync(fd, path, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
finish(Live *live, const KhoJob *job, GError **error)
{
    g_auto(GStrv) jobs = jobs_of(live->plan);

    return vm_jobs_finish(live->client, (const char *const *) jobs, error);
}

static gboolean
leave(Live *live, const KhoJob *job, GError **error)
{
    return let_go(live, error);
}

gboolean
backup_copy_live(const StoreTree *tree, BackupPlan *plan, const KhoJob *job, GError **error)
{
    g_auto(Live) live = { .tree = tree, .plan = plan };
    g_autoptr(GError) why = NULL;
    gboolean runs = TRUE;

    if (!need(&live, error))
        return FALSE;
    if (plan->sources->len == 0) {
        plan->point->when_ms = clock_wall_ms();
        return note_machine(&live, error);
    }
    if (begin(&live, job, &why) && persist(&live, follow, job, &why)
        && persist(&live, sync_targets, job, &why) && persist(&live, finish, job, &why)
        && persist(&live, leave, job, &why))
        return TRUE;
    /* What failed because the machine ended is told so. */
    await_end(&live);
    if (!live.client || !vm_client_is_open(live.client))
        if (reach(&live, &runs, NULL) && !runs)
            return fail_ended(plan, error);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}
