#include "qcow2/references.h"

#include "base/error.h"
#include "base/num.h"
#include "qcow2/entry.h"

#include <stdarg.h>
#include <string.h>

#define HEX "0x%" G_GINT64_MODIFIER "x"
#define U64 "%" G_GUINT64_FORMAT

#define MESSAGES_MAX 1000

#define SNAPSHOT_HEAD_BYTES      40
#define SNAPSHOT_EXTRA_V3_BYTES  16 /* version 3: the 64-bit VM state size and disk size are there */
#define BITMAP_HEAD_BYTES        24
#define BITMAP_ENTRY_RESERVED    G_GUINT64_CONSTANT(0xff000000000001fe)
#define BITMAP_FLAG_IN_USE       1u
#define BITMAP_FLAGS_KNOWN       3u /* in use, and loaded by whoever opens the disk */
#define BITMAP_TYPE_DIRTY        1
#define BITMAP_GRANULARITY_MIN   9 /* bits: 512 bytes to 2 GiB */
#define BITMAP_GRANULARITY_MAX   31
#define BITMAP_BYTES_MAX         (512 * MIB)
#define BITMAP_TABLE_ENTRIES_MAX (8 * MIB) /* 64 MiB of table: QEMU's own limit */
#define NAMES_COMPARED_BYTES     (16 * MIB)
#define SUBCLUSTERS_ALLOC        G_GUINT64_CONSTANT(0xffffffff)

void
qcow2_check_note(Qcow2Check *check, guint64 *counter, const char *format, ...)
{
    GPtrArray *messages = check->result->messages;
    va_list args;

    ++*counter;
    if (!messages || messages->len >= MESSAGES_MAX)
        return;
    va_start(args, format);
    g_ptr_array_add(messages, g_strdup_vprintf(format, args));
    va_end(args);
}

#define corrupt(check, ...) qcow2_check_note((check), &(check)->result->corruptions, __VA_ARGS__)

gboolean
qcow2_check_going_on(const Qcow2Check *check, GError **error)
{
    return !kho_job_is_cancelled(check->job)
           || fail(error, KHO_ERROR_CANCELLED, "the check of %s was cancelled", check->file->label);
}

guint64
qcow2_check_end_cluster(const Qcow2Check *check)
{
    return MAX(num_div_up(check->file_bytes, check->geo.cluster_bytes), qcow2_refmap_end(check->map));
}

/* Counts a reference to all clusters of [off, off + len). The last cluster of a file may be cut short, so a
 * range may end past it by less than a cluster. */
static void
count_range(Qcow2Check *check, guint64 off, guint64 len, Qcow2RefKind kind, const char *what)
{
    guint64 cluster_bytes = check->geo.cluster_bytes, end;

    if (len == 0)
        return;
    if (!num_add(off, len, &end) || (end > check->file_bytes && end - check->file_bytes >= cluster_bytes)) {
        corrupt(check, "%s at byte " U64 " reaches past the end of the file (" U64 " bytes)", what, off,
                check->file_bytes);
        return;
    }
    guint64 first = off / cluster_bytes;
    qcow2_refmap_add(check->map, first, (end - 1) / cluster_bytes - first + 1, kind);
}

/* Reads @n big-endian words; what lies past the end of the file reads as zeros. NULL where it cannot be read,
 * which is counted. */
static guint64 *
read_words(Qcow2Check *check, guint64 off, guint64 n, const char *what)
{
    g_autofree guint64 *words = g_try_new(guint64, n + 1);
    g_autoptr(GError) error = NULL;

    if (!words || !blk_pread_padded(check->file, off, words, n * 8, &error)) {
        qcow2_check_note(check, &check->result->check_errors, "cannot read the %s at byte " U64 ": %s", what,
                         off, error ? error->message : "out of memory");
        return NULL;
    }
    for (guint64 i = 0; i < n; i++)
        words[i] = GUINT64_FROM_BE(words[i]);
    return g_steal_pointer(&words);
}

/* Where in the tables an entry stands, for messages and for counting fragments. */
typedef struct {
    guint64 l1_index, l2_index;
    gboolean active;        /* not a snapshot's: fragments are counted */
    guint64 next_host_byte; /* where the next cluster would lie without a gap; 0 at first */
} EntryPlace;

