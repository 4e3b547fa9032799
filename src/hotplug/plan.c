/* Deciding what plugging a disk will do: definitions, live XML, descriptors, block nodes, all in one plan. */
#include "base/error.h"
#include "hotplug/disk.h"
#include "vm/argv.h"
#include "vm/blockdev.h"
#include "vm/nodes.h"
#include "vm/reach.h"
#include "vm/start.h"
#include "vm/start_disks.h"

#include <glib/gstdio.h>
#include <string.h>

#define CALL_TIMEOUT_MS 5000

ModelDomain *
hotplug_read_disk(const char *disk_xml, GError **error)
{
    g_autofree char *text = g_strdup_printf(
        "<domain type='qemu'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices>"
        "%s</devices></domain>",
        disk_xml);
    g_autoptr(ModelDomain) model = model_domain_parse(text, strlen(text), error);

    if (!model || !model_domain_complete(model, &vm_host_defaults, error))
        return NULL;
    if (model->disks->len != 1) {
        fail(error, KHO_ERROR_INVALID, "the XML must hold one <disk>");
        return NULL;
    }
    return g_steal_pointer(&model);
}

static ModelDisk *
read_disk(const char *disk_xml, GError **error)
{
    g_autoptr(ModelDomain) model = hotplug_read_disk(disk_xml, error);

    return model ? g_ptr_array_steal_index(model->disks, 0) : NULL;
}

static ModelDomain *
read_text(const char *text, const char *name, const char *what, GError **error)
{
    g_autoptr(GError) why = NULL;
    ModelDomain *model = model_domain_parse(text, strlen(text), &why);

    if (!model)
        fail(error, KHO_ERROR_CORRUPT, "the %s of machine '%s' is damaged: %s", what, name, why->message);
    return model;
}

static gboolean
check_target_free(const ModelDomain *model, const ModelDisk *disk, GError **error)
{
    const ModelDisk *other = disk->target ? model_domain_disk(model, disk->target) : NULL;

    if (other)
        return fail(error, KHO_ERROR_EXISTS, "machine '%s' has a disk %s already: %s", model->name,
                    other->target, other->source_file ? other->source_file : "an empty drive");
    return TRUE;
}

static gboolean
is_written(const ModelDisk *disk)
{
    return !disk->readonly && disk->device != MODEL_DISK_CDROM;
}

/* A start would refuse two disks that are one file, unless both only read it. */
static gboolean
check_file_free(const ModelDomain *model, const ModelDisk *disk, GError **error)
{
    GStatBuf wanted, st;

    if (!disk->source_file || g_stat(disk->source_file, &wanted) < 0)
        return TRUE;
    for (guint i = 0; i < model->disks->len; i++) {
        const ModelDisk *other = model->disks->pdata[i];
        if (other->source_file && (is_written(other) || is_written(disk))
            && g_stat(other->source_file, &st) == 0 && st.st_dev == wanted.st_dev
            && st.st_ino == wanted.st_ino)
            return fail(error, KHO_ERROR_EXISTS,
                        "%s is disk %s of machine '%s' already: give %s a file of its own", disk->source_file,
                        other->target, model->name, disk->target);
    }
    return TRUE;
}

/* The definition with one disk more, checked as define checks it. */
static char *
definition_with(const HotplugRequest *request, const char *disk_xml, GError **error)
{
    g_autoptr(ModelDomain) model = read_text(request->definition, request->name, "definition", error);
    ModelDisk *disk = model ? read_disk(disk_xml, error) : NULL;

    if (!disk)
        return NULL;
    gboolean is_free = check_target_free(model, disk, error) && check_file_free(model, disk, error);
    g_ptr_array_add(model->disks, disk);
    if (!is_free || !model_domain_complete(model, &vm_host_defaults, error) || !vm_argv_check(model, error))
        return NULL;
    return model_domain_format(model, MODEL_FORMAT_INACTIVE);
}

