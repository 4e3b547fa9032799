/* XML text to a small tree of our own nodes, and back. The only user of libxml2: no DTD, no external entity,
 * no network, size and depth bounded. What elements mean is model/'s. */
#ifndef KHO_BASE_XML_H
#define KHO_BASE_XML_H

#include <glib.h>

#define XML_TEXT_MAX                                                                                         \
    (4u << 20)           /* bytes of one document; the tree takes at most some thirty times as much          \
                          */
#define XML_DEPTH_MAX 64 /* elements within elements */

typedef struct XmlAttr XmlAttr;
typedef struct XmlNode XmlNode;
typedef struct XmlDoc XmlDoc;

/* Everything a node points to belongs to its document and lives as long. */
struct XmlAttr {
    const char *name;   /* local name */
    const char *prefix; /* NULL: none */
    const char *uri;    /* namespace, or NULL */
    const char *value;
    XmlAttr *next;
};

/* An element, or a run of text (then name is NULL). Text of nothing but spaces between elements is left out.
 */
struct XmlNode {
    const char *name;
    const char *prefix;
    const char *uri;
    const char *text; /* text nodes: the text. Elements: their own text, joined, as written; never NULL */
    guint line;
    XmlAttr *attrs;  /* in order; namespace declarations are in @spaces */
    XmlAttr *spaces; /* xmlns and xmlns:PREFIX declared here: name is the prefix ("" for the default) */
    XmlNode *parent;
    XmlNode *children; /* in order */
    XmlNode *next;
};

/**
 * xml_parse:
 * @text: UTF-8, or what its declaration says; @len bytes
 *
 * Returns: the document, or NULL with KHO_ERROR_INVALID: "line 7, column 12: ...". A document type
 * declaration is refused, since entities can be made to grow without bound.
 */
XmlDoc *xml_parse(const char *text, gsize len, GError **error);
XmlDoc *xml_doc_ref(XmlDoc *doc);
void xml_doc_unref(XmlDoc *doc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XmlDoc, xml_doc_unref)
const XmlNode *xml_doc_root(const XmlDoc *doc);

/* Looks without walking by hand: the value of an attribute without namespace, or NULL. */
const char *xml_attr(const XmlNode *node, const char *name);
/* The first child element without namespace of that name, or NULL. */
const XmlNode *xml_child(const XmlNode *node, const char *name);

/* Writing, libvirt's way: 2 spaces, single quotes, one element a line, trailing newline. */
typedef struct {
    GString *out;
    guint depth;
    gboolean open_tag; /* "<name" is written, ">" not yet */
} XmlWriter;

/* A place to come back to. */
typedef struct {
    gsize len;
    gboolean open_tag;
} XmlMark;

void xml_writer_init(XmlWriter *w);
/* Returns the text so far, which the caller owns; @w is empty afterwards. */
char *xml_writer_finish(XmlWriter *w);

/* @prefix may be NULL. */
void xml_writer_open(XmlWriter *w, const char *prefix, const char *name);
void xml_writer_attr(XmlWriter *w, const char *prefix, const char *name, const char *value);
/* Whether @text is written as it is: valid UTF-8 without the characters that XML 1.0 has no way to write, for
 * which the writer puts U+FFFD. */
gboolean xml_can_say(const char *text);
/* Closes the element as <a/>, as <a>text</a>, or with its end tag on a line of its own when it has children.
 * @text may be NULL and is written only where there are no children. */
void xml_writer_close(XmlWriter *w, const char *prefix, const char *name, const char *text);
/* Puts @text before the children written since @mark, which was taken when the element was open and had none.
 */
void xml_writer_text_before(XmlWriter *w, XmlMark mark, const char *text);
/* The namespaces declared at @node, as attributes of the element that is open. */
void xml_writer_spaces(XmlWriter *w, const XmlNode *node);
/* Copies an element, or an attribute, as it was read. Prefixes must be declared around the place. */
void xml_writer_node(XmlWriter *w, const XmlNode *node);

/* Taking back an element that turned out empty: mark, open, ..., rewind. Not after its close. */
XmlMark xml_writer_mark(const XmlWriter *w);
void xml_writer_rewind(XmlWriter *w, XmlMark mark);

#endif
