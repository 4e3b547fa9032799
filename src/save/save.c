/* save-memory, publish!, end-machine.
 *
 *   when          guest          PART     FILE
 *   before        as it was      -        -
 *   save-memory   stands still   grows    -       undo: goes on, PART is removed
 *   publish       stands still   whole    -       undo: the same
 *   published     stands still   -        whole   only forward: its memory belongs to FILE now
 *   end-machine   -              -        whole
 *
 * From "published" on the guest must not run again: what it wrote to its disks would not be in FILE. */
#include "save/save.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"
#include "vm/log.h"
#include "vm/migrate.h"
#include "vm/ramfile.h"
#include "vm/reach.h"
#include "vm/runtime.h"
#include "vm/stamp.h"
#include "vm/topology.h"

#include <fcntl.h>
#include <string.h>

#define PLAN_VERSION    1
#define LABEL           "the plan of a save"
#define CALL_TIMEOUT_MS 60000
/* What QEMU writes beside the guest's memory: video memory, the devices' state. */
#define BESIDE_BYTES (64 * MIB)

typedef struct {
    const StoreTree *tree;
    char *name, *uuid, *file, *part, *live_xml;
    char *definition;   /* NULL: none */
    char *left;         /* what could not be removed, and why; NULL: nothing */
    char *pause_reason; /* NULL: it ran */
    gboolean replaces;  /* FILE stood and may go */
    gboolean stays_paused;
    gint64 saved_ms; /* with the uuid, what tells this save's file from any other */
} Save;

/* ---- the plan ---- */

/* What stands at @file may be replaced if it is this machine's memory of an earlier time. */
static gboolean
check_file(const SaveRequest *request, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!entry_exists(AT_FDCWD, request->file))
        return TRUE;
    g_autoptr(VmSaveHead) head = vm_ramfile_read(request->file, &why);
    g_autoptr(ModelDomain) other =
        head ? model_domain_parse(head->live_xml, strlen(head->live_xml), NULL) : NULL;
    if (other && g_strcmp0(other->uuid, request->live->uuid) == 0)
        return TRUE;
    if (other)
        return fail(error, KHO_ERROR_EXISTS, "%s holds the memory of machine '%s': choose another name",
                    request->file, other->name);
    return fail(error, KHO_ERROR_EXISTS, "%s exists and is no save file of machine '%s': choose another name",
                request->file, request->live->name);
}

static gboolean
check_room(const SaveRequest *request, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(request->file);
    guint64 need = request->live->memory_kib * KIB + BESIDE_BYTES;
    FdUsage usage;

    if (!fd_usage(folder, &usage, error))
        return FALSE;
    if (usage.available_bytes >= need)
        return TRUE;
    g_autofree char *wanted = num_format_size(need), *there = num_format_size(usage.available_bytes);
    return fail(error, KHO_ERROR_NO_SPACE, "the memory of machine '%s' may need %s, and %s has %s left",
                request->live->name, wanted, folder, there);
}

/* Beside FILE, so that it can be renamed; by the machine's uuid, so that no two saves share one. */
static char *
part_of(const char *file, const char *uuid)
{
    g_autofree char *folder = g_path_get_dirname(file);
    g_autofree char *name = g_strdup_printf(".%s.kho-tmp", uuid);

    return g_build_filename(folder, name, NULL);
}

json_t *
save_plan_make(const SaveRequest *request, GError **error)
{
    g_autofree char *part = part_of(request->file, request->live->uuid);
    g_autofree char *folder = g_path_get_dirname(request->file);

    if (!entry_check_writable(folder, error) || !check_room(request, error) || !check_file(request, error))
        return NULL;
    json_t *plan = json_object();
    json_object_set_new(plan, "version", json_integer(PLAN_VERSION));
    json_set_string(plan, "name", request->live->name);
    json_set_string(plan, "uuid", request->live->uuid);
    json_set_string(plan, "file", request->file);
    json_set_string(plan, "part", part);
    json_set_string(plan, "live-xml", request->live_xml);
    json_set_string(plan, "definition", request->definition);
    json_set_string(plan, "pause-reason", request->pause_reason);
    json_object_set_new(plan, "replaces", json_boolean(entry_exists(AT_FDCWD, request->file)));
    json_object_set_new(plan, "stays-paused", json_boolean(request->stays_paused));
    json_object_set_new(plan, "saved-ms", json_integer(clock_wall_ms()));
    return plan;
}

static void
save_close(gpointer context)
{
    Save *save = context;

    g_free(save->name);
    g_free(save->uuid);
    g_free(save->file);
    g_free(save->part);
    g_free(save->live_xml);
    g_free(save->definition);
    g_free(save->pause_reason);
    g_free(save->left);
    g_free(save);
}

