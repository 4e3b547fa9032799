/* Taking snapshots, going back to them, deleting them: the names, the machine's state, the lock, the journal.
 * What is done is in snapshot/. */
#include "snapshot/create_live.h"
#include "snapshot/delete.h"
#include "snapshot/revert.h"

#include "base/error.h"
#include "host/machine.h"
#include "host/running.h"
#include "host/saved.h"
#include "vm/definition.h"
#include "vm/reach.h"

#include <kho/snapshot.h>
#include <string.h>

/* The machine as it is to be snapshot; called under its lock. */
typedef struct {
    ModelDomain *definition;
    ModelDomain *live; /* NULL: it does not run */
    ModelSnapshotState state;
    VmClient *client; /* of one that runs */
} Machine;

static void
machine_clear(Machine *machine)
{
    model_domain_free(machine->definition);
    model_domain_free(machine->live);
    g_clear_pointer(&machine->client, vm_client_close);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Machine, machine_clear)

static ModelSnapshotState
state_of(KhoDomainState state)
{
    switch (state) {
    case KHO_DOMAIN_RUNNING: return MODEL_SNAPSHOT_RUNNING;
    case KHO_DOMAIN_PAUSED: return MODEL_SNAPSHOT_PAUSED;
    case KHO_DOMAIN_SHUTDOWN: return MODEL_SNAPSHOT_RUNNING; /* until it is down */
    default: return MODEL_SNAPSHOT_SHUTOFF;
    }
}

static gboolean
machine_look(KhoDomain *domain, Machine *machine, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    const StoreTree *tree = domain->host->tree;
    gsize len;

    if (!kho_domain_status(domain, &status, error)
        || !machine_state_admits(MACHINE_SNAPSHOT, domain->name, status.state, error))
        return FALSE;
    machine->state = state_of(status.state);
    if (saved_exists(tree, domain->name))
        return fail(
            error, KHO_ERROR_INVALID,
            "machine '%s' has a managed save, whose memory needs its disks as they are: start it, or `kho "
            "managedsave-remove %s`, first",
            domain->name, domain->name);
    machine->definition = vm_definition(tree, domain->name, error);
    if (!machine->definition || !machine_state_is_active(status.state))
        return machine->definition != NULL;
    g_autofree char *xml = running_xml(tree, domain->name, &len, error);
    machine->live = xml ? model_domain_parse(xml, len, error) : NULL;
    return machine->live && vm_reach(tree, domain->name, &machine->client, error)
           && (machine->client
               || fail(error, KHO_ERROR_BUSY, "machine '%s' has just ended: try again", domain->name));
}

/* What kho will write under names of its own must not take the place of a file that somebody wished for. */
static gboolean
check_wished_paths(const KhoDomain *domain, const KhoSnapshotCreate *options, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    const char *own =
        options->memory_file && store_path_is_own(tree, options->memory_file) ? options->memory_file : NULL;

    for (gsize i = 0; i < options->n_disks && !own; i++)
        if (options->disks[i].file && store_path_is_own(tree, options->disks[i].file))
            own = options->disks[i].file;
    return !own
           || fail(error, KHO_ERROR_INVALID, "%s would lie among kho's own files: choose another folder",
                   own);
}

static gboolean
check_options(const KhoDomain *domain, const KhoSnapshotCreate *options, const Machine *machine,
              GError **error)
{
    if (!check_wished_paths(domain, options, error))
        return FALSE;
    if (!machine->live && options->memory_file)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is not running: it has no memory to keep",
                    domain->name);
    if (!machine->live && options->quiesce)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is not running: nothing is to be quiesced",
                    domain->name);
    if (options->quiesce)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "machine '%s' has no guest agent that --quiesce could ask: it needs a <channel> named "
                    "org.qemu.guest_agent.0, which this kho cannot give it",
                    domain->name);
    if (options->disk_only && options->memory_file)
        return fail(error, KHO_ERROR_INVALID, "a snapshot without memory needs no file for it (%s)",
                    options->memory_file);
    return TRUE;
}

/* Writes the plan down: from here on the change will be finished or taken back. Under the machine's lock,
 * which is not needed any more afterwards. */
static StoreJournal *
begin(const KhoDomain *domain, const ChangeKind *kind, const PlanTable *table, gconstpointer plan,
      const char *name, GError **error)
{
    json_auto json_t *json = plan_write(table, plan);
    g_autofree char *what = g_strdup_printf("%s of '%s'", kind->name, name);
    const StoreJournalPlan entry = {
        .uuid = domain->uuid, .name = domain->name, .change = kind->name, .what = what, .plan = json
    };

    return store_journal_begin(domain->host->tree, STORE_LOCK_DOMAIN, &entry, error);
}

