/* qemu-img amend. */
#include "base/num.h"
#include "qemuimg/amend_keys.h"
#include "qemuimg/args.h"
#include "qemuimg/object.h"
#include "qemuimg/option_list.h"
#include "qemuimg/output.h"
#include "qemuimg/source.h"

#include <kho/image_change.h>

#define SECTOR_BYTES 512

typedef struct {
    const char *format;
    char *options;
    gboolean force, progress, quiet, image_opts;
} AmendArgs;

static const QimgOption amend_options[] = {
    { QIMG_OPTIONS, NULL, 'o', offsetof(AmendArgs, options) },
    { QIMG_TEXT, NULL, 'f', offsetof(AmendArgs, format) },
    { QIMG_IGNORED, NULL, 't', 0, qimg_take_cache },
    { QIMG_FLAG, NULL, 'p', offsetof(AmendArgs, progress) },
    { QIMG_FLAG, NULL, 'q', offsetof(AmendArgs, quiet) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(AmendArgs, image_opts) },
    { QIMG_FLAG, "force", 0, offsetof(AmendArgs, force) },
    { 0 },
};

/* What may be amended, and then, without a word on it, what is for making an image alone. */
static const QimgOptRow qcow2_rows[] = {
    { "backing_file", QIMG_OPT_STRING, "File name of a base image" },
    { "backing_fmt", QIMG_OPT_STRING, "Image format of the base image" },
    { "compat", QIMG_OPT_STRING, "Compatibility level (v2 [0.10] or v3 [1.1])" },
    { "data_file", QIMG_OPT_STRING, "File name of an external data file" },
    { "data_file_raw", QIMG_OPT_BOOL, "The external data file must stay valid as a raw image" },
    { "encrypt.iter-time", QIMG_OPT_NUMBER, "Time to spend in PBKDF in milliseconds" },
    { "encrypt.keyslot", QIMG_OPT_NUMBER, "Select a single keyslot to modify explicitly" },
    { "encrypt.new-secret", QIMG_OPT_STRING,
      "New secret to set in the matching keyslots. Empty string to erase" },
    { "encrypt.old-secret", QIMG_OPT_STRING, "Select all keyslots that match this password" },
    { "encrypt.state", QIMG_OPT_STRING, "Select new state of affected keyslots (active/inactive)" },
    { "lazy_refcounts", QIMG_OPT_BOOL, "Postpone refcount updates" },
    { "refcount_bits", QIMG_OPT_NUMBER, "Width of a reference count entry in bits" },
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "cluster_size", QIMG_OPT_STRING, "" },
    { "compression_type", QIMG_OPT_STRING, "" },
    { "encrypt.cipher-alg", QIMG_OPT_STRING, "" },
    { "encrypt.cipher-mode", QIMG_OPT_STRING, "" },
    { "encrypt.format", QIMG_OPT_STRING, "" },
    { "encrypt.hash-alg", QIMG_OPT_STRING, "" },
    { "encrypt.ivgen-alg", QIMG_OPT_STRING, "" },
    { "encrypt.ivgen-hash-alg", QIMG_OPT_STRING, "" },
    { "encrypt.key-secret", QIMG_OPT_STRING, "" },
    { "encryption", QIMG_OPT_STRING, "" },
    { "extended_l2", QIMG_OPT_STRING, "" },
    { "preallocation", QIMG_OPT_STRING, "" },
};

static const QimgOptRow luks_rows[] = {
    { "iter-time", QIMG_OPT_NUMBER, "Time to spend in PBKDF in milliseconds" },
    { "keyslot", QIMG_OPT_NUMBER, "Select a single keyslot to modify explicitly" },
    { "new-secret", QIMG_OPT_STRING, "New secret to set in the matching keyslots. Empty string to erase" },
    { "old-secret", QIMG_OPT_STRING, "Select all keyslots that match this password" },
    { "state", QIMG_OPT_STRING, "Select new state of affected keyslots (active/inactive)" },
    { "cipher-alg", QIMG_OPT_STRING, "" },
    { "cipher-mode", QIMG_OPT_STRING, "" },
    { "hash-alg", QIMG_OPT_STRING, "" },
    { "ivgen-alg", QIMG_OPT_STRING, "" },
    { "ivgen-hash-alg", QIMG_OPT_STRING, "" },
    { "key-secret", QIMG_OPT_STRING, "" },
    { "size", QIMG_OPT_STRING, "" },
};

