/* Definitions: made, replaced, removed, shown, marked for autostart. */
#include "base/error.h"
#include "host/claim.h"
#include "host/running.h"
#include "host/saved.h"
#include "snapshot/folder.h"
#include "snapshot/guard.h"
#include "store/list.h"
#include "store/publish.h"
#include "vm/definition.h"
#include "vm/start.h"

#include <string.h>

/* The struct that is to be stored, checked by itself. */
static ModelDomain *
read_definition(const char *xml, gsize len, const KhoDomainDefineOptions *options, GError **error)
{
    g_autoptr(ModelDomain) model = model_domain_parse(xml, len, error);

    if (!model || !store_name_check(model->name, "machine", error))
        return NULL;
    if (options->expect_uuid && !model->uuid)
        model->uuid = g_strdup(options->expect_uuid);
    if (!model_domain_complete(model, &vm_host_defaults, error))
        return NULL;
    if (options->expect_uuid && strcmp(options->expect_uuid, model->uuid) != 0) {
        fail(error, KHO_ERROR_INVALID, "the uuid of machine '%s' is %s and cannot be changed to %s",
             model->name, options->expect_uuid, model->uuid);
        return NULL;
    }
    g_autoptr(GPtrArray) unknown = model_domain_unknown(model);
    if (options->refuse_unknown && unknown->len > 0) {
        fail(error, KHO_ERROR_UNSUPPORTED, "machine '%s': %s is not known to this kho", model->name,
             (const char *) unknown->pdata[0]);
        return NULL;
    }
    return g_steal_pointer(&model);
}

/* Whether the definition is still what an editor was given; called under both locks. */
static gboolean
check_unchanged(KhoHost *host, const char *name, const char *expect_xml, GError **error)
{
    g_autofree char *now = expect_xml ? vm_definition_text(host->tree, name, NULL, NULL) : NULL;

    if (g_strcmp0(now, expect_xml) != 0)
        return fail(error, KHO_ERROR_BUSY, "the definition of machine '%s' was changed by another meanwhile",
                    name);
    return TRUE;
}

/* A delete that begins later sees what the definition names. */
static gboolean
publish(KhoHost *host, const ModelDomain *model, const char *text, GError **error)
{
    g_autoptr(StoreLock) lock = guard_lock(host->tree, &host->wait, error);

    return lock && guard_check_machine_reads(host->tree, model, error)
           && vm_definition_publish(host->tree, model->name, text, error);
}

KhoDomain *
kho_domain_define(KhoHost *host, const char *xml, gsize len, const KhoDomainDefineOptions *options,
                  GPtrArray **unknown, GError **error)
{
    const KhoDomainDefineOptions none = { 0 }, *wanted = options ? options : &none;
    g_autoptr(ModelDomain) model = read_definition(xml, len, wanted, error);
    g_auto(MachineClaim) claim = { NULL, NULL };

    if (!model || !machine_claim_to_define(host, model, &claim, error)
        || !check_unchanged(host, model->name, wanted->expect_xml, error))
        return NULL;
    g_autofree char *path = store_path_domain(host->tree, model->name);
    g_autofree char *mark = store_path_domain_autostart(host->tree, model->name);
    g_autofree char *text = model_domain_format(model, MODEL_FORMAT_INACTIVE);
    /* a mark without a definition is what a killed undefine left */
    if (!g_file_test(path, G_FILE_TEST_EXISTS) && !store_autostart_set(mark, FALSE, error))
        return NULL;
    if (!publish(host, model, text, error))
        return NULL;
    if (unknown)
        *unknown = model_domain_unknown(model);
    KhoDomain *domain = g_new0(KhoDomain, 1);
    *domain = (KhoDomain){ .host = host, .name = g_strdup(model->name), .uuid = g_strdup(model->uuid) };
    return domain;
}

/* Whether the definition that @domain was looked up as still stands; called under its lock. */
static gboolean
still_defined(const KhoDomain *domain, GError **error)
{
    g_autoptr(ModelDomain) model = vm_definition(domain->host->tree, domain->name, error);

    if (!model)
        return FALSE;
    if (g_strcmp0(model->uuid, domain->uuid) != 0)
        return fail(error, KHO_ERROR_NOT_FOUND, "machine '%s' was replaced by another of that name meanwhile",
                    domain->name);
    return TRUE;
}

/* A damaged one may be removed, be it that of a machine that runs. */
static gboolean
may_undefine(const KhoDomain *domain, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (still_defined(domain, &why) || g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* Snapshots without a machine would be nobody's; called under its lock. */
static gboolean
give_up_snapshots(const KhoDomain *domain, KhoUndefineFlags flags, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, domain->name, error);

    if (!names)
        return FALSE;
    if (names->len > 0 && !(flags & KHO_UNDEFINE_SNAPSHOTS_METADATA))
        return fail(error, KHO_ERROR_INVALID,
                    "machine '%s' has %u snapshot%s: delete them first, or forget them with "
                    "--snapshots-metadata, which keeps their images",
                    domain->name, names->len, names->len > 1 ? "s" : "");
    return snapshot_folder_remove(tree, domain->name, error);
}

gboolean
kho_domain_undefine(KhoDomain *domain, KhoUndefineFlags flags, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_autofree char *path = store_path_domain(tree, domain->name);
    g_autofree char *mark = store_path_domain_autostart(tree, domain->name);
    g_autoptr(StoreLock) name =
        store_lock_name(tree, STORE_LOCK_DOMAIN, domain->name, &domain->host->wait, error);

    if (!name)
        return FALSE;
    /* without a uuid there is no machine whose changes the name's lock does not keep away */
    g_autoptr(StoreLock) lock = domain->uuid ? machine_lock(domain, error) : NULL;
    if ((domain->uuid && !lock) || !may_undefine(domain, error))
        return FALSE;
    if (saved_exists(tree, domain->name) && !(flags & KHO_UNDEFINE_MANAGED_SAVE))
        return fail(error, KHO_ERROR_INVALID,
                    "machine '%s' has a managed save: `kho undefine --managed-save` removes it as well",
                    domain->name);
    if (!give_up_snapshots(domain, flags, error) || !saved_remove(tree, domain->name, error))
        return FALSE;
    /* the definition first: a mark without one means nothing, and the next define takes it away */
    return store_unlink(path, error) && store_autostart_set(mark, FALSE, error);
}

gboolean
kho_domain_set_autostart(KhoDomain *domain, gboolean on, GError **error)
{
    g_autofree char *mark = store_path_domain_autostart(domain->host->tree, domain->name);
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    return lock && still_defined(domain, error) && store_autostart_set(mark, on, error);
}

char *
kho_domain_xml(KhoDomain *domain, gboolean inactive, GError **error)
{
    KhoDomainStatus status = { 0 };

    if (!inactive) {
        if (!kho_domain_status(domain, &status, error))
            return NULL;
        gboolean active = machine_state_is_active(status.state);
        kho_domain_status_clear(&status);
        g_autofree char *live =
            active ? running_xml_or_definition(domain->host->tree, domain->name, NULL, error) : NULL;
        if (active)
            return g_steal_pointer(&live);
    }
    return vm_definition_text(domain->host->tree, domain->name, NULL, error);
}
