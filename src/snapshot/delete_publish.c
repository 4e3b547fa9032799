#include "snapshot/delete_publish.h"

#include "base/error.h"
#include "snapshot/closed.h"
#include "snapshot/overlay.h"
#include "vm/definition.h"
#include "vm/runtime.h"

#include <string.h>

#define CALL_TIMEOUT_MS 10000

/* A merge writes files that other snapshots closed, or their headers, and what these read stays the same. */
gboolean
delete_note_written(const DeleteChange *change, GError **error)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();

    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        g_ptr_array_add(paths, row->file);
        if (row->follower)
            g_ptr_array_add(paths, row->follower);
        for (guint n = 0; n < row->above->len; n++)
            g_ptr_array_add(paths, ((DeleteAbove *) row->above->pdata[n])->path);
    }
    return paths->len == 0 || closed_note_again(change->tree, change->plan->machine, paths, error);
}

/* Lets the disks of @model name the file that is left of two. */
static gboolean
rename_in_domain(const DeletePlan *plan, ModelDomain *model)
{
    gboolean changed = FALSE;

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (delete_goes(row, DELETE_DOWN) && !row->apart)
            changed |= overlay_move_disk(model, row->follower, row->file, row->format);
    }
    return changed;
}

gboolean
delete_publish_definition(const DeleteChange *change, GError **error)
{
    const char *machine = change->plan->machine;
    g_autoptr(ModelDomain) model = vm_definition(change->tree, machine, error);

    if (!model || !rename_in_domain(change->plan, model))
        return model != NULL;
    g_autofree char *text = model_domain_format(model, MODEL_FORMAT_INACTIVE);
    return vm_definition_publish(change->tree, machine, text, error);
}

gboolean
delete_publish_live(const DeleteChange *change, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(change->tree, change->plan->machine);
    g_autoptr(VmClient) client = NULL;
    gsize len;

    if (!delete_reach(change, &client, error))
        return FALSE;
    if (!client)
        return TRUE;
    g_autofree char *xml = vm_runtime_live_xml(run_path, &len, error);
    g_autoptr(ModelDomain) model = xml ? model_domain_parse(xml, len, error) : NULL;
    if (!model || !rename_in_domain(change->plan, model))
        return model != NULL;
    g_autofree char *text = model_domain_format(model, MODEL_FORMAT_LIVE);
    json_auto json_t *done =
        vm_client_call(client, "kho-live-xml", json_pack("{s:s}", "xml", text), CALL_TIMEOUT_MS, error);
    return done != NULL;
}

/* Lets @snapshot name the file that is left of two; the one that is being deleted does not name what is gone,
 * nor what is about to go: a named file that is missing holds others up. */
static gboolean
rename_in_snapshot(const DeletePlan *plan, ModelSnapshot *snapshot)
{
    gboolean own = strcmp(snapshot->name, plan->name) == 0, changed = FALSE;

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (row->apart)
            continue;
        if (own)
            changed |= model_snapshot_drop_file(snapshot, row->target);
        else if (delete_goes(row, DELETE_DOWN))
            changed |= model_snapshot_move_file(snapshot, row->follower, row->file, row->format);
        else if (delete_goes(row, DELETE_UP) && !row->keep_file)
            changed |= model_snapshot_move_file(snapshot, row->file, row->follower, "qcow2");
    }
    return changed;
}

gboolean
delete_publish_snapshots(const DeleteChange *change, gboolean reparent, GError **error)
{
    const DeletePlan *plan = change->plan;
    /* the way to be rid of those that are damaged, which changes no files */
    g_autoptr(GPtrArray) all = plan->disks->len > 0 ? snapshot_read_all(change->tree, plan->machine, error)
                                                    : snapshot_read_sound(change->tree, plan->machine, error);

    for (guint i = 0; all && i < all->len; i++) {
        ModelSnapshot *snapshot = all->pdata[i];
        gboolean child = reparent && g_strcmp0(snapshot->parent, plan->name) == 0;
        if (child) {
            g_free(snapshot->parent);
            snapshot->parent = g_strdup(plan->parent);
        }
        if ((rename_in_snapshot(plan, snapshot) || child)
            && !snapshot_write(change->tree, plan->machine, snapshot, error))
            return FALSE;
    }
    return all != NULL;
}
