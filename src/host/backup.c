/* Backing machines up and restoring them: states, claims and locks; the rest is backup/'s. */
#include <kho/backup.h>

#include "backup/create.h"
#include "backup/plan.h"
#include "backup/restore.h"
#include "base/error.h"
#include "host/pool.h"
#include "host/recover.h"
#include "host/running.h"
#include "host/saved.h"
#include "snapshot/guard.h"
#include "vm/definition.h"
#include "vm/start.h"

#include <glib/gstdio.h>
#include <string.h>

/* How many hosts may choose one name at once. */
#define NAME_TRIES 16

/* --- making ----------------------------------------------------------------------------------------------
 */

/* What is to be backed up: the definition, or of a machine that runs the live one, whose disks are copied. */
static ModelDomain *
model_of(const KhoDomain *domain, gboolean runs, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    gsize len;

    if (!runs) {
        g_autoptr(ModelDomain) model = vm_definition(tree, domain->name, error);
        return model && guard_check_machine_reads(tree, model, error)
                       && model_domain_complete(model, &vm_host_defaults, error)
                   ? g_steal_pointer(&model)
                   : NULL;
    }
    g_autofree char *text = running_xml(tree, domain->name, &len, error);
    return text ? model_domain_parse(text, len, error) : NULL;
}

static BackupPlan *
make_plan(KhoDomain *domain, const KhoBackupCreate *options, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    g_autofree char *run_path = store_path_domain_run(domain->host->tree, domain->name);
    g_autofree char *memory = store_path_managed_save(domain->host->tree, domain->name);

    if (!kho_domain_status(domain, &status, error))
        return NULL;
    gboolean runs = machine_state_is_active(status.state);
    g_autoptr(ModelDomain) model = model_of(domain, runs, error);
    if (!model)
        return NULL;
    const BackupRequest request = {
        .options = options,
        .model = model,
        .state = kho_domain_state_word(status.state),
        .run_path = runs ? run_path : NULL,
        .memory = !runs && saved_exists(domain->host->tree, domain->name) ? memory : NULL,
    };
    g_autoptr(BackupPlan) plan = backup_plan_make(&request, error);
    return plan && backup_plan_check_room(plan, error) ? g_steal_pointer(&plan) : NULL;
}

/* An entry in the journal of @name, begun under the machine's change lock. */
static StoreJournal *
begin(const StoreTree *tree, const char *uuid, const char *name, const ChangeKind *kind, const char *point,
      const json_t *plan, GError **error)
{
    g_autofree char *what = g_strdup_printf("%s of point '%s'", kind->name, point);
    const StoreJournalPlan entry = {
        .uuid = uuid, .name = name, .change = kind->name, .what = what, .plan = plan
    };

    return store_journal_begin(tree, STORE_LOCK_DOMAIN, &entry, error);
}

static KhoBackupPoint *
create(KhoDomain *domain, const KhoBackupCreate *options, const KhoJob *job, GError **error)
{
    StoreTree *tree = domain->host->tree;
    g_autoptr(StoreLock) lock = machine_lock(domain, error);
    g_autoptr(BackupPlan) plan = lock ? make_plan(domain, options, error) : NULL;

    if (!plan)
        return NULL;
    machine_warn_changed(domain);
    for (guint i = 0; i < plan->sources->len; i++) {
        const BackupSource *source = plan->sources->pdata[i];
        host_warn_of_loss(domain->host, source->path, source->format, "the backup");
    }
    json_auto json_t *json = backup_plan_to_json(plan);
    StoreJournal *journal =
        begin(tree, domain->uuid, domain->name, &backup_change, plan->point->point, json, error);
    /* From here on the entry keeps others off, and says what is going on. */
    g_clear_pointer(&lock, store_lock_release);
    if (!journal || !change_run(&backup_change, journal, tree, job, NULL, error))
        return NULL;
    return backup_point_find(plan->store, plan->point->machine, plan->point->point, error);
}

