#include "base/error.h"
#include "base/num.h"
#include "model/table.h"

#include <stdlib.h>
#include <string.h>

/* The end of the year 9999, which is as far as a calendar goes. */
#define SECONDS_MAX G_GINT64_CONSTANT(253402300799)

/* One struct being filled. The elements below it that have no struct of their own are walked with the same
 * rows. */
typedef struct {
    const ModelTable *table;
    ModelNode *to;
    XmlDoc *doc;
} Fill;

/* Where a value stands, for messages. */
typedef struct {
    const XmlNode *node;
    const char *attr; /* NULL: the element's text */
} Place;

/* A value from the text as a message shows it. */
static char *
shown(const char *value)
{
    g_autofree char *one = error_one_line(value);

    if (strlen(one) > 80)
        memcpy(one + 77, "...", 4);
    return g_utf8_make_valid(one, -1);
}

static gboolean
refuse(GError **error, Place at, const char *value, const char *wanted)
{
    g_autofree char *valid = shown(value);

    if (at.attr)
        return fail(error, KHO_ERROR_INVALID, "line %u: attribute '%s' of <%s> is '%s': it must be %s",
                    at.node->line, at.attr, at.node->name, valid, wanted);
    return fail(error, KHO_ERROR_INVALID, "line %u: <%s> is '%s': it must be %s", at.node->line,
                at.node->name, valid, wanted);
}

static gboolean
refuse_words(GError **error, Place at, const char *value, const char *const *words)
{
    g_autofree char *list = g_strjoinv(", ", (char **) words + 1);
    g_autofree char *wanted = g_strconcat(words[2] ? "one of " : "", list, NULL);

    return refuse(error, at, value, wanted);
}

static gint
word_index(const char *const *words, const char *value)
{
    for (gint i = 1; words[i]; i++)
        if (strcmp(words[i], value) == 0)
            return i;
    return 0;
}

static gboolean
parse_number(const ModelRow *r, Place at, const char *value, gint *out, GError **error)
{
    char *end = NULL;
    gint64 n = g_ascii_strtoll(value, &end, r->kind == MODEL_OCTAL ? 8 : 10);

    if (end == value || *end || n < r->min || n > r->max) {
        g_autofree char *wanted =
            r->kind == MODEL_OCTAL
                ? g_strdup_printf("an octal number from 0%o to 0%o", (guint) r->min, (guint) r->max)
                : g_strdup_printf("a whole number from %d to %d", r->min, r->max);
        return refuse(error, at, value, wanted);
    }
    *out = (gint) n;
    return TRUE;
}

static gboolean
parse_owner(Place at, const char *value, gint64 *out, GError **error)
{
    char *end = NULL;
    gint64 n = g_ascii_strtoll(value, &end, 10);

    if (end == value || *end || n < -1 || n >= (gint64) G_MAXUINT32)
        return refuse(error, at, value, "a numeric id, or -1 for that of whoever makes it");
    *out = n;
    return TRUE;
}

static gboolean
parse_time(Place at, const char *value, gint64 *out, GError **error)
{
    char *end = NULL;
    gint64 n = g_ascii_strtoll(value, &end, 10);

    if (end == value || *end || n < 0 || n > SECONDS_MAX)
        return refuse(error, at, value, "whole seconds since 1970");
    *out = n;
    return TRUE;
}

/* The number's unit is an attribute beside it. Bytes up to the largest offset, so that no sum of a few
 * overflows. */
static gboolean
parse_size(const ModelRow *r, Place at, const char *value, guint64 *out, GError **error)
{
    const char *unit = xml_attr(at.node, "unit");
    guint64 each = unit ? num_unit_bytes(unit) : r->kind == MODEL_KIB ? KIB : 1;
    char *end = NULL;
    guint64 n = g_ascii_isdigit(*value) ? g_ascii_strtoull(value, &end, 10) : 0;

    if (each == 0)
        return refuse(error, (Place){ at.node, "unit" }, unit,
                      "one of bytes, KiB, MiB, GiB, TiB, PiB, EiB, KB, MB, GB, TB");
    if (!end || *end)
        return refuse(error, at, value, "a whole number, its unit in the attribute 'unit'");
    if (!num_mul(n, each, &n) || n > NUM_OFFSET_MAX)
        return refuse(error, at, value, "less than 8 EiB with its unit");
    if (r->kind == MODEL_KIB && n == 0)
        return refuse(error, at, value, "more than 0");
    *out = r->kind == MODEL_KIB ? num_div_up(n, KIB) : n;
    return TRUE;
}

