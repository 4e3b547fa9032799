/* qemu-img snapshot. */
#include "qemuimg/args.h"
#include "qemuimg/image_info.h"
#include "qemuimg/output.h"
#include "qemuimg/source.h"

#include <kho/image_change.h>

typedef struct {
    const char *format, *create, *apply, *delete;
    gboolean list, quiet, image_opts, share;
} SnapshotArgs;

static const QimgOption snapshot_options[] = {
    { QIMG_FLAG, NULL, 'l', offsetof(SnapshotArgs, list) },
    { QIMG_TEXT, NULL, 'a', offsetof(SnapshotArgs, apply) },
    { QIMG_TEXT, NULL, 'c', offsetof(SnapshotArgs, create) },
    { QIMG_TEXT, NULL, 'd', offsetof(SnapshotArgs, delete) },
    { QIMG_FLAG, NULL, 'q', offsetof(SnapshotArgs, quiet) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(SnapshotArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(SnapshotArgs, share) },
    { 0 },
};

static int
print_list(const QimgSource *source)
{
    g_autoptr(GError) error = NULL;
    KhoImageInfo info;

    if (!qimg_source_info(source, &info, &error)) {
        qimg_error("%s", qimg_reason(error, source->path));
        return 1;
    }
    g_autofree char *text = qimg_snapshots_text(info.snapshots);
    if (info.snapshots->len > 0)
        qimg_print("Snapshot list:\n%s", text);
    kho_image_info_clear(&info);
    return 0;
}

static int
create(const SnapshotArgs *a, const QimgSource *source, gboolean is_plain)
{
    /* QEMU's structure has room for so much, and takes the rest for said. */
    g_autofree char *name = g_strndup(a->create, KHO_IMAGE_SNAPSHOT_NAME_MAX);
    const KhoImageSnapshotNew new = { .name = name, .may_repeat = TRUE };
    g_autoptr(GError) error = NULL;

    if (is_plain) {
        qimg_error("Could not create snapshot '%s': -95 (Operation not supported)", a->create);
        return 1;
    }
    if (kho_image_snapshot_create(source->path, source->format, &new, &error))
        return 0;
    if (error->code == KHO_ERROR_UNSUPPORTED)
        qimg_error("Could not create snapshot '%s': -22 (Invalid argument)", a->create);
    else
        qimg_error("Could not create snapshot '%s': %s", a->create, qimg_reason(error, source->path));
    return 1;
}

static int
apply(const SnapshotArgs *a, const QimgSource *source, gboolean is_plain)
{
    const KhoImageSnapshotPick pick = { .name = a->apply, .choice = KHO_SNAPSHOT_ID_OR_NAME };
    g_autoptr(GError) error = NULL;

    if (!is_plain && kho_image_snapshot_apply(source->path, source->format, &pick, &error))
        return 0;
    g_autofree char *bitmap =
        !is_plain && error->code == KHO_ERROR_UNSUPPORTED ? qimg_find_bitmap(source, TRUE) : NULL;
    qimg_error("Could not apply snapshot '%s': %s", a->apply,
               bitmap                               ? "Device has active dirty bitmaps"
               : is_plain                           ? "Block driver does not support snapshots"
               : error->code == KHO_ERROR_NOT_FOUND ? "Failed to load snapshot: No such file or directory"
                                                    : qimg_reason(error, source->path));
    return 1;
}

static int delete (const SnapshotArgs *a, const QimgSource *source, gboolean is_plain)
{
    const KhoImageSnapshotPick pick = { .name = a->delete, .choice = KHO_SNAPSHOT_FIRST_NAME };
    g_autoptr(GError) error = NULL;

    if (!is_plain && kho_image_snapshot_delete(source->path, source->format, &pick, &error))
        return 0;
    qimg_error("Could not delete snapshot '%s': %s", a->delete,
               is_plain || error->code == KHO_ERROR_NOT_FOUND ? "snapshot not found"
                                                              : qimg_reason(error, source->path));
    return 1;
}

static int
run_snapshot(const void *p, char *const *names)
{
    const SnapshotArgs *a = p;
    guint wishes = (a->create != NULL) + (a->apply != NULL) + (a->delete != NULL);
    KhoImageFlags flags = (wishes > 0 ? KHO_IMAGE_WRITE : 0) | (a->share ? KHO_IMAGE_NO_LOCK : 0);
    g_auto(QimgSource) source = { 0 };

    if (wishes + a->list > 1) {
        qimg_usage_error("Cannot mix '-l', '-a', '-c', '-d'");
        return 1;
    }
    if (qimg_names_count(names) != 1) {
        qimg_usage_error("Expecting one image file name");
        return 1;
    }
    if (!qimg_source_read(names[0], NULL, a->image_opts, &source))
        return 1;
    if (a->share && wishes > 0) {
        qimg_error("Could not open '%s': force-share=on can only be used with read-only images", source.name);
        return 1;
    }
    KhoImage *image = qimg_source_open(&source, flags);
    if (!image)
        return 1;
    if (wishes > 0)
        qimg_warn_if_guessed(&source, image);
    const char *format = kho_image_format(image);
    gboolean is_plain = g_str_equal(format, "raw") || g_str_equal(format, "luks");
    kho_image_free(image); /* a change opens it anew, with its lock */
    if (a->list)
        return is_plain ? 0 : print_list(&source);
    if (wishes == 0)
        return 0;
    return a->create  ? create(a, &source, is_plain)
           : a->apply ? apply(a, &source, is_plain)
                      : delete (a, &source, is_plain);
}

const QimgVerb qimg_verb_snapshot = {
    .name = "snapshot",
    .synopsis =
        "[--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] "
        "filename",
    .options = snapshot_options,
    .args_bytes = sizeof(SnapshotArgs),
    .run = run_snapshot,
};
