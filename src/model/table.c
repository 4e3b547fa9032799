#include "model/table.h"

#include "base/error.h"

#include <string.h>

void
model_kept_free(gpointer data)
{
    ModelKept *k = data;

    xml_doc_unref(k->doc);
    g_free(k);
}

gpointer
model_node_new(const ModelTable *table)
{
    ModelNode *node = g_malloc0(table->bytes);

    g_assert(table->n_rows <= MODEL_ROWS_MAX);
    node->table = table;
    for (gsize i = 0; i < table->n_rows; i++) {
        const ModelRow *r = &table->rows[i];
        if (r->kind == MODEL_NUMBER || r->kind == MODEL_OCTAL)
            MODEL_MEMBER(node, r, gint) = MODEL_UNSET;
        else if (r->kind == MODEL_OWNER || r->kind == MODEL_TIME)
            MODEL_MEMBER(node, r, gint64) = MODEL_UNSET;
        else if (r->kind == MODEL_BYTES)
            MODEL_MEMBER(node, r, guint64) = MODEL_SIZE_UNSET;
        else if (r->kind == MODEL_LIST)
            MODEL_MEMBER(node, r, GPtrArray *) = g_ptr_array_new_with_free_func(model_node_free);
    }
    return node;
}

void
model_node_free(gpointer data)
{
    ModelNode *node = data;

    if (!node)
        return;
    for (gsize i = 0; i < node->table->n_rows; i++) {
        const ModelRow *r = &node->table->rows[i];
        if (r->kind == MODEL_STRING || r->kind == MODEL_UUID)
            g_free(MODEL_MEMBER(node, r, char *));
        else if (r->kind == MODEL_LIST)
            g_ptr_array_unref(MODEL_MEMBER(node, r, GPtrArray *));
    }
    g_clear_pointer(&node->kept, g_ptr_array_unref);
    g_free(node);
}

gsize
model_tail_name(const char *tail)
{
    return *tail == '/' ? strcspn(tail + 1, "/@") : 0;
}

gint
model_table_child_end(const ModelTable *table, gint lo, gint hi, gint off)
{
    const char *tail = table->rows[lo].path + off;
    gsize len = model_tail_name(tail) + 1;
    gint end = lo + 1;

    for (; end < hi; end++) {
        const char *other = table->rows[end].path + off;
        if (strncmp(other, tail, len) != 0 || model_tail_name(other) + 1 != len)
            break;
    }
    return end;
}

gpointer
model_table_copy(const ModelNode *node)
{
    g_autofree char *text = model_table_format(node);
    g_autoptr(GError) error = NULL;
    gpointer copy = model_table_parse(node->table, text, strlen(text), &error);

    if (!copy)
        g_error("a formatted <%s> does not parse: %s", node->table->element, error->message);
    return copy;
}

/* ---- what was kept ---- */

static void
unknown_free(gpointer data)
{
    ModelUnknown *u = data;

    g_free(u->path);
    g_free(u);
}

static void
add_unknown(const ModelNode *node, const char *prefix, GPtrArray *out)
{
    for (guint i = 0; node->kept && i < node->kept->len; i++) {
        const ModelKept *k = g_ptr_array_index(node->kept, i);
        if (k->silent)
            continue;
        ModelUnknown *u = g_new0(ModelUnknown, 1);
        const char *ns = k->attr ? k->attr->prefix : k->node->prefix;
        u->line = k->line;
        u->node = k->node;
        u->path = g_strdup_printf("%s%.*s%c%s%s%s", prefix, k->off,
                                  k->off ? node->table->rows[k->lo].path : "", k->attr ? '@' : '/',
                                  ns ? ns : "", ns ? ":" : "", k->attr ? k->attr->name : k->node->name);
        g_ptr_array_add(out, u);
    }
    for (gsize i = 0; i < node->table->n_rows; i++) {
        const ModelRow *r = &node->table->rows[i];
        if (r->kind != MODEL_LIST)
            continue;
        g_autofree char *below = g_strconcat(prefix, r->path, NULL);
        const GPtrArray *items = MODEL_MEMBER(node, r, GPtrArray *);
        for (guint n = 0; n < items->len; n++)
            add_unknown(g_ptr_array_index(items, n), below, out);
    }
}

GPtrArray *
model_table_unknown(const ModelNode *node)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(unknown_free);

    add_unknown(node, "", out);
    return out;
}

GPtrArray *
model_table_unknown_text(const ModelNode *node)
{
    g_autoptr(GPtrArray) unknown = model_table_unknown(node);
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < unknown->len; i++) {
        const ModelUnknown *u = g_ptr_array_index(unknown, i);
        g_ptr_array_add(out, model_unknown_text(u, node->table->element));
    }
    return out;
}

char *
model_unknown_text(const ModelUnknown *unknown, const char *root)
{
    const char *at = strrchr(unknown->path, '@');

    if (!at)
        return g_strdup_printf("<%s> in line %u", strrchr(unknown->path, '/') + 1, unknown->line);
    g_autofree char *element = g_strndup(unknown->path, (gsize) (at - unknown->path));
    const char *slash = strrchr(element, '/');
    return g_strdup_printf("attribute '%s' of <%s> in line %u", at + 1, slash ? slash + 1 : root,
                           unknown->line);
}