KhoBackupPoint *
kho_backup_create(KhoDomain *domain, const KhoBackupCreate *options, const KhoJob *job, GError **error)
{
    for (guint i = 1;; i++) {
        g_autoptr(GError) why = NULL;
        KhoBackupPoint *point = create(domain, options, job, &why);
        if (point)
            return point;
        /* Another host chose the same second's name; the next look finds it taken. */
        if (options->point || i == NAME_TRIES || !g_error_matches(why, KHO_ERROR, KHO_ERROR_EXISTS)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
    }
}

/* --- restoring -------------------------------------------------------------------------------------------
 */

/* Both locks of a definition that is to be; the name's is held to the end. */
typedef struct {
    StoreLock *name, *change;
} Claims;

static void
claims_clear(Claims *claims)
{
    store_lock_release(claims->change);
    store_lock_release(claims->name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Claims, claims_clear)

/* Called with the name's lock held. */
static gboolean
check_name_free(KhoHost *host, const char *name, GError **error)
{
    g_autofree char *path = store_path_domain(host->tree, name);
    g_autofree char *running = NULL;

    machine_recover_name(host, name);
    running = running_uuid(host->tree, name);
    if (running || g_file_test(path, G_FILE_TEST_EXISTS))
        return fail(error, KHO_ERROR_EXISTS, "machine '%s' exists already: restore under another --name",
                    name);
    return TRUE;
}

static gboolean
check_uuid_free(KhoHost *host, const char *uuid, GError **error)
{
    g_autofree char *other = machine_name_of_uuid(host->tree, uuid, NULL);

    return !other
           || fail(error, KHO_ERROR_EXISTS,
                   "the uuid %s of that machine belongs to machine '%s' now: restore under another --name, "
                   "which gets a uuid of its own",
                   uuid, other);
}

static gboolean
claims_take(KhoHost *host, const ModelDomain *model, Claims *claims, GError **error)
{
    g_autofree char *object = g_strdup_printf("machine '%s'", model->name);

    claims->name = store_lock_name(host->tree, STORE_LOCK_DOMAIN, model->name, &host->wait, error);
    if (!claims->name || !check_name_free(host, model->name, error))
        return FALSE;
    claims->change = store_lock_take(host->tree, STORE_LOCK_DOMAIN, model->uuid, object, &host->wait, error);
    return claims->change && machine_recover_locked(host, model->uuid, error)
           && check_uuid_free(host, model->uuid, error);
}

/* Where disks go that cannot go where they were. */
static char *
folder_for(KhoHost *host, const char *pool_name, GError **error)
{
    if (!pool_name)
        return store_path_images(host->tree);
    g_autoptr(HostPool) pool = host_pool_find_active(host, pool_name, error);
    return pool ? g_strdup(pool->live->target_path) : NULL;
}

static gboolean
is_another(const KhoBackupRestore *options, const KhoBackupPoint *point)
{
    return options->name && strcmp(options->name, point->name) != 0;
}

static ModelDomain *
read_model(const KhoBackupRestore *options, const KhoBackupPoint *point, GError **error)
{
    g_autoptr(ModelDomain) model = restore_read_model(point, error);

    if (!model || (options->name && !store_name_check(options->name, "machine", error)))
        return NULL;
    if (is_another(options, point))
        restore_rename(model, options->name);
    return model_domain_complete(model, &vm_host_defaults, error) ? g_steal_pointer(&model) : NULL;
}

static gboolean
is_same_folder(const char *one, const char *other)
{
    GStatBuf a, b;

    return g_stat(one, &a) == 0 && g_stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Which pools the disks become volumes of, active or not. */
static gboolean
find_pools(KhoHost *host, const RestorePlan *plan, GError **error)
{
    g_autoptr(GPtrArray) names = host_pool_names(host, error);

    for (guint n = 0; names && n < names->len; n++) {
        g_autoptr(HostPool) pool = host_pool_load(host, names->pdata[n], NULL);
        const ModelPool *model = pool ? host_pool_model(pool) : NULL;
        for (guint i = 0; model && i < plan->disks->len; i++) {
            RestoreDisk *disk = plan->disks->pdata[i];
            g_autofree char *folder = g_path_get_dirname(disk->path);
            if (!disk->pool && is_same_folder(folder, model->target_path))
                disk->pool = g_strdup(model->uuid);
        }
    }
    return names != NULL;
}

/* Checks all that can be checked, and begins the entry; the change lock is let go then. */
static StoreJournal *
prepare(KhoHost *host, const KhoBackupRestore *options, const RestoreRequest *request, Claims *claims,
        const KhoJob *job, GError **error)
{
    if (!claims_take(host, request->model, claims, error))
        return NULL;
    g_autoptr(RestorePlan) plan = restore_plan_make(request, error);
    if (!plan || !find_pools(host, plan, error) || !restore_plan_check_room(plan, job, error))
        return NULL;
    json_auto json_t *json = restore_plan_to_json(plan);
    StoreJournal *journal =
        begin(host->tree, plan->uuid, plan->name, &restore_change, request->point->point, json, error);
    g_clear_pointer(&claims->change, store_lock_release);
    return journal;
}

KhoDomain *
kho_backup_restore(KhoHost *host, const KhoBackupRestore *options, const KhoJob *job,
                   KhoBackupPoint **restored, GError **error)
{
    g_autofree char *store = backup_store_path(options->store, error);
    g_autofree char *folder = store ? folder_for(host, options->pool, error) : NULL;
    g_autoptr(KhoBackupPoint) point =
        folder ? backup_point_find(store, options->machine, options->point, error) : NULL;
    g_autoptr(ModelDomain) model = point ? read_model(options, point, error) : NULL;
    g_auto(Claims) claims = { 0 };

    if (!model)
        return NULL;
    const RestoreRequest request = {
        .point = point,
        .model = model,
        .keep_paths = !options->pool && !is_another(options, point),
        .folder = folder,
    };
    StoreJournal *journal = prepare(host, options, &request, &claims, job, error);
    if (!journal || !change_run(&restore_change, journal, host->tree, job, NULL, error))
        return NULL;
    if (restored)
        *restored = g_steal_pointer(&point);
    return kho_domain_lookup(host, model->name, error);
}
