/* The image formats that kho's own engine knows, and the checked way into each. The contract is
 * block/format.h's; here it is verified in both directions, so that formats may trust their arguments and
 * callers the answers. Chains and locks live in image.c. */
#ifndef KHO_IMAGE_FORMAT_H
#define KHO_IMAGE_FORMAT_H

#include "block/format.h"

#include <kho/job.h>

/* NULL with KHO_ERROR_UNSUPPORTED, naming the formats there are. */
const FormatOps *format_by_name(const char *name, GError **error);

/* What an image is opened as. A foreign one is read by QEMU for kho, and is raw as far as kho sees it. */
typedef struct {
    const FormatOps *ops;
    const char *foreign; /* the format's name, of foreign/formats.h, or NULL */
} FormatFound;

/* As format_by_name, among the foreign ones too. */
gboolean format_find(const char *name, FormatFound *found, GError **error);

/* Looks at the first bytes: raw where they say nothing. */
gboolean format_probe(BlkStore *file, FormatFound *found, GError **error);

/* Opens over @file, which belongs to the image on success only. KHO_ERROR_INVALID where the head of the file
 * says that it is not of this format. */
FormatImage *format_open(const FormatOps *ops, BlkStore *file, FormatFlags flags, GError **error);

gboolean format_info(FormatImage *image, FormatInfo *info, GError **error);
void format_info_clear(FormatInfo *info);

/* The image is encrypted. */
gboolean format_unlock(FormatImage *image, const void *passphrase, gsize len, GError **error);
/* The store that format_info calls for: owned by the image from here on. */
void format_set_data(FormatImage *image, BlkStore *data);

gboolean format_map(FormatImage *image, GuestOff at, guint64 max_bytes, Run *run, GError **error);
gboolean format_inflate(FormatImage *image, GuestOff at, void *buf, gsize len, GError **error);
gboolean format_prepare(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error);
/* Where the format has no such thing, prepare. */
gboolean format_prepare_new(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error);
gboolean format_commit(FormatImage *image, const Place *place, GError **error);
void format_abandon(FormatImage *image, const Place *place);
gboolean format_zero(FormatImage *image, GuestOff at, guint64 len, guint64 *done, GError **error);
gboolean format_can_pack(const FormatOps *ops);
/* The image's format can pack. */
FormatPacker *format_packer_new(FormatImage *image, FormatLevel level);
void format_packer_free(FormatPacker *packer);
gsize format_pack(FormatPacker *packer, const guint8 *cluster, guint8 *packed);
/* The image is unpublished. */
gboolean format_put_packed(FormatImage *image, GuestOff at, const guint8 *packed, gsize len, GError **error);
gboolean format_flush(FormatImage *image, GError **error);
gboolean format_resize(FormatImage *image, guint64 guest_bytes, gboolean may_shrink, const KhoJob *job,
                       GError **error);
/* Where the format has no such thing, resize. */
gboolean format_extend(FormatImage *image, guint64 guest_bytes, GError **error);
gboolean format_set_backing(FormatImage *image, const char *file, const char *file_format,
                            gboolean only_check, GError **error);
/* KHO_ERROR_UNSUPPORTED where the format has no such thing. */
gboolean format_empty(FormatImage *image, GError **error);
gboolean format_snapshot_create(FormatImage *image, const FormatSnapshotNew *snapshot, GError **error);
gboolean format_snapshot_revert(FormatImage *image, guint index, GError **error);
gboolean format_snapshot_delete(FormatImage *image, guint index, GError **error);
gboolean format_amend(FormatImage *image, const FormatAmend *wish, gboolean only_check, GError **error);
/* What one of these will take. */
gboolean format_cost(FormatImage *image, const FormatChange *change, FormatCost *cost, GError **error);
/* 0 where the format knows nothing of the kind. */
gboolean format_room(FormatImage *image, guint64 *bytes, GError **error);
/* KHO_ERROR_UNSUPPORTED where the format has none. */
gboolean format_bitmap(FormatImage *image, const FormatBitmapChange *change, GError **error);
gboolean format_check(FormatImage *image, FormatRepair repair, FormatCheck *result, GError **error);
gboolean format_close(FormatImage *image, GError **error);

#endif