static gboolean
parse_uuid(Place at, const char *value, char **out, GError **error)
{
    g_autoptr(GString) hex = g_string_sized_new(36);

    for (const char *c = value; *c; c++) {
        if (*c == '-' || *c == ' ')
            continue;
        if (!g_ascii_isxdigit(*c) || hex->len >= 36)
            return refuse(error, at, value, "a uuid: 32 hexadecimal digits");
        g_string_append_c(hex, g_ascii_tolower(*c));
        if (hex->len == 8 || hex->len == 13 || hex->len == 18 || hex->len == 23)
            g_string_append_c(hex, '-');
    }
    if (hex->len != 36)
        return refuse(error, at, value, "a uuid: 32 hexadecimal digits");
    *out = g_strdup(hex->str);
    return TRUE;
}

static gboolean
parse_switch(const ModelRow *r, Place at, const char *value, ModelSwitch *out, GError **error)
{
    static const char *const yes[] = { "", "yes", "no", NULL }, *const on[] = { "", "on", "off", NULL };
    const char *const *words = r->kind == MODEL_YES ? yes : on;
    gint i = word_index(words, value);

    if (i == 0)
        return refuse_words(error, at, value, words);
    *out = (ModelSwitch) i;
    return TRUE;
}

static gboolean
has_elements(const XmlNode *node)
{
    for (const XmlNode *c = node->children; c; c = c->next)
        if (c->name)
            return TRUE;
    return FALSE;
}

