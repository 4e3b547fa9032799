#include "vm/definition.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/xml.h"
#include "store/publish.h"

#include <string.h>

char *
vm_definition_text(const StoreTree *tree, const char *name, gsize *len, GError **error)
{
    g_autofree char *path = store_path_domain(tree, name);
    g_autoptr(GError) why = NULL;
    char *text = fd_read_file(path, XML_TEXT_MAX, len, &why);

    if (!text && g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        fail(error, KHO_ERROR_NOT_FOUND, "machine '%s' has no definition", name);
    else if (!text)
        g_propagate_error(error, g_steal_pointer(&why));
    return text;
}

ModelDomain *
vm_definition(const StoreTree *tree, const char *name, GError **error)
{
    gsize len;
    g_autofree char *text = vm_definition_text(tree, name, &len, error);
    g_autoptr(GError) why = NULL;

    if (!text)
        return NULL;
    g_autoptr(ModelDomain) domain = model_domain_parse(text, len, &why);
    g_autofree char *path = store_path_domain(tree, name);
    if (!domain)
        fail(error, KHO_ERROR_CORRUPT, "the definition %s is damaged: %s", path, why->message);
    else if (!domain->uuid || strcmp(domain->name, name) != 0)
        fail(error, KHO_ERROR_CORRUPT, "the definition %s names machine '%s' and uuid %s", path, domain->name,
             domain->uuid ? domain->uuid : "none");
    else
        return g_steal_pointer(&domain);
    return NULL;
}

gboolean
vm_definition_publish(const StoreTree *tree, const char *name, const char *text, GError **error)
{
    g_autofree char *path = store_path_domain(tree, name);

    /* it may hold passwords */
    return store_publish(path, text, strlen(text), 0600, error);
}
