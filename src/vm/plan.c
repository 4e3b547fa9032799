#include "vm/plan.h"

#include "base/error.h"
#include "base/json.h"

#include <string.h>

static const char *const action_words[VM_ACTION_N] = {
    [VM_ACTION_DESTROY] = "destroy",
    [VM_ACTION_RESTART] = "restart",
    [VM_ACTION_PRESERVE] = "preserve",
};

const char *
vm_action_word(VmAction action)
{
    return action_words[action];
}

gboolean
vm_action_parse(const char *word, const char *what, VmAction *action, GError **error)
{
    for (guint i = 0; i < VM_ACTION_N; i++)
        if (strcmp(word, action_words[i]) == 0) {
            *action = (VmAction) i;
            return TRUE;
        }
    return fail(error, KHO_ERROR_INVALID, "%s is '%s': not destroy, restart or preserve", what, word);
}

static void
file_free(gpointer p)
{
    VmPlanFile *file = p;
    g_free(file->path);
    g_free(file);
}

VmPlan *
vm_plan_new(void)
{
    VmPlan *plan = g_new0(VmPlan, 1);
    plan->files = g_ptr_array_new_with_free_func(file_free);
    return plan;
}

void
vm_plan_free(VmPlan *plan)
{
    if (!plan)
        return;
    g_free(plan->name);
    g_free(plan->uuid);
    g_free(plan->run_path);
    g_free(plan->log_path);
    g_free(plan->incoming_path);
    g_free(plan->live_xml);
    g_strfreev(plan->argv);
    g_strfreev(plan->links_down);
    g_ptr_array_unref(plan->files);
    g_free(plan);
}

void
vm_plan_add_file(VmPlan *plan, const char *path, gint fd, gboolean read_only)
{
    VmPlanFile *file = g_new0(VmPlanFile, 1);
    *file = (VmPlanFile){ .path = g_strdup(path), .fd = fd, .read_only = read_only };
    g_ptr_array_add(plan->files, file);
}

char *
vm_plan_to_json(const VmPlan *plan)
{
    json_auto json_t *json = json_object();
    json_t *argv = json_array();
    json_t *files = json_array();

    json_object_set_new(json, "version", json_integer(VM_PLAN_VERSION));
    json_set_string(json, "name", plan->name);
    json_set_string(json, "uuid", plan->uuid);
    json_object_set_new(json, "id", json_integer(plan->id));
    json_set_string(json, "run-path", plan->run_path);
    json_set_string(json, "log-path", plan->log_path);
    for (char **arg = plan->argv; *arg; arg++)
        json_array_append_new(argv, json_string(*arg));
    json_object_set_new(json, "argv", argv);
    json_object_set_new(json, "monitor-fd", json_integer(plan->monitor_fd));
    for (guint i = 0; i < plan->files->len; i++) {
        const VmPlanFile *file = plan->files->pdata[i];
        json_t *row = json_object();
        json_set_string(row, "path", file->path);
        json_object_set_new(row, "fd", json_integer(file->fd));
        json_object_set_new(row, "read-only", json_boolean(file->read_only));
        json_array_append_new(files, row);
    }
    json_object_set_new(json, "files", files);
    json_set_string(json, "on-poweroff", vm_action_word(plan->on_poweroff));
    json_set_string(json, "on-reboot", vm_action_word(plan->on_reboot));
    json_set_string(json, "on-crash", vm_action_word(plan->on_crash));
    json_t *links = json_array();
    for (char **id = plan->links_down; id && *id; id++)
        json_array_append_new(links, json_string(*id));
    json_object_set_new(json, "links-down", links);
    json_object_set_new(json, "balloon-bytes", json_integer((json_int_t) plan->balloon_bytes));
    json_object_set_new(json, "paused", json_boolean(plan->paused));
    json_set_string(json, "incoming-path", plan->incoming_path);
    json_object_set_new(json, "incoming-offset", json_integer((json_int_t) plan->incoming_off));
    json_object_set_new(json, "late-disks", json_boolean(plan->late_disks));
    json_set_string(json, "live-xml", plan->live_xml);
    json_object_set_new(json, "start-timeout-ms", json_integer(plan->start_timeout_ms));
    return json_line(json);
}

static gboolean
get_action(const json_t *json, const char *key, VmAction *action, GError **error)
{
    g_autofree char *word = NULL;
    return json_get_string(json, key, "the plan", &word, error) && vm_action_parse(word, key, action, error);
}

/* A whole number from @low to @high. */
static gboolean
get_number(const json_t *json, const char *key, gint low, gint high, gint *value, GError **error)
{
    gint64 number;

    if (!json_get_int(json, key, "the plan", &number, error))
        return FALSE;
    if (number < low || number > high)
        return fail(error, KHO_ERROR_INVALID, "the plan: '%s' is %" G_GINT64_FORMAT ", not from %d to %d",
                    key, number, low, high);
    *value = (gint) number;
    return TRUE;
}

