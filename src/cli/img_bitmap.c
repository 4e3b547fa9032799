/* kho img bitmap. */
#include "cli/img_options.h"
#include "cli/output.h"

#include "base/error.h"
#include "qemuimg/image_info.h"

#include <jansson.h>
#include <kho/image_bitmap.h>

typedef struct {
    const char *path, *name, *format, *source_path, *source_format, *output;
    char **merge;
    guint64 granularity_bytes;
    gboolean add, remove, clear, enable, disable, share;
} BitmapArgs;

static const CliArg bitmap_args[] = {
    { CLI_STR, "FILE", offsetof(BitmapArgs, path), NULL, "image to change, or to look at",
      .object = CLI_FILE },
    { CLI_STR, "BITMAP", offsetof(BitmapArgs, name), CLI_OPTIONAL,
      "name of the bitmap; without it, all are listed" },
    { CLI_FLAG, "--add", offsetof(BitmapArgs, add), "no", "add it, enabled unless --disable says otherwise" },
    { CLI_FLAG, "--remove", offsetof(BitmapArgs, remove), "no", "remove it" },
    { CLI_FLAG, "--clear", offsetof(BitmapArgs, clear), "no", "mark everything as not written" },
    { CLI_FLAG, "--enable", offsetof(BitmapArgs, enable), "no", "from now on mark what is written" },
    { CLI_FLAG, "--disable", offsetof(BitmapArgs, disable), "no", "mark nothing any more" },
    { CLI_STRV, "--merge", offsetof(BitmapArgs, merge), CLI_OPTIONAL,
      "mark what this other bitmap has, too; may be given several times" },
    { CLI_SIZE, "--granularity", offsetof(BitmapArgs, granularity_bytes), CLI_OPTIONAL,
      "with --add: how many bytes a bit stands for, a power of two from 512 to 2G; the cluster's size, "
      "between 4k and 64k",
      'g' },
    { CLI_STR, "--source-file", offsetof(BitmapArgs, source_path), CLI_OPTIONAL,
      "with --merge: the image that has the other bitmap", 'b', .object = CLI_FILE },
    { CLI_CHOICE, "--source-format", offsetof(BitmapArgs, source_format), CLI_OPTIONAL,
      "its format; otherwise it is probed", 'F', .choices = "qcow2|raw" },
    { CLI_CHOICE, "--format", offsetof(BitmapArgs, format), CLI_OPTIONAL,
      "the image's; otherwise it is probed", 'f', .choices = "qcow2|raw" },
    IMG_OUTPUT_ARG(BitmapArgs),
    { CLI_FLAG, "--force-share", offsetof(BitmapArgs, share), "no",
      "as qemu-img; a list never needs the lock", 'U' },
    { 0 },
};

static void
append(GArray *steps, KhoBitmapAction action, const char *source)
{
    const KhoBitmapStep step = { action, source };

    g_array_append_val(steps, step);
}

/* In an order that makes sense, whatever the order they were given in. */
static GArray *
steps_of(const BitmapArgs *a)
{
    GArray *steps = g_array_new(FALSE, FALSE, sizeof(KhoBitmapStep));
    const struct {
        gboolean wanted;
        KhoBitmapAction action;
    } before[] = { { a->add, KHO_BITMAP_ADD }, { a->clear, KHO_BITMAP_CLEAR } }, after[] = {
        { a->enable, KHO_BITMAP_ENABLE }, { a->disable, KHO_BITMAP_DISABLE }, { a->remove, KHO_BITMAP_REMOVE }
    };

    for (gsize i = 0; i < G_N_ELEMENTS(before); i++)
        if (before[i].wanted)
            append(steps, before[i].action, NULL);
    for (char **source = a->merge; source && *source; source++)
        append(steps, KHO_BITMAP_MERGE, *source);
    for (gsize i = 0; i < G_N_ELEMENTS(after); i++)
        if (after[i].wanted)
            append(steps, after[i].action, NULL);
    return steps;
}