static const struct AmendFormat {
    const char *name;
    const QimgOptRow *rows;
    guint n_rows;
} formats[] = {
    { "qcow2", qcow2_rows, G_N_ELEMENTS(qcow2_rows) },
    { "luks", luks_rows, G_N_ELEMENTS(luks_rows) },
};

static const struct AmendFormat *
find_format(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++)
        if (g_str_equal(formats[i].name, name))
            return &formats[i];
    return NULL;
}

static guint
count_amendable(const struct AmendFormat *format)
{
    guint n = 0;

    while (n < format->n_rows && *format->rows[n].help)
        n++;
    return n;
}

static gboolean
refuse(const char *why)
{
    qimg_error("%s", why);
    return FALSE;
}

static gboolean
check_known(const struct AmendFormat *format, const QimgOptions *options)
{
    for (guint i = count_amendable(format); i < format->n_rows; i++)
        if (qimg_options_given(options, format->rows[i].name)) {
            qimg_error("Invalid parameter '%s'", format->rows[i].name);
            qimg_note("This option is only supported for image creation\n");
            return FALSE;
        }
    return TRUE;
}

static gboolean
read_compat(const char *text, guint *version)
{
    gboolean is_2 = text && (g_str_equal(text, "0.10") || g_str_equal(text, "v2"));

    if (text && !is_2 && !g_str_equal(text, "1.1") && !g_str_equal(text, "v3")) {
        qimg_error("Unknown compatibility level %s", text);
        return FALSE;
    }
    *version = !text ? 0 : is_2 ? 2 : 3;
    return TRUE;
}

/* In QEMU's words, what kho would refuse in its own. */
static gboolean
check_fit(const KhoImageInfo *info, const KhoImageAmend *amend)
{
    guint version = amend->qcow2_version ? amend->qcow2_version : info->qcow2_version;
    guint bits = amend->refcount_bits ? amend->refcount_bits : info->refcount_bits;

    if (g_strcmp0(amend->backing_file, info->backing_file) != 0
        || g_strcmp0(amend->backing_format, info->backing_format) != 0) {
        if (amend->backing_file || amend->backing_format) {
            qimg_error("Cannot amend the backing file");
            qimg_note("You can use 'qemu-img rebase' instead.\n");
            return FALSE;
        }
    }
    if (version == 2 && amend->lazy_refcounts > 0)
        return refuse(
            "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or "
            "greater)");
    if (version == 2 && bits != 16)
        return refuse(
            amend->refcount_bits
                ? "Refcount widths other than 16 bits require compatibility level 1.1 or above (use "
                  "compat=1.1 or greater)"
                : "compat=0.10 requires refcount_bits=16");
    if (amend->data_file && !info->has_data_file)
        return refuse("data-file can only be set for images that use an external data file");
    if (amend->size_bytes % SECTOR_BYTES != 0)
        return refuse("The new size must be a multiple of 512");
    return TRUE;
}

/* Texts in @amend belong to @options. */
static gboolean
read_wish(const QimgOptions *options, KhoImageAmend *amend)
{
    const char *lazy = qimg_options_given(options, "lazy_refcounts");
    guint64 bits = qimg_options_number(options, "refcount_bits");

    if (qimg_options_number(options, "data_file_raw"))
        return refuse("data-file-raw cannot be set on existing images");
    if (!read_compat(qimg_options_given(options, "compat"), &amend->qcow2_version))
        return FALSE;
    if (qimg_options_given(options, "refcount_bits") && (bits == 0 || bits > 64 || (bits & (bits - 1))))
        return refuse("Refcount width must be a power of two and may not exceed 64 bits");
    amend->refcount_bits = (guint) bits;
    amend->lazy_refcounts = !lazy ? 0 : qimg_options_number(options, "lazy_refcounts") ? 1 : -1;
    amend->size_bytes = qimg_options_number(options, "size");
    amend->may_shrink = TRUE;
    amend->backing_file = qimg_options_given(options, "backing_file");
    amend->backing_format = qimg_options_given(options, "backing_fmt");
    amend->data_file = qimg_options_given(options, "data_file");
    return TRUE;
}

