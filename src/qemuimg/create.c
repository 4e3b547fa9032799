/* qemu-img create. */
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/create_options.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <string.h>

typedef struct {
    const char *format, *backing_file, *backing_format;
    char *options;
    gboolean unchecked, quiet;
} CreateArgs;

static const QimgOption create_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(CreateArgs, format) },
    { QIMG_TEXT, NULL, 'b', offsetof(CreateArgs, backing_file) },
    { QIMG_TEXT, NULL, 'F', offsetof(CreateArgs, backing_format) },
    { QIMG_OPTIONS, NULL, 'o', offsetof(CreateArgs, options) },
    { QIMG_FLAG, NULL, 'u', offsetof(CreateArgs, unchecked) },
    { QIMG_FLAG, NULL, 'q', offsetof(CreateArgs, quiet) },
    { QIMG_OBJECT, "object", 0 },
    { 0 },
};

#define SIZE_NONE G_MAXUINT64

/* What -b, -F and the size say, beside the -o lists. */
static gboolean
add_arguments(const CreateArgs *a, const char *path, const char *format, guint64 size, QimgOptions *options)
{
    if (size != SIZE_NONE && qimg_options_given(options, "size")) {
        qimg_error("%s: The image size must be specified only once", path);
        return FALSE;
    }
    if (size != SIZE_NONE) {
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, size);
        qimg_options_set(options, "size", text);
    }
    if (a->backing_file && !qimg_options_set(options, "backing_file", a->backing_file)) {
        qimg_error("%s: Backing file not supported for file format '%s'", path, format);
        return FALSE;
    }
    if (a->backing_format && !qimg_options_set(options, "backing_fmt", a->backing_format)) {
        qimg_error("%s: Backing file format not supported for file format '%s'", path, format);
        return FALSE;
    }
    return TRUE;
}

/* Sees that the backing file can be opened, with all that it lies on, and takes the size of it where none was
 * given. */
static gboolean
look_at_backing(const char *path, const char *backing, QimgOptions *options)
{
    const char *format = qimg_options_given(options, "backing_fmt");
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *where = strchr(path, '/') && !g_path_is_absolute(backing)
                                 ? g_build_filename(folder, backing, NULL)
                                 : g_strdup(backing);
    g_autoptr(GError) error = NULL;

    if (format && !qimg_format_exists(format)) {
        qimg_error("%s: Unknown driver '%s'\nCould not open backing image.", path, format);
        return FALSE;
    }
    g_autoptr(KhoImage) image =
        kho_image_open(where, format, KHO_IMAGE_IDLE_LOCK, &kho_image_gate_open, &error);
    if (!image) {
        g_autofree char *fault = qimg_open_fault(where, format, KHO_IMAGE_IDLE_LOCK, error);
        qimg_error("%s: %s\nCould not open backing image.", path, fault);
        return FALSE;
    }
    if (!format) {
        qimg_error_open("%s: Backing file specified without backing format\nDetected format of %s.", path,
                        kho_image_format(image));
        return FALSE;
    }
    if (!qimg_options_given(options, "size")) {
        g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, kho_image_size_bytes(image));
        qimg_options_set(options, "size", size);
    }
    return TRUE;
}

static gboolean
check_backing(const char *path, gboolean unchecked, QimgOptions *options)
{
    const char *backing = qimg_options_given(options, "backing_file");

    if (!backing)
        return TRUE;
    if (!*backing) {
        qimg_error("%s: Expected backing file name, got empty string", path);
        return FALSE;
    }
    if (g_str_equal(path, backing)) {
        qimg_error("%s: Error: Trying to create an image with the same filename as the backing file", path);
        return FALSE;
    }
    if (unchecked && !qimg_options_given(options, "backing_fmt")) {
        qimg_error("%s: Backing file specified without backing format", path);
        return FALSE;
    }
    return unchecked || look_at_backing(path, backing, options);
}

static int
make(const CreateArgs *a, const char *path, const char *format, QimgOptions *options)
{
    KhoImageCreate create = { .format = g_str_equal(format, "file") ? "raw" : format,
                              .overwrite = TRUE,
                              .overwrite_data = TRUE,
                              .backing_unchecked = a->unchecked,
                              .exact_size = TRUE };
    g_autoptr(GError) error = NULL;

    if (!qimg_options_given(options, "size")) {
        qimg_error("%s: Image creation needs a size parameter", path);
        return 1;
    }
    if (!a->quiet) {
        qimg_print("Formatting '%s', fmt=%s", path, format);
        qimg_options_print(options);
        qimg_print("\n");
    }
    create.size_bytes = qimg_options_number(options, "size");
    if (!qimg_create_options_apply(options, path, &create)
        || !qimg_create_options_check_folder(&create, path, path))
        return 1;
    if (kho_image_create(path, &create, &kho_image_gate_open, qimg_job(FALSE), &error))
        return 0;
    g_autofree char *fault = qimg_create_fault(path, &create, error);
    qimg_error("%s: %s", path, fault);
    return 1;
}

static int
run_create(const void *p, char *const *names)
{
    const CreateArgs *a = p;
    const char *path = names[0], *format = a->format ? a->format : "raw";
    g_auto(QimgOptions) options = { 0 };
    guint64 size = SIZE_NONE;

    if (qimg_option_list_wants_help(a->options))
        return qimg_create_options_help(format, path) ? 0 : 1;
    if (!path) {
        qimg_usage_error("Expecting image file name");
        return 1;
    }
    if (names[1] && !qimg_size_read(names[1], "image size", 0, NUM_OFFSET_MAX, &size))
        return 1;
    if (names[1] && names[2]) {
        qimg_usage_error("Unexpected argument: %s", names[2]);
        return 1;
    }
    if (!qimg_create_options_init(&options, format, TRUE, path)
        || !qimg_options_read(&options, a->options, path) || !add_arguments(a, path, format, size, &options)
        || !check_backing(path, a->unchecked, &options))
        return 1;
    return make(a, path, format, &options);
}

const QimgVerb qimg_verb_create = {
    .name = "create",
    .synopsis = "[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] "
                "filename [size]",
    .options = create_options,
    .args_bytes = sizeof(CreateArgs),
    .run = run_create,
};
