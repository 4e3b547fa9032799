/* Persistent bitmaps: the directory of them, decoded, and the list that an open image keeps. What is written
 * about the disk while it is open lives in bitmap_track.h, contents and tables in bitmap_table.h, adding,
 * removing and merging in bitmap_change.h. Spec: docs/spec/qcow2.md, section 12. */
#ifndef KHO_QCOW2_BITMAP_H
#define KHO_QCOW2_BITMAP_H

#include "qcow2/header.h"

#define QCOW2_BITMAP_HEAD_BYTES      24
#define QCOW2_BITMAP_NAME_BYTES_MAX  1023
#define QCOW2_BITMAP_GRANULARITY_MIN 9 /* bits: 512 bytes to 2 GiB */
#define QCOW2_BITMAP_GRANULARITY_MAX 31
#define QCOW2_BITMAP_BYTES_MAX       (512 * MIB)
#define QCOW2_BITMAP_ENTRY_ONES      1u /* of a table entry without a cluster: all ones, else all zeros */
#define QCOW2_BITMAP_ENTRY_RESERVED  G_GUINT64_CONSTANT(0xff000000000001fe)
#define QCOW2_BITMAP_TYPE_DIRTY      1
/* The directory is decoded as a whole: its bytes and the names take twice this at most. 65535 bitmaps with
 * names of 200 bytes are 15 MiB. */
#define QCOW2_BITMAP_DIRECTORY_LOADED_MAX (16 * MIB)

enum {
    QCOW2_BITMAP_IN_USE = 1 << 0, /* not stored since: its contents say nothing */
    QCOW2_BITMAP_AUTO = 1 << 1,   /* whoever writes to the disk marks what is written */
    QCOW2_BITMAP_FLAGS = 3,
};

typedef struct {
    char *name; /* 1 to QCOW2_BITMAP_NAME_BYTES_MAX bytes, of whatever kind but NUL */
    guint64 table_off;
    guint32 table_entries, flags;
    guint granularity_bits;
    const char *unusable;      /* why nobody but who made it can keep it, static; NULL: kho can */
    guint64 entry_off;         /* in the directory, bytes */
    guint32 entry_bytes;       /* with its padding */
    gboolean ours;             /* this process has marked it in use, and will store it */
    gboolean moved;            /* while it is stored: it has a new table */
    guint64 new_table_off;     /* then */
    guint32 new_table_entries; /* then */
} Qcow2Bitmap;

void qcow2_bitmap_free(Qcow2Bitmap *bitmap);

/* May its contents be believed and kept? */
static inline gboolean
qcow2_bitmap_is_sound(const Qcow2Bitmap *bitmap)
{
    return !bitmap->unusable && (bitmap->ours || !(bitmap->flags & QCOW2_BITMAP_IN_USE));
}

/* Bits that a disk of @guest_bytes takes; whole sectors count, as QEMU counts them. */
static inline guint64
qcow2_bitmap_bits(guint64 guest_bytes, guint granularity_bits)
{
    return num_div_up(num_align_down(guest_bytes, 512), G_GUINT64_CONSTANT(1) << granularity_bits);
}

/* Entries of its table: one for each cluster of the bits. */
static inline guint64
qcow2_bitmap_table_entries(const Qcow2Geometry *geo, guint64 guest_bytes, guint granularity_bits)
{
    guint64 bits = qcow2_bitmap_bits(guest_bytes, granularity_bits);

    return num_div_up(num_div_up(bits, 64) * 8, geo->cluster_bytes);
}

/**
 * qcow2_bitmaps_decode:
 * @directory: all of it, @len bytes
 * @n: how many bitmaps the header says that there are
 *
 * Decodes and checks every entry: nothing is read but @directory. Entries of a type, with flags or with extra
 * data that nobody knows are kept apart (unusable).
 *
 * Returns: an array of Qcow2Bitmap, in order; NULL with KHO_ERROR_CORRUPT, the message naming the bitmap.
 */
GPtrArray *qcow2_bitmaps_decode(const guint8 *directory, gsize len, guint32 n, const Qcow2Header *header,
                                GError **error);

/* Appends the entry of a bitmap without extra data to a directory, and sets where it stands there. */
void qcow2_bitmap_encode(Qcow2Bitmap *bitmap, GByteArray *directory);

/* The bitmap of that name, or NULL. */
Qcow2Bitmap *qcow2_bitmaps_find(const GPtrArray *bitmaps, const char *name);

#endif
