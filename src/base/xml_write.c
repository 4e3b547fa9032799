#include "base/xml.h"

#include <string.h>

void
xml_writer_init(XmlWriter *w)
{
    *w = (XmlWriter){ .out = g_string_sized_new(4096) };
}

char *
xml_writer_finish(XmlWriter *w)
{
    char *text = g_string_free(w->out, FALSE);

    *w = (XmlWriter){ 0 };
    return text;
}

gboolean
xml_can_say(const char *text)
{
    if (!g_utf8_validate(text, -1, NULL))
        return FALSE;
    for (const char *c = text; *c; c = g_utf8_next_char(c)) {
        gunichar u = g_utf8_get_char(c);
        if ((u < 0x20 && !strchr("\t\n\r", (int) u)) || u == 0xfffe || u == 0xffff)
            return FALSE;
    }
    return TRUE;
}

/* What XML 1.0 cannot hold, even escaped, becomes U+FFFD; spaces other than ' ' are escaped in attributes,
 * since a parser turns them into ' '. */
static void
append_escaped(GString *out, const char *text, gboolean in_attr)
{
    g_autofree char *valid = g_utf8_validate(text, -1, NULL) ? NULL : g_utf8_make_valid(text, -1);

    for (const char *c = valid ? valid : text; *c; c++) {
        switch (*c) {
        case '&': g_string_append(out, "&amp;"); continue;
        case '<': g_string_append(out, "&lt;"); continue;
        case '>': g_string_append(out, "&gt;"); continue;
        case '\r': g_string_append(out, "&#13;"); continue;
        default: break;
        }
        if (in_attr && *c == '\'')
            g_string_append(out, "&apos;");
        else if (in_attr && (*c == '\n' || *c == '\t'))
            g_string_append_printf(out, "&#%d;", *c);
        else if ((guchar) *c < 0x20 && *c != '\n' && *c != '\t')
            g_string_append(out, "\xef\xbf\xbd");
        else if (strncmp(c, "\xef\xbf\xbe", 3) == 0 || strncmp(c, "\xef\xbf\xbf", 3) == 0) {
            g_string_append(out, "\xef\xbf\xbd");
            c += 2;
        } else
            g_string_append_c(out, *c);
    }
}

static void
append_name(GString *out, const char *prefix, const char *name)
{
    if (prefix) {
        g_string_append(out, prefix);
        g_string_append_c(out, ':');
    }
    g_string_append(out, name);
}

static void
indent(XmlWriter *w)
{
    for (guint i = 0; i < w->depth; i++)
        g_string_append_len(w->out, "  ", 2);
}

void
xml_writer_open(XmlWriter *w, const char *prefix, const char *name)
{
    if (w->open_tag)
        g_string_append(w->out, ">\n");
    indent(w);
    g_string_append_c(w->out, '<');
    append_name(w->out, prefix, name);
    w->open_tag = TRUE;
    w->depth++;
}

void
xml_writer_attr(XmlWriter *w, const char *prefix, const char *name, const char *value)
{
    g_string_append_c(w->out, ' ');
    append_name(w->out, prefix, name);
    g_string_append(w->out, "='");
    append_escaped(w->out, value, TRUE);
    g_string_append_c(w->out, '\'');
}

void
xml_writer_close(XmlWriter *w, const char *prefix, const char *name, const char *text)
{
    w->depth--;
    if (w->open_tag && (!text || !*text)) {
        g_string_append(w->out, "/>\n");
    } else {
        if (w->open_tag) {
            g_string_append_c(w->out, '>');
            append_escaped(w->out, text, FALSE);
        } else {
            indent(w);
        }
        g_string_append(w->out, "</");
        append_name(w->out, prefix, name);
        g_string_append(w->out, ">\n");
    }
    w->open_tag = FALSE;
}

void
xml_writer_spaces(XmlWriter *w, const XmlNode *node)
{
    for (const XmlAttr *a = node->spaces; a; a = a->next)
        if (*a->name)
            xml_writer_attr(w, "xmlns", a->name, a->value);
        else
            xml_writer_attr(w, NULL, "xmlns", a->value);
}

static gboolean
has_text(const XmlNode *node)
{
    for (const XmlNode *c = node->children; c; c = c->next)
        if (!c->name)
            return TRUE;
    return FALSE;
}

/* Elements among text: not a space may be added. The depth is bounded by XML_DEPTH_MAX. */
static void
write_inline(XmlWriter *w, const XmlNode *node)
{
    if (!node->name) {
        append_escaped(w->out, node->text, FALSE);
        return;
    }
    g_string_append_c(w->out, '<');
    append_name(w->out, node->prefix, node->name);
    xml_writer_spaces(w, node);
    for (const XmlAttr *a = node->attrs; a; a = a->next)
        xml_writer_attr(w, a->prefix, a->name, a->value);
    g_string_append(w->out, node->children ? ">" : "/>");
    if (!node->children)
        return;
    for (const XmlNode *c = node->children; c; c = c->next)
        write_inline(w, c);
    g_string_append(w->out, "</");
    append_name(w->out, node->prefix, node->name);
    g_string_append_c(w->out, '>');
}

void
xml_writer_node(XmlWriter *w, const XmlNode *node)
{
    if (has_text(node)) {
        if (w->open_tag)
            g_string_append(w->out, ">\n");
        indent(w);
        write_inline(w, node);
        g_string_append_c(w->out, '\n');
        w->open_tag = FALSE;
        return;
    }
    xml_writer_open(w, node->prefix, node->name);
    xml_writer_spaces(w, node);
    for (const XmlAttr *a = node->attrs; a; a = a->next)
        xml_writer_attr(w, a->prefix, a->name, a->value);
    for (const XmlNode *c = node->children; c; c = c->next)
        xml_writer_node(w, c);
    xml_writer_close(w, node->prefix, node->name, NULL);
}

XmlMark
xml_writer_mark(const XmlWriter *w)
{
    return (XmlMark){ .len = w->out->len, .open_tag = w->open_tag };
}

void
xml_writer_rewind(XmlWriter *w, XmlMark mark)
{
    g_string_truncate(w->out, mark.len);
    w->open_tag = mark.open_tag;
    w->depth--;
}

void
xml_writer_text_before(XmlWriter *w, XmlMark mark, const char *text)
{
    g_autofree char *rest = g_strdup(w->out->str + mark.len + 1);

    g_string_truncate(w->out, mark.len);
    g_string_append_c(w->out, '>');
    append_escaped(w->out, text, FALSE);
    g_string_append(w->out, rest);
}