/* Whether the layout is to change; with key slots, in what is known before. */
static gboolean
check_wish(const QimgSource *source, const KhoImageAmend *amend, gboolean has_keys)
{
    g_autoptr(GError) error = NULL;
    KhoImageInfo info;

    if (!qimg_source_info(source, &info, &error))
        return refuse(qimg_reason(error, source->path));
    const char *encryption = info.encryption ? info.encryption->format : NULL;
    gboolean fits = check_fit(&info, amend);
    if (fits && has_keys && !encryption)
        fits = refuse("Can't amend encryption options - encryption not present");
    else if (fits && has_keys && !g_str_equal(encryption, "luks"))
        fits = refuse("Only LUKS encryption options can be amended");
    kho_image_info_clear(&info);
    return fits;
}

/* Keys first: what they are refused for leaves the layout as it is. */
static gboolean
change_qcow2(const AmendArgs *a, const QimgSource *source, const QimgOptions *options, const KhoJob *job)
{
    KhoImageAmend amend = { .path = source->path, .format = source->format }, trial;
    gboolean has_keys = qimg_amend_has_keys(options, "encrypt.");
    g_autoptr(GError) error = NULL;

    if (!read_wish(options, &amend) || !check_wish(source, &amend, has_keys))
        return FALSE;
    if (amend.size_bytes > 0)
        amend.secrets = qimg_object_secrets();
    trial = amend;
    trial.only_check = TRUE;
    if (has_keys && !kho_image_amend(&trial, &kho_image_gate_open, NULL, &error))
        return refuse(qimg_reason(error, source->path));
    return (!has_keys || qimg_amend_keys(source, options, "encrypt.", a->force))
           && (kho_image_amend(&amend, &kho_image_gate_open, job, &error)
               || refuse(qimg_reason(error, source->path)));
}

/* What the image is, opened as it will be; NULL where it cannot be, or cannot be amended, which has been
 * said. */
static const struct AmendFormat *
look(const QimgSource *source)
{
    g_autoptr(KhoImage) image = qimg_source_open(source, KHO_IMAGE_WRITE);

    if (!image)
        return NULL;
    qimg_warn_if_guessed(source, image);
    const struct AmendFormat *format = find_format(kho_image_format(image));
    if (!format)
        qimg_error("Format driver '%s' does not support option amendment", kho_image_format(image));
    return format;
}

/* Opened, changed: under a lock each. */
static gboolean
amend_one(const AmendArgs *a, const QimgSource *source)
{
    const struct AmendFormat *format = look(source);
    g_auto(QimgOptions) options = { 0 };

    if (format)
        qimg_options_init(&options, format->rows, format->n_rows);
    if (!format || !qimg_options_read(&options, a->options, NULL) || !check_known(format, &options)) {
        if (a->progress)
            qimg_print("\n");
        return FALSE;
    }
    const KhoJob *job = qimg_job(a->progress);
    gboolean done = format->rows == luks_rows ? qimg_amend_keys(source, &options, "", a->force)
                                              : change_qcow2(a, source, &options, job);
    qimg_progress_end(TRUE); /* as QEMU has it, whatever came of it */
    return done;
}

/* Of the format that is named, or the image's own. */
static gboolean
print_help(const char *name, const QimgSource *source)
{
    const struct AmendFormat *format = name ? find_format(name) : look(source);

    if (name && !format && !qimg_format_exists(name))
        qimg_error("Unknown file format '%s'", name);
    else if (name && !format)
        qimg_error("Format driver '%s' does not support option amendment", name);
    if (!format)
        return FALSE;
    qimg_print("Amend options for '%s':\n", format->name);
    qimg_option_rows_print(format->rows, count_amendable(format));
    return TRUE;
}

static int
run_amend(const void *p, char *const *names)
{
    const AmendArgs *a = p;
    g_auto(QimgSource) source = { 0 };

    if (!a->options) {
        qimg_usage_error("Must specify options (-o)");
        return 1;
    }
    gboolean wants_help = qimg_option_list_wants_help(a->options);
    if (a->format && wants_help)
        return print_help(a->format, NULL) ? 0 : 1;
    if (qimg_names_count(names) != 1) {
        qimg_error("Expecting one image file name");
        return 1;
    }
    if (!qimg_source_read(names[0], a->format, a->image_opts, &source))
        return 1;
    return (wants_help ? print_help(NULL, &source) : amend_one(a, &source)) ? 0 : 1;
}

const QimgVerb qimg_verb_amend = {
    .name = "amend",
    .synopsis =
        "[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename",
    .options = amend_options,
    .args_bytes = sizeof(AmendArgs),
    .run = run_amend,
};
