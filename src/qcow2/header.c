#include "qcow2/header.h"

#include "base/error.h"
#include "qcow2/extension.h"

#include <stddef.h>

/* The only place that knows where a field lies. Decode and encode walk it; the width on disk is the member's
 * own; the layout test proves that the rows tile the header without gap or overlap. Spec: docs/spec/qcow2.md,
 * section 2. */
typedef struct {
    const char *name;
    guint16 off;
    guint8 width;
    guint16 member;
} DiskField;

#define FIELD(m, disk_off)                                                                                   \
    {                                                                                                        \
#m, disk_off, sizeof(((Qcow2Header *) 0)->m), offsetof(Qcow2Header, m)                               \
    }

static const DiskField fields[] = {
    FIELD(magic, 0),
    FIELD(version, 4),
    FIELD(backing_off, 8),
    FIELD(backing_bytes, 16),
    FIELD(cluster_bits, 20),
    FIELD(guest_bytes, 24),
    FIELD(crypt_method, 32),
    FIELD(l1_entries, 36),
    FIELD(l1_off, 40),
    FIELD(reftable_off, 48),
    FIELD(reftable_clusters, 56),
    FIELD(snapshots, 60),
    FIELD(snapshots_off, 64),
    FIELD(incompat, 72),
    FIELD(compat, 80),
    FIELD(autoclear, 88),
    FIELD(refcount_order, 96),
    FIELD(header_bytes, 100),
    FIELD(compression, 104),
};

/* Fields that end past @len keep the caller's defaults: that is how version 2 gets its version 3 values. */
static void
decode_fields(const guint8 *buf, gsize len, Qcow2Header *header)
{
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++) {
        const DiskField *f = &fields[i];
        if ((gsize) f->off + f->width > len)
            continue;
        guint8 *to = (guint8 *) header + f->member;
        for (guint8 b = 0; b < f->width; b++) /* disk is big endian */
            to[G_BYTE_ORDER == G_BIG_ENDIAN ? b : f->width - 1 - b] = buf[f->off + b];
    }
}

gsize
qcow2_header_encode(const Qcow2Header *header, guint8 *buf, gsize len)
{
    gsize end = MIN(len, header->header_bytes);
    gsize written = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++) {
        const DiskField *f = &fields[i];
        if ((gsize) f->off + f->width > end)
            continue;
        const guint8 *from = (const guint8 *) header + f->member;
        for (guint8 b = 0; b < f->width; b++)
            buf[f->off + b] = from[G_BYTE_ORDER == G_BIG_ENDIAN ? b : f->width - 1 - b];
        written = (gsize) f->off + f->width;
    }
    return written;
}

static gboolean
bad(GError **error, KhoErrorCode code, const char *field, guint64 value)
{
    return fail(error, code, "bad qcow2 header: %s is %" G_GUINT64_FORMAT " (0x%" G_GINT64_MODIFIER "x)",
                field, value, value);
}

/* @entries 8-byte entries at @off lie inside the file and past the header cluster. */
static gboolean
table_fits(guint64 off, guint64 entries, guint64 cluster, guint64 file_bytes)
{
    return off >= cluster && off % cluster == 0 && off <= file_bytes && off < QCOW2_HOST_BYTES_MAX
           && entries <= (file_bytes - off) / 8;
}

/* A table that is not where one may be. Most often the file was cut, which the field alone does not tell. */
static gboolean
bad_table(GError **error, const char *field, guint64 off, guint64 entries, guint64 file_bytes)
{
    if (off <= file_bytes && entries <= (file_bytes - off) / 8)
        return bad(error, KHO_ERROR_CORRUPT, field, off);
    return fail(error, KHO_ERROR_CORRUPT,
                "bad qcow2 header: %s is %" G_GUINT64_FORMAT ", and what lies there does not end before the "
                "file does, at byte %" G_GUINT64_FORMAT ": was it truncated?",
                field, off, file_bytes);
}

/* Before any other verdict: with an unknown incompatible feature every other field may mean something else.
 */
static gboolean
check_features(const guint8 *buf, gsize len, const Qcow2Header *h, GError **error)
{
    guint64 unknown = h->incompat & ~(guint64) QCOW2_INCOMPAT_KNOWN;

    if (unknown == 0)
        return TRUE;
    guint bit = (guint) __builtin_ctzll(unknown);
    g_autofree char *name = qcow2_feature_name(buf, len, h->header_bytes, 0, bit);
    return fail(error, KHO_ERROR_UNSUPPORTED,
                "unsupported qcow2 feature: incompat bit %u (%s); a newer program made this image", bit,
                name ? name : "unnamed");
}

