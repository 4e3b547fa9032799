#include "vm/start.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/port.h"
#include "store/ids.h"
#include "vm/runtime.h"
#include "vm/start_disks.h"
#include "vm/start_files.h"

#include <fcntl.h>

#define MONITOR_FD     100
#define VNC_FIRST_PORT 5900
/* Of a start with memory: for QEMU itself, for each MiB at the speed of a slow disk, and what a plan may say.
 */
#define START_MS         60000
#define LOAD_MS_MIB      64
#define LONGEST_START_MS (3600 * 1000)
#define VNC_LAST_PORT    65535

const ModelDefaults vm_host_defaults = {
    .emulator = "/usr/bin/qemu-system-x86_64",
    .arch = "x86_64",
    .machine = "pc",
};

static VmAction
plan_action(ModelAction action, VmAction unset)
{
    switch (action) {
    case MODEL_ACTION_DESTROY: return VM_ACTION_DESTROY;
    case MODEL_ACTION_RESTART: return VM_ACTION_RESTART;
    case MODEL_ACTION_PRESERVE: return VM_ACTION_PRESERVE;
    case MODEL_ACTION_UNSET:
    case MODEL_ACTION_RENAME_RESTART: /* vm_argv_check has refused the others */
    case MODEL_ACTION_COREDUMP_DESTROY:
    case MODEL_ACTION_COREDUMP_RESTART: break;
    }
    return unset;
}

/* A port for a VNC server that is to choose one itself. One that is given is tried, since QEMU's word for it
 * comes late. */
static gboolean
find_vnc_port(const ModelDomain *model, gint *port, GError **error)
{
    const ModelGraphics *vnc = model->graphics->len > 0 ? model->graphics->pdata[0] : NULL;
    g_autoptr(GError) why = NULL;
    guint16 found;

    *port = MODEL_UNSET;
    if (!vnc || g_strcmp0(vnc->type, "vnc") != 0 || vnc->port > VNC_LAST_PORT)
        return TRUE;
    const char *address = vnc->listen ? vnc->listen : "127.0.0.1";
    if (vnc->port > 0) {
        if (port_find_free(address, (guint16) vnc->port, (guint16) vnc->port, &found, &why)
            || !g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY))
            return TRUE;
        return fail(error, KHO_ERROR_BUSY,
                    "the VNC port %d of machine '%s' is in use by another process: choose another port, or "
                    "autoport='yes'",
                    vnc->port, model->name);
    }
    if (vnc->autoport == MODEL_SWITCH_OFF)
        return TRUE;
    if (!port_find_free(address, VNC_FIRST_PORT, VNC_LAST_PORT, &found, error))
        return FALSE;
    *port = found;
    return TRUE;
}

static gboolean
kvm_works(void)
{
    fd_auto int fd = fd_open("/dev/kvm", O_RDWR, 0, NULL);
    return fd >= 0;
}

static gboolean
check_argv(const ModelDomain *model, GError **error)
{
    if (vm_argv_check(model, error))
        return TRUE;
    g_prefix_error(error, "machine '%s': ", model->name);
    return FALSE;
}

/* Makes the struct that is to run: checked, id and aliases given. */
static gboolean
make_live(const StoreTree *tree, ModelDomain *model, const StoreWait *wait, GError **error)
{
    guint id;

    if (!check_argv(model, error) || !vm_start_files_check(model, error)
        || !store_next_id(tree, wait, &id, error))
        return FALSE;
    model->id = (gint) id;
    model_domain_assign_aliases(model);
    return TRUE;
}

static char **
links_down(const ModelDomain *model)
{
    g_autoptr(GStrvBuilder) ids = g_strv_builder_new();

    for (guint i = 0; i < model->interfaces->len; i++) {
        const ModelInterface *nic = model->interfaces->pdata[i];
        if (nic->link == MODEL_LINK_DOWN)
            g_strv_builder_add(ids, nic->alias);
    }
    return g_strv_builder_end(ids);
}

