#include "hotplug/disk.h"

#include "base/error.h"
#include "base/pipe.h"
#include "vm/blockdev.h"
#include "vm/definition.h"
#include "vm/reach.h"

#include <string.h>

#define CALL_TIMEOUT_MS 10000

/* How long a guest has to let go of a disk; virsh waits as long. */
#define UNPLUG_TIMEOUT_MS 5000

typedef struct {
    const StoreTree *tree;
    const json_t *plan, *definition, *live; /* the last two: NULL where they are left alone */
    const char *name;
    VmClient *client; /* NULL until needed, and where no machine runs */
} Plug;

static gpointer
plug_open(const json_t *plan, gpointer data, GError **error)
{
    Plug *plug = g_new0(Plug, 1);

    *plug = (Plug){
        .tree = data,
        .plan = plan,
        .definition = json_object_get(plan, "definition"),
        .live = json_object_get(plan, "live"),
        .name = json_string_or(plan, "name", NULL),
    };
    if (plug->name && (plug->definition || plug->live))
        return plug;
    g_free(plug);
    fail(error, KHO_ERROR_CORRUPT, "the plan of a disk names no machine");
    return NULL;
}

static void
plug_close(gpointer context)
{
    Plug *plug = context;

    vm_client_close(plug->client);
    g_free(plug);
}

/* ---- the definition ---- */

static gboolean
publish(const Plug *plug, const char *which, GError **error)
{
    const char *text = plug->definition ? json_string_or(plug->definition, which, NULL) : NULL;

    return !text || vm_definition_publish(plug->tree, plug->name, text, error);
}

static gboolean
definition_run(gpointer context, const KhoJob *job, GError **error)
{
    return publish(context, "new", error);
}

static gboolean
definition_undo(gpointer context, GError **error)
{
    return publish(context, "old", error);
}

/* ---- QEMU ---- */

/* *runs: whether there is a machine to talk to, and it is to be talked to. */
static gboolean
reach(Plug *plug, gboolean *runs, GError **error)
{
    if (plug->client && !vm_client_is_open(plug->client))
        g_clear_pointer(&plug->client, vm_client_close);
    if (plug->live && !plug->client && !vm_reach(plug->tree, plug->name, &plug->client, error))
        return FALSE;
    *runs = plug->client != NULL;
    return TRUE;
}

/* The same, where a machine that was to be changed while it runs must run. */
static gboolean
reach_for_change(Plug *plug, gboolean *runs, GError **error)
{
    if (!reach(plug, runs, error))
        return FALSE;
    return *runs || !plug->live || fail(error, KHO_ERROR_INVALID, "machine '%s' ended meanwhile", plug->name);
}

static gboolean
check_not_cancelled(const Plug *plug, const KhoJob *job, GError **error)
{
    return !kho_job_is_cancelled(job)
           || fail(error, KHO_ERROR_CANCELLED, "cancelled: machine '%s' is as it was", plug->name);
}

static gboolean
tell(Plug *plug, const char *command, json_t *arguments, GError **error)
{
    return vm_client_tell(plug->client, command, arguments, CALL_TIMEOUT_MS, error);
}

static gboolean
has_device(Plug *plug, gboolean *there, GError **error)
{
    const char *alias = json_string_or(plug->live, "alias", "");
    json_auto json_t *devices = vm_client_call(
        plug->client, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), CALL_TIMEOUT_MS, error);
    size_t i;
    json_t *device;

    *there = FALSE;
    json_array_foreach (devices, i, device)
        *there |= strcmp(json_string_or(device, "name", ""), alias) == 0;
    return devices != NULL;
}

static gboolean
open_files(Plug *plug, GError **error)
{
    json_t *files = json_object_get(plug->live, "files"), *file;
    size_t i;

    json_array_foreach (files, i, file)
        if (!vm_fdset_open(plug->client, json_int_or(file, "fdset", -1), json_string_or(file, "path", ""),
                           json_is_true(json_object_get(file, "read-only")), error))
            return FALSE;
    return TRUE;
}