static gboolean
check_version3(const Qcow2Header *h, guint64 cluster, GError **error)
{
    if (h->header_bytes < QCOW2_V3_BYTES || h->header_bytes % 8 != 0 || h->header_bytes > cluster)
        return bad(error, KHO_ERROR_CORRUPT, "header_bytes", h->header_bytes);
    if (h->refcount_order > 6)
        return bad(error, KHO_ERROR_CORRUPT, "refcount_order", h->refcount_order);
    if (((h->incompat & QCOW2_INCOMPAT_COMPRESSION) != 0) != (h->compression != 0))
        return bad(error, KHO_ERROR_CORRUPT, "compression", h->compression);
    if (h->compression > QCOW2_COMPRESSION_ZSTD)
        return bad(error, KHO_ERROR_UNSUPPORTED, "compression", h->compression);
    if ((h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA_FILE) && !(h->incompat & QCOW2_INCOMPAT_DATA_FILE))
        return bad(error, KHO_ERROR_CORRUPT, "autoclear", h->autoclear);
    if ((h->incompat & QCOW2_INCOMPAT_EXTENDED_L2) && h->cluster_bits < 14)
        return bad(error, KHO_ERROR_CORRUPT, "cluster_bits", h->cluster_bits);
    return TRUE;
}

static gboolean
check_tables(const Qcow2Header *h, guint64 file_bytes, GError **error)
{
    guint64 cluster = G_GUINT64_CONSTANT(1) << h->cluster_bits;
    Qcow2Geometry g;

    qcow2_header_derive(h, &g);
    /* Also of tables without entries, which lie nowhere: QEMU refuses them. */
    if (h->l1_off % cluster != 0 || h->l1_off > G_MAXINT64)
        return bad(error, KHO_ERROR_CORRUPT, "l1_off", h->l1_off);
    if (h->snapshots_off % cluster != 0 || h->snapshots_off > G_MAXINT64)
        return bad(error, KHO_ERROR_CORRUPT, "snapshots_off", h->snapshots_off);
    if (h->l1_entries > QCOW2_L1_BYTES_MAX / 8 || h->l1_entries < g.l1_guest_entries)
        return bad(error, KHO_ERROR_CORRUPT, "l1_entries", h->l1_entries);
    if (h->l1_entries > 0 && !table_fits(h->l1_off, h->l1_entries, cluster, file_bytes))
        return bad_table(error, "l1_off", h->l1_off, h->l1_entries, file_bytes);
    /* At most 8 MiB / 512 = 2^14 clusters, so the shift below cannot overflow. */
    if (h->reftable_clusters == 0 || h->reftable_clusters > QCOW2_REFTABLE_BYTES_MAX >> h->cluster_bits)
        return bad(error, KHO_ERROR_CORRUPT, "reftable_clusters", h->reftable_clusters);
    if (!table_fits(h->reftable_off, g.reftable_entries, cluster, file_bytes))
        return bad_table(error, "reftable_off", h->reftable_off, g.reftable_entries, file_bytes);
    if (h->snapshots > QCOW2_SNAPSHOTS_MAX)
        return bad(error, KHO_ERROR_CORRUPT, "snapshots", h->snapshots);
    /* An entry is at least 40 bytes: five table words. */
    guint64 words = (guint64) h->snapshots * 5;
    if (words > 0 && !table_fits(h->snapshots_off, words, cluster, file_bytes))
        return bad_table(error, "snapshots_off", h->snapshots_off, words, file_bytes);
    return TRUE;
}

