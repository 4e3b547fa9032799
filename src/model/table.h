/* One table for each document says where every element and attribute goes in a plain struct; it drives
 * parsing, formatting, copying and freeing. What no row knows is kept in place and written back. The
 * documents' tables are in
 * *_table.c beside their structs; rules that span elements are not here. */
#ifndef KHO_MODEL_TABLE_H
#define KHO_MODEL_TABLE_H

#include "base/xml.h"
#include "model/node.h"

typedef enum {
    MODEL_STRING, /* char *, as written to the last blank: a file's name may end with one */
    MODEL_UUID,   /* char *, canonical */
    MODEL_WORD,   /* an enum: index into @words, 0 for absent */
    MODEL_NUMBER, /* gint in @min .. @max, or MODEL_UNSET */
    MODEL_OCTAL,  /* the same, octal with a leading 0 */
    MODEL_OWNER,  /* gint64: a uid or gid, -1 for whoever makes it, or MODEL_UNSET */
    MODEL_TIME,   /* gint64: seconds since 1970, or MODEL_UNSET */
    MODEL_YES,    /* ModelSwitch: yes, no */
    MODEL_ON,     /* ModelSwitch: on, off */
    MODEL_FLAG,   /* gboolean: the element is there */
    MODEL_KIB,    /* guint64 KiB with a unit attribute, rounded up; 0 for absent */
    MODEL_BYTES,  /* guint64 bytes with a unit attribute, or MODEL_SIZE_UNSET */
    MODEL_LIST,   /* GPtrArray of structs of @sub, one for each such element */
    MODEL_HOOK,   /* a struct of its own: @hook */
    MODEL_KEEP    /* no member: kept whole and not reported as unknown */
} ModelKind;

typedef struct {
    /* FALSE without @error: not for this hook, keep the element as it is. */
    gboolean (*parse)(const XmlNode *node, gpointer member, GError **error);
    void (*format)(XmlWriter *w, const char *name, gconstpointer member);
} ModelHook;

typedef enum { MODEL_ROW_ALWAYS = 1 /* the element is written even when empty */ } ModelRowFlags;

/* Paths are relative to the table's element: "" its text, "@a" its attribute, "/b" the text of a child,
 * "/b@a". Rows of one element stand together, in the order of output. */
typedef struct {
    const char *path;
    guint8 kind;  /* ModelKind */
    guint8 flags; /* ModelRowFlags */
    guint16 member;
    guint16 line_member; /* a guint that gets the line of the element, or 0: for checks that span elements */
    const char *const *words; /* WORD: [0] is "", NULL-terminated. STRING: NULL, or the allowed words in the
                                 same form, which may stand among blanks */
    gint min, max;
    const ModelTable *sub;
    const ModelHook *hook;
} ModelRow;

/* Short forms for the tables: path, struct, member, ... */
#define ROW(p, k, T, m)                                                                                      \
    {                                                                                                        \
        .path = (p), .kind = (k), .member = G_STRUCT_OFFSET(T, m)                                            \
    }
#define ROW_WORD(p, T, m, w)                                                                                 \
    {                                                                                                        \
        .path = (p), .kind = MODEL_WORD, .member = G_STRUCT_OFFSET(T, m), .words = (w)                       \
    }
#define ROW_ONE_OF(p, T, m, w)                                                                               \
    {                                                                                                        \
        .path = (p), .kind = MODEL_STRING, .member = G_STRUCT_OFFSET(T, m), .words = (w)                     \
    }
#define ROW_NUMBER(p, T, m, lo, hi)                                                                          \
    {                                                                                                        \
        .path = (p), .kind = MODEL_NUMBER, .member = G_STRUCT_OFFSET(T, m), .min = (lo), .max = (hi)         \
    }
#define ROW_NUMBER_AT(p, T, m, lo, hi, l)                                                                    \
    {                                                                                                        \
        .path = (p), .kind = MODEL_NUMBER, .member = G_STRUCT_OFFSET(T, m), .min = (lo), .max = (hi),        \
        .line_member = G_STRUCT_OFFSET(T, l)                                                                 \
    }
#define ROW_LIST(p, T, m, t)                                                                                 \
    {                                                                                                        \
        .path = (p), .kind = MODEL_LIST, .member = G_STRUCT_OFFSET(T, m), .sub = (t)                         \
    }
#define ROW_HOOK(p, T, m, h)                                                                                 \
    {                                                                                                        \
        .path = (p), .kind = MODEL_HOOK, .member = G_STRUCT_OFFSET(T, m), .hook = (h)                        \
    }
#define ROW_KEEP(p)                                                                                          \
    {                                                                                                        \
        .path = (p), .kind = MODEL_KEEP                                                                      \
    }
#define TABLE(e, T, r)                                                                                       \
    {                                                                                                        \
        .element = (e), .bytes = sizeof(T), .rows = (r), .n_rows = G_N_ELEMENTS(r)                           \
    }

/* Elements of our own in a document that is libvirt's: rows write them with @prefix ("/kho:snapshot"), texts
 * with any prefix that stands for @uri. */
typedef struct {
    const char *prefix, *uri;
} ModelSpace;

struct ModelTable {
    const char *element;
    gsize bytes; /* of the struct, whose first member is a ModelNode */
    const ModelRow *rows;
    gsize n_rows;            /* at most MODEL_ROWS_MAX */
    const ModelSpace *space; /* NULL: all rows are libvirt's. For a document's outermost element only */
};

#define MODEL_ROWS_MAX 128

/* The member of the struct @base that @row describes. */
#define MODEL_MEMBER(base, row, type) (*(type *) (gpointer) ((char *) (base) + (row)->member))

/* One thing that no row knows: an attribute or a child of the element at (@lo, @off), which are the element's
 * first row and the length of its path; it stood after the @nth instance (from 1) of the child whose first
 * row is @after, or first of all (@after < 0). */
typedef struct {
    gint lo, off, after;
    guint nth;
    guint line;
    gboolean silent;   /* MODEL_KEEP and what a hook left */
    gboolean is_space; /* @attr declares a namespace */
    XmlDoc *doc;       /* holds what follows */
    const XmlAttr *attr;
    const XmlNode *node;
} ModelKept;

void model_kept_free(gpointer kept);

/* The struct with every member absent. */
gpointer model_node_new(const ModelTable *table);
void model_node_free(gpointer node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ModelNode, model_node_free)

/* KHO_ERROR_INVALID: malformed XML, another root element, or a value that its row refuses. */
gpointer model_table_parse(const ModelTable *table, const char *text, gsize len, GError **error);
char *model_table_format(const ModelNode *node);
gpointer model_table_copy(const ModelNode *node);

/* A kept thing with its path from the root: "/devices/sound", "/devices/disk/driver@iothread". */
typedef struct {
    char *path;
    guint line;
    const XmlNode *node; /* NULL for an attribute; belongs to the document */
} ModelUnknown;

/* Everything kept below @node, in order, but what is silent: ModelUnknown. */
GPtrArray *model_table_unknown(const ModelNode *node);
/* The same as sentences: "<sound> in line 40", "attribute 'iothread' of <driver> in line 12". */
GPtrArray *model_table_unknown_text(const ModelNode *node);
char *model_unknown_text(const ModelUnknown *unknown, const char *root);

/* @tail is "/NAME...": NAME's length if the row lies in a child element, otherwise 0. */
gsize model_tail_name(const char *tail);
/* Rows lo .. hi-1 lie below one child of the element at @off: the first that does not share lo's child. */
gint model_table_child_end(const ModelTable *table, gint lo, gint hi, gint off);

#endif