static gboolean
add_nodes(Plug *plug, GError **error)
{
    json_t *nodes = json_object_get(plug->live, "nodes"), *node;
    size_t i;

    json_array_foreach (nodes, i, node)
        if (!vm_blockdev_add(plug->client, node, error))
            return FALSE;
    return TRUE;
}

static gboolean
files_run(gpointer context, const KhoJob *job, GError **error)
{
    Plug *plug = context;
    gboolean runs;

    return reach_for_change(plug, &runs, error)
           && (!runs || (open_files(plug, error) && add_nodes(plug, error)));
}

/* Takes the nodes away, highest first, and then their files. */
static gboolean
files_undo(gpointer context, GError **error)
{
    Plug *plug = context;
    json_t *nodes = json_object_get(plug->live, "nodes"), *files = json_object_get(plug->live, "files"),
           *file;
    gboolean runs;
    size_t i;

    if (!reach(plug, &runs, error))
        return FALSE;
    if (!runs)
        return TRUE;
    for (i = json_array_size(nodes); i-- > 0;)
        if (!vm_blockdev_drop(plug->client, json_string_or(json_array_get(nodes, i), "node-name", ""), error))
            return FALSE;
    json_array_foreach (files, i, file)
        if (!vm_fdset_close(plug->client, json_int_or(file, "fdset", -1), error))
            return FALSE;
    return TRUE;
}

static gboolean
add_device(Plug *plug, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (tell(plug, "device_add", json_deep_copy(json_object_get(plug->live, "device")), &why))
        return TRUE;
    if (strstr(why->message, "does not support hotplugging"))
        return fail(
            error, KHO_ERROR_UNSUPPORTED,
            "machine '%s' takes no device on that bus while it runs (on pci, its <features> need <acpi/>): "
            "--config plugs it in at the next start",
            plug->name);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean
plug_run(gpointer context, const KhoJob *job, GError **error)
{
    Plug *plug = context;
    gboolean runs, there;

    if (!check_not_cancelled(plug, job, error) || !reach_for_change(plug, &runs, error))
        return FALSE;
    return !runs || (has_device(plug, &there, error) && (there || add_device(plug, error)));
}

static gboolean
plug_decide(gpointer context, ChangeDirection *direction, GError **error)
{
    Plug *plug = context;
    gboolean runs = FALSE, there = FALSE;

    if (!reach(plug, &runs, error) || (runs && !has_device(plug, &there, error)))
        return FALSE;
    *direction = there ? CHANGE_FORWARD : CHANGE_BACK;
    return TRUE;
}

static gboolean
live_xml_run(gpointer context, const KhoJob *job, GError **error)
{
    Plug *plug = context;
    gboolean runs;

    if (!reach(plug, &runs, error))
        return FALSE;
    return !runs
           || tell(plug, "kho-live-xml", json_pack("{s:s}", "xml", json_string_or(plug->live, "xml", "")),
                   error);
}

static const ChangeStep attach_steps[] = {
    { .name = "definition", .run = definition_run, .undo = definition_undo },
    { .name = "files", .run = files_run, .undo = files_undo },
    { .name = "plug", .run = plug_run },
    { .name = "live-xml", .run = live_xml_run },
};

const ChangeKind hotplug_attach_disk = {
    .name = "attach-disk",
    .steps = attach_steps,
    .n_steps = G_N_ELEMENTS(attach_steps),
    .no_return = 2,
    .open = plug_open,
    .close = plug_close,
    .decide = plug_decide,
};

/* ---- unplugging ---- */

/* Waits until QEMU says that the device is gone. */
static gboolean
wait_deleted(Plug *plug, const char *alias, GError **error)
{
    gint64 deadline_ms = deadline_in(UNPLUG_TIMEOUT_MS);
    g_autoptr(GError) why = NULL;

    for (;;) {
        json_auto json_t *event = vm_client_next_event(plug->client, deadline_ms, &why);
        const json_t *data = json_object_get(event, "data");
        if (!event)
            break;
        if (strcmp(json_string_or(event, "event", ""), "DEVICE_DELETED") == 0
            && strcmp(json_string_or(data, "device", ""), alias) == 0)
            return TRUE;
        if (strcmp(json_string_or(event, "event", ""), "DEVICE_UNPLUG_GUEST_ERROR") == 0
            && strcmp(json_string_or(data, "device", ""), alias) == 0)
            return fail(error, KHO_ERROR_BUSY,
                        "the guest of machine '%s' keeps the disk: is it mounted there?", plug->name);
    }
    g_clear_pointer(&plug->client, vm_client_close);
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT))
        return fail(
            error, KHO_ERROR_TIMEOUT,
            "the guest of machine '%s' did not let go of the disk in %d s, and has it until it does: has its "
            "operating system started, and is the disk unmounted there?",
            plug->name, UNPLUG_TIMEOUT_MS / 1000);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* Who sees to the end of the device: kho-vm, whenever that comes, or, with @later FALSE, this driver. A
 * kho-vm of an older version does not know the word. */