static void
count_compressed(Qcow2Check *check, guint64 entry, guint64 bitmap, const EntryPlace *at)
{
    guint shift = 62 - (check->header.cluster_bits - 8);
    guint64 off = entry & ((G_GUINT64_CONSTANT(1) << shift) - 1);
    guint64 sectors = ((entry & (QCOW2_ENTRY_COMPRESSED - 1)) >> shift) + 1;

    if (entry & QCOW2_ENTRY_COPIED)
        corrupt(check, "compressed cluster at byte " U64 " is marked COPIED", off);
    if (check->header.incompat & QCOW2_INCOMPAT_DATA_FILE) {
        corrupt(check, "compressed cluster in an image with a data file (L2 entry " HEX ")", entry);
        return;
    }
    if (bitmap != 0) {
        corrupt(check, "compressed cluster with subclusters (L2 entry " HEX ")", entry);
        return;
    }
    count_range(check, off, sectors * QCOW2_SECTOR_BYTES - off % QCOW2_SECTOR_BYTES, QCOW2_REF_COMPRESSED,
                "compressed cluster");
    if (at->active) {
        check->result->allocated_clusters++;
        check->result->compressed_clusters++;
        check->result->fragmented_clusters++; /* never whole sectors: reading one re-reads a neighbour's */
    }
}

static void
count_allocated(Qcow2Check *check, guint64 entry, guint64 bitmap, EntryPlace *at)
{
    guint64 off = entry & QCOW2_ENTRY_OFFSET;

    if ((bitmap >> 32) & bitmap)
        corrupt(check, "cluster at byte " U64 ": a subcluster is both allocated and zero (" HEX ")", off,
                bitmap);
    if (off % check->geo.cluster_bytes != 0)
        corrupt(check, "data cluster at byte " U64 " is not aligned (L1 index " U64 ", L2 index " U64 ")",
                off, at->l1_index, at->l2_index);
    if (at->active) {
        check->result->allocated_clusters++;
        if (at->next_host_byte && off != at->next_host_byte)
            check->result->fragmented_clusters++;
        at->next_host_byte = off + check->geo.cluster_bytes;
    }
    guint64 guest_off = (at->l1_index * check->geo.l2_entries + at->l2_index) * check->geo.cluster_bytes;
    if (!(check->header.incompat & QCOW2_INCOMPAT_DATA_FILE))
        count_range(check, off, check->geo.cluster_bytes, QCOW2_REF_DATA, "data cluster");
    else if (off != guest_off)
        corrupt(check, "guest offset " U64 " lies at byte " U64 " of the data file, and not at its own",
                guest_off, off);
}

static void
count_l2_entry(Qcow2Check *check, guint64 entry, guint64 bitmap, EntryPlace *at)
{
    gboolean extended = check->geo.l2_entry_bytes == 16;
    guint64 known = QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED;

    if (entry & QCOW2_ENTRY_COMPRESSED) {
        count_compressed(check, entry, bitmap, at);
        return;
    }
    if (!extended && check->header.version >= 3)
        known |= QCOW2_ENTRY_ZERO;
    if (entry & ~known)
        corrupt(check, "L2 entry " HEX " (L1 index " U64 ", L2 index " U64 ") has reserved bits set", entry,
                at->l1_index, at->l2_index);
    gboolean in_data_file =
        (check->header.incompat & QCOW2_INCOMPAT_DATA_FILE) && (entry & QCOW2_ENTRY_COPIED);
    if ((entry & QCOW2_ENTRY_OFFSET) || (in_data_file && !(entry & QCOW2_ENTRY_ZERO)))
        count_allocated(check, entry, bitmap, at);
    else if (extended && (bitmap & SUBCLUSTERS_ALLOC))
        corrupt(check, "L1 index " U64 ", L2 index " U64 ": subclusters of a cluster that is not there",
                at->l1_index, at->l2_index);
}

/* How many of @n entries say nothing but that data lies in one cluster of the file after the other. */
static guint64
plain_run(const Qcow2Check *check, const guint64 *words, guint64 n)
{
    guint64 cluster_bytes = check->geo.cluster_bytes, off = words[0] & QCOW2_ENTRY_OFFSET, run = 1;

    if (off == 0 || (words[0] & ~(QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED)) || off & (cluster_bytes - 1)
        || off >= check->file_bytes || (check->header.incompat & QCOW2_INCOMPAT_DATA_FILE))
        return 0;
    n = MIN(n, (check->file_bytes - off) >> check->geo.cluster_bits);
    while (run < n && words[run] == words[run - 1] + cluster_bytes)
        run++;
    return n > 0 ? run : 0;
}

static void
count_run(Qcow2Check *check, guint64 off, guint64 n, EntryPlace *at)
{
    guint64 bytes = n << check->geo.cluster_bits;

    if (at->active) {
        check->result->allocated_clusters += n;
        check->result->fragmented_clusters += at->next_host_byte && off != at->next_host_byte;
        at->next_host_byte = off + bytes;
    }
    count_range(check, off, bytes, QCOW2_REF_DATA, "data cluster");
}

