/* Taking snapshots: the name, the state, the lock; what is done is in snapshot/. */
#include "snapshot/create.h"

#include "base/error.h"
#include "host/machine.h"
#include "host/running.h"
#include "snapshot/folder.h"
#include "vm/definition.h"

#include <kho/snapshot.h>
#include <string.h>

/* The machine as it is to be snapshot; called under its lock. */
typedef struct {
    ModelDomain *definition;
    ModelDomain *live; /* NULL: it does not run */
    ModelSnapshotState state;
} Machine;

static void
machine_clear(Machine *machine)
{
    model_domain_free(machine->definition);
    model_domain_free(machine->live);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Machine, machine_clear)

static gboolean
machine_look(KhoDomain *domain, Machine *machine, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    const StoreTree *tree = domain->host->tree;

    if (!kho_domain_status(domain, &status, error))
        return FALSE;
    machine->state = MODEL_SNAPSHOT_SHUTOFF;
    if (machine_state_is_active(status.state))
        return fail(error, KHO_ERROR_UNSUPPORTED, "machine '%s' is %s: shut it down first", domain->name,
                    kho_domain_state_word(status.state));
    machine->definition = vm_definition(tree, domain->name, error);
    return machine->definition != NULL;
}

static gboolean
check_options(const KhoDomain *domain, const KhoSnapshotCreate *options, const Machine *machine,
              GError **error)
{
    if (!machine->live && options->memory_file)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is not running: it has no memory to keep",
                    domain->name);
    if (!machine->live && options->quiesce)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is not running: nothing is to be quiesced",
                    domain->name);
    if (options->disk_only && options->memory_file)
        return fail(error, KHO_ERROR_INVALID, "a snapshot without memory needs no file for it (%s)",
                    options->memory_file);
    return TRUE;
}

/* Decides and writes the plan down: from here on the change will be finished or taken back. */
static StoreJournal *
begin(KhoDomain *domain, const KhoSnapshotCreate *options, const char *name, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_auto(Machine) machine = { NULL, NULL, MODEL_SNAPSHOT_STATE_UNSET };
    g_auto(SnapshotOverlays) overlays = { 0, NULL };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    if (!lock || !machine_look(domain, &machine, error) || !check_options(domain, options, &machine, error))
        return NULL;
    g_autofree SnapshotDiskWish *disks = g_new0(SnapshotDiskWish, options->n_disks + 1);
    for (gsize i = 0; i < options->n_disks; i++) {
        const KhoSnapshotDiskSpec *spec = &options->disks[i];
        disks[i] = (SnapshotDiskWish){ spec->target, spec->leave_out, spec->file };
    }
    const SnapshotWish wish = {
        .name = name,
        .description = options->description,
        .state = machine.state,
        .with_memory = machine.live && !options->disk_only,
        .memory_file = options->memory_file,
        .quiesce = options->quiesce,
        .disks = disks,
        .n_disks = options->n_disks,
    };
    if (!snapshot_overlays(tree, domain->name, &overlays, error))
        return NULL;
    g_autoptr(CreatePlan) plan =
        snapshot_create_plan(tree, machine.definition, machine.live, &wish, &overlays, error);
    if (!plan || !snapshot_set_overlays(tree, domain->name, &overlays, error))
        return NULL;
    json_auto json_t *json = plan_write(&snapshot_create_table, plan);
    g_autofree char *what = g_strdup_printf("snapshot-create of '%s'", name);
    const StoreJournalPlan entry = { .uuid = domain->uuid,
                                     .name = domain->name,
                                     .change = snapshot_create_kind.name,
                                     .what = what,
                                     .plan = json };
    return store_journal_begin(tree, STORE_LOCK_DOMAIN, &entry, error);
}

char *
kho_snapshot_create(KhoDomain *domain, const KhoSnapshotCreate *options, const KhoJob *job, GError **error)
{
    g_autofree char *name = options->name
                                ? g_strdup(options->name)
                                : g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time() / G_USEC_PER_SEC);

    if (!store_name_check(name, "snapshot", error))
        return NULL;
    StoreJournal *journal = begin(domain, options, name, error);
    if (!journal || !change_run(&snapshot_create_kind, journal, domain->host->tree, job, error))
        return NULL;
    return g_steal_pointer(&name);
}