static StoreJournal *
begin_create(KhoDomain *domain, const KhoSnapshotCreate *options, const char *name, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_auto(Machine) machine = { NULL, NULL, MODEL_SNAPSHOT_STATE_UNSET, NULL };
    g_auto(SnapshotOverlays) overlays = { 0 };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    if (!lock || !machine_look(domain, &machine, error) || !check_options(domain, options, &machine, error))
        return NULL;
    machine_warn_changed(domain);
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
        .disks = disks,
        .n_disks = options->n_disks,
    };
    if (!snapshot_overlays(tree, domain->name, &overlays, error))
        return NULL;
    g_autoptr(CreatePlan) plan =
        snapshot_create_plan(tree, machine.definition, machine.live, &wish, &overlays, error);
    StoreJournal *journal =
        plan && (!machine.live || create_live_plan(plan, machine.live, machine.client, error))
                && snapshot_set_overlays(tree, domain->name, &overlays, error)
            ? begin(domain, &snapshot_create_kind, &snapshot_create_table, plan, name, error)
            : NULL;
    if (!journal)
        snapshot_restore_overlays(tree, domain->name, overlays.before, NULL);
    return journal;
}

/* What stays behind is told although the change went through. */
static gboolean
run(const KhoDomain *domain, const ChangeKind *kind, StoreJournal *journal, const KhoJob *job, GError **error)
{
    g_autofree char *left = NULL;

    if (!change_run(kind, journal, domain->host->tree, job, &left, error))
        return FALSE;
    g_autofree char *line = left ? g_strconcat("left behind: ", left, NULL) : NULL;
    if (line)
        host_warn(domain->host, line);
    return TRUE;
}

char *
kho_snapshot_create(KhoDomain *domain, const KhoSnapshotCreate *options, const KhoJob *job, GError **error)
{
    g_autofree char *name = options->name
                                ? g_strdup(options->name)
                                : g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time() / G_USEC_PER_SEC);

    if (!store_name_check(name, "snapshot", error))
        return NULL;
    StoreJournal *journal = begin_create(domain, options, name, error);
    if (!journal || !run(domain, &snapshot_create_kind, journal, job, error))
        return NULL;
    return g_steal_pointer(&name);
}

static StoreJournal *
begin_revert(KhoDomain *domain, const char *name, KhoRevertTo to, gboolean force, GError **error)
{
    static const RevertTo states[] = { [KHO_REVERT_AS_TAKEN] = REVERT_AS_TAKEN,
                                       [KHO_REVERT_RUNNING] = REVERT_RUNNING,
                                       [KHO_REVERT_PAUSED] = REVERT_PAUSED };
    const StoreTree *tree = domain->host->tree;
    g_auto(Machine) machine = { NULL, NULL, MODEL_SNAPSHOT_STATE_UNSET, NULL };
    g_auto(SnapshotOverlays) overlays = { 0 };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);
    g_autoptr(ModelSnapshot) snapshot = lock ? snapshot_read(tree, domain->name, name, error) : NULL;

    if (!snapshot || !machine_look(domain, &machine, error)
        || !snapshot_overlays(tree, domain->name, &overlays, error))
        return NULL;
    const RevertWish wish = { .definition = machine.definition,
                              .live = machine.live,
                              .snapshot = snapshot,
                              .to = states[to],
                              .force = force };
    g_autoptr(RevertPlan) plan = snapshot_revert_plan(tree, &wish, &overlays, error);
    if (!plan || !snapshot_set_overlays(tree, domain->name, &overlays, error))
        return NULL;
    return begin(domain, &snapshot_revert_kind, &snapshot_revert_table, plan, name, error);
}

gboolean
kho_snapshot_revert(KhoDomain *domain, const char *name, KhoRevertTo to, gboolean force, const KhoJob *job,
                    GError **error)
{
    if (!store_name_check(name, "snapshot", error))
        return FALSE;
    StoreJournal *journal = begin_revert(domain, name, to, force, error);
    return journal && run(domain, &snapshot_revert_kind, journal, job, error);
}

/* Of a damaged one the name is known, which is enough to forget it. */
static ModelSnapshot *
read_to_delete(const StoreTree *tree, const char *machine, const char *name, gboolean metadata_only,
               GError **error)
{
    GError *why = NULL;
    ModelSnapshot *snapshot = snapshot_read(tree, machine, name, &why);

    if (metadata_only && g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT)) {
        g_error_free(why);
        return model_snapshot_new(name);
    }
    if (!snapshot)
        g_propagate_error(error, why);
    return snapshot;
}

