#include "image/units.h"

#include "image/stretch.h"

#include <string.h>

/* Zeros in a raw target are left out in units of a page: a file system's block. */
#define RAW_UNIT_BYTES 4096

typedef enum { UNIT_SKIP, UNIT_ZERO, UNIT_DATA, UNIT_PACKED } UnitKind;

gboolean
copy_is_zero(const void *bytes, gsize len)
{
    const guint8 *b = bytes;
    gsize head = MIN(len, 16);

    for (gsize i = 0; i < head; i++)
        if (b[i])
            return FALSE;
    /* Every byte equals the one 16 before it, and the first 16 are zero. */
    return len <= 16 || memcmp(b, b + 16, len - 16) == 0;
}

guint8 *
copy_buffer(gsize bytes)
{
    return g_aligned_alloc(bytes, 1, COPY_BUFFER_ALIGN_BYTES);
}

guint64
units_bytes_of(const CopyPlan *plan)
{
    const KhoImage *target = plan->target;

    if (target->cluster_bytes == 1)
        return RAW_UNIT_BYTES;
    return plan->compress ? target->cluster_bytes : target->subcluster_bytes;
}

static gboolean
compares(const CopyPlan *plan)
{
    return plan->only_changes || plan->what == COPY_DIFFERING;
}

/* Zeros are to be the target's own, since what lies below it will be something else. */
static gboolean
owns_zeros(const CopyPlan *plan)
{
    return plan->what == COPY_LACKING || plan->what == COPY_DIFFERING;
}

void
units_init(Units *units, const CopyPlan *plan, guint64 room)
{
    *units = (Units){ .room = room, .unit_bytes = units_bytes_of(plan) };
    units->data = copy_buffer(room);
    if (compares(plan))
        units->old = copy_buffer(room);
    if (plan->compress) {
        units->packer = format_packer_new(plan->target->format, plan->level);
        units->packed = g_malloc(room);
        units->packed_bytes = g_new0(gsize, room / units->unit_bytes);
    }
}

void
units_clear(Units *units)
{
    g_aligned_free(units->data);
    g_aligned_free(units->old);
    g_free(units->packed);
    g_free(units->packed_bytes);
    g_clear_pointer(&units->packer, format_packer_free);
}

/* What is to be done with the @len bytes at @at, a unit or a part of one; its packed bytes left aside. */
static UnitKind
kind_of(const Units *units, const CopyPlan *plan, guint64 target_off, guint64 at, gsize len)
{
    if (compares(plan) && memcmp(units->data + at, units->old + at, len) == 0)
        return UNIT_SKIP;
    if (!plan->source || plan->keep_zeros || !copy_is_zero(units->data + at, len))
        return UNIT_DATA;
    gboolean is_zero = plan->what == COPY_LACKING ? target_off + at >= stretch_below_bytes(plan->through)
                                                  : plan->target_is_zero;
    return is_zero ? UNIT_SKIP : UNIT_ZERO;
}

/* The unit of the target that @at lies in ends there. */
static guint64
to_unit_end(const Units *units, guint64 target_off, guint64 at, guint64 bytes)
{
    return MIN(units->unit_bytes - (target_off + at) % units->unit_bytes, bytes - at);
}

/* --- reading --- */

/* What one read that failed is cut into, to save what can be read of it: a sector. */
#define SALVAGE_BYTES 512

/* One by one; a piece that cannot be read becomes zeros. */
static void
read_pieces(Units *units, const CopyPlan *plan, guint64 off, guint64 len)
{
    static GMutex telling; /* workers read at the same time */

    for (guint64 at = 0, piece; at < len; at += piece) {
        g_autoptr(GError) cause = NULL;

        piece = MIN(SALVAGE_BYTES - (off + at) % SALVAGE_BYTES, len - at);
        if (kho_image_read(plan->source, off + at, units->data + at, piece, &cause))
            continue;
        memset(units->data + at, 0, piece);
        g_mutex_lock(&telling);
        plan->unreadable(off + at, piece, cause->message, plan->unreadable_data);
        g_mutex_unlock(&telling);
    }
}

/* Past the end of @image, and where there is none, zeros. */
static gboolean
read_padded(KhoImage *image, guint64 off, guint8 *to, guint64 bytes, GError **error)
{
    guint64 size = image ? kho_image_size_bytes(image) : 0;
    guint64 known = off >= size ? 0 : MIN(bytes, size - off);

    memset(to + known, 0, bytes - known);
    return known == 0 || kho_image_read(image, off, to, known, error);
}

