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
    g_autoptr(GError) why = NULL;
    g_autofree char *text = vm_definition_text(tree, name, &len, &why);

    if (!text && !g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID)) { /* which is: too long to be one */
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    g_autoptr(ModelDomain) domain = text ? model_domain_parse(text, len, &why) : NULL;
    g_autofree char *path = store_path_domain(tree, name);
    if (domain && domain->uuid && g_strcmp0(domain->name, name) == 0)
        return g_steal_pointer(&domain);
    g_autofree char *what = domain ? g_strdup_printf("it names machine '%s' and uuid %s", domain->name,
                                                     domain->uuid ? domain->uuid : "none")
                                   : g_strdup(why->message);
    fail(error, KHO_ERROR_CORRUPT,
         "the definition %s is damaged: %s: replace it with `kho define FILE`, or remove it with `kho "
         "undefine "
         "%s`",
         path, what, name);
    return NULL;
}

/* As many elements end as begin. What else may stand in XML (comments) only brings a second look. */
static gboolean
is_balanced(const char *text)
{
    gssize open = 0;

    for (const char *c = strpbrk(text, "<>"); c; c = strpbrk(c + 1, "<>"))
        if (*c == '<')
            open += c[1] == '/' ? -1 : 1;
        else if (c > text && c[-1] == '/')
            open--;
    return open == 0;
}

gboolean
vm_definition_looks_damaged(const StoreTree *tree, const char *name)
{
    g_autofree char *path = store_path_domain(tree, name);
    g_autofree char *own = g_strdup_printf("<name>%s</name>", name);
    g_autoptr(GError) why = NULL;
    gsize len;
    g_autofree char *text = fd_read_file(path, XML_TEXT_MAX, &len, &why);

    if (text && strlen(text) == len && strstr(text, own) && strstr(text, "<uuid>") && is_balanced(text)
        && g_str_has_suffix(g_strchomp(text), "</domain>"))
        return FALSE;
    g_clear_error(&why);
    g_autoptr(ModelDomain) model = vm_definition(tree, name, &why);
    return g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT);
}

gboolean
vm_definition_publish(const StoreTree *tree, const char *name, const char *text, GError **error)
{
    g_autofree char *path = store_path_domain(tree, name);

    /* it may hold passwords */
    return store_publish(path, text, strlen(text), 0600, error);
}