static gboolean
check_args(const BitmapArgs *a, const GArray *steps, GError **error)
{
    gboolean merges = a->merge && *a->merge;

    if (!a->name)
        return fail(error, KHO_ERROR_INVALID, "which bitmap of %s? kho img bitmap %s lists them", a->path,
                    a->path);
    if (steps->len == 0)
        return fail(error, KHO_ERROR_INVALID,
                    "one of --add, --remove, --clear, --enable, --disable and --merge is wanted");
    if (a->enable && a->disable)
        return fail(error, KHO_ERROR_INVALID, "a bitmap is enabled or disabled, not both");
    if (a->remove && steps->len > 1)
        return fail(error, KHO_ERROR_INVALID, "a bitmap that is removed cannot be changed as well");
    if (a->granularity_bytes != 0 && !a->add)
        return fail(error, KHO_ERROR_INVALID, "--granularity goes with --add: it cannot be changed later");
    if (a->source_path && !merges)
        return fail(error, KHO_ERROR_INVALID, "--source-file goes with --merge");
    if (a->source_format && !a->source_path)
        return fail(error, KHO_ERROR_INVALID, "--source-format goes with --source-file");
    return TRUE;
}

static gboolean
print_list(CliRun *cli, const BitmapArgs *a, GError **error)
{
    const KhoImageSource source = { .path = a->path, .format = a->format, .job = cli->job };
    KhoImageInfo info;

    if (!kho_image_info_source(&source, &info, error))
        return FALSE;
    if (img_wants_json(cli, a->output)) {
        out_json(qimg_bitmaps_json(info.bitmaps));
    } else if (info.bitmaps->len > 0) {
        g_autofree char *table = qimg_bitmaps_text(info.bitmaps);
        out_print("%s", table);
    }
    kho_image_info_clear(&info);
    return TRUE;
}

static gboolean
run_bitmap(CliRun *cli, const void *p, GError **error)
{
    const BitmapArgs *a = p;
    g_autoptr(GArray) steps = steps_of(a);

    if (!a->name && steps->len == 0)
        return print_list(cli, a, error);
    if (!check_args(a, steps, error) || !img_check_writable(cli, a->path, error))
        return FALSE;
    const KhoImageBitmapChange change = {
        .path = a->path,
        .format = a->format,
        .name = a->name,
        .steps = (const KhoBitmapStep *) (gconstpointer) steps->data,
        .n_steps = steps->len,
        .granularity_bytes = a->granularity_bytes,
        .source_path = a->source_path,
        .source_format = a->source_format,
    };
    if (!kho_image_bitmap(&change, &kho_image_gate_open, NULL, error))
        return FALSE;
    out_done(cli, "Bitmap '%s' of %s %s.", a->name, a->path,
             a->add      ? "added"
             : a->remove ? "removed"
                         : "changed");
    return TRUE;
}

const CliVerb verb_img_bitmap = {
    .name = "img-bitmap",
    .noun = "img",
    .summary = "persistent bitmaps inside a qcow2 image: list, add, remove, clear, enable, disable, merge",
    .description =
        "A bitmap tells which parts of the disk were written while it was enabled: what an incremental "
        "backup reads. Whatever of kho or QEMU writes to the image keeps it; after a crash while the disk "
        "was written it is inconsistent, and can only be removed. Nobody else may use the image meanwhile. "
        "Without a name the bitmaps are listed: those that are enabled are auto, inconsistent ones "
        "in-use.\n\n"
        "Several changes are made in this order: --add, --clear, --merge, --enable or --disable.",
    .examples = "kho img bitmap disk.qcow2\n"
                "kho img bitmap --add disk.qcow2 since-monday\n"
                "kho img bitmap --add --disable -g 4k disk.qcow2 copy\n"
                "kho img bitmap --merge since-monday disk.qcow2 copy\n"
                "kho img bitmap --merge since-monday -b old.qcow2 -F qcow2 disk.qcow2 copy\n"
                "kho img bitmap --remove disk.qcow2 since-monday",
    .args = bitmap_args,
    .args_bytes = sizeof(BitmapArgs),
    .json = TRUE,
    .run = run_bitmap,
};