static gboolean
hand_over(Plug *plug, gboolean later, GError **error)
{
    json_t *arguments = json_pack("{s:s}", "device", json_string_or(plug->live, "alias", ""));
    json_t *names = json_array(), *node;
    g_autoptr(GError) why = NULL;
    size_t i;

    json_array_foreach (json_object_get(plug->live, "nodes"), i, node)
        json_array_append(names, json_object_get(node, "node-name"));
    if (later)
        json_object_set(arguments, "nodes", names);
    json_decref(names);
    if (tell(plug, "kho-unplug", arguments, &why) || strstr(why->message, "has not been found"))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* A guest that did not follow in time may still do so: asking twice is no error. */
static gboolean
ask_unplug(Plug *plug, const char *alias, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (tell(plug, "device_del", json_pack("{s:s}", "id", alias), &why)
        || strstr(why->message, "already in the process of unplug"))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean
unplug_run(gpointer context, const KhoJob *job, GError **error)
{
    Plug *plug = context;
    const char *alias = json_string_or(plug->live, "alias", "");
    gboolean runs, there;

    if (!check_not_cancelled(plug, job, error) || !reach_for_change(plug, &runs, error))
        return FALSE;
    if (!runs)
        return TRUE;
    if (!has_device(plug, &there, error))
        return FALSE;
    return !there
           || (hand_over(plug, FALSE, error) && ask_unplug(plug, alias, error)
               && wait_deleted(plug, alias, error));
}

/* It cannot be taken back that QEMU was asked: what follows when the guest lets go is kho-vm's from now on.
 */
static gboolean
unplug_undo(gpointer context, GError **error)
{
    Plug *plug = context;
    gboolean runs;

    return reach(plug, &runs, error) && (!runs || hand_over(plug, TRUE, error));
}

/* Gone is gone; where the guest still has it, or no machine runs any more, nothing was taken out. */
static gboolean
unplug_decide(gpointer context, ChangeDirection *direction, GError **error)
{
    Plug *plug = context;
    gboolean runs, there = TRUE;

    if (!reach(plug, &runs, error) || (runs && !has_device(plug, &there, error)))
        return FALSE;
    *direction = there ? CHANGE_BACK : CHANGE_FORWARD;
    return TRUE;
}

static gboolean
release_run(gpointer context, const KhoJob *job, GError **error)
{
    return files_undo(context, error);
}

static const ChangeStep detach_steps[] = {
    { .name = "definition", .run = definition_run, .undo = definition_undo },
    { .name = "unplug", .run = unplug_run, .undo = unplug_undo },
    { .name = "files", .run = release_run },
    { .name = "live-xml", .run = live_xml_run },
};

const ChangeKind hotplug_detach_disk = {
    .name = "detach-disk",
    .steps = detach_steps,
    .n_steps = G_N_ELEMENTS(detach_steps),
    .no_return = 1,
    .open = plug_open,
    .close = plug_close,
    .decide = unplug_decide,
};
