#include "snapshot/create_live.h"

#include "base/error.h"
#include "snapshot/overlay.h"
#include "vm/argv.h"
#include "vm/blockdev.h"
#include "vm/nodes.h"
#include "vm/runtime.h"

#include <string.h>

#define CALL_TIMEOUT_MS 10000
/* The transaction flushes all disks. */
#define SWITCH_TIMEOUT_MS 60000

/* ---- deciding ---- */

/* What blockdev-add is told of an overlay: what a start would say of the disk's top layer, under names of its
 * own. [file, format] */
static json_t *
describe_nodes(const ModelDomain *live, guint index, const CreateDisk *row, GError **error)
{
    g_autofree char *file_node = g_strconcat(row->overlay_node, "-file", NULL);
    const VmLayer layer = { .fd = 0, .fdset = (gint) row->fdset, .format = "qcow2", .path = row->overlay };
    g_autofree VmDisk *disks = g_new0(VmDisk, live->disks->len);
    g_autoptr(ModelDomain) after = model_domain_copy(live);
    const VmResources resources = {
        .monitor_fd = -1, .kvm = TRUE, .disks = disks, .n_disks = live->disks->len
    };
    json_t *nodes = NULL, *device = NULL;

    disks[index] = (VmDisk){ .layers = &layer, .n_layers = 1 };
    overlay_move_disk(after, row->file, row->overlay, "qcow2");
    if (!vm_argv_disk(after, &resources, index, &nodes, &device, error))
        return NULL;
    json_decref(device);
    g_assert(json_array_size(nodes) == 2);
    json_object_set_new(json_array_get(nodes, 0), "node-name", json_string(file_node));
    json_object_set_new(json_array_get(nodes, 1), "node-name", json_string(row->overlay_node));
    json_object_set_new(json_array_get(nodes, 1), "file", json_string(file_node));
    return nodes;
}

static gboolean
plan_disk(CreateDisk *row, const ModelDomain *live, guint index, VmClient *client, GError **error)
{
    g_autoptr(GPtrArray) layers = vm_nodes_of_device(client, row->alias, error);

    if (!layers)
        return FALSE;
    if (layers->len == 0)
        return fail(error, KHO_ERROR_INVALID, "disk %s of machine '%s' is empty in QEMU", row->target,
                    live->name);
    row->node = g_strdup(((VmNode *) layers->pdata[0])->node);
    json_auto json_t *nodes = describe_nodes(live, index, row, error);
    row->nodes = nodes ? json_line(nodes) : NULL;
    return nodes != NULL;
}

static guint
index_of(const ModelDomain *model, const char *target)
{
    guint i = 0;

    while (i < model->disks->len && strcmp(((ModelDisk *) model->disks->pdata[i])->target, target) != 0)
        i++;
    g_assert(i < model->disks->len);
    return i;
}

gboolean
create_live_plan(CreatePlan *plan, const ModelDomain *live, VmClient *client, GError **error)
{
    gint64 fdset;

    if (!vm_fdset_free_number(client, &fdset, error))
        return FALSE;
    for (guint i = 0; i < plan->disks->len; i++) {
        CreateDisk *row = plan->disks->pdata[i];
        row->overlay_node = g_strdup_printf("overlay-%" G_GINT64_FORMAT, row->number);
        row->fdset = fdset++;
        if (!plan_disk(row, live, index_of(live, row->target), client, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- doing ---- */

/* A disk that its guest has let go of says nothing. */
static gboolean
look_at_disk(const CreateDisk *row, VmClient *client, CreateStanding *standing, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) layers = vm_nodes_of_device(client, row->alias, &why);

    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        standing->gone = row->target;
        return TRUE;
    }
    if (!layers) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    standing->there++;
    for (guint n = 0; n < layers->len; n++)
        standing->switched |= strcmp(((VmNode *) layers->pdata[n])->node, row->overlay_node) == 0;
    return TRUE;
}

gboolean
create_live_look(const CreatePlan *plan, VmClient *client, CreateStanding *standing, GError **error)
{
    *standing = (CreateStanding){ 0 };
    for (guint i = 0; i < plan->disks->len; i++)
        if (!look_at_disk(plan->disks->pdata[i], client, standing, error))
            return FALSE;
    return TRUE;
}

static gboolean
open_overlay(const CreateDisk *row, VmClient *client, GError **error)
{
    json_auto json_t *nodes = json_loads(row->nodes, 0, NULL);

    if (json_array_size(nodes) != 2)
        return fail(error, KHO_ERROR_CORRUPT, "the plan's nodes of disk %s are no list of two", row->target);
    return vm_fdset_open(client, row->fdset, row->overlay, FALSE, error)
           && vm_blockdev_add(client, json_array_get(nodes, 0), error)
           && vm_blockdev_add(client, json_array_get(nodes, 1), error);
}

gboolean
create_live_open(const CreatePlan *plan, VmClient *client, GError **error)
{
    for (guint i = 0; i < plan->disks->len; i++)
        if (!open_overlay(plan->disks->pdata[i], client, error))
            return FALSE;
    return TRUE;
}

gboolean
create_live_switch(const CreatePlan *plan, VmClient *client, GError **error)
{
    json_auto json_t *actions = json_array();

    if (plan->disks->len == 0)
        return TRUE;
    if (!create_live_open(plan, client, error))
        return FALSE;
    for (guint i = 0; i < plan->disks->len; i++) {
        const CreateDisk *row = plan->disks->pdata[i];
        json_array_append_new(actions, json_pack("{s:s,s:{s:s,s:s}}", "type", "blockdev-snapshot", "data",
                                                 "node", row->node, "overlay", row->overlay_node));
    }
    json_auto json_t *done = vm_client_call(client, "transaction", json_pack("{s:O}", "actions", actions),
                                            SWITCH_TIMEOUT_MS, error);
    return done != NULL;
}

gboolean
create_live_take_back(const CreatePlan *plan, VmClient *client, GError **error)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const CreateDisk *row = plan->disks->pdata[i];
        g_autofree char *file_node = g_strconcat(row->overlay_node, "-file", NULL);
        if (!vm_blockdev_drop(client, row->overlay_node, error) || !vm_blockdev_drop(client, file_node, error)
            || !vm_fdset_close(client, row->fdset, error))
            return FALSE;
    }
    return TRUE;
}

/* The planned live XML without the disks that have left it meanwhile. */
static char *
text_without_gone(const StoreTree *tree, const CreatePlan *plan, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, plan->machine);
    gsize len;
    g_autofree char *xml = vm_runtime_live_xml(run_path, &len, error);
    g_autoptr(ModelDomain) now = xml ? model_domain_parse(xml, len, error) : NULL;
    g_autoptr(ModelDomain) after = now ? model_domain_parse(plan->live, strlen(plan->live), error) : NULL;

    for (guint i = after ? after->disks->len : 0; i-- > 0;)
        if (!model_domain_disk(now, ((ModelDisk *) after->disks->pdata[i])->target))
            g_ptr_array_remove_index(after->disks, i);
    return after ? model_domain_format(after, MODEL_FORMAT_LIVE) : NULL;
}

gboolean
create_live_publish(const StoreTree *tree, const CreatePlan *plan, VmClient *client, GError **error)
{
    g_autofree char *text = text_without_gone(tree, plan, error);

    return text
           && vm_client_tell(client, "kho-live-xml", json_pack("{s:s}", "xml", text), CALL_TIMEOUT_MS, error);
}