static void
count_l2(Qcow2Check *check, guint64 off, guint64 l1_index, gboolean active)
{
    EntryPlace at = { .l1_index = l1_index, .active = active };
    guint64 stride = check->geo.l2_entry_bytes / 8;
    g_autofree guint64 *words = read_words(check, off, check->geo.cluster_bytes / 8, "L2 table");

    if (!words)
        return;
    for (; at.l2_index < check->geo.l2_entries; at.l2_index++) {
        const guint64 *word = &words[at.l2_index * stride];
        guint64 run = stride == 1 ? plain_run(check, word, check->geo.l2_entries - at.l2_index) : 0;
        if (run > 0) {
            count_run(check, *word & QCOW2_ENTRY_OFFSET, run, &at);
            at.l2_index += run - 1;
            continue;
        }
        if (word[0] != 0 || (stride == 2 && word[1] != 0))
            count_l2_entry(check, word[0], stride == 2 ? word[1] : 0, &at);
    }
}

static gboolean
count_l1(Qcow2Check *check, guint64 off, guint64 entries, gboolean active, GError **error)
{
    if (entries == 0)
        return TRUE;
    count_range(check, off, entries * 8, QCOW2_REF_L1, active ? "L1 table" : "snapshot's L1 table");
    if (off >= check->file_bytes)
        return TRUE; /* it is corrupt, and all there is to read is zeros */
    g_autofree guint64 *words = read_words(check, off, entries, "L1 table");
    for (guint64 i = 0; words && i < entries; i++) {
        guint64 l2_off = words[i] & QCOW2_ENTRY_OFFSET;
        if (words[i] == 0)
            continue;
        if (!qcow2_check_going_on(check, error))
            return FALSE;
        if (words[i] & ~(QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED))
            corrupt(check, "L1 entry " HEX " (index " U64 ") has reserved bits set", words[i], i);
        if (l2_off % check->geo.cluster_bytes != 0)
            corrupt(check, "L2 table at byte " U64 " (L1 index " U64 ") is not aligned", l2_off, i);
        count_range(check, l2_off, check->geo.cluster_bytes, QCOW2_REF_L2, "L2 table");
        if (l2_off < check->file_bytes)
            count_l2(check, l2_off, i, active);
    }
    return TRUE;
}

/* One entry of the snapshot table at @at; *bytes is its length without the padding after it. FALSE in *more
 * ends the walk: where the next entry begins is not known then. */
static gboolean
count_snapshot(Qcow2Check *check, guint64 at, guint index, guint64 *bytes, gboolean *more, GError **error)
{
    guint8 head[SNAPSHOT_HEAD_BYTES];

    if (!blk_pread_padded(check->file, at, head, sizeof head, error))
        return FALSE;
    guint64 l1_off = be64_load(head), l1_entries = be32_load(head + 8), extra = be32_load(head + 36);
    *bytes = sizeof head + extra + be16_load(head + 12) + be16_load(head + 14);
    *more = extra <= QCOW2_SNAPSHOT_EXTRA_BYTES_MAX;
    if (!*more) {
        corrupt(check, "snapshot %u has " U64 " bytes of extra data, more than %u", index, extra,
                (guint) QCOW2_SNAPSHOT_EXTRA_BYTES_MAX);
        *bytes = 0;
        return TRUE;
    }
    if (check->header.version >= 3 && extra < SNAPSHOT_EXTRA_V3_BYTES)
        corrupt(check, "snapshot %u lacks its size fields, which version 3 requires", index);
    if (check->header.incompat & QCOW2_INCOMPAT_DATA_FILE)
        corrupt(check, "snapshot %u in an image with a data file", index);
    if (l1_off % check->geo.cluster_bytes != 0) {
        corrupt(check, "the L1 table of snapshot %u at byte " U64 " is not aligned", index, l1_off);
        return TRUE;
    }
    if (l1_entries > QCOW2_L1_BYTES_MAX / 8) {
        corrupt(check, "the L1 table of snapshot %u is too large: " U64 " entries", index, l1_entries);
        return TRUE;
    }
    return count_l1(check, l1_off, l1_entries, FALSE, error);
}

