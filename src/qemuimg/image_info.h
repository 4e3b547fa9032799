/* What an image's headers say, in QEMU's words: as text for people and as JSON. Both faces print these. */
#ifndef KHO_QEMUIMG_IMAGE_INFO_H
#define KHO_QEMUIMG_IMAGE_INFO_H

#include <kho/image.h>

struct json_t;

char *qimg_info_text(const KhoImageInfo *info);
/* A new reference. */
struct json_t *qimg_info_json(const KhoImageInfo *info);

/* Of internal snapshots (KhoImageSnapshot): the table, its heads too, and a new reference to the list. */
char *qimg_snapshots_text(const GPtrArray *snapshots);
struct json_t *qimg_snapshots_json(const GPtrArray *snapshots);

/* Of persistent bitmaps (KhoImageBitmap): the same. The table is ours; qemu-img has none. */
char *qimg_bitmaps_text(const GPtrArray *bitmaps);
struct json_t *qimg_bitmaps_json(const GPtrArray *bitmaps);

#endif