gboolean
qcow2_header_decode(const guint8 *buf, gsize len, guint64 file_bytes, Qcow2Header *header, GError **error)
{
    Qcow2Header h = { .refcount_order = 4, .header_bytes = QCOW2_V2_BYTES };

    if (len < QCOW2_V2_BYTES || be32_load(buf) != QCOW2_MAGIC)
        return fail(error, KHO_ERROR_INVALID, "not a qcow2 image: its magic number is missing");
    if (file_bytes < (be32_load(buf + 4) == 2 ? QCOW2_V2_BYTES : QCOW2_V3_BYTES))
        return fail(error, KHO_ERROR_CORRUPT,
                    "the file has %" G_GUINT64_FORMAT " bytes, too few for a qcow2 header: was it truncated?",
                    file_bytes);
    decode_fields(buf, QCOW2_V2_BYTES, &h);
    if (h.version < 2 || h.version > 3)
        return bad(error, KHO_ERROR_UNSUPPORTED, "version", h.version);
    if (h.version == 3) {
        if (len < QCOW2_V3_BYTES)
            return fail(error, KHO_ERROR_CORRUPT, "bad qcow2 header: it ends at byte %" G_GSIZE_FORMAT, len);
        decode_fields(buf, QCOW2_V3_BYTES, &h);
        decode_fields(buf, MIN(len, h.header_bytes), &h);
        if (!check_features(buf, len, &h, error))
            return FALSE;
    }
    if (h.cluster_bits < QCOW2_CLUSTER_BITS_MIN || h.cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return bad(error, KHO_ERROR_CORRUPT, "cluster_bits", h.cluster_bits);
    guint64 cluster = G_GUINT64_CONSTANT(1) << h.cluster_bits; /* safe from here on */
    if (h.version == 3 && !check_version3(&h, cluster, error))
        return FALSE;
    if (h.guest_bytes > NUM_OFFSET_MAX)
        return bad(error, KHO_ERROR_CORRUPT, "guest_bytes", h.guest_bytes);
    if (h.crypt_method > QCOW2_CRYPT_LUKS)
        return bad(error, KHO_ERROR_UNSUPPORTED, "crypt_method", h.crypt_method);
    if (h.backing_off != 0) {
        if (h.backing_off < h.header_bytes || h.backing_off > cluster)
            return bad(error, KHO_ERROR_CORRUPT, "backing_off", h.backing_off);
        if (h.backing_bytes > MIN(QCOW2_BACKING_BYTES, cluster - h.backing_off))
            return bad(error, KHO_ERROR_CORRUPT, "backing_bytes", h.backing_bytes);
    }
    if (!check_tables(&h, file_bytes, error))
        return FALSE;
    *header = h;
    return TRUE;
}

void
qcow2_header_derive(const Qcow2Header *header, Qcow2Geometry *geometry)
{
    Qcow2Geometry g = { .cluster_bits = header->cluster_bits };

    g.cluster_bytes = G_GUINT64_CONSTANT(1) << header->cluster_bits;
    gboolean extended = (header->incompat & QCOW2_INCOMPAT_EXTENDED_L2) != 0;
    g.l2_entry_bytes = extended ? 16 : 8;
    g.subs = extended ? 32 : 1;
    g.sub_bits = extended ? header->cluster_bits - 5 : header->cluster_bits;
    g.sub_bytes = G_GUINT64_CONSTANT(1) << g.sub_bits;
    g.l2_entries = g.cluster_bytes / g.l2_entry_bytes;
    g.l2_span_bytes = g.l2_entries << g.cluster_bits; /* at most 2^18 << 21 */
    g.refcount_bits = 1u << header->refcount_order;
    g.refcount_max = g.refcount_bits == 64 ? G_MAXUINT64 : (G_GUINT64_CONSTANT(1) << g.refcount_bits) - 1;
    g.refblock_entries = g.cluster_bytes * 8 / g.refcount_bits;
    g.l1_guest_entries = qcow2_l1_entries_for(&g, header->guest_bytes);
    g.reftable_entries = ((guint64) header->reftable_clusters << g.cluster_bits) / 8;
    *geometry = g;
}

gboolean
qcow2_header_read(BlkStore *file, Qcow2Header *header, guint8 **cluster, GError **error)
{
    guint8 head[QCOW2_FIELDS_BYTES];
    guint64 file_bytes;
    guint32 bits;

    if (!blk_size(file, &file_bytes, error) || !blk_pread_padded(file, 0, head, sizeof head, error))
        return FALSE;
    bits = be32_load(head + 20);
    /* A cluster size out of range is refused by decode, which then needs no more than the head. */
    gsize len = sizeof head;
    if (be32_load(head) == QCOW2_MAGIC && bits >= QCOW2_CLUSTER_BITS_MIN && bits <= QCOW2_CLUSTER_BITS_MAX)
        len = (gsize) 1 << bits;
    g_autofree guint8 *buf = g_malloc0(len);
    if (!blk_pread_padded(file, 0, buf, len, error))
        return FALSE;
    if (!qcow2_header_decode(buf, len, file_bytes, header, error)) {
        g_prefix_error(error, "%s: ", file->label);
        return FALSE;
    }
    *cluster = g_steal_pointer(&buf);
    return TRUE;
}