/* The text of an element that has children as well, without the line breaks and indents before their tags. */
static char *
text_beside(const XmlNode *node)
{
    GString *text = g_string_new(NULL);

    for (const XmlNode *c = node->children; c; c = c->next) {
        if (c->name)
            continue;
        const char *end = c->text + strlen(c->text);
        while (end > c->text && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        gboolean indent = end > c->text && end[-1] == '\n';
        g_string_append_len(text, c->text, indent ? end - 1 - c->text : -1);
    }
    return g_string_free(text, FALSE);
}

static gboolean
parse_value(const ModelRow *r, Place at, const char *raw, ModelNode *to, GError **error)
{
    g_autofree char *value = g_strstrip(g_strdup(raw));
    gint word;

    if (r->line_member)
        G_STRUCT_MEMBER(guint, to, r->line_member) = at.node->line;
    switch ((ModelKind) r->kind) {
    case MODEL_STRING:
        if (r->words && word_index(r->words, value) == 0)
            return refuse_words(error, at, value, r->words);
        MODEL_MEMBER(to, r, char *) = r->words                            ? g_steal_pointer(&value)
                                      : !at.attr && has_elements(at.node) ? text_beside(at.node)
                                                                          : g_strdup(raw);
        return TRUE;
    case MODEL_UUID: return parse_uuid(at, value, &MODEL_MEMBER(to, r, char *), error);
    case MODEL_WORD:
        word = word_index(r->words, value);
        if (word == 0)
            return refuse_words(error, at, value, r->words);
        MODEL_MEMBER(to, r, gint) = word;
        return TRUE;
    case MODEL_NUMBER:
    case MODEL_OCTAL: return parse_number(r, at, value, &MODEL_MEMBER(to, r, gint), error);
    case MODEL_OWNER: return parse_owner(at, value, &MODEL_MEMBER(to, r, gint64), error);
    case MODEL_TIME: return parse_time(at, value, &MODEL_MEMBER(to, r, gint64), error);
    case MODEL_YES:
    case MODEL_ON: return parse_switch(r, at, value, &MODEL_MEMBER(to, r, ModelSwitch), error);
    case MODEL_FLAG: MODEL_MEMBER(to, r, gboolean) = TRUE; return TRUE;
    case MODEL_KIB:
    case MODEL_BYTES: return parse_size(r, at, value, &MODEL_MEMBER(to, r, guint64), error);
    case MODEL_LIST:
    case MODEL_HOOK:
    case MODEL_KEEP: break;
    }
    g_assert_not_reached();
}

/* Remembers something without a row in the element at (@lo, @off). */
static ModelKept *
keep(Fill *f, gint lo, gint off, guint line)
{
    ModelKept *k = g_new0(ModelKept, 1);

    if (!f->to->kept)
        f->to->kept = g_ptr_array_new_with_free_func(model_kept_free);
    k->doc = xml_doc_ref(f->doc);
    k->lo = lo;
    k->off = off;
    k->line = line;
    g_ptr_array_add(f->to->kept, k);
    return k;
}

/* Whether the prefix of the table's own elements is declared here; *ours says as what it must be. */
static gboolean
check_space(const Fill *f, const XmlNode *node, const XmlAttr *space, gboolean *ours, GError **error)
{
    const ModelSpace *own = f->table->space;

    *ours = own && strcmp(space->name, own->prefix) == 0;
    if (!*ours || strcmp(space->value, own->uri) == 0)
        return TRUE;
    g_autofree char *attr = g_strconcat("xmlns:", space->name, NULL);
    return refuse(error, (Place){ node, attr }, space->value, own->uri);
}

static gboolean
parse_attrs(Fill *f, const XmlNode *node, gint lo, gint hi, gint off, GError **error)
{
    for (const XmlAttr *a = node->spaces; a; a = a->next) {
        gboolean ours;
        if (!check_space(f, node, a, &ours, error))
            return FALSE;
        if (ours)
            continue;
        ModelKept *k = keep(f, lo, off, node->line);
        k->attr = a;
        k->silent = k->is_space = TRUE;
    }
    for (const XmlAttr *a = node->attrs; a; a = a->next) {
        const ModelRow *row = NULL;
        gboolean unit = FALSE;
        for (gint i = lo; i < hi && !row && !a->uri; i++) {
            const ModelRow *r = &f->table->rows[i];
            const char *tail = r->path + off;
            if (*tail == '@' && strcmp(tail + 1, a->name) == 0)
                row = r;
            else if (*tail == 0 && (r->kind == MODEL_KIB || r->kind == MODEL_BYTES))
                unit |= strcmp(a->name, "unit") == 0;
        }
        if (unit)
            continue;
        if (!row)
            keep(f, lo, off, node->line)->attr = a;
        else if (!parse_value(row, (Place){ node, a->name }, a->value, f->to, error))
            return FALSE;
    }
    return TRUE;
}

/* How rows write the name of @child, with a slash before it; NULL where it is in another namespace than
 * theirs. */
static char *
row_step(const Fill *f, const XmlNode *child)
{
    const ModelSpace *own = f->table->space;

    if (!child->uri)
        return g_strconcat("/", child->name, NULL);
    return own && strcmp(child->uri, own->uri) == 0 ? g_strconcat("/", own->prefix, ":", child->name, NULL)
                                                    : NULL;
}

/* The first of the rows of the child that they call @step, among lo .. hi-1, or -1. */
static gint
find_child(const Fill *f, const char *step, gint lo, gint hi, gint off)
{
    gsize len = step ? strlen(step) : 0;

    for (gint i = lo; i < hi && step; i++) {
        const char *tail = f->table->rows[i].path + off;
        if (strncmp(tail, step, len) == 0 && model_tail_name(tail) == len - 1)
            return i;
    }
    return -1;
}

static gboolean parse_element(Fill *f, const XmlNode *node, gint lo, gint hi, gint off, GError **error);

static gboolean
parse_struct(Fill *f, const ModelRow *row, const XmlNode *node, GError **error)
{
    g_autoptr(ModelNode) item = model_node_new(row->sub);
    Fill below = { .table = row->sub, .to = item, .doc = f->doc };

    item->line = node->line;
    if (!parse_element(&below, node, 0, (gint) row->sub->n_rows, 0, error))
        return FALSE;
    g_ptr_array_add(MODEL_MEMBER(f->to, row, GPtrArray *), g_steal_pointer(&item));
    return TRUE;
}

/* Children of one element that were met so far: for telling a second one, and for the places of what is kept.
 */
typedef struct {
    guint count[MODEL_ROWS_MAX];
    gint last; /* the row of the last one that is known; -1 for none */
} Seen;

/* Remembers a child @c of (@lo, @off), which stood after the @nth child of row @after. */
static ModelKept *
keep_child(Fill *f, const XmlNode *c, gint lo, gint off, gint after, guint nth)
{
    ModelKept *k = keep(f, lo, off, c->line);

    k->node = c;
    k->after = after;
    k->nth = nth;
    return k;
}

/* A child whose rows are @at .. @end-1; the element around it is (@lo, @off). */
static gboolean
parse_child(Fill *f, const XmlNode *c, gint lo, gint at, gint end, gint off, GError **error)
{
    const ModelRow *row = &f->table->rows[at];
    gint below = off + 1 + (gint) model_tail_name(row->path + off);
    gboolean whole = row->path[below] == 0;
    GError *refused = NULL;

    if (row->kind == MODEL_LIST && whole)
        return parse_struct(f, row, c, error);
    if (row->kind != MODEL_HOOK || !whole)
        return parse_element(f, c, at, end, below, error);
    if (row->hook->parse(c, &MODEL_MEMBER(f->to, row, char), &refused))
        return TRUE;
    if (!refused) {
        keep_child(f, c, lo, off, at, 1)->silent = TRUE;
        return TRUE;
    }
    g_propagate_error(error, refused);
    return FALSE;
}

static gboolean
may_repeat(const ModelRow *row, gint below)
{
    return (row->kind == MODEL_LIST || row->kind == MODEL_KEEP) && row->path[below] == 0;
}

static gboolean
parse_children(Fill *f, const XmlNode *node, gint lo, gint hi, gint off, GError **error)
{
    Seen seen = { .last = -1 };

    for (const XmlNode *c = node->children; c; c = c->next) {
        if (!c->name)
            continue;
        g_autofree char *step = row_step(f, c);
        gint at = find_child(f, step, lo, hi, off);
        if (at < 0) {
            keep_child(f, c, lo, off, seen.last, seen.last < 0 ? 0 : seen.count[seen.last]);
            continue;
        }
        const ModelRow *row = &f->table->rows[at];
        if (seen.count[at]++ > 0 && !may_repeat(row, off + (gint) strlen(step)))
            return fail(error, KHO_ERROR_INVALID, "line %u: a second <%s> in one <%s>: only one is allowed",
                        c->line, c->name, node->name);
        seen.last = at;
        if (row->kind == MODEL_KEEP)
            keep_child(f, c, lo, off, at, seen.count[at])->silent = TRUE;
        else if (!parse_child(f, c, lo, at, model_table_child_end(f->table, at, hi, off), off, error))
            return FALSE;
    }
    return TRUE;
}

/* The rows lo .. hi-1 are those of @node and below; the first @off bytes of their paths are @node's. */
static gboolean
parse_element(Fill *f, const XmlNode *node, gint lo, gint hi, gint off, GError **error)
{
    const ModelRow *text = &f->table->rows[lo];

    if (!parse_attrs(f, node, lo, hi, off, error))
        return FALSE;
    if (text->path[off] == 0) {
        if (!parse_value(text, (Place){ node, NULL }, node->text, f->to, error))
            return FALSE;
    } else if (node->text[strspn(node->text, " \t\r\n")]) {
        g_autofree char *value = shown(node->text);
        return fail(error, KHO_ERROR_INVALID, "line %u: <%s> has the text '%s', but takes elements only",
                    node->line, node->name, value);
    }
    return parse_children(f, node, lo, hi, off, error);
}

gpointer
model_table_parse(const ModelTable *table, const char *text, gsize len, GError **error)
{
    g_autoptr(XmlDoc) doc = xml_parse(text, len, error);
    if (!doc)
        return NULL;

    const XmlNode *root = xml_doc_root(doc);
    g_autoptr(ModelNode) to = model_node_new(table);
    Fill f = { .table = table, .to = to, .doc = doc };
    if (root->uri || strcmp(root->name, table->element) != 0) {
        fail(error, KHO_ERROR_INVALID, "line %u: the outermost element is <%s>: it must be <%s>", root->line,
             root->name, table->element);
        return NULL;
    }
    to->line = root->line;
    if (!parse_element(&f, root, 0, (gint) table->n_rows, 0, error))
        return NULL;
    return g_steal_pointer(&to);
}