/* A copy of the machine that runs with this disk alone, so that only its image is looked at. */
static ModelDomain *
alone(const ModelDomain *live, const char *disk_xml, GError **error)
{
    g_autoptr(ModelDomain) model = model_domain_copy(live);
    ModelDisk *disk = read_disk(disk_xml, error);

    if (!disk)
        return NULL;
    g_ptr_array_set_size(model->disks, 0);
    g_ptr_array_add(model->disks, disk);
    model_domain_assign_aliases(model);
    return g_steal_pointer(&model);
}

/* The files as kho-vm is to open them, with the fdsets that the layers then name. */
static json_t *
files_json(const VmPlan *plan, const VmStartDisks *disks, gint64 first_fdset)
{
    VmLayer *layers = disks->layers->pdata[0];
    json_t *files = json_array();

    for (guint i = 0; i < plan->files->len; i++) {
        const VmPlanFile *file = plan->files->pdata[i];
        layers[i].fdset = (gint) (first_fdset + i);
        json_array_append_new(files, json_pack("{s:s,s:b,s:i}", "path", file->path, "read-only",
                                               file->read_only, "fdset", layers[i].fdset));
    }
    return files;
}

static char *
live_with(const ModelDomain *live, ModelDomain *one)
{
    g_autoptr(ModelDomain) after = model_domain_copy(live);

    g_ptr_array_add(after->disks, g_ptr_array_steal_index(one->disks, 0));
    return model_domain_format(after, MODEL_FORMAT_LIVE);
}

/* {"files", "nodes", "device", "xml"} */
static json_t *
plan_live(const HotplugRequest *request, const char *disk_xml, GError **error)
{
    g_autoptr(ModelDomain) live = read_text(request->live_xml, request->name, "live XML", error);
    g_autoptr(ModelDomain) one = live ? alone(live, disk_xml, error) : NULL;
    g_autoptr(VmPlan) plan = vm_plan_new();
    g_auto(VmStartDisks) disks = { 0 };
    g_autoptr(VmClient) client = NULL;
    json_t *nodes, *device;
    gint64 fdset;

    if (!one || !check_target_free(live, one->disks->pdata[0], error)
        || !vm_start_disks_find(one, plan, &disks, error)
        || !vm_reach(request->tree, request->name, &client, error))
        return NULL;
    if (disks.layers->len == 0) {
        fail(error, KHO_ERROR_UNSUPPORTED,
             "a drive without a file cannot be plugged into a machine that runs");
        return NULL;
    }
    if (!client) {
        fail(error, KHO_ERROR_INVALID, "machine '%s' has just ended", request->name);
        return NULL;
    }
    if (!vm_fdset_free_number(client, &fdset, error))
        return NULL;
    json_auto json_t *files = files_json(plan, &disks, fdset);
    const VmResources resources = { .monitor_fd = -1,
                                    .disks = (const VmDisk *) (void *) disks.disks->data,
                                    .n_disks = 1 };
    if (!vm_argv_disk(one, &resources, 0, &nodes, &device, error))
        return NULL;
    g_autofree char *xml = live_with(live, one);
    return json_pack("{s:s,s:O,s:o,s:o,s:s}", "alias", json_string_or(device, "id", ""), "files", files,
                     "nodes", nodes, "device", device, "xml", xml);
}

static json_t *
definition_json(const HotplugRequest *request, const char *text)
{
    return json_pack("{s:s,s:s}", "old", request->definition, "new", text);
}

json_t *
hotplug_plan_attach(const HotplugRequest *request, const char *disk_xml, GError **error)
{
    json_auto json_t *plan = json_pack("{s:s}", "name", request->name);

    if (request->definition) {
        g_autofree char *text = definition_with(request, disk_xml, error);
        if (!text)
            return NULL;
        json_object_set_new(plan, "definition", definition_json(request, text));
    }
    if (request->live_xml) {
        json_t *live = plan_live(request, disk_xml, error);
        if (!live)
            return NULL;
        json_object_set_new(plan, "live", live);
    }
    return json_steal(&plan);
}

/* ---- taking a disk out ---- */