static gpointer
save_open(const json_t *plan, gpointer tree, GError **error)
{
    Save *save = g_new0(Save, 1);
    gint64 version = 0;

    save->tree = tree;
    gboolean good =
        json_get_int(plan, "version", LABEL, &version, error)
        && (version == PLAN_VERSION
            || fail(error, KHO_ERROR_UNSUPPORTED, LABEL " has version %d: use a newer kho", (int) version))
        && json_get_string(plan, "name", LABEL, &save->name, error)
        && json_get_string(plan, "uuid", LABEL, &save->uuid, error)
        && json_get_string(plan, "file", LABEL, &save->file, error)
        && json_get_string(plan, "part", LABEL, &save->part, error)
        && json_get_string(plan, "live-xml", LABEL, &save->live_xml, error)
        && json_opt_string(plan, "definition", LABEL, &save->definition, error)
        && json_opt_string(plan, "pause-reason", LABEL, &save->pause_reason, error)
        && json_get_bool(plan, "replaces", LABEL, &save->replaces, error)
        && json_get_bool(plan, "stays-paused", LABEL, &save->stays_paused, error)
        && json_get_int(plan, "saved-ms", LABEL, &save->saved_ms, error);
    if (good)
        return save;
    save_close(save);
    return NULL;
}

/* ---- the steps ---- */

/* QEMU's word for what the guest does: "running", "paused", "postmigrate", ...; NULL with @error. */
static char *
ask_state(VmClient *client, GError **error)
{
    json_auto json_t *answer = vm_client_call(client, "query-status", NULL, CALL_TIMEOUT_MS, error);

    return answer ? g_strdup(json_string_or(answer, "status", "unknown")) : NULL;
}

static VmSaveHead *
make_head(const Save *save, VmClient *client, GError **error)
{
    g_autoptr(VmSaveHead) head = vm_savehead_new();

    head->paused = save->stays_paused;
    head->saved_ms = save->saved_ms;
    head->inactive_xml = g_strdup(save->definition);
    head->live_xml = vm_topology_pin_xml(client, save->live_xml, error);
    if (!head->live_xml || !vm_topology_version(client, &head->qemu_version, error))
        return NULL;
    return g_steal_pointer(&head);
}

/* The guest is stopped from the start, so that no page of its memory is written twice. */
static gboolean
write_memory(const Save *save, VmClient *client, VmSaveHead *head, const KhoJob *job, GError **error)
{
    g_autoptr(ModelDomain) live = model_domain_parse(save->live_xml, strlen(save->live_xml), error);

    if (!live
        || !vm_client_tell(client, "kho-state", json_pack("{s:s,s:s}", "state", "paused", "reason", "saving"),
                           CALL_TIMEOUT_MS, error)
        || !vm_client_tell(client, "stop", NULL, CALL_TIMEOUT_MS, error)
        || !vm_migrate_out(client, save->part, head->stream_off, job, error))
        return FALSE;
    g_autofree char *stamps = vm_stamps_take(live, error);
    return stamps && vm_ramfile_finish(save->part, head, stamps, job, error);
}

static gboolean
save_memory(const Save *save, const KhoJob *job, GError **error)
{
    g_autoptr(VmClient) client = NULL;

    if (!vm_reach_own(save->tree, save->name, save->uuid, &client, error))
        return FALSE;
    if (!client)
        return fail(error, KHO_ERROR_INVALID, "it has ended");
    g_autoptr(VmSaveHead) head = make_head(save, client, error);
    return head && entry_remove_if_there(save->part, error) && vm_ramfile_make(save->part, head, error)
           && write_memory(save, client, head, job, error);
}

/* Says what became of the machine, where that is why. */
static gboolean
run_save_memory(gpointer context, const KhoJob *job, GError **error)
{
    const Save *save = context;
    g_autoptr(VmClient) client = NULL;
    g_autoptr(GError) why = NULL;

    if (save_memory(save, job, &why))
        return TRUE;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_IO)
        && vm_reach_own(save->tree, save->name, save->uuid, &client, NULL) && !client) {
        g_autofree char *log = store_path_log(save->tree, save->name);
        g_autofree char *reason = vm_runtime_last_end(log, NULL);
        return fail(error, KHO_ERROR_IO,
                    "machine '%s' ended while its memory was written (%s): its log is %s", save->name, reason,
                    log);
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "machine '%s' was not saved: ", save->name);
    return FALSE;
}

