#include "image/cost.h"

#include "base/clone.h"
#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/room.h"
#include "image/prealloc.h"
#include "image/survey.h"
#include "luks/volume.h"
#include "raw/raw.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* A file system's block, and what it shares. */
#define BLOCK_BYTES 4096
/* What a file system takes for its own tables. */
#define OVERHEAD_SHIFT 8

/* Counts units that ranges touch, in ascending order; a unit counts once. */
typedef struct {
    guint64 unit, counted_to, bytes;
} Tally;

static void
count(Tally *tally, guint64 off, guint64 bytes)
{
    guint64 from = MAX(num_align_down(off, tally->unit), tally->counted_to);
    guint64 to = num_align_up(off + bytes, tally->unit);

    if (to > from) {
        tally->bytes += to - from;
        tally->counted_to = to;
    }
}

typedef enum { SHARES_UNKNOWN, SHARES, SHARES_NOT } Shares;

typedef struct {
    const CopyPlan *copy;
    const CostPlace *target;
    guint64 limit_bytes; /* what may be had, whatever else has to be used up for it */
    guint64 read_bytes, lacks_most,
        lacks_least;            /* lacks: of blocks that clusters in use have not for themselves */
    Tally moved, space, tables; /* in bytes of the target's disk */
    Shares shares;
    gboolean compares;  /* what is looked at is copied only where it differs */
    gboolean reads;     /* data is read, to leave out what is zeros */
    guint8 *data, *old; /* then */
} Look;

static void
look_clear(Look *look)
{
    g_free(look->data);
    g_free(look->old);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Look, look_clear)

/* --- one piece of data --- */

static void
count_taken(Look *look, guint64 off, guint64 bytes)
{
    count(&look->space, off, bytes);
    if (look->tables.unit)
        count(&look->tables, off, bytes);
}

/* What is written over where it stands takes blocks where the file has a hole there, or shares them. */
static void
count_blocks(Look *look, guint64 off, guint64 bytes)
{
    guint64 from = num_align_down(off, BLOCK_BYTES), to = num_align_up(off + bytes, BLOCK_BYTES), own = 0;
    gboolean is_known = room_own(look->target->fd, from, to - from, &own);

    look->lacks_most += to - from - own;
    if (is_known && room_own(look->target->fd, off, bytes, &own))
        look->lacks_least += bytes - own;
}

/* What of [off, off + bytes) of the target's disk takes blocks. */
static gboolean
count_new(Look *look, guint64 off, guint64 bytes, GError **error)
{
    KhoImage *image = look->target->image;
    gboolean knows_blocks = image && look->target->fd >= 0;
    gboolean has_none = !image || look->copy->what == COPY_LACKING || look->copy->what == COPY_DIFFERING;
    guint64 end = off + bytes, size = has_none ? 0 : kho_image_size_bytes(image);
    Run run;

    if (look->target->is_fixed && knows_blocks) {
        count_blocks(look, off, bytes);
        return TRUE;
    }
    for (; off < MIN(end, size); off += run.bytes) {
        if (!format_map(image->format, guest_off(off), MIN(end, size) - off, &run, error))
            return FALSE;
        if (!run.allocated || run.kind == RUN_COMPRESSED)
            count_taken(look, off, run.bytes);
        else if (knows_blocks)
            count_blocks(look, run.host.bytes, run.bytes);
    }
    if (off < end)
        count_taken(look, off, end - off);
    return TRUE;
}

static gboolean
count_data(Look *look, guint64 off, guint64 bytes, GError **error)
{
    guint64 to = off + look->copy->target_off - look->copy->source_off;

    count(&look->moved, to, bytes);
    return count_new(look, to, bytes, error);
}

static gboolean
read_old(Look *look, guint64 off, guint64 len, GError **error)
{
    KhoImage *against = look->copy->against;
    guint64 size = against ? kho_image_size_bytes(against) : 0, known = off < size ? MIN(len, size - off) : 0;

    memset(look->old + known, 0, len - known);
    return known == 0 || kho_image_read(against, off, look->old, known, error);
}

