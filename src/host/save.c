/* Saving machines and bringing them back: states, locks, the journal's entry. The steps are save/'s. */
#include "save/save.h"

#include "base/error.h"
#include "base/fd.h"
#include "host/claim.h"
#include "host/running.h"
#include "host/saved.h"
#include "host/volume.h"
#include "save/resume.h"
#include "snapshot/folder.h"
#include "snapshot/guard.h"
#include "store/list.h"
#include "store/publish.h"
#include "vm/definition.h"
#include "vm/ramfile.h"
#include "vm/stamp.h"
#include "vm/start.h"

#include <kho/save.h>
#include <string.h>

/* Begins the entry under the lock, and drives the change without it. Both @lock and @plan are taken over. */
static gboolean
drive(const KhoDomain *domain, const ChangeKind *kind, const char *what, StoreLock *lock, json_t *plan,
      const KhoJob *job, GError **error)
{
    g_autoptr(StoreLock) held = lock;
    json_auto json_t *owned = plan;
    const StoreJournalPlan entry = {
        .uuid = domain->uuid, .name = domain->name, .change = kind->name, .what = what, .plan = plan
    };
    StoreTree *tree = domain->host->tree;
    StoreJournal *journal = store_journal_begin(tree, STORE_LOCK_DOMAIN, &entry, error);

    g_clear_pointer(&held, store_lock_release);
    return journal && change_run(kind, journal, tree, job, NULL, error);
}

/* ---- saving ---- */

static gboolean
save(KhoDomain *domain, const char *file, const char *what, KhoSavedState state, const KhoJob *job,
     GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);
    gsize len;

    if (!lock || !kho_domain_status(domain, &status, error)
        || !machine_state_admits(MACHINE_SAVE, domain->name, status.state, error))
        return FALSE;
    gboolean paused = status.state == KHO_DOMAIN_PAUSED;
    g_autofree char *definition = vm_definition_text(domain->host->tree, domain->name, NULL, NULL);
    g_autofree char *xml = running_xml(domain->host->tree, domain->name, &len, error);
    g_autoptr(ModelDomain) live = xml ? model_domain_parse(xml, len, error) : NULL;
    if (!live)
        return FALSE;
    const SaveRequest request = {
        .live = live,
        .live_xml = xml,
        .definition = definition,
        .file = file,
        .pause_reason = paused ? status.reason : NULL,
        .stays_paused = state == KHO_SAVED_PAUSED || (state == KHO_SAVED_AS_IT_WAS && paused),
    };
    json_t *plan = save_plan_make(&request, error);
    return plan && drive(domain, &save_change, what, g_steal_pointer(&lock), plan, job, error);
}

gboolean
kho_domain_save(KhoDomain *domain, const char *file, KhoSavedState state, const KhoJob *job, GError **error)
{
    g_autofree char *what = g_strdup_printf("save to %s", file);

    if (!store_path_check(file, "save file", error))
        return FALSE;
    if (store_path_is_own(domain->host->tree, file))
        return fail(error, KHO_ERROR_INVALID,
                    "the save file %s would lie among kho's own files: choose another folder, or `kho "
                    "managedsave`",
                    file);
    return save(domain, file, what, state, job, error);
}

gboolean
kho_domain_managed_save(KhoDomain *domain, KhoSavedState state, const KhoJob *job, GError **error)
{
    g_autofree char *file = store_path_managed_save(domain->host->tree, domain->name);

    if (!kho_domain_is_persistent(domain))
        return fail(
            error, KHO_ERROR_INVALID,
            "machine '%s' has no definition, and so no next start: `kho save` writes its memory into a file",
            domain->name);
    return save(domain, file, "managed save", state, job, error);
}

/* ---- managed saves ---- */

gboolean
saved_exists(const StoreTree *tree, const char *name)
{
    g_autofree char *file = store_path_managed_save(tree, name);

    return g_file_test(file, G_FILE_TEST_EXISTS);
}

gboolean
saved_remove(const StoreTree *tree, const char *name, GError **error)
{
    g_autofree char *file = store_path_managed_save(tree, name);

    return !saved_exists(tree, name) || store_unlink(file, error);
}

gboolean
kho_domain_has_managed_save(KhoDomain *domain)
{
    return saved_exists(domain->host->tree, domain->name);
}

gboolean
kho_domain_managed_save_remove(KhoDomain *domain, gboolean *removed, GError **error)
{
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    if (!lock)
        return FALSE;
    *removed = saved_exists(domain->host->tree, domain->name);
    return saved_remove(domain->host->tree, domain->name, error);
}

static gboolean
is_below(const ModelDisk *disk, const char *path)
{
    g_autoptr(GPtrArray) below = vm_stamps_below(disk->source_file, disk->format, NULL);

    for (guint i = 0; below && i < below->len; i++)
        if (host_same_file(below->pdata[i], path))
            return TRUE;
    return FALSE;
}

static gboolean
check_saved_disk(const char *machine, const ModelDisk *disk, const char *path, GError **error)
{
    if (!disk->source_file || disk->readonly || disk->device == MODEL_DISK_CDROM)
        return TRUE;
    gboolean is_disk = host_same_file(disk->source_file, path);
    if (!is_disk && !is_below(disk, path))
        return TRUE;
    return fail(error, KHO_ERROR_BUSY,
                "%s is %sdisk %s of machine '%s', which has a managed save whose memory would not fit it any "
                "more: start the "
                "machine, or `kho managedsave-remove %s`, first",
                path, is_disk ? "" : "under ", disk->target, machine, machine);
}