static gboolean
count_snapshots(Qcow2Check *check, GError **error)
{
    guint64 start = check->header.snapshots_off, at = start, bytes = 0;
    gboolean more = TRUE;

    for (guint i = 0; i < check->header.snapshots && more; i++) {
        at = num_align_up(at + bytes, 8);
        if (at - start > QCOW2_SNAPSHOT_TABLE_BYTES_MAX) {
            corrupt(check, "the snapshot table is longer than " U64 " bytes", QCOW2_SNAPSHOT_TABLE_BYTES_MAX);
            break;
        }
        if (!count_snapshot(check, at, i, &bytes, &more, error))
            return FALSE;
    }
    count_range(check, start, at + bytes - start, QCOW2_REF_TABLE, "snapshot table");
    return TRUE;
}

static gboolean
count_bitmap(Qcow2Check *check, guint64 table_off, guint64 entries, GError **error)
{
    if (entries > BITMAP_TABLE_ENTRIES_MAX || table_off % check->geo.cluster_bytes != 0) {
        corrupt(check, "bitmap table at byte " U64 " with " U64 " entries is out of range", table_off,
                entries);
        return TRUE;
    }
    count_range(check, table_off, entries * 8, QCOW2_REF_TABLE, "bitmap table");
    if (table_off >= check->file_bytes || !qcow2_check_going_on(check, error))
        return table_off >= check->file_bytes;
    g_autofree guint64 *words = read_words(check, table_off, entries, "bitmap table");
    for (guint64 i = 0; words && i < entries; i++) {
        guint64 off = words[i] & QCOW2_ENTRY_OFFSET;
        if ((words[i] & BITMAP_ENTRY_RESERVED) || (off && (words[i] & 1))
            || off % check->geo.cluster_bytes != 0)
            corrupt(check, "bitmap table entry " HEX " (index " U64 ") is malformed", words[i], i);
        else if (off)
            count_range(check, off, check->geo.cluster_bytes, QCOW2_REF_TABLE, "bitmap");
    }
    return TRUE;
}

typedef struct {
    guint64 table_off;
    guint32 table_entries, flags, extra_bytes;
    guint8 type, granularity_bits;
    guint16 name_bytes;
} BitmapEntry;

static BitmapEntry
decode_bitmap(const guint8 *b)
{
    return (BitmapEntry){ .table_off = be64_load(b),
                          .table_entries = be32_load(b + 8),
                          .flags = be32_load(b + 12),
                          .type = b[16],
                          .granularity_bits = b[17],
                          .name_bytes = be16_load(b + 18),
                          .extra_bytes = be32_load(b + 20) };
}

/* What is wrong with an entry of the directory; NULL: nothing. Spec: docs/spec/qcow2.md, section 4; where
 * that sets no limit, QEMU's. */
static const char *
judge_bitmap(const Qcow2Check *check, const BitmapEntry *e)
{
    if (e->extra_bytes != 0)
        return "has extra data, which nobody knows";
    if (e->flags & ~(guint32) BITMAP_FLAGS_KNOWN)
        return "has reserved flags set";
    if (e->type != BITMAP_TYPE_DIRTY)
        return "is of an unknown type";
    if (e->granularity_bits < BITMAP_GRANULARITY_MIN || e->granularity_bits > BITMAP_GRANULARITY_MAX)
        return "has a granularity out of range";
    if (e->name_bytes == 0 || e->name_bytes > QCOW2_BACKING_BYTES)
        return "has a name of a wrong length";
    if (e->table_off == 0 || e->table_entries == 0
        || e->table_entries > BITMAP_BYTES_MAX >> check->geo.cluster_bits)
        return "has no table, or one that is too long";
    /* One that was in use is as it was, and is not read. At most 2^54 bits of 512 bytes each. */
    guint64 sectors_bytes =
        num_align_down(check->header.guest_bytes, QCOW2_SECTOR_BYTES); /* as QEMU counts */
    guint64 bits = num_div_up(sectors_bytes, G_GUINT64_CONSTANT(1) << e->granularity_bits);
    if (!(e->flags & BITMAP_FLAG_IN_USE)
        && e->table_entries != num_div_up(num_align_up(bits, 64) / 8, check->geo.cluster_bytes))
        return "has a table that does not fit the disk's size";
    return NULL;
}

/* Notes a name that no bitmap can have, or that another one has. Those of a huge directory are not compared.
 */
static gboolean
judge_name(Qcow2Check *check, guint64 at, const BitmapEntry *e, guint index, GHashTable *names,
           GError **error)
{
    guint64 bytes = MIN(e->name_bytes, QCOW2_BACKING_BYTES);
    g_autofree char *name = g_malloc0(bytes + 1);

    if (!blk_pread_padded(check->file, at + BITMAP_HEAD_BYTES + e->extra_bytes, name, bytes, error))
        return FALSE;
    if (memchr(name, 0, bytes))
        corrupt(check, "the name of bitmap %u of the directory has a NUL in it", index);
    else if (check->extensions.bitmap_directory_bytes <= NAMES_COMPARED_BYTES
             && !g_hash_table_add(names, g_steal_pointer(&name)))
        corrupt(check, "bitmap %u of the directory has the name of another one", index);
    return TRUE;
}