/* Reading the memory takes its time. */
static void
set_incoming(VmPlan *plan, const ModelDomain *model, const VmStartOptions *options)
{
    guint64 timeout_ms = START_MS + model->memory_kib / KIB * LOAD_MS_MIB;

    plan->incoming_path = g_strdup(options->incoming_path);
    plan->incoming_off = options->incoming_off;
    plan->late_disks = options->late_disks;
    plan->start_timeout_ms = (guint) MIN(timeout_ms, LONGEST_START_MS);
}

static VmPlan *
make_plan(const StoreTree *tree, ModelDomain *model, const VmStartOptions *options, GError **error)
{
    g_autoptr(VmPlan) plan = vm_plan_new();
    g_auto(VmStartDisks) disks = { 0 };
    VmResources resources = { .monitor_fd = MONITOR_FD,
                              .kvm = kvm_works(),
                              .incoming = options->incoming_path != NULL };

    if (!make_live(tree, model, options->wait, error) || !vm_start_disks_find(model, plan, &disks, error)
        || !find_vnc_port(model, &resources.vnc_port, error))
        return NULL;
    resources.disks = (const VmDisk *) (void *) disks.disks->data;
    resources.n_disks = disks.disks->len;
    plan->argv = vm_argv_build(model, &resources, error);
    if (!plan->argv)
        return NULL;
    plan->name = g_strdup(model->name);
    plan->uuid = g_strdup(model->uuid);
    plan->id = model->id;
    plan->run_path = store_path_domain_run(tree, model->name);
    plan->log_path = store_path_log(tree, model->name);
    plan->monitor_fd = MONITOR_FD;
    plan->on_poweroff = plan_action(model->on_poweroff, VM_ACTION_DESTROY);
    plan->on_reboot = plan_action(model->on_reboot, VM_ACTION_RESTART);
    plan->on_crash = plan_action(model->on_crash, VM_ACTION_DESTROY);
    if (model->current_memory_kib < model->memory_kib)
        plan->balloon_bytes = model->current_memory_kib * KIB;
    plan->links_down = links_down(model);
    plan->paused = options->paused;
    if (options->incoming_path)
        set_incoming(plan, model, options);
    plan->live_xml = model_domain_format(model, MODEL_FORMAT_LIVE);
    return g_steal_pointer(&plan);
}

/* QEMU knows its images by the numbers of descriptors. Of one that it found to be in use, kho may know more.
 */
static gboolean
fail_start(ModelDomain *model, const VmPlan *plan, const GError *why, GError **error)
{
    gboolean busy = g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY);
    g_autoptr(GString) text = g_string_new(why->message);
    g_autoptr(VmPlan) unused = vm_plan_new();
    g_auto(VmStartDisks) disks = { 0 };

    if (busy && !vm_start_disks_find(model, unused, &disks, error))
        return FALSE;
    for (guint i = plan->files->len; i > 0; i--) { /* set N is file N; 12 before 1 */
        const VmPlanFile *file = plan->files->pdata[i - 1];
        g_autofree char *name = g_strdup_printf("/dev/fdset/%u", i - 1);
        g_string_replace(text, name, file->path, 0);
    }
    return fail(error, (KhoErrorCode) why->code, "%s%s", text->str, busy ? ": try again" : "");
}

gboolean
vm_start(const StoreTree *tree, ModelDomain *model, const VmStartOptions *options, const KhoJob *job,
         GError **error)
{
    const VmStartOptions none = { 0 };
    g_autoptr(VmPlan) plan = make_plan(tree, model, options ? options : &none, error);

    if (!plan)
        return FALSE;
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: machine '%s' was not started", model->name);
    g_autoptr(GError) why = NULL;
    return vm_runtime_start(plan, job ? job->cancelled : NULL, &why) || fail_start(model, plan, why, error);
}
