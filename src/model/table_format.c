#include "model/table.h"

#include <string.h>

/* One struct being written. */
typedef struct {
    const ModelTable *table;
    const ModelNode *from;
    XmlWriter *w;
} Emit;

static const char *
word_of(const char *const *words, gint value)
{
    return value > 0 ? words[value] : NULL;
}

static const char *
format_number(const char *format, gint value, char *room, gsize bytes)
{
    if (value == MODEL_UNSET)
        return NULL;
    g_snprintf(room, bytes, format, value);
    return room;
}

static const char *
format_wide(gint64 value, char *room, gsize bytes)
{
    if (value == MODEL_UNSET)
        return NULL;
    g_snprintf(room, bytes, "%" G_GINT64_FORMAT, value);
    return room;
}

static const char *
format_size(guint64 value, guint64 absent, char *room, gsize bytes)
{
    if (value == absent)
        return NULL;
    g_snprintf(room, bytes, "%" G_GUINT64_FORMAT, value);
    return room;
}

/* The row's value as text, perhaps in @room; NULL when it is absent. */
static const char *
format_value(const ModelRow *r, const ModelNode *from, char *room, gsize bytes)
{
    static const char *const yes[] = { "", "yes", "no" }, *const on[] = { "", "on", "off" };

    switch ((ModelKind) r->kind) {
    case MODEL_STRING:
    case MODEL_UUID: return MODEL_MEMBER(from, r, char *);
    case MODEL_WORD: return word_of(r->words, MODEL_MEMBER(from, r, gint));
    case MODEL_NUMBER: return format_number("%d", MODEL_MEMBER(from, r, gint), room, bytes);
    case MODEL_OCTAL: return format_number("%#o", MODEL_MEMBER(from, r, gint), room, bytes);
    case MODEL_OWNER:
    case MODEL_TIME: return format_wide(MODEL_MEMBER(from, r, gint64), room, bytes);
    case MODEL_YES: return word_of(yes, (gint) MODEL_MEMBER(from, r, ModelSwitch));
    case MODEL_ON: return word_of(on, (gint) MODEL_MEMBER(from, r, ModelSwitch));
    case MODEL_FLAG: return MODEL_MEMBER(from, r, gboolean) ? "" : NULL;
    case MODEL_KIB: return format_size(MODEL_MEMBER(from, r, guint64), 0, room, bytes);
    case MODEL_BYTES: return format_size(MODEL_MEMBER(from, r, guint64), MODEL_SIZE_UNSET, room, bytes);
    case MODEL_LIST:
    case MODEL_HOOK:
    case MODEL_KEEP: break;
    }
    return NULL;
}

static void
emit_kept_attrs(Emit *e, gint lo, gint off)
{
    for (guint i = 0; e->from->kept && i < e->from->kept->len; i++) {
        const ModelKept *k = g_ptr_array_index(e->from->kept, i);
        if (!k->attr || k->lo != lo || k->off != off)
            continue;
        if (k->is_space)
            xml_writer_attr(e->w, *k->attr->name ? "xmlns" : NULL, *k->attr->name ? k->attr->name : "xmlns",
                            k->attr->value);
        else
            xml_writer_attr(e->w, k->attr->prefix, k->attr->name, k->attr->value);
    }
}

/* Kept children that stood after instance @from_nth to @to_nth of the child at row @after. */
static void
emit_kept(Emit *e, gint lo, gint off, gint after, guint from_nth, guint to_nth)
{
    for (guint i = 0; e->from->kept && i < e->from->kept->len; i++) {
        const ModelKept *k = g_ptr_array_index(e->from->kept, i);
        if (k->node && k->lo == lo && k->off == off && k->after == after && k->nth >= from_nth
            && k->nth <= to_nth)
            xml_writer_node(e->w, k->node);
    }
}

static void emit_element(Emit *e, const char *name, gint lo, gint hi, gint off, gboolean always);