static gint
find_disk(const ModelDomain *model, const char *which, GError **error)
{
    ModelDisk *disk = model_domain_disk(model, which);
    guint index;

    if (disk && g_ptr_array_find(model->disks, disk, &index))
        return (gint) index;
    fail(error, KHO_ERROR_NOT_FOUND, "machine '%s' has no disk '%s': `kho domblklist` shows what it has",
         model->name, which);
    return -1;
}

static char *
definition_without(const HotplugRequest *request, const char *which, GError **error)
{
    g_autoptr(ModelDomain) model = read_text(request->definition, request->name, "definition", error);
    gint index = model ? find_disk(model, which, error) : -1;

    if (index < 0)
        return NULL;
    g_ptr_array_remove_index(model->disks, (guint) index);
    if (!model_domain_complete(model, &vm_host_defaults, error))
        return NULL;
    return model_domain_format(model, MODEL_FORMAT_INACTIVE);
}

/* The nodes in the order in which they were added, and their files, as plan_live has them. */
static void
add_layers(const GPtrArray *layers, json_t *nodes, json_t *files)
{
    for (guint i = layers->len; i-- > 0;) {
        const VmNode *layer = layers->pdata[i];
        json_array_append_new(nodes, json_pack("{s:s}", "node-name", layer->file_node));
        json_array_append_new(nodes, json_pack("{s:s}", "node-name", layer->node));
        if (layer->fdset >= 0)
            json_array_append_new(files, json_pack("{s:I}", "fdset", (json_int_t) layer->fdset));
    }
}

static json_t *
plan_live_without(const HotplugRequest *request, const char *which, GError **error)
{
    g_autoptr(ModelDomain) live = read_text(request->live_xml, request->name, "live XML", error);
    gint index = live ? find_disk(live, which, error) : -1;
    g_autoptr(VmClient) client = NULL;

    if (index < 0 || !vm_reach(request->tree, request->name, &client, error))
        return NULL;
    if (!client) {
        fail(error, KHO_ERROR_INVALID, "machine '%s' has just ended", request->name);
        return NULL;
    }
    const ModelDisk *disk = live->disks->pdata[index];
    g_autofree char *alias = g_strdup(disk->alias);
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) layers = vm_nodes_of_device(client, alias, &why);
    /* a guest that has let go of it since: kho-vm sees to the nodes */
    if (!layers && !g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    json_t *nodes = json_array(), *files = json_array();
    if (layers)
        add_layers(layers, nodes, files);
    g_ptr_array_remove_index(live->disks, (guint) index);
    g_autofree char *xml = model_domain_format(live, MODEL_FORMAT_LIVE);
    return json_pack("{s:s,s:o,s:o,s:s}", "alias", alias, "files", files, "nodes", nodes, "xml", xml);
}

/* Adds a part of a plan; where it has none because the disk is not there, *absent says so instead. */
static gboolean
add_part(json_t *plan, const char *which, json_t *part, GError *why, GError **absent, GError **error)
{
    if (part) {
        json_object_set_new(plan, which, part);
        return TRUE;
    }
    if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, why);
        return FALSE;
    }
    g_clear_error(absent);
    *absent = why;
    return TRUE;
}

/* A disk that is in one of both places only is taken out of that one: an earlier attempt came so far. */
json_t *
hotplug_plan_detach(const HotplugRequest *request, const char *which, GError **error)
{
    json_auto json_t *plan = json_pack("{s:s}", "name", request->name);
    g_autoptr(GError) absent = NULL;
    GError *why = NULL;

    if (request->definition) {
        g_autofree char *text = definition_without(request, which, &why);
        if (!add_part(plan, "definition", text ? definition_json(request, text) : NULL, why, &absent, error))
            return NULL;
    }
    if (request->live_xml) {
        why = NULL;
        json_t *live = plan_live_without(request, which, &why);
        if (!add_part(plan, "live", live, why, &absent, error))
            return NULL;
    }
    if (json_object_size(plan) > 1)
        return json_steal(&plan);
    g_propagate_error(error, g_steal_pointer(&absent));
    return NULL;
}
