#include "vm/merge.h"

#include "base/error.h"
#include "base/fd.h"
#include "vm/job.h"
#include "vm/nodes.h"

#include <fcntl.h>
#include <kho/image.h>
#include <string.h>

/* QEMU may be flushing a slow disk. */
#define CALL_TIMEOUT_MS 60000

static json_t *
ask(VmClient *client, const char *command, json_t *arguments, GError **error)
{
    return vm_client_call(client, command, arguments, CALL_TIMEOUT_MS, error);
}

static gboolean
guest_runs(VmClient *client, gboolean *runs, GError **error)
{
    json_auto json_t *status = ask(client, "query-status", NULL, error);

    *runs = json_is_true(json_object_get(status, "running"));
    return status != NULL;
}

/* ---- layers ---- */

/* The layers of the disk, and where the two are; -1: not there. */
typedef struct {
    GPtrArray *layers; /* of VmNode */
    gint upper, lower;
} Place;

static void
place_clear(Place *place)
{
    g_clear_pointer(&place->layers, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

static const VmNode *
layer_at(const Place *place, gint index)
{
    return index >= 0 && index < (gint) place->layers->len ? place->layers->pdata[index] : NULL;
}

static gboolean
place_find(VmClient *client, const VmMerge *merge, Place *place, GError **error)
{
    *place = (Place){ vm_nodes_of_device(client, merge->device, error), -1, -1 };
    if (!place->layers)
        return FALSE;
    for (gint i = 0; i < (gint) place->layers->len; i++) {
        const VmNode *node = place->layers->pdata[i];
        if (strcmp(node->node, merge->upper) == 0)
            place->upper = i;
        if (strcmp(node->node, merge->lower) == 0)
            place->lower = i;
    }
    return TRUE;
}

/* A guest may let go of a disk at any time. */
static gboolean
ignore_gone(GError **why, GError **error)
{
    if (g_error_matches(*why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(why));
    return FALSE;
}

static gboolean
judge(const VmMerge *merge, const Place *place, VmMergeState *state, GError **error)
{
    gint stays = merge->down ? place->lower : place->upper;
    gint goes = merge->down ? place->upper : place->lower;

    if (place->upper >= 0 && place->lower == place->upper + 1
        && (place->upper == 0) == (merge->above_path == NULL))
        *state = VM_MERGE_APART;
    else if (stays >= 0 && goes < 0)
        *state = VM_MERGE_MERGED;
    else
        return fail(error, KHO_ERROR_INVALID, "the layers %s and %s of disk %s are not where they were",
                    merge->upper, merge->lower, merge->device);
    return TRUE;
}

gboolean
vm_merge_look(VmClient *client, const VmMerge *merge, VmMergeState *state, GError **error)
{
    g_auto(Place) place = { 0 };
    g_autoptr(GError) why = NULL;

    if (place_find(client, merge, &place, &why))
        return judge(merge, &place, state, error);
    *state = VM_MERGE_GONE;
    return ignore_gone(&why, error);
}

/* ---- descriptors ---- */

/* The row of query-fdsets for the set that @node is open through; borrowed from @sets. */
static json_t *
descriptors_of(const json_t *sets, const VmNode *node)
{
    gsize i;
    json_t *set;

    json_array_foreach ((json_t *) sets, i, set)
        if (node && node->fdset >= 0 && json_int_or(set, "fdset-id", -1) == node->fdset)
            return json_object_get(set, "fds");
    return NULL;
}

static gboolean
is_for_writing(const json_t *descriptor)
{
    return strcmp(json_string_or(descriptor, "opaque", ""), "read-write") == 0;
}

static gboolean
close_one(VmClient *client, const VmNode *node, const json_t *descriptor, GError **error)
{
    return vm_client_tell(client, "kho-close",
                          json_pack("{s:I,s:I}", "fdset", (json_int_t) node->fdset, "fd",
                                    (json_int_t) json_int_or(descriptor, "fd", -1)),
                          CALL_TIMEOUT_MS, error);
}

/* Closes the node's descriptors that are (or are not) for writing, but for @spared (-1: all). */
static gboolean
close_some(VmClient *client, const VmNode *node, gboolean for_writing, gint64 spared, GError **error)
{
    json_auto json_t *sets = ask(client, "query-fdsets", NULL, error);
    json_t *fds = descriptors_of(sets, node);
    gsize i;
    json_t *descriptor;

    json_array_foreach (fds, i, descriptor)
        if (is_for_writing(descriptor) == for_writing && json_int_or(descriptor, "fd", -1) != spared
            && !close_one(client, node, descriptor, error))
            return FALSE;
    return sets != NULL;
}

/* *fd is QEMU's number of the descriptor. */
static gboolean
open_layer(VmClient *client, const VmNode *node, const char *path, gboolean read_only, gint64 *fd,
           GError **error)
{
    json_auto json_t *answer = ask(
        client, "kho-open",
        json_pack("{s:s,s:b,s:I}", "path", path, "read-only", read_only, "fdset", (json_int_t) node->fdset),
        error);
    return answer && json_get_int(answer, "fd", "QEMU's answer", fd, error);
}

/* How many descriptors for reading alone the node's set has. */
static gboolean
count_for_reading(VmClient *client, const VmNode *node, guint *n, GError **error)
{
    json_auto json_t *sets = ask(client, "query-fdsets", NULL, error);
    gsize i;
    json_t *descriptor;

    *n = 0;
    json_array_foreach (descriptors_of(sets, node), i, descriptor)
        *n += !is_for_writing(descriptor);
    return sets != NULL;
}

/* Lets a job write @node, whose file is @path. One that is open for writing already stays as it is.
 *
 * QEMU goes over to the set's other descriptor when the job begins, and back when it ends. For a raw layer it
 * then meets the locks of the one that it came from, and aborts: so such a file is opened for writing before,
 * for good, and the other descriptor goes. */
static gboolean
make_writable(VmClient *client, const VmMerge *merge, const VmNode *node, const char *path, GError **error)
{
    guint for_reading;
    gint64 fd;

    if (node->fdset < 0)
        return fail(error, KHO_ERROR_UNSUPPORTED, "layer %s was not opened by kho", node->node);
    if (!node->read_only)
        return TRUE;
    if (!count_for_reading(client, node, &for_reading, error)
        || (for_reading > 0 && !open_layer(client, node, path, FALSE, &fd, error)))
        return FALSE;
    return !node->raw || for_reading == 0
           || (vm_node_write_file(client, node, merge->aio, error)
               && close_some(client, node, FALSE, -1, error));
}

/* A stream into a layer takes its locks twice, and finds those of the descriptor that the layer had before in
 * its way: it gets another, and QEMU closes the old one, if the guest runs. */
static gboolean
make_streamable(VmClient *client, const VmMerge *merge, const VmNode *node, GError **error)
{
    gboolean runs;
    gint64 fd;

    if (!node->read_only)
        return TRUE;
    if (!guest_runs(client, &runs, error))
        return FALSE;
    if (!runs)
        return fail(error, KHO_ERROR_BUSY,
                    "%s cannot take in what lies under it while the machine is paused: resume it first",
                    merge->upper_path);
    return node->fdset >= 0 && open_layer(client, node, merge->upper_path, TRUE, &fd, error)
           && close_some(client, node, FALSE, fd, error)
           && make_writable(client, merge, node, merge->upper_path, error);
}

/* Lets go of what jobs that are over needed: lower layers are read again, and what the guest writes is open
 * for that alone, for good: else QEMU, when it lets go of its images, would go back to reading. Their image
 * locks go with them. One too many that a driver asked for and died stays: QEMU does not say which of them
 * are closed already. Of a disk that is gone kho-vm closes all. */
static gboolean
tidy(VmClient *client, const VmMerge *merge, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) layers = vm_nodes_of_device(client, merge->device, &why);

    if (!layers)
        return ignore_gone(&why, error);
    for (guint i = 0; i < layers->len; i++) {
        const VmNode *node = layers->pdata[i];
        json_auto json_t *sets = ask(client, "query-fdsets", NULL, error);
        if (!sets)
            return FALSE;
        gsize n = json_array_size(descriptors_of(sets, node));
        gboolean stays_open = node->read_only && node->raw; /* make_writable */
        if (n <= 1 || stays_open)
            continue;
        if ((!node->read_only && !vm_node_write_file(client, node, merge->aio, error))
            || !close_some(client, node, node->read_only, -1, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- copying ---- */

static gboolean
open_files(VmClient *client, const VmMerge *merge, const Place *place, GError **error)
{
    const VmNode *upper = layer_at(place, place->upper);
    const VmNode *above = layer_at(place, place->upper - 1);

    if (merge->down)
        return make_writable(client, merge, layer_at(place, place->lower), merge->lower_path, error)
               && (!above || make_writable(client, merge, above, merge->above_path, error));
    return make_streamable(client, merge, upper, error);
}

/* The file whose header gets another backing file; NULL: none. */
static const char *
header_path(const VmMerge *merge)
{
    return merge->down ? merge->above_path : merge->upper_path;
}

/* QEMU writes the whole first cluster to change a header, which may lie in a hole; and where a commit has no
 * room for that, QEMU 7.2 ends by a segmentation fault. */
static gboolean
reserve_header(const VmMerge *merge, GError **error)
{
    const char *path = header_path(merge);
    KhoImageInfo info = { 0 };
    guint64 size;
    gboolean done;

    if (!path)
        return TRUE;
    fd_auto int fd = fd_open(path, O_RDWR, 0, error);
    if (fd < 0 || !fd_size(fd, &size, path, error) || !kho_image_info(path, "qcow2", &info, error))
        return FALSE;
    guint32 bytes = info.cluster_bytes;
    kho_image_info_clear(&info);
    /* where the file system knows of no such thing it is tried without */
    return fd_space(fd, FD_SPACE_RESERVE, 0, MIN(bytes, size), &done, path, error);
}

static gboolean
begin(VmClient *client, const VmMerge *merge, const Place *place, GError **error)
{
    const VmNode *below = layer_at(place, place->lower + 1);
    json_t *arguments;

    if (merge->down) {
        arguments = json_pack("{s:s,s:s}", "device", layer_at(place, 0)->node, "base-node", merge->lower);
        if (merge->above_path)
            json_set_string(arguments, "top-node", merge->upper);
    } else {
        arguments = json_pack("{s:s}", "device", merge->upper);
        json_set_string(arguments, "base-node", below ? below->node : NULL);
    }
    json_set_string(arguments, "backing-file", merge->backing_name);
    return vm_job_begin(client, merge->down ? "block-commit" : "block-stream", merge->job, arguments, error);
}

static VmJobState
copied_state(const VmMerge *merge)
{
    return merge->down && !merge->above_path ? VM_JOB_READY : VM_JOB_PENDING;
}

static gboolean
copy(VmClient *client, const VmMerge *merge, const Place *place, const KhoJob *job, GError **error)
{
    const char *ids[] = { merge->job, NULL };
    VmJobState state;

    if (!vm_job_look(client, merge->job, &state, error))
        return FALSE;
    if (state == VM_JOB_ABSENT
        && (!reserve_header(merge, error) || !open_files(client, merge, place, error)
            || !begin(client, merge, place, error)))
        return FALSE;
    return vm_jobs_wait(client, ids, copied_state(merge), FALSE, job, error);
}

gboolean
vm_merge_copy(VmClient *client, const VmMerge *merge, const KhoJob *job, GError **error)
{
    g_auto(Place) place = { 0 };
    g_autoptr(GError) more = NULL;
    VmMergeState state;

    if (!place_find(client, merge, &place, error) || !judge(merge, &place, &state, error))
        return FALSE;
    if (state == VM_MERGE_MERGED || copy(client, merge, &place, job, error))
        return TRUE;
    if (vm_client_is_open(client) && !vm_merge_cancel(client, merge, &more))
        g_prefix_error(error, "(and the copying could not be ended: %s) ", more->message);
    return FALSE;
}

gboolean
vm_merge_cancel(VmClient *client, const VmMerge *merge, GError **error)
{
    const char *ids[] = { merge->job, NULL };

    return vm_jobs_cancel(client, ids, error) && tidy(client, merge, error);
}

/* ---- the effect ---- */

static gboolean
fail_gone(const VmMerge *merge, GError **error)
{
    return fail(error, KHO_ERROR_NOT_FOUND, "QEMU has no drive '%s' any more", merge->device);
}

static gboolean
is_paused(VmClient *client, const VmMerge *merge, GError **error)
{
    gboolean runs;

    return guest_runs(client, &runs, error)
           && (!runs
               || fail(error, KHO_ERROR_INVALID, "disk %s goes over to %s only while the guest is paused",
                       merge->device, merge->lower_path));
}

static gboolean
let_go(VmClient *client, const VmMerge *merge, GError **error)
{
    const char *ids[] = { merge->job, NULL };
    VmJobState state;

    if (!vm_job_look(client, merge->job, &state, error))
        return FALSE;
    if (state == VM_JOB_ABSENT)
        return fail(error, KHO_ERROR_NOT_FOUND, "QEMU has no job '%s' that could be finished", merge->job);
    if (copied_state(merge) == VM_JOB_READY && !is_paused(client, merge, error))
        return FALSE;
    return (state != VM_JOB_READY || vm_job_complete(client, merge->job, error))
           && vm_node_flush(client, merge->down ? merge->lower : merge->upper, merge->discard, error)
           && vm_jobs_finish(client, ids, error);
}

static gboolean
delete_node(VmClient *client, const VmNode *node, GError **error)
{
    return !node
           || vm_client_tell(client, "blockdev-del", json_pack("{s:s}", "node-name", node->node),
                             CALL_TIMEOUT_MS, error);
}

/* Takes the layer that is no longer part of the disk out of QEMU, as far as it is still there. Its
 * descriptors first: who finds only its nodes still knows all of it. */
static gboolean
drop(VmClient *client, const char *name, GError **error)
{
    g_autofree char *file_name = g_strconcat(name, "-file", NULL);
    g_autoptr(GError) why = NULL;
    g_autoptr(VmNode) node = vm_node_find(client, name, &why);
    g_autoptr(VmNode) file = why ? NULL : vm_node_find(client, node ? node->file_node : file_name, &why);
    json_auto json_t *sets = why ? NULL : ask(client, "query-fdsets", NULL, &why);

    if (why) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return (!descriptors_of(sets, file)
            || vm_client_tell(client, "kho-close", json_pack("{s:I}", "fdset", (json_int_t) file->fdset),
                              CALL_TIMEOUT_MS, error))
           && delete_node(client, node, error) && delete_node(client, file, error);
}

/* The header that QEMU changed last, and does not flush: the file that it named goes next. */
static gboolean
sync_header(const VmMerge *merge, GError **error)
{
    const char *path = header_path(merge);

    if (!path)
        return TRUE;
    fd_auto int fd = fd_open(path, O_RDONLY, 0, error);
    return fd >= 0 && fd_sync(fd, path, error);
}

gboolean
vm_merge_finish(VmClient *client, const VmMerge *merge, GError **error)
{
    const char *ids[] = { merge->job, NULL };
    VmMergeState state;

    if (!vm_merge_look(client, merge, &state, error) || (state == VM_MERGE_GONE && !fail_gone(merge, error))
        || (state == VM_MERGE_APART && !let_go(client, merge, error)))
        return FALSE;
    /* A job that had its effect may still be there, to be dismissed. */
    return vm_jobs_cancel(client, ids, error) && sync_header(merge, error)
           && drop(client, merge->down ? merge->upper : merge->lower, error) && tidy(client, merge, error);
}