/* The source, where what cannot be read may become zeros. */
static gboolean
read_source(Units *units, const CopyPlan *plan, guint64 start, guint64 bytes, GError **error)
{
    guint64 off = plan->source_off + start;
    guint64 size = plan->source ? kho_image_size_bytes(plan->source) : 0;

    if (!plan->unreadable)
        return read_padded(plan->source, off, units->data, bytes, error);
    if (!read_padded(plan->source, off, units->data, bytes, NULL))
        read_pieces(units, plan, off, MIN(bytes, size - off));
    return TRUE;
}

/* What a unit is to differ from, to be written. */
static gboolean
read_old(Units *units, const CopyPlan *plan, guint64 start, guint64 bytes, GError **error)
{
    KhoImage *image = plan->what == COPY_DIFFERING ? plan->against : plan->target;

    return !compares(plan) || read_padded(image, plan->target_off + start, units->old, bytes, error);
}

/* The disk's last cluster may be cut short: what is packed is whole all the same. */
static void
pack(Units *units, const CopyPlan *plan, guint64 target_off, guint64 bytes)
{
    guint64 unit = units->unit_bytes;

    for (guint64 at = 0; at < bytes; at += unit) {
        guint64 len = MIN(unit, bytes - at);
        gsize packed = 0;

        if (kind_of(units, plan, target_off, at, len) == UNIT_DATA) {
            memset(units->data + at + len, 0, unit - len);
            packed = format_pack(units->packer, units->data + at, units->packed + at);
        }
        units->packed_bytes[at / unit] = packed;
    }
}

gboolean
units_read(Units *units, const CopyPlan *plan, guint64 start, guint64 bytes, GError **error)
{
    guint64 target_off = plan->target_off + start;

    g_assert(bytes <= units->room);
    if (!read_source(units, plan, start, bytes, error) || !read_old(units, plan, start, bytes, error))
        return FALSE;
    if (units->packer)
        pack(units, plan, target_off, bytes);
    return TRUE;
}

/* --- writing --- */

static gboolean
make_zeros_at(const CopyPlan *plan, guint64 off, guint64 len, GError **error)
{
    return owns_zeros(plan) ? image_own_zeros(plan->target, off, len, error)
                            : kho_image_zero(plan->target, off, len, error);
}

gboolean
units_make_zeros(const CopyPlan *plan, guint64 start, guint64 bytes, GError **error)
{
    return make_zeros_at(plan, plan->target_off + start, bytes, error);
}

static UnitKind
written_kind(const Units *units, const CopyPlan *plan, guint64 target_off, guint64 at, gsize len)
{
    if (units->packer && units->packed_bytes[at / units->unit_bytes] > 0)
        return UNIT_PACKED;
    return kind_of(units, plan, target_off, at, len);
}

static gboolean
write_run(Units *units, const CopyPlan *plan, UnitKind kind, guint64 at, guint64 len, guint64 target_off,
          GError **error)
{
    guint64 off = target_off + at;

    switch (kind) {
    case UNIT_SKIP: return TRUE;
    case UNIT_ZERO: return make_zeros_at(plan, off, len, error);
    case UNIT_DATA: return kho_image_write(plan->target, off, units->data + at, len, error);
    case UNIT_PACKED:
        return image_write_packed(plan->target, off, units->packed + at,
                                  units->packed_bytes[at / units->unit_bytes], error);
    }
    return TRUE;
}

/* Adjoining units of one kind are written at once, but for packed ones. */
gboolean
units_write(Units *units, const CopyPlan *plan, guint64 start, guint64 bytes, GError **error)
{
    guint64 target_off = plan->target_off + start;

    for (guint64 at = 0, len; at < bytes; at += len) {
        len = to_unit_end(units, target_off, at, bytes);
        UnitKind kind = written_kind(units, plan, target_off, at, len);

        while (kind != UNIT_PACKED && at + len < bytes) {
            guint64 more = to_unit_end(units, target_off, at + len, bytes);

            if (written_kind(units, plan, target_off, at + len, more) != kind)
                break;
            len += more;
        }
        if (!write_run(units, plan, kind, at, len, target_off, error))
            return FALSE;
    }
    return TRUE;
}
