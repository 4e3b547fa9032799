/* Finding machines and reading their definitions. */
#include "host/machine.h"

#include "base/error.h"
#include "base/num.h"
#include "host/recover.h"
#include "host/running.h"
#include "snapshot/closed.h"
#include "store/list.h"
#include "vm/definition.h"

#include <string.h>

void
kho_domain_free(KhoDomain *domain)
{
    if (!domain)
        return;
    g_free(domain->name);
    g_free(domain->uuid);
    g_free(domain);
}

const char *
kho_domain_name(const KhoDomain *domain)
{
    return domain->name;
}

const char *
kho_domain_uuid(const KhoDomain *domain)
{
    return domain->uuid;
}

gboolean
kho_domain_is_persistent(const KhoDomain *domain)
{
    g_autofree char *path = store_path_domain(domain->host->tree, domain->name);
    return g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

char *
machine_name_of_uuid(const StoreTree *tree, const char *uuid, const char *but)
{
    g_autoptr(GPtrArray) names = store_list_domains(tree, NULL);

    for (guint i = 0; names && i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *text = vm_definition_text(tree, name, NULL, NULL);
        if (g_strcmp0(name, but) == 0 || !text || !strcasestr(text, uuid))
            continue;
        g_autoptr(ModelDomain) domain = vm_definition(tree, name, NULL);
        if (domain && strcmp(domain->uuid, uuid) == 0)
            return g_strdup(name);
    }
    return running_name_of(tree, uuid, -1, but);
}

static KhoDomain *
domain_new(KhoHost *host, const char *name, const char *uuid)
{
    KhoDomain *domain = g_new0(KhoDomain, 1);
    *domain = (KhoDomain){ .host = host, .name = g_strdup(name), .uuid = g_strdup(uuid) };
    return domain;
}

/* A machine by its exact name: its definition, or what runs without one (or with one that is damaged, which
 * must not keep anybody from ending it). */
static KhoDomain *
find_name(KhoHost *host, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(ModelDomain) definition = vm_definition(host->tree, name, &why);

    if (definition)
        return domain_new(host, name, definition->uuid);
    g_autofree char *uuid = running_uuid(host->tree, name);
    if (uuid)
        return domain_new(host, name, uuid);
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

KhoDomain *
kho_domain_lookup_damaged(KhoHost *host, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!store_name_check(name, "machine", error))
        return NULL;
    g_autoptr(ModelDomain) definition = vm_definition(host->tree, name, &why);
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT))
        return domain_new(host, name, NULL);
    if (definition)
        fail(error, KHO_ERROR_INVALID, "the definition of machine '%s' is not damaged", name);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

/* What a dead kho left half done on that machine is finished or taken back first, where that can be done at
 * once. */
static KhoDomain *
lookup_name(KhoHost *host, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    KhoDomain *domain = find_name(host, name, &why);

    if (domain)
        machine_recover_quietly(host, domain->uuid);
    else if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND) && machine_recover_name(host, name))
        return find_name(host, name, error);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return domain;
}

KhoDomain *
kho_domain_lookup(KhoHost *host, const char *which, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *name = NULL;
    guint64 id;

    if (store_name_check(which, "machine", &why)) {
        g_clear_error(&why);
        KhoDomain *domain = lookup_name(host, which, &why);
        if (domain)
            return domain;
        if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
    }
    if (g_uuid_string_is_valid(which)) {
        g_autofree char *uuid = g_ascii_strdown(which, -1);
        name = machine_name_of_uuid(host->tree, uuid, NULL);
    } else if (num_parse_uint(which, G_MAXINT, "id", &id, NULL)) {
        name = running_name_of(host->tree, NULL, (gint) id, NULL);
    }
    if (name)
        return lookup_name(host, name, error);
    g_autofree char *shown = error_one_line(which);
    fail(error, KHO_ERROR_NOT_FOUND, "no machine has the name, uuid or id '%s': `kho list --all` shows all",
         shown);
    return NULL;
}

static void
warn(const char *line, gpointer host)
{
    host_warn(host, line);
}

void
machine_warn_changed(const KhoDomain *domain)
{
    closed_tell_changed(domain->host->tree, domain->name, warn, domain->host);
}