static gboolean
get_argv(const json_t *json, VmPlan *plan, GError **error)
{
    const json_t *argv = json_object_get(json, "argv");
    gsize n = json_array_size(argv);

    if (n == 0)
        return fail(error, KHO_ERROR_INVALID, "the plan: 'argv' is not a list of arguments");
    plan->argv = g_new0(char *, n + 1);
    for (gsize i = 0; i < n; i++) {
        const char *arg = json_string_value(json_array_get(argv, i));
        if (!arg)
            return fail(error, KHO_ERROR_INVALID, "the plan: argument %" G_GSIZE_FORMAT " is not a string",
                        i);
        plan->argv[i] = g_strdup(arg);
    }
    return TRUE;
}

static gboolean
get_links(const json_t *json, VmPlan *plan, GError **error)
{
    const json_t *links = json_object_get(json, "links-down");
    gsize n = json_array_size(links);

    plan->links_down = g_new0(char *, n + 1);
    for (gsize i = 0; i < n; i++) {
        const char *id = json_string_value(json_array_get(links, i));
        if (!id)
            return fail(error, KHO_ERROR_INVALID, "the plan: 'links-down' holds what is not a string");
        plan->links_down[i] = g_strdup(id);
    }
    return TRUE;
}

static gboolean
get_files(const json_t *json, VmPlan *plan, GError **error)
{
    const json_t *files = json_object_get(json, "files");
    gsize i;
    json_t *row;

    if (!json_is_array(files))
        return fail(error, KHO_ERROR_INVALID, "the plan: 'files' is not a list");
    json_array_foreach (files, i, row) {
        g_autofree char *path = NULL;
        gboolean read_only;
        gint fd;
        if (!json_get_string(row, "path", "a file of the plan", &path, error)
            || !json_get_bool(row, "read-only", path, &read_only, error)
            || !get_number(row, "fd", 3, 4095, &fd, error))
            return FALSE;
        gboolean taken = fd == plan->monitor_fd;
        for (guint k = 0; k < plan->files->len; k++)
            taken = taken || ((VmPlanFile *) plan->files->pdata[k])->fd == fd;
        if (taken)
            return fail(error, KHO_ERROR_INVALID, "the plan: descriptor %d is given out twice", fd);
        vm_plan_add_file(plan, path, fd, read_only);
    }
    return TRUE;
}

static gboolean
get_members(const json_t *json, VmPlan *plan, GError **error)
{
    const char *label = "the plan";
    gint timeout_ms = 0;
    gint64 balloon_bytes = 0, incoming_off = 0;

    if (!json_get_string(json, "name", label, &plan->name, error)
        || !json_get_string(json, "uuid", label, &plan->uuid, error)
        || !get_number(json, "id", 0, G_MAXINT, &plan->id, error)
        || !json_get_string(json, "run-path", label, &plan->run_path, error)
        || !json_get_string(json, "log-path", label, &plan->log_path, error)
        || !json_opt_string(json, "live-xml", label, &plan->live_xml, error)
        || !json_opt_int(json, "balloon-bytes", label, &balloon_bytes, error)
        || !json_opt_string(json, "incoming-path", label, &plan->incoming_path, error)
        || !json_opt_int(json, "incoming-offset", label, &incoming_off, error)
        || !json_opt_bool(json, "late-disks", label, &plan->late_disks, error)
        || !json_get_bool(json, "paused", label, &plan->paused, error)
        || !get_number(json, "monitor-fd", 3, 4095, &plan->monitor_fd, error)
        || !get_number(json, "start-timeout-ms", 0, 3600 * 1000, &timeout_ms, error)
        || !get_action(json, "on-poweroff", &plan->on_poweroff, error)
        || !get_action(json, "on-reboot", &plan->on_reboot, error)
        || !get_action(json, "on-crash", &plan->on_crash, error))
        return FALSE;
    plan->start_timeout_ms = (guint) timeout_ms;
    if (balloon_bytes < 0)
        return fail(error, KHO_ERROR_INVALID, "the plan: 'balloon-bytes' is negative");
    plan->balloon_bytes = (guint64) balloon_bytes;
    if (incoming_off < 0 || (plan->incoming_path && !g_path_is_absolute(plan->incoming_path)))
        return fail(error, KHO_ERROR_INVALID,
                    "the plan: 'incoming-path' is not absolute, or its offset negative");
    plan->incoming_off = (guint64) incoming_off;
    if (!g_path_is_absolute(plan->run_path) || !g_path_is_absolute(plan->log_path))
        return fail(error, KHO_ERROR_INVALID, "the plan: run-path and log-path must be absolute");
    return get_argv(json, plan, error) && get_links(json, plan, error) && get_files(json, plan, error);
}

VmPlan *
vm_plan_from_json(const char *text, gsize len, GError **error)
{
    json_auto json_t *json = json_parse(text, len, "the plan", error);
    g_autoptr(VmPlan) plan = vm_plan_new();
    gint64 version;

    if (!json || !json_get_int(json, "version", "the plan", &version, error))
        return NULL;
    if (version != VM_PLAN_VERSION) {
        fail(error, KHO_ERROR_UNSUPPORTED,
             "the plan has version %" G_GINT64_FORMAT ", and this kho-vm knows %d: kho and kho-vm differ",
             version, VM_PLAN_VERSION);
        return NULL;
    }
    return get_members(json, plan, error) ? g_steal_pointer(&plan) : NULL;
}
