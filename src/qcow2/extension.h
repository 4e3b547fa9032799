/* Header extensions: the typed records between the header's fields and the backing file's name. Unknown ones
 * are kept, since header updates rewrite fields in place and never move what follows them. Spec:
 * docs/spec/qcow2.md, section 4. */
#ifndef KHO_QCOW2_EXTENSION_H
#define KHO_QCOW2_EXTENSION_H

#include "qcow2/header.h"

typedef enum {
    QCOW2_EXT_END = 0,
    QCOW2_EXT_BACKING_FORMAT = (gint) 0xe2792aca,
    QCOW2_EXT_FEATURE_NAMES = 0x6803f857,
    QCOW2_EXT_BITMAPS = 0x23852875,
    QCOW2_EXT_LUKS = 0x0537be77,
    QCOW2_EXT_DATA_FILE = 0x44415441,
} Qcow2ExtensionType;

/* Where one extension's data lies in the header cluster. */
typedef struct {
    guint32 type;
    guint32 off_bytes, len_bytes;
} Qcow2ExtensionPlace;

typedef struct {
    char *backing_file;   /* the name after the extensions; NULL: none */
    char *backing_format; /* NULL: not stated */
    char *data_file;      /* NULL: not stated */
    gboolean has_bitmaps; /* there is a bitmaps extension */
    guint32 bitmaps, bitmaps_reserved;
    guint64 bitmap_directory_bytes, bitmap_directory_off;
    guint64 luks_off, luks_bytes; /* 0: none */
    GArray *places;               /* of Qcow2ExtensionPlace, all of them in order */
} Qcow2Extensions;

/* Walks the extensions of a decoded header. @cluster: the whole first cluster. KHO_ERROR_CORRUPT where one
 * reaches past its room, comes twice, or holds values out of range; @extensions is then untouched. */
gboolean qcow2_extensions_decode(const guint8 *cluster, gsize len, const Qcow2Header *header,
                                 Qcow2Extensions *extensions, GError **error);
void qcow2_extensions_clear(Qcow2Extensions *extensions);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Qcow2Extensions, qcow2_extensions_clear)

/* Appends one extension, padded to 8 bytes. */
void qcow2_extension_append(GByteArray *to, guint32 type, const void *data, gsize len);
/* Appends the table of the feature names that kho knows. */
void qcow2_extension_append_feature_names(GByteArray *to);

/* What the image itself calls a feature (@kind 0 incompatible, 1 compatible, 2 autoclear), or NULL. Reads
 * from buffers that nobody has checked. Free with g_free. */
char *qcow2_feature_name(const guint8 *buf, gsize len, guint64 header_bytes, guint kind, guint bit);

#endif