static gboolean
count_bitmaps(Qcow2Check *check, GError **error)
{
    guint64 start = check->extensions.bitmap_directory_off, len = check->extensions.bitmap_directory_bytes,
            at = 0;
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    /* Without its autoclear bit the directory is stale, whoever wrote last did not know of it. */
    if (!check->extensions.has_bitmaps || !(check->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return TRUE;
    count_range(check, start, len, QCOW2_REF_TABLE, "bitmap directory");
    if (start >= check->file_bytes)
        return TRUE;
    for (guint i = 0; i < check->extensions.bitmaps; i++) {
        guint8 head[BITMAP_HEAD_BYTES];
        if (at > len || len - at < sizeof head) {
            corrupt(check, "the bitmap directory ends before bitmap %u", i);
            return TRUE;
        }
        if (!blk_pread_padded(check->file, start + at, head, sizeof head, error))
            return FALSE;
        BitmapEntry e = decode_bitmap(head);
        const char *wrong = judge_bitmap(check, &e);
        if (wrong)
            corrupt(check, "bitmap %u of the directory %s", i, wrong);
        if (!judge_name(check, start + at, &e, i, names, error)
            || !count_bitmap(check, e.table_off, e.table_entries, error))
            return FALSE;
        at = num_align_up(at + sizeof head + e.name_bytes + e.extra_bytes, 8);
    }
    if (at != len)
        corrupt(check, "the bitmap directory has " U64 " bytes, its bitmaps take " U64, len, at);
    return TRUE;
}

/* Last of all, since the end is known then. */
static void
count_refcount_blocks(Qcow2Check *check)
{
    guint64 cluster_bytes = check->geo.cluster_bytes;

    for (guint64 i = 0; i < check->geo.reftable_entries; i++) {
        guint64 entry = check->reftable[i], off = entry & QCOW2_REFTABLE_OFFSET;
        if (entry == 0)
            continue;
        if (entry != off)
            corrupt(check, "refcount table entry " HEX " (index " U64 ") has reserved bits set", entry, i);
        else if (off % cluster_bytes != 0)
            corrupt(check, "refcount block " U64 " at byte " U64 " is not aligned", i, off);
        else if (off / cluster_bytes >= qcow2_check_end_cluster(check))
            corrupt(check, "refcount block " U64 " at byte " U64 " lies outside the file", i, off);
        else
            count_range(check, off, cluster_bytes, QCOW2_REF_BLOCK, "refcount block");
    }
}

void
qcow2_references_judge_blocks(Qcow2Check *check)
{
    guint64 from = qcow2_refmap_from(check->map), limit = qcow2_refmap_limit(check->map);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

    for (guint64 i = 0; i < check->geo.reftable_entries; i++) {
        guint64 off = check->reftable[i] & QCOW2_REFTABLE_OFFSET, cluster = off / check->geo.cluster_bytes;
        if (off == 0 || cluster < from || cluster >= limit
            || !(qcow2_refmap_kinds(check->map, cluster) & QCOW2_REF_BLOCK))
            continue; /* what was not counted was reported */
        guint64 references = qcow2_refmap_count(check->map, cluster);
        if (references == 1)
            continue;
        /* Of several entries that name one block, which nothing else does, the first is right. */
        gboolean again = !g_hash_table_add(seen, g_memdup2(&cluster, sizeof cluster));
        if (again || qcow2_refmap_kinds(check->map, cluster) != QCOW2_REF_BLOCK)
            corrupt(check, "refcount block " U64 " at byte " U64 " has " U64 " references", i, off,
                    references);
    }
}

gboolean
qcow2_references_count(Qcow2Check *check, GError **error)
{
    count_range(check, 0, check->geo.cluster_bytes, QCOW2_REF_HEADER, "header");
    if (!count_l1(check, check->header.l1_off, check->header.l1_entries, TRUE, error)
        || !count_snapshots(check, error))
        return FALSE;
    count_range(check, check->header.reftable_off, check->geo.reftable_entries * 8, QCOW2_REF_TABLE,
                "refcount table");
    if (check->header.crypt_method == QCOW2_CRYPT_LUKS)
        count_range(check, check->extensions.luks_off, check->extensions.luks_bytes, QCOW2_REF_TABLE,
                    "LUKS header");
    if (!count_bitmaps(check, error))
        return FALSE;
    count_refcount_blocks(check);
    return TRUE;
}