gboolean
kho_save_check_file(KhoHost *host, const char *path, GError **error)
{
    g_autoptr(GPtrArray) names = store_list_domains(host->tree, error);

    for (guint i = 0; names && i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autoptr(ModelDomain) model =
            saved_exists(host->tree, name) ? vm_definition(host->tree, name, NULL) : NULL;
        for (guint n = 0; model && n < model->disks->len; n++)
            if (!check_saved_disk(name, model->disks->pdata[n], path, error))
                return FALSE;
    }
    return names != NULL;
}

/* ---- bringing back ---- */

static gboolean
stays_paused(const SaveImage *image, KhoSavedState state)
{
    return state == KHO_SAVED_PAUSED || (state == KHO_SAVED_AS_IT_WAS && image->head->paused);
}

gboolean
saved_start(KhoDomain *domain, StoreLock *lock, gboolean paused, const KhoJob *job, GError **error)
{
    g_autoptr(StoreLock) held = lock;
    const StoreTree *tree = domain->host->tree;
    g_autofree char *file = store_path_managed_save(tree, domain->name);
    g_autofree char *cure = g_strdup_printf("`kho start --force-boot %s` boots it without", domain->name);
    g_autoptr(GError) why = NULL;
    g_autoptr(SaveImage) image = save_image_open(file, &why);
    g_autoptr(ModelDomain) definition = image ? vm_definition(tree, domain->name, &why) : NULL;

    if (!definition) {
        g_propagate_error(error, g_steal_pointer(&why));
        if (!image)
            g_prefix_error(error, "machine '%s' cannot go on from its managed save (%s): ", domain->name,
                           cure);
        return FALSE;
    }
    if (strcmp(image->live->uuid, domain->uuid) != 0)
        return fail(error, KHO_ERROR_INVALID, "%s holds the memory of another machine with uuid %s: %s", file,
                    image->live->uuid, cure);
    if (!guard_check_machine(tree, image->live, error)
        || !save_image_check(image, definition, cure, FALSE, error))
        return FALSE;
    const ResumeRequest request = {
        .image = image,
        .managed = TRUE,
        .paused = stays_paused(image, paused ? KHO_SAVED_PAUSED : KHO_SAVED_AS_IT_WAS),
    };
    if (drive(domain, &resume_change, "start from its managed save", g_steal_pointer(&held),
              resume_plan_make(&request), job, &why))
        return TRUE;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT)
        || g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID))
        return fail(error, (KhoErrorCode) why->code, "%s: %s", why->message, cure);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* A snapshot's memory was written while its disks were closed, and those are never written again: it comes
 * back over overlays of them, or not at all. */
static gboolean
refuse_snapshot(const KhoDomain *domain, const SaveImage *image, GError **error)
{
    g_autoptr(GPtrArray) all = snapshot_read_all(domain->host->tree, domain->name, NULL);

    for (guint i = 0; all && i < all->len; i++) {
        const ModelSnapshot *one = all->pdata[i];
        g_autoptr(VmSaveHead) head = one->memory_file ? vm_ramfile_read_any(one->memory_file, NULL) : NULL;
        if (head && head->snapshot && head->saved_ms == image->head->saved_ms)
            return fail(error, KHO_ERROR_INVALID,
                        "%s is the memory of snapshot '%s' of machine '%s', and comes back with its disks: "
                        "`kho snapshot-revert %s %s`",
                        image->path, one->name, domain->name, domain->name, one->name);
    }
    return fail(error, KHO_ERROR_INVALID,
                "%s is the memory of a snapshot that machine '%s' has no more: the disks that it needs are "
                "gone, and it cannot be restored",
                image->path, domain->name);
}

/* Under the claim on its name and uuid: off, and fitting. */
static gboolean
check_restore(KhoDomain *domain, const SaveImage *image, gboolean force, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    g_autoptr(ModelDomain) definition = vm_definition(domain->host->tree, domain->name, NULL);

    if (image->head->snapshot)
        return refuse_snapshot(domain, image, error);
    return kho_domain_status(domain, &status, error)
           && machine_state_admits(MACHINE_START, domain->name, status.state, error)
           && guard_check_machine(domain->host->tree, image->live, error)
           && save_image_check(image, definition,
                               "--force restores it all the same, and its file systems may break", force,
                               error);
}

static gboolean
restore(KhoDomain *domain, const SaveImage *image, const KhoRestoreOptions *options, const KhoJob *job,
        GError **error)
{
    g_auto(MachineClaim) claim = { NULL, NULL };
    g_autofree char *what = g_strdup_printf("restore from %s", image->path);

    if (!machine_claim(domain->host, image->live, &claim, error)
        || !check_restore(domain, image, options->force, error))
        return FALSE;
    const ResumeRequest request = { .image = image, .paused = stays_paused(image, options->state) };
    return drive(domain, &resume_change, what, g_steal_pointer(&claim.change), resume_plan_make(&request),
                 job, error);
}

char *
kho_host_restore(KhoHost *host, const char *file, const KhoRestoreOptions *options, const KhoJob *job,
                 GError **error)
{
    const KhoRestoreOptions none = { 0 };
    g_autoptr(SaveImage) image = NULL;

    if (!store_path_check(file, "save file", error))
        return NULL;
    image = save_image_open(file, error);
    if (!image || !store_name_check(image->live->name, "machine", error))
        return NULL;
    KhoDomain domain = { .host = host, .name = image->live->name, .uuid = image->live->uuid };
    return restore(&domain, image, options ? options : &none, job, error) ? g_strdup(domain.name) : NULL;
}

char *
kho_save_file_xml(const char *file, GError **error)
{
    g_autoptr(SaveImage) image = save_image_open(file, error);

    if (!image || !model_domain_complete(image->live, &vm_host_defaults, error))
        return NULL;
    return model_domain_format(image->live, MODEL_FORMAT_INACTIVE);
}