/* The guest does what it did before; that comes first, since it waits for it. */
static gboolean
go_on(const Save *save, VmClient *client, GError **error)
{
    const char *state = save->pause_reason ? "paused" : "running";
    const char *reason = save->pause_reason ? save->pause_reason : "save canceled";
    g_autofree char *now = vm_migrate_cancel(client, error) ? ask_state(client, error) : NULL;

    if (!now || strcmp(now, "running") == 0)
        return now != NULL;
    return vm_client_tell(client, "kho-state", json_pack("{s:s,s:s}", "state", state, "reason", reason),
                          CALL_TIMEOUT_MS, error)
           && (save->pause_reason || vm_client_tell(client, "cont", NULL, CALL_TIMEOUT_MS, error));
}

static gboolean
undo_save_memory(gpointer context, GError **error)
{
    Save *save = context;
    g_autoptr(VmClient) client = NULL;
    g_autoptr(GError) why = NULL;

    if (!vm_reach_own(save->tree, save->name, save->uuid, &client, error)
        || (client && !go_on(save, client, error)))
        return FALSE;
    if (!entry_remove_if_there(save->part, &why)) {
        g_free(save->left);
        save->left = g_strdup(why->message);
    }
    return TRUE;
}

static const char *
left_by(gpointer context)
{
    return ((const Save *) context)->left;
}

/* Whether FILE is what this save wrote. */
static gboolean
is_published(const Save *save)
{
    g_autoptr(VmSaveHead) head = vm_ramfile_read(save->file, NULL);
    g_autoptr(ModelDomain) model =
        head ? model_domain_parse(head->live_xml, strlen(head->live_xml), NULL) : NULL;

    return model && head->saved_ms == save->saved_ms && g_strcmp0(model->uuid, save->uuid) == 0;
}

/* What came to stand there meanwhile is not replaced. */
static gboolean
name_file(const Save *save, GError **error)
{
    g_autofree char *folder_path = g_path_get_dirname(save->file);
    g_autofree char *part = g_path_get_basename(save->part);
    g_autofree char *name = g_path_get_basename(save->file);
    fd_auto int folder = fd_open(folder_path, O_RDONLY | O_DIRECTORY, 0, error);

    return folder >= 0 && entry_rename(folder, part, name, save->replaces, save->file, error)
           && fd_sync(folder, folder_path, error);
}

static gboolean
run_publish(gpointer context, const KhoJob *job, GError **error)
{
    const Save *save = context;
    g_autoptr(VmClient) client = NULL;

    if (is_published(save))
        return fd_sync_parent(save->file, error);
    if (!vm_reach_own(save->tree, save->name, save->uuid, &client, error))
        return FALSE;
    g_autofree char *state = client ? ask_state(client, error) : NULL;
    if (client && !state)
        return FALSE;
    if (state && strcmp(state, "postmigrate") != 0)
        return fail(error, KHO_ERROR_BUSY, "machine '%s' was let go on, or reset, while it was saved",
                    save->name);
    return name_file(save, error);
}

/* What is in FILE is not given up. Otherwise the guest goes on; where its QEMU has ended meanwhile, its
 * memory is whole in PART, and goes on being saved. */
static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    const Save *save = context;
    g_autoptr(VmClient) client = NULL;

    *direction = CHANGE_FORWARD;
    if (is_published(save))
        return TRUE;
    if (!vm_reach_own(save->tree, save->name, save->uuid, &client, error))
        return FALSE;
    if (client || !entry_exists(AT_FDCWD, save->part))
        *direction = CHANGE_BACK;
    return TRUE;
}

/* A QEMU that ended before it was asked to was told of as crashed; what the log says last counts. */
static void
log_saved(const Save *save)
{
    g_autofree char *path = store_path_log(save->tree, save->name);
    g_autofree char *last = vm_runtime_last_end(path, NULL);
    g_autoptr(VmLog) log = g_strcmp0(last, "saved") == 0 ? NULL : vm_log_open(path, NULL);

    if (log)
        vm_log_end(log, "saved", "QEMU had ended before it was asked to, its memory being saved");
}

static gboolean
run_end_machine(gpointer context, const KhoJob *job, GError **error)
{
    const Save *save = context;

    if (!vm_end(save->tree, save->name, save->uuid, "saved", error))
        return FALSE;
    log_saved(save);
    return TRUE;
}

static const ChangeStep steps[] = {
    { "save-memory", run_save_memory, undo_save_memory, FALSE },
    { "publish", run_publish, NULL, FALSE },
    { "end-machine", run_end_machine, NULL, FALSE },
};

const ChangeKind save_change = {
    .name = "save",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 1,
    .open = save_open,
    .close = save_close,
    .decide = decide,
    .left = left_by,
};