static void
emit_list(Emit *e, const ModelRow *row, const char *name, gint lo, gint off, gint at)
{
    const GPtrArray *items = MODEL_MEMBER(e->from, row, GPtrArray *);

    for (guint n = 0; n < items->len; n++) {
        const ModelNode *item = g_ptr_array_index(items, n);
        Emit below = { .table = item->table, .from = item, .w = e->w };
        emit_element(&below, name, 0, (gint) item->table->n_rows, 0, TRUE);
        if (n + 1 < items->len)
            emit_kept(e, lo, off, at, n + 1, n + 1);
    }
    emit_kept(e, lo, off, at, items->len, G_MAXUINT);
}

/* The child whose rows are at .. end-1, with what was kept after it. */
static void
emit_child(Emit *e, gint lo, gint off, gint at, gint end)
{
    const ModelRow *row = &e->table->rows[at];
    const char *tail = row->path + off;
    gsize len = model_tail_name(tail);
    gboolean whole = tail[1 + len] == 0;
    char name[64];

    g_strlcpy(name, tail + 1, MIN(len + 1, sizeof name));
    if (whole && row->kind == MODEL_LIST) {
        emit_list(e, row, name, lo, off, at);
        return;
    }
    if (whole && row->kind == MODEL_HOOK)
        row->hook->format(e->w, name, &MODEL_MEMBER(e->from, row, const char));
    else if (row->kind != MODEL_KEEP)
        emit_element(e, name, at, end, off + 1 + (gint) len, (row->flags & MODEL_ROW_ALWAYS) != 0);
    emit_kept(e, lo, off, at, 0, G_MAXUINT);
}

/* Writes the element of the rows lo .. hi-1, whose path is the first @off bytes of theirs; an empty one only
 * if @always. */
static void
emit_element(Emit *e, const char *name, gint lo, gint hi, gint off, gboolean always)
{
    const ModelRow *rows = e->table->rows;
    XmlMark mark = xml_writer_mark(e->w);
    char room[32];

    xml_writer_open(e->w, NULL, name);
    if (off == 0 && e->table->space)
        xml_writer_attr(e->w, "xmlns", e->table->space->prefix, e->table->space->uri);
    gsize empty = e->w->out->len;
    const char *text = rows[lo].path[off] == 0 ? format_value(&rows[lo], e->from, room, sizeof room) : NULL;
    if (text && rows[lo].kind == MODEL_KIB)
        xml_writer_attr(e->w, NULL, "unit", "KiB");
    if (text && rows[lo].kind == MODEL_BYTES)
        xml_writer_attr(e->w, NULL, "unit", "bytes");
    for (gint i = lo; i < hi; i++) {
        char value_room[32];
        const char *tail = rows[i].path + off;
        const char *value =
            *tail == '@' ? format_value(&rows[i], e->from, value_room, sizeof value_room) : NULL;
        if (value)
            xml_writer_attr(e->w, NULL, tail + 1, value);
    }
    emit_kept_attrs(e, lo, off);

    XmlMark before = xml_writer_mark(e->w);
    emit_kept(e, lo, off, -1, 0, G_MAXUINT);
    for (gint i = lo, end; i < hi; i = end) {
        end = i + 1;
        if (rows[i].path[off] != '/')
            continue;
        end = model_table_child_end(e->table, i, hi, off);
        emit_child(e, lo, off, i, end);
    }
    if (!text && !always && e->w->out->len == empty) {
        xml_writer_rewind(e->w, mark);
        return;
    }
    if (text && e->w->out->len != before.len)
        xml_writer_text_before(e->w, before, text);
    xml_writer_close(e->w, NULL, name, text);
}

char *
model_table_format(const ModelNode *node)
{
    XmlWriter w;
    Emit e = { .table = node->table, .from = node, .w = &w };

    xml_writer_init(&w);
    emit_element(&e, node->table->element, 0, (gint) node->table->n_rows, 0, TRUE);
    return xml_writer_finish(&w);
}