/* Reads one chunk of the source, and counts what of it will be written. */
static gboolean
look_inside(Look *look, guint64 off, guint64 len, GError **error)
{
    const CopyPlan *copy = look->copy;
    guint64 unit = look->target->cluster_bytes, shift = copy->target_off - copy->source_off;
    gboolean compares = copy->what == COPY_DIFFERING;

    if (!kho_image_read(copy->source, off, look->data, len, copy->unreadable ? NULL : error))
        return copy->unreadable != NULL; /* it will be zeros */
    if (compares && !read_old(look, off, len, error))
        return FALSE;
    for (guint64 at = 0, n; at < len; at += n) {
        n = MIN(unit - (off + at + shift) % unit, len - at);
        gboolean same = compares && memcmp(look->data + at, look->old + at, n) == 0;
        gboolean zero = !look->target->writes_zeros && copy_is_zero(look->data + at, n);

        if (!same && !zero && !count_data(look, off + at, n, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
is_decided(const Look *look)
{
    return look->reads && look->space.bytes + look->lacks_least > look->limit_bytes;
}

/* Data at @off of the source's disk that is to be written; perhaps zeros. */
static gboolean
look_at_data(Look *look, guint64 off, guint64 bytes, GError **error)
{
    guint64 chunk = MAX(COPY_CHUNK_BYTES, look->target->cluster_bytes), end = off + bytes;

    look->read_bytes += bytes;
    if (!look->reads || look->copy->keep_zeros)
        return count_data(look, off, bytes, error);
    if (!look->data) {
        look->data = g_malloc(chunk);
        look->old = g_malloc(chunk);
    }
    for (guint64 len; off < end && !is_decided(look) && !kho_job_is_cancelled(look->copy->job); off += len) {
        len = MIN(chunk - off % chunk, end - off);
        if (!look_inside(look, off, len, error))
            return FALSE;
    }
    return TRUE;
}

/* --- sharing --- */

/* Tries it with the first block of @entry and a file that never has a name. Where none can be made the copy
 * tells: it is not refused. */
static Shares
try_sharing(const CostPlace *target, int source_fd, guint64 host_off)
{
    g_autofree char *real = entry_follow(target->path, NULL);
    g_autofree char *folder = g_path_get_dirname(real ? real : target->path);
    fd_auto int dir = fd_open(folder, O_PATH | O_DIRECTORY, 0, NULL);
    fd_auto int file = dir < 0 ? -1 : entry_make_nameless(dir, 0600, target->path, NULL);

    if (file < 0)
        return SHARES;
    return clone_share(source_fd, host_off, file, 0, BLOCK_BYTES, NULL) == CLONE_DONE ? SHARES : SHARES_NOT;
}

static gboolean
is_shared(Look *look, const KhoMapEntry *entry)
{
    const CopyPlan *copy = look->copy;
    const CostPlace *target = look->target;

    if (target->maps_only || target->may_be_less || target->encrypts || target->fd < 0
        || look->shares == SHARES_NOT || look->compares || entry->kind != KHO_MAP_DATA || !entry->has_offset
        || entry->host_offset_bytes % BLOCK_BYTES != 0 || entry->length_bytes < BLOCK_BYTES
        || target->cluster_bytes % BLOCK_BYTES != 0)
        return FALSE;
    int fd = blk_fd(image_owner(copy->source, entry)->format->data);
    if (fd < 0 || (target->image && blk_fd(target->image->format->data) < 0))
        return FALSE;
    if (look->shares == SHARES_UNKNOWN)
        look->shares = try_sharing(target, fd, entry->host_offset_bytes);
    return look->shares == SHARES;
}

/* The parts of clusters at both ends are copied. */
static gboolean
look_at_shared(Look *look, guint64 off, guint64 bytes, GError **error)
{
    guint64 unit = look->target->cluster_bytes, shift = look->copy->target_off - look->copy->source_off;
    guint64 first = num_align_up(off + shift, unit) - shift, end = off + bytes;
    guint64 last = num_align_down(end + shift, unit) - shift;

    if (first >= last)
        return look_at_data(look, off, bytes, error);
    if (look->tables.unit)
        count(&look->tables, first + shift, last - first);
    return (first == off || look_at_data(look, off, first - off, error))
           && (last == end || look_at_data(look, last, end - last, error));
}

/* --- all of a copy --- */

/* Data of a stretch, by what the source's maps say. */
static gboolean
look_at_maps(Look *look, guint64 off, guint64 bytes, GError **error)
{
    const CopyPlan *copy = look->copy;
    guint64 end = MIN(off + bytes, kho_image_size_bytes(copy->source));
    gboolean writes_zeros =
        look->target->writes_zeros || (copy->what == COPY_ALL && copy->keep_zeros && !copy->target_is_zero);
    KhoMapEntry e;

    for (; off < end && !is_decided(look) && !kho_job_is_cancelled(copy->job); off += e.length_bytes) {
        if (!survey_run(copy, off - copy->source_off, MIN(end - off, SURVEY_MAX_BYTES), &e, error))
            return FALSE;
        if (e.reads_zero ? writes_zeros && !count_data(look, off, e.length_bytes, error)
                         : !(is_shared(look, &e) ? look_at_shared(look, off, e.length_bytes, error)
                                                 : look_at_data(look, off, e.length_bytes, error)))
            return FALSE;
    }
    return TRUE;
}

static gboolean
look_at_stretch(Look *look, guint64 off, const Stretch *s, GError **error)
{
    gboolean has_data = s->kind == STRETCH_DATA || s->kind == STRETCH_COMPARE;

    look->compares = s->kind == STRETCH_COMPARE;
    if (has_data && !look->target->maps_only)
        return look_at_maps(look, off, s->bytes, error);
    if (has_data || (s->kind == STRETCH_ZERO && look->target->writes_zeros))
        return count_data(look, off, s->bytes, error);
    return TRUE;
}

static gboolean
look_at_copy(Look *look, const CopyPlan *copy, GError **error)
{
    guint64 end = copy->source_off + copy->bytes;
    Stretch s;

    look->copy = copy;
    for (guint64 off = copy->source_off; off < end && !is_decided(look) && !kho_job_is_cancelled(copy->job);
         off += s.bytes) {
        s = (Stretch){ .start = off, .bytes = end - off, .kind = STRETCH_DATA };
        if ((copy->what != COPY_ALL
             && !survey_stretch(copy, off - copy->source_off, MIN(end - off, SURVEY_MAX_BYTES), &s, error))
            || !look_at_stretch(look, off, &s, error))
            return FALSE;
    }
    return !kho_job_is_cancelled(copy->job)
           || fail(error, KHO_ERROR_CANCELLED, "cancelled: nothing was changed");
}

/* New tables of the disk: in an image that stands, those may be there already. */
static guint64
table_bytes(const Look *look)
{
    return look->tables.unit ? look->tables.bytes / look->tables.unit * look->target->cluster_bytes : 0;
}

static guint64
with_tables(const Look *look)
{
    guint64 cluster = look->target->table_span_bytes ? look->target->cluster_bytes : 1;
    guint64 data = look->space.bytes, tables = table_bytes(look);

    if (data + tables == 0)
        return 0;
    return prealloc_space_bytes(KHO_PREALLOC_FALLOC, data, (guint32) cluster) + tables
           + (data >> OVERHEAD_SHIFT);
}

/* Of @most, what will be wanted. A new image's tables are at least a header, a refcount table and block, and
 * an L1 table; one that stands may well have the room that is lacking. */
static guint64
surely(const Look *look, guint64 most)
{
    guint64 slack = PREALLOC_TABLE_CLUSTERS * look->target->cluster_bytes;
    guint64 least = look->target->image ? MIB : 4 * look->target->cluster_bytes;
    guint64 spared = look->tables.unit && slack > least ? slack - least : 0;

    if (look->target->image)
        spared += table_bytes(look);
    return most - MIN(spared, most);
}

/* With what the file system takes for it. */
static guint64
reserved_bytes(const CostPlace *target)
{
    return target->reserved_bytes + (target->reserved_bytes >> OVERHEAD_SHIFT);
}

/* What is free, and what the target's own file has and does not use. */
static gboolean
find_limit(const CostPlace *target, guint64 free_bytes, guint64 *limit, GError **error)
{
    guint64 room = 0;

    if (target->fd < 0) {
        *limit = free_bytes;
        return TRUE;
    }
    if (target->image && !target->is_fixed && !format_room(target->image->format, &room, error))
        return FALSE;
    *limit = free_bytes + room + room_reserve(target->fd);
    return TRUE;
}

/* @limit: NULL where the data is not read. */
static gboolean
look_at_all(const CopyPlan *copies, guint n, const guint64 *limit, const CostPlace *target,
            KhoImagePlan *plan, GError **error)
{
    gboolean reads = limit != NULL;
    g_auto(Look) look = {
        .target = target,
        .limit_bytes = reads ? *limit : 0,
        .moved = { .unit = target->cluster_bytes },
        .space = { .unit = target->cluster_bytes },
        .tables = { .unit = target->table_span_bytes },
        .reads = reads,
    };

    for (guint i = 0; i < n; i++)
        if (!look_at_copy(&look, &copies[i], error))
            return FALSE;
    if (is_decided(&look)) { /* what it would take in all stands from the first look */
        plan->fit = KHO_PLAN_TOO_LARGE;
        return TRUE;
    }
    plan->read_bytes = look.read_bytes;
    plan->write_bytes = look.moved.bytes;
    guint64 copied = target->reserves_data ? 0 : with_tables(&look);
    plan->space_bytes = reserved_bytes(target) + copied + look.lacks_most;
    plan->fit = plan->space_bytes <= plan->free_bytes ? KHO_PLAN_FITS : KHO_PLAN_MAY_FIT;
    if (reads && target->least_bytes + surely(&look, copied) + look.lacks_least > *limit)
        plan->fit = KHO_PLAN_TOO_LARGE;
    return TRUE;
}

static gboolean
refuse(const CostPlace *target, const KhoImagePlan *plan, GError **error)
{
    g_autofree char *wanted = num_format_size(plan->space_bytes), *there = num_format_size(plan->free_bytes);

    return plan->fit != KHO_PLAN_TOO_LARGE
           || fail(error, KHO_ERROR_NO_SPACE, "%s needs %s, and its file system has %s free", target->path,
                   wanted, there);
}

static gboolean
find_free(const CostPlace *target, KhoImagePlan *plan, GError **error)
{
    plan->free_bytes = G_MAXUINT64;
    return target->fd < 0 || entry_free_space(target->fd, &plan->free_bytes, target->path, error);
}

/* Were it all data that is new: then there is no need to look. */
static gboolean
fits_anyway(const CopyPlan *copies, guint n, const CostPlace *target, guint64 free_bytes)
{
    Look all = { .target = target, .tables = { .unit = target->table_span_bytes } };

    for (guint i = 0; i < n; i++) {
        all.space.bytes += num_align_up(copies[i].bytes, target->cluster_bytes) + target->cluster_bytes;
        if (all.tables.unit)
            all.tables.bytes += num_align_up(copies[i].bytes, all.tables.unit) + all.tables.unit;
    }
    return reserved_bytes(target) <= free_bytes && with_tables(&all) <= free_bytes - reserved_bytes(target);
}

static gboolean
look_and_refuse(const CopyPlan *copies, guint n, const CostPlace *target, KhoImagePlan *plan, GError **error)
{
    guint64 limit;

    if (!look_at_all(copies, n, NULL, target, plan, error))
        return FALSE;
    if (plan->fit == KHO_PLAN_MAY_FIT) {
        if (!find_limit(target, plan->free_bytes, &limit, error))
            return FALSE;
        if (target->least_bytes > limit)
            plan->fit = KHO_PLAN_TOO_LARGE;
        else if (!target->may_be_less && !target->maps_only
                 && !look_at_all(copies, n, &limit, target, plan, error))
            return FALSE;
    }
    return refuse(target, plan, error);
}

gboolean
cost_copies(const CopyPlan *copies, guint n_copies, const CostPlace *target, KhoImagePlan *wanted,
            GError **error)
{
    KhoImagePlan own = { 0 }, *plan = wanted ? wanted : &own;

    return find_free(target, plan, error)
           && ((!wanted && fits_anyway(copies, n_copies, target, plan->free_bytes))
               || look_and_refuse(copies, n_copies, target, plan, error));
}

gboolean
cost_add(const CopyPlan *copy, const CostPlace *target, KhoImagePlan *plan, GError **error)
{
    KhoImagePlan one = { .free_bytes = G_MAXUINT64 };

    if (!find_free(target, plan, error) || !look_at_all(copy, 1, NULL, target, &one, error))
        return FALSE;
    plan->read_bytes += one.read_bytes;
    plan->write_bytes += one.write_bytes;
    plan->space_bytes += one.space_bytes;
    plan->fit = plan->space_bytes <= plan->free_bytes ? KHO_PLAN_FITS : KHO_PLAN_MAY_FIT;
    return TRUE;
}

gboolean
cost_reserved(const CostPlace *target, KhoImagePlan *wanted, GError **error)
{
    KhoImagePlan own = { 0 }, *plan = wanted ? wanted : &own;

    guint64 limit;

    if (!find_free(target, plan, error))
        return FALSE;
    plan->space_bytes += reserved_bytes(target);
    plan->fit = plan->space_bytes > plan->free_bytes ? KHO_PLAN_MAY_FIT : KHO_PLAN_FITS;
    if (target->least_bytes > plan->free_bytes) {
        if (!find_limit(target, plan->free_bytes, &limit, error))
            return FALSE;
        if (target->least_bytes > limit)
            plan->fit = KHO_PLAN_TOO_LARGE;
    }
    return refuse(target, plan, error);
}

gboolean
cost_change(KhoImage *image, const FormatChange *change, KhoImagePlan *wanted, FormatCost *found,
            GError **error)
{
    CostPlace where = { .path = image->path,
                        .fd = S_ISREG(image->identity.st_mode) ? blk_fd(image->format->file) : -1 };
    KhoImagePlan own = { 0 }, *plan = wanted ? wanted : &own;
    FormatChange asked = *change;
    FormatCost cost = { 0 };

    if (!find_free(&where, plan, error))
        return FALSE;
    asked.free_bytes = plan->free_bytes;
    if (where.fd >= 0)
        asked.free_bytes += room_reserve(where.fd);
    asked.in_full = wanted != NULL;
    if (!format_cost(image->format, &asked, &cost, error))
        return FALSE;
    if (found)
        *found = cost;
    plan->read_bytes += cost.read_bytes;
    plan->write_bytes += cost.write_bytes;
    plan->space_bytes += cost.most_bytes;
    plan->freed_bytes += cost.freed_bytes;
    plan->fit = cost.least_bytes > asked.free_bytes    ? KHO_PLAN_TOO_LARGE
                : plan->space_bytes > plan->free_bytes ? KHO_PLAN_MAY_FIT
                                                       : KHO_PLAN_FITS;
    return refuse(&where, plan, error);
}

guint64
cost_table_span(guint64 cluster_bytes, gboolean extended_l2)
{
    return cluster_bytes == 1 ? 0 : cluster_bytes / (extended_l2 ? 16 : 8) * cluster_bytes;
}

gboolean
cost_place_of(KhoImage *image, CostPlace *target, GError **error)
{
    int fd = image->has_data_file ? image->data_fd : blk_fd(image->format->file);
    mode_t mode = image->has_data_file ? image->data_identity.st_mode : image->identity.st_mode;
    guint64 cluster = image->cluster_bytes;
    FormatInfo info;

    if (!format_info(image->format, &info, error))
        return FALSE;
    *target = (CostPlace){
        .path = image->has_data_file && image->data_path ? image->data_path : image->path,
        .fd = S_ISREG(mode) ? fd : -1,
        .image = image,
        .cluster_bytes = cluster == 1 ? BLOCK_BYTES : cluster,
        .table_span_bytes = cost_table_span(cluster, image->subcluster_bytes < cluster),
        .is_fixed = image->format->ops == &raw_format || image->has_data_file,
        .encrypts = image->format->encrypted,
        .writes_zeros = image->format->ops == &luks_volume_format || (info.version == 2 && info.backing_file),
    };
    format_info_clear(&info);
    return TRUE;
}

void
cost_lost(KhoImagePlan *plan, const char *format, ...)
{
    va_list args;

    if (!plan)
        return;
    if (!plan->lost)
        plan->lost = g_ptr_array_new_with_free_func(g_free);
    va_start(args, format);
    g_ptr_array_add(plan->lost, g_strdup_vprintf(format, args));
    va_end(args);
}

void
kho_image_plan_clear(KhoImagePlan *plan)
{
    g_clear_pointer(&plan->lost, g_ptr_array_unref);
}
