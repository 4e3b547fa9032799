/* Which backing file an image names: changing the name and its format in the header, or fields that move
 * them, so that a crash leaves the old header or the new one. What the backing file holds, and opening it, is
 * image/'s business. */
#ifndef KHO_QCOW2_BACKING_H
#define KHO_QCOW2_BACKING_H

#include "qcow2/image.h"

/**
 * qcow2_set_backing: FormatOps.set_backing
 * The first sector is written last and in one piece: it holds the fields and where the name lies. What lies
 * in later sectors goes where the old header has nothing. Other extensions are kept; only the table of
 * feature names, which is for messages, is left out where there is no room beside the old header.
 * Autoclear bits and the dirty mark stay: no cluster changes.
 *
 * Rules: DATA_BEFORE_BACKING, NAME_BEFORE_POINTER.
 * Returns: FALSE with KHO_ERROR_INVALID (the name does not fit in the first cluster, or not beside the old
 * header), _DENIED (read-only), _CORRUPT (the image takes no writes), _IO.
 * Spec: docs/spec/qcow2.md, sections 2 and 4.
 */
gboolean qcow2_set_backing(FormatImage *image, const char *file, const char *file_format, gboolean only_check,
                           GError **error);

/* The same for the header's other fields, the backing file's name staying: all of them become what @to says,
 * which may be of the other version. Wants nothing to be dirty (qcow2_flush_locked before). What follows from
 * the header (qcow2_header_derive) is the caller's business. */
gboolean
qcow2_header_change_locked(Qcow2Image *image, const Qcow2Header *to, gboolean only_check, GError **error);

/* The name of the external data file: "" leaves it unstated. As above; KHO_ERROR_INVALID where the image has
 * none, or the name does not fit. */
gboolean
qcow2_header_set_data_file_locked(Qcow2Image *image, const char *name, gboolean only_check, GError **error);

/* Where a bitmap directory lies. */
typedef struct {
    guint32 bitmaps; /* how many; > 0 */
    guint64 off, bytes;
} Qcow2BitmapsPlace;

/* Makes the extension for bitmaps say @to (NULL: there are none any more), and its autoclear bit with it: in
 * one write, within a sector. What @to names is durable before, and what the header named before is let go
 * after the next barrier: the caller's business. KHO_ERROR_UNSUPPORTED where the header has no room. */
gboolean qcow2_header_set_bitmaps_locked(Qcow2Image *image, const Qcow2BitmapsPlace *to, GError **error);

#endif
