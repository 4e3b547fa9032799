/* Starting a machine: from a definition to a plan that kho-vm carries out. */
#include "host/start.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"
#include "base/port.h"
#include "host/running.h"
#include "store/ids.h"
#include "vm/runtime.h"

#include <fcntl.h>

#define MONITOR_FD     100
#define VNC_FIRST_PORT 5900
#define VNC_LAST_PORT  65535
/* How long a kho-vm whose QEMU has ended may take to clear up, and how often that is looked at. */
#define STUCK_AFTER_MS 2000
#define LOOK_AGAIN_MS  10

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

/* QEMU would find it missing too, but says less about it. */
static gboolean
check_boot_file(const ModelDomain *model, const char *path, const char *what, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!path)
        return TRUE;
    struct stat st;
    /* A pipe that nobody writes to must not hold up the start: it is looked at before anyone reads it. */
    fd_auto int fd = fd_open(path, O_RDONLY | O_NONBLOCK, 0, &why);
    if (fd >= 0 && fd_stat(fd, &st, path, &why)
        && (S_ISREG(st.st_mode) || fail(&why, KHO_ERROR_INVALID, "%s is not a regular file", path)))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "%s of machine '%s': ", what, model->name);
    return FALSE;
}

/* A port for a VNC server that is to choose one itself. */
static gboolean
find_vnc_port(const ModelDomain *model, gint *port, GError **error)
{
    *port = MODEL_UNSET;
    for (guint i = 0; i < model->graphics->len; i++) {
        const ModelGraphics *graphics = model->graphics->pdata[i];
        gboolean chooses = graphics->port == -1 || graphics->port == MODEL_UNSET;
        guint16 found;
        if (g_strcmp0(graphics->type, "vnc") != 0 || !chooses || graphics->autoport == MODEL_SWITCH_OFF)
            continue;
        if (!port_find_free(graphics->listen ? graphics->listen : "127.0.0.1", VNC_FIRST_PORT, VNC_LAST_PORT,
                            &found, error))
            return FALSE;
        *port = found;
        return TRUE;
    }
    return TRUE;
}

static gboolean
kvm_works(void)
{
    fd_auto int fd = fd_open("/dev/kvm", O_RDWR, 0, NULL);
    return fd >= 0;
}

/* The struct that is to run: id and aliases given. */
static ModelDomain *
live_model(const KhoDomain *domain, GError **error)
{
    g_autoptr(ModelDomain) model = machine_definition(domain->host->tree, domain->name, error);
    guint id;

    if (!model || !model_domain_complete(model, &machine_defaults, error) || !vm_argv_check(model, error)
        || !check_boot_file(model, model->kernel, "kernel", error)
        || !check_boot_file(model, model->initrd, "initrd", error)
        || !store_next_id(domain->host->tree, &domain->host->wait, &id, error))
        return NULL;
    model->id = (gint) id;
    model_domain_assign_aliases(model);
    return g_steal_pointer(&model);
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

static VmPlan *
make_plan(const KhoDomain *domain, gboolean paused, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_autoptr(ModelDomain) model = live_model(domain, error);
    g_autoptr(VmPlan) plan = vm_plan_new();
    g_auto(StartDisks) disks = { 0 };
    VmResources resources = { .monitor_fd = MONITOR_FD, .kvm = kvm_works() };

    if (!model || !start_disks_find(model, plan, &disks, error)
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
    plan->paused = paused;
    plan->live_xml = model_domain_format(model, MODEL_FORMAT_LIVE);
    return g_steal_pointer(&plan);
}

/* A machine that is shut off may have left a kho-vm that does not end by itself: it was stopped. Called under
 * the machine's lock, so that no start is under way. */
static gboolean
end_stuck_supervisor(const char *run_path, GError **error)
{
    gint64 deadline_ms = deadline_in(STUCK_AFTER_MS);
    VmPresence presence;

    for (;;) {
        if (!vm_runtime_probe(run_path, &presence, error))
            return FALSE;
        if (presence != VM_SUPERVISED)
            return TRUE;
        if (deadline_left(deadline_ms) == 0)
            return vm_runtime_kill(run_path, STUCK_AFTER_MS, error);
        clock_pause(LOOK_AGAIN_MS);
    }
}

gboolean
kho_domain_start(KhoDomain *domain, gboolean paused, const KhoJob *job, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    if (!lock || !kho_domain_status(domain, &status, error)
        || !machine_state_admits(MACHINE_START, domain->name, status.state, error))
        return FALSE;
    g_autofree char *run_path = store_path_domain_run(domain->host->tree, domain->name);
    if (status.unsupervised && !end_stuck_supervisor(run_path, error))
        return FALSE;
    g_autoptr(VmPlan) plan = make_plan(domain, paused, error);
    if (!plan)
        return FALSE;
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: machine '%s' was not started", domain->name);
    return vm_runtime_start(plan, job ? job->cancelled : NULL, error);
}
