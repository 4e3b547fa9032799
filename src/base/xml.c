#include "base/xml.h"

#include "base/error.h"

#include <dlfcn.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <string.h>

/* libxml2 is loaded by the first parse: with the libraries that it brings (ICU, C++) it would be more than
 * half of the time that kho takes to start, and most commands read no XML. */
#define LIBXML_NAME "libxml2.so.2"
#define LIBXML_CALLS(CALL)                                                                                   \
    CALL(xmlCreateMemoryParserCtxt)                                                                          \
    CALL(xmlCtxtUseOptions)                                                                                  \
    CALL(xmlDictFree)                                                                                        \
    CALL(xmlDictReference)                                                                                   \
    CALL(xmlFreeDoc)                                                                                         \
    CALL(xmlFreeParserCtxt)                                                                                  \
    CALL(xmlParseDocument)                                                                                   \
    CALL(xmlSetStructuredErrorFunc)                                                                          \
    CALL(xmlStopParser)

#define CALL(name) __typeof__(name) *name;
static struct {
    LIBXML_CALLS(CALL)
} libxml;
#undef CALL

static gpointer
load_libxml(gpointer data)
{
    void *library = dlopen(LIBXML_NAME, RTLD_NOW | RTLD_LOCAL);
    gboolean whole = library != NULL;

#define CALL(name)                                                                                           \
    libxml.name = library ? (__typeof__(name) *) dlsym(library, #name) : NULL;                               \
    whole = whole && libxml.name;
    LIBXML_CALLS(CALL)
#undef CALL
    return GINT_TO_POINTER(whole);
}

static gboolean
need_libxml(GError **error)
{
    static GOnce once = G_ONCE_INIT;

    if (g_once(&once, load_libxml, NULL))
        return TRUE;
    return fail(error, KHO_ERROR_UNSUPPORTED, "%s cannot be loaded: install libxml2", LIBXML_NAME);
}

#define ARENA_CHUNK_BYTES 8176u

/* All nodes and values of a document lie in a few chunks that go together; names are libxml2's dictionary's.
 */
typedef struct ArenaChunk ArenaChunk;
struct ArenaChunk {
    ArenaChunk *next;
    gsize used, bytes;
    gpointer data[]; /* aligned for pointers */
};

struct XmlDoc {
    gatomicrefcount refs;
    ArenaChunk *chunks;
    xmlDict *dict;
    XmlNode *root;
};

/* State of one parse. Once @error is set, every callback returns at once. */
typedef struct {
    xmlParserCtxt *ctxt;
    XmlDoc *doc;
    XmlNode *at;                      /* the element that is open; NULL outside of the root */
    XmlNode *last[XML_DEPTH_MAX + 1]; /* the last child, for each open element by depth */
    guint depth;
    GString *text; /* not yet made a node */
    GError *error;
} Parse;

static gpointer
arena_alloc(XmlDoc *doc, gsize bytes)
{
    ArenaChunk *c = doc->chunks;

    bytes = (bytes + sizeof(gpointer) - 1) & ~(sizeof(gpointer) - 1);
    if (!c || c->bytes - c->used < bytes) {
        gsize size = MAX(bytes, ARENA_CHUNK_BYTES);
        c = g_malloc(sizeof *c + size);
        c->used = 0;
        c->bytes = size;
        c->next = doc->chunks;
        doc->chunks = c;
    }
    gpointer p = (char *) c->data + c->used;
    c->used += bytes;
    return p;
}

static const char *
arena_text(XmlDoc *doc, const char *text, gsize len)
{
    char *copy = arena_alloc(doc, len + 1);

    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

XmlDoc *
xml_doc_ref(XmlDoc *doc)
{
    g_atomic_ref_count_inc(&doc->refs);
    return doc;
}

void
xml_doc_unref(XmlDoc *doc)
{
    if (!doc || !g_atomic_ref_count_dec(&doc->refs))
        return;
    while (doc->chunks) {
        ArenaChunk *c = doc->chunks;
        doc->chunks = c->next;
        g_free(c);
    }
    if (doc->dict)
        libxml.xmlDictFree(doc->dict);
    g_free(doc);
}

const XmlNode *
xml_doc_root(const XmlDoc *doc)
{
    return doc->root;
}

static void
stop(Parse *p, int line, int column, const char *message)
{
    if (!p->error) {
        g_autofree char *one = error_one_line(message);
        fail(&p->error, KHO_ERROR_INVALID, "line %d, column %d: %s", line, column, one);
    }
    libxml.xmlStopParser(p->ctxt);
}

static void
stop_here(Parse *p, const char *message)
{
    const xmlParserInput *in = p->ctxt->input;
    stop(p, in ? in->line : 0, in ? in->col : 0, message);
}

static gboolean
is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == 0;
}

static XmlNode *
add_node(Parse *p, const char *name)
{
    XmlNode *node = arena_alloc(p->doc, sizeof *node);

    *node = (XmlNode){ .name = name, .text = "", .parent = p->at, .line = (guint) p->ctxt->input->line };
    if (!p->at)
        p->doc->root = node;
    else if (p->last[p->depth])
        p->last[p->depth]->next = node;
    else
        p->at->children = node;
    p->last[p->depth] = node;
    return node;
}

static void
flush_text(Parse *p)
{
    if (p->text->len > 0) {
        const char *text = arena_text(p->doc, p->text->str, p->text->len);
        add_node(p, NULL)->text = text;
    }
    g_string_truncate(p->text, 0);
}

static void
add_attrs(Parse *p, XmlNode *node, int n, const xmlChar **in)
{
    XmlAttr **tail = &node->attrs;

    for (int i = 0; i < n; i++, in += 5) {
        XmlAttr *a = arena_alloc(p->doc, sizeof *a);
        *a = (XmlAttr){ .name = (const char *) in[0],
                        .prefix = (const char *) in[1],
                        .uri = (const char *) in[2] };
        a->value = arena_text(p->doc, (const char *) in[3], (gsize) (in[4] - in[3]));
        *tail = a;
        tail = &a->next;
    }
}

static void
on_start(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int n_spaces,
         const xmlChar **spaces, int n_attrs, int n_defaulted, const xmlChar **attrs)
{
    Parse *p = data;

    if (p->error)
        return;
    if (p->depth >= XML_DEPTH_MAX) {
        stop_here(p, "elements are nested too deeply: at most " G_STRINGIFY(XML_DEPTH_MAX) " levels");
        return;
    }
    if (p->at)
        flush_text(p);

    XmlNode *node = add_node(p, (const char *) name);
    node->prefix = (const char *) prefix;
    node->uri = (const char *) uri;
    XmlAttr **tail = &node->spaces;
    for (int i = 0; i < n_spaces; i++) {
        XmlAttr *a = arena_alloc(p->doc, sizeof *a);
        const char *declared = (const char *) spaces[2 * i], *value = (const char *) spaces[2 * i + 1];
        *a = (XmlAttr){ .name = declared ? declared : "", .value = value ? value : "" };
        *tail = a;
        tail = &a->next;
    }
    add_attrs(p, node, n_attrs, attrs);
    p->at = node;
    p->last[++p->depth] = NULL;
}

/* Blank text between elements is layout and is unlinked; where there is other text, or nothing else, it
 * counts. */
static void
drop_layout(XmlNode *node)
{
    gboolean has_element = FALSE;

    for (const XmlNode *c = node->children; c; c = c->next) {
        has_element |= c->name != NULL;
        if (!c->name && !is_blank(c->text))
            return;
    }
    if (!has_element)
        return;
    for (XmlNode **at = &node->children; *at;)
        if ((*at)->name)
            at = &(*at)->next;
        else
            *at = (*at)->next;
}

static const char *
own_text(Parse *p, const XmlNode *node)
{
    const XmlNode *first = NULL;
    gsize n = 0;

    for (const XmlNode *c = node->children; c; c = c->next)
        if (!c->name) {
            first = first ? first : c;
            n++;
        }
    if (n <= 1)
        return first ? first->text : "";

    g_autoptr(GString) joined = g_string_new(NULL);
    for (const XmlNode *c = node->children; c; c = c->next)
        if (!c->name)
            g_string_append(joined, c->text);
    return arena_text(p->doc, joined->str, joined->len);
}

static void
on_end(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    Parse *p = data;

    if (p->error || !p->at)
        return;
    flush_text(p);
    drop_layout(p->at);
    p->at->text = own_text(p, p->at);
    p->at = p->at->parent;
    p->depth--;
}

static void
on_text(void *data, const xmlChar *text, int len)
{
    Parse *p = data;

    if (!p->error && p->at)
        g_string_append_len(p->text, (const char *) text, len);
}

static void
on_doctype(void *data, const xmlChar *name, const xmlChar *external_id, const xmlChar *system_id)
{
    stop_here(data, "a document type declaration (<!DOCTYPE>) is not accepted: remove it");
}

static void
on_error(void *data, xmlErrorPtr e)
{
    Parse *p = data;

    if (e->level >= XML_ERR_ERROR && e->code != XML_ERR_USER_STOP)
        stop(p, e->line, e->int2, e->message ? e->message : "malformed XML");
}

/* Faults of text encodings bypass the parser's own channel, and would be printed. */
static void
on_stray_error(void *data, xmlErrorPtr e)
{
}

static gboolean
run_parser(Parse *p, const char *text, gsize len, GError **error)
{
    libxml.xmlSetStructuredErrorFunc(NULL, on_stray_error);
    p->ctxt = libxml.xmlCreateMemoryParserCtxt(text, (int) len);
    if (!p->ctxt)
        return fail(error, KHO_ERROR_INVALID, "line 1, column 1: the document cannot be read as XML");
    *p->ctxt->sax = (xmlSAXHandler){ .initialized = XML_SAX2_MAGIC,
                                     .startElementNs = on_start,
                                     .endElementNs = on_end,
                                     .characters = on_text,
                                     .ignorableWhitespace = on_text,
                                     .cdataBlock = on_text,
                                     .internalSubset = on_doctype,
                                     .serror = on_error };
    p->ctxt->userData = p;
    p->ctxt->linenumbers = 1;
    /* Without NOENT, "&amp;" in an attribute arrives as "&#38;". There are no entities of other kinds: no
     * DTD. */
    libxml.xmlCtxtUseOptions(p->ctxt, XML_PARSE_NONET | XML_PARSE_NOENT);
    p->doc->dict = p->ctxt->dict;
    libxml.xmlDictReference(p->doc->dict);

    libxml.xmlParseDocument(p->ctxt);
    if (!p->error && (!p->ctxt->wellFormed || !p->doc->root || p->at))
        stop_here(p, "the document ends too early");
    libxml.xmlFreeDoc(p->ctxt->myDoc);
    libxml.xmlFreeParserCtxt(p->ctxt);
    if (p->error) {
        g_propagate_error(error, p->error);
        return FALSE;
    }
    return TRUE;
}

XmlDoc *
xml_parse(const char *text, gsize len, GError **error)
{
    g_autoptr(XmlDoc) doc = g_new0(XmlDoc, 1);
    g_autoptr(GString) pending = g_string_new(NULL);
    Parse p = { .doc = doc, .text = pending };

    g_atomic_ref_count_init(&doc->refs);
    if (len == 0) {
        fail(error, KHO_ERROR_INVALID, "line 1, column 1: the document is empty");
        return NULL;
    }
    if (len > XML_TEXT_MAX) {
        fail(error, KHO_ERROR_INVALID, "the document has %" G_GSIZE_FORMAT " bytes: at most %u are read", len,
             XML_TEXT_MAX);
        return NULL;
    }
    if (!need_libxml(error) || !run_parser(&p, text, len, error))
        return NULL;
    return g_steal_pointer(&doc);
}

const char *
xml_attr(const XmlNode *node, const char *name)
{
    for (const XmlAttr *a = node->attrs; a; a = a->next)
        if (!a->uri && strcmp(a->name, name) == 0)
            return a->value;
    return NULL;
}

const XmlNode *
xml_child(const XmlNode *node, const char *name)
{
    for (const XmlNode *c = node->children; c; c = c->next)
        if (c->name && !c->uri && strcmp(c->name, name) == 0)
            return c;
    return NULL;
}
