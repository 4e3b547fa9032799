/* Snapshots inside an image: which one is meant. How they are made, kept and dropped is the format's
 * business. */
#include "base/error.h"
#include "base/num.h"
#include "image/cost.h"

#include <kho/image_change.h>
#include <string.h>

static KhoImage *
open_for_change(const char *path, const char *format, const KhoImagePlan *plan, GError **error)
{
    const KhoImageFlags flags = KHO_IMAGE_WRITE | KHO_IMAGE_NO_BACKING | KHO_IMAGE_NO_DATA;
    g_autoptr(KhoImage) image = kho_image_open(path, format, flags, NULL, error);

    if (image)
        image_only_looks(image, plan);
    return image && image_takes_writes(image, error) ? g_steal_pointer(&image) : NULL;
}

/* How many are called so, and the first of them. */
static guint
count_named(GPtrArray *snapshots, const char *name, guint *first)
{
    guint n = 0;

    for (guint i = snapshots->len; i-- > 0;) {
        const FormatSnapshot *s = snapshots->pdata[i];
        if (g_str_equal(s->name, name)) {
            *first = i;
            n++;
        }
    }
    return n;
}

static gboolean
has_id(GPtrArray *snapshots, const char *id, guint *index)
{
    for (guint i = 0; i < snapshots->len; i++)
        if (g_str_equal(((FormatSnapshot *) snapshots->pdata[i])->id_text, id)) {
            *index = i;
            return TRUE;
        }
    return FALSE;
}

static gboolean
choose(KhoImage *image, GPtrArray *snapshots, const char *name, KhoSnapshotChoice choice, guint *index,
       GError **error)
{
    guint named = count_named(snapshots, name, index);
    gboolean found = named > 0;

    if (choice == KHO_SNAPSHOT_ID_OR_NAME)
        found = has_id(snapshots, name, index) || found;
    else if (choice == KHO_SNAPSHOT_ONE && named > 1)
        return fail(error, KHO_ERROR_INVALID, "%s has %u snapshots named '%s': say which by its id",
                    image->path, named, name);
    else if (choice == KHO_SNAPSHOT_ONE && named == 0)
        found = has_id(snapshots, name, index);
    if (found)
        return TRUE;
    g_autofree char *shown = error_one_line(name);
    return fail(error, KHO_ERROR_NOT_FOUND, "%s has no snapshot '%s'", image->path, shown);
}

static gboolean
check_name(KhoImage *image, const KhoImageSnapshotNew *snapshot, GError **error)
{
    FormatInfo info;
    guint first;

    if (strlen(snapshot->name) > KHO_IMAGE_SNAPSHOT_NAME_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "a snapshot's name of %" G_GSIZE_FORMAT " bytes: at most %u fit", strlen(snapshot->name),
                    KHO_IMAGE_SNAPSHOT_NAME_MAX);
    if (snapshot->may_repeat)
        return TRUE;
    if (!format_info(image->format, &info, error))
        return FALSE;
    guint named = info.snapshots ? count_named(info.snapshots, snapshot->name, &first) : 0;
    format_info_clear(&info);
    g_autofree char *shown = error_one_line(snapshot->name);
    return named == 0
           || fail(error, KHO_ERROR_EXISTS, "%s has a snapshot named '%s' already", image->path, shown);
}

gboolean
kho_image_snapshot_create(const char *path, const char *format, const KhoImageSnapshotNew *snapshot,
                          GError **error)
{
    g_autoptr(KhoImage) image = open_for_change(path, format, snapshot->plan, error);
    gint64 now_us = g_get_real_time();
    const FormatSnapshotNew new = { .name = snapshot->name,
                                    .icount = snapshot->icount,
                                    .date_s = (guint32) (now_us / G_TIME_SPAN_SECOND),
                                    .date_ns = (guint32) (now_us % G_TIME_SPAN_SECOND) * 1000 };
    const FormatChange asked = { .kind = FORMAT_SNAPSHOT_CREATE, .snapshot = &new };

    if (!image || !check_name(image, snapshot, error))
        return FALSE;
    gboolean done = cost_change(image, &asked, snapshot->plan, NULL, error)
                    && (snapshot->plan || format_snapshot_create(image->format, &new, error));
    return image_close_after(g_steal_pointer(&image), done, error);
}

/* What goes with a snapshot, or with the disk where that becomes an earlier one. */
static void
tell_loss(KhoImage *image, const FormatChange *change, const FormatSnapshot *s, const FormatCost *cost,
          KhoImagePlan *plan)
{
    g_autofree char *own = num_format_size(cost->own_bytes), *name = error_one_line(s->name);
    const char *at_least = cost->own_is_least ? "at least " : "";
    guint64 now = kho_image_size_bytes(image);

    if (change->kind == FORMAT_SNAPSHOT_DELETE) {
        cost_lost(plan, "the snapshot '%s', of which no other state of the disk has %s%s", name, at_least,
                  own);
        if (s->vm_state_bytes > 0)
            cost_lost(plan, "the %" G_GUINT64_FORMAT " bytes of VM state in it", s->vm_state_bytes);
        return;
    }
    cost_lost(plan, "the disk as it is now, of which no snapshot has %s%s", at_least, own);
    if (s->guest_bytes != now)
        cost_lost(plan, "its size of %" G_GUINT64_FORMAT " bytes: in '%s' it has %" G_GUINT64_FORMAT, now,
                  name, s->guest_bytes);
}

static gboolean
plan_change(KhoImage *image, const FormatChange *asked, const FormatSnapshot *s, KhoImagePlan *plan,
            GError **error)
{
    FormatCost cost = { 0 };
    gboolean fits = cost_change(image, asked, plan, &cost, error);

    if (plan)
        tell_loss(image, asked, s, &cost, plan);
    return fits;
}

static gboolean
change(const char *path, const char *format, const KhoImageSnapshotPick *pick, FormatChangeKind kind,
       GError **error)
{
    g_autoptr(KhoImage) image = open_for_change(path, format, pick->plan, error);
    FormatChange asked = { .kind = kind };
    FormatInfo info;

    if (!image || !format_info(image->format, &info, error))
        return FALSE;
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    GPtrArray *all = info.snapshots ? info.snapshots : none;
    gboolean done = choose(image, all, pick->name, pick->choice, &asked.index, error)
                    && plan_change(image, &asked, all->pdata[asked.index], pick->plan, error);
    format_info_clear(&info);
    if (done && !pick->plan)
        done = kind == FORMAT_SNAPSHOT_REVERT ? format_snapshot_revert(image->format, asked.index, error)
                                              : format_snapshot_delete(image->format, asked.index, error);
    return image_close_after(g_steal_pointer(&image), done, error);
}

gboolean
kho_image_snapshot_apply(const char *path, const char *format, const KhoImageSnapshotPick *pick,
                         GError **error)
{
    return change(path, format, pick, FORMAT_SNAPSHOT_REVERT, error);
}

gboolean
kho_image_snapshot_delete(const char *path, const char *format, const KhoImageSnapshotPick *pick,
                          GError **error)
{
    return change(path, format, pick, FORMAT_SNAPSHOT_DELETE, error);
}