static StoreJournal *
begin_delete(KhoDomain *domain, const char *name, KhoSnapshotDeleteFlags flags, GPtrArray *left,
             const KhoJob *job, GError **error)
{
    gboolean metadata_only = (flags & KHO_SNAPSHOT_DELETE_METADATA) != 0;
    const StoreTree *tree = domain->host->tree;
    g_auto(Machine) machine = { NULL, NULL, MODEL_SNAPSHOT_STATE_UNSET, NULL };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);
    g_autoptr(ModelSnapshot) snapshot =
        lock ? read_to_delete(tree, domain->name, name, metadata_only, error) : NULL;

    if (!snapshot || !machine_look(domain, &machine, error))
        return NULL;
    const DeleteWish wish = { .machine = domain->name,
                              .snapshot = snapshot,
                              .metadata_only = metadata_only,
                              .force = (flags & KHO_SNAPSHOT_DELETE_FORCE) != 0,
                              .live = machine.live,
                              .client = machine.client,
                              .running = machine.state == MODEL_SNAPSHOT_RUNNING };
    g_autoptr(DeletePlan) plan = snapshot_delete_plan(tree, &wish, job, error);
    StoreJournal *journal =
        plan ? begin(domain, &snapshot_delete_kind, &snapshot_delete_table, plan, name, error) : NULL;
    if (journal)
        g_ptr_array_extend_and_steal(left, g_steal_pointer(&plan->left));
    return journal;
}

/* What a delete fails with when its machine, or the kho-vm of that, is gone: who did that, where it is known,
 * and what to do. */
static gboolean
fail_delete(KhoDomain *domain, const char *name, gboolean ran, const GError *why, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    gboolean known = kho_domain_status(domain, &status, NULL),
             ended = known && !machine_state_is_active(status.state);
    gboolean lost = strstr(why->message, "kho-vm") != NULL; /* its connection */

    if (!ran || !known || why->code != KHO_ERROR_IO || (!ended && !lost)) {
        g_propagate_error(error, g_error_copy(why));
        return FALSE;
    }
    g_autofree char *who =
        ended ? g_strdup_printf("machine '%s' is shut off (%s)", domain->name, status.reason)
              : g_strdup_printf("the kho-vm of machine '%s' died, and its guest goes on", domain->name);
    return fail(error, KHO_ERROR_IO, "%s; %s: `kho snapshot-delete %s %s` again goes on", why->message, who,
                domain->name, name);
}

static gboolean
delete_one(KhoDomain *domain, const char *name, KhoSnapshotDeleteFlags flags, const KhoJob *job,
           GPtrArray *left, GError **error)
{
    g_auto(KhoDomainStatus) before = { 0 };
    StoreJournal *journal = begin_delete(domain, name, flags, left, job, error);
    g_autoptr(GError) why = NULL;

    if (!journal)
        return FALSE;
    gboolean ran = kho_domain_status(domain, &before, NULL) && machine_state_is_active(before.state);
    return run(domain, &snapshot_delete_kind, journal, job, &why)
           || fail_delete(domain, name, ran, why, error);
}

/* Adds the names of all that came from @name, children before their parents. */
static void
add_descendants(const GPtrArray *all, const char *name, GPtrArray *names)
{
    for (guint i = 0; i < all->len; i++) {
        const ModelSnapshot *child = all->pdata[i];
        if (g_strcmp0(child->parent, name) != 0)
            continue;
        add_descendants(all, child->name, names);
        g_ptr_array_add(names, g_strdup(child->name));
    }
}

static gboolean
find_descendants(KhoDomain *domain, const char *name, GPtrArray *names, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_autoptr(ModelSnapshot) there = snapshot_read(tree, domain->name, name, error);
    g_autoptr(GPtrArray) all = there ? snapshot_read_all(tree, domain->name, error) : NULL;

    if (all)
        add_descendants(all, name, names);
    return all != NULL;
}

gboolean
kho_snapshot_delete(KhoDomain *domain, const char *name, KhoSnapshotDeleteFlags flags, const KhoJob *job,
                    GPtrArray **left, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);

    if (!store_name_check(name, "snapshot", error)
        || (flags & (KHO_SNAPSHOT_DELETE_CHILDREN | KHO_SNAPSHOT_DELETE_CHILDREN_ONLY)
            && !find_descendants(domain, name, names, error)))
        return FALSE;
    if (!(flags & KHO_SNAPSHOT_DELETE_CHILDREN_ONLY))
        g_ptr_array_add(names, g_strdup(name));
    for (guint i = 0; i < names->len; i++)
        if (!delete_one(domain, names->pdata[i], flags, job, files, error))
            return FALSE;
    if (left)
        *left = g_steal_pointer(&files);
    return TRUE;
}
