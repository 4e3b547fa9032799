#include "qemuimg/create_options.h"

#include "base/num.h"
#include "qemuimg/foreign_options.h"
#include "qemuimg/object.h"
#include "qemuimg/output.h"
#include "qemuimg/source.h"

#include <string.h>

/* Of the format. */
#define EXTENDED_CLUSTER_BYTES_MIN 16384

/* In the order in which QEMU shows what it makes. The first RAW_ROWS of the file's own are raw's. */
static const QimgOptRow qcow2_rows[] = {
    { "encryption", QIMG_OPT_BOOL,
      "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)" },
    { "encrypt.format", QIMG_OPT_STRING, "Encrypt the image, format choices: 'aes', 'luks'" },
    { "encrypt.key-secret", QIMG_OPT_STRING, "ID of secret providing qcow AES key or LUKS passphrase" },
    { "encrypt.cipher-alg", QIMG_OPT_STRING, "Name of encryption cipher algorithm" },
    { "encrypt.cipher-mode", QIMG_OPT_STRING, "Name of encryption cipher mode" },
    { "encrypt.ivgen-alg", QIMG_OPT_STRING, "Name of IV generator algorithm" },
    { "encrypt.ivgen-hash-alg", QIMG_OPT_STRING, "Name of IV generator hash algorithm" },
    { "encrypt.hash-alg", QIMG_OPT_STRING, "Name of encryption hash algorithm" },
    { "encrypt.iter-time", QIMG_OPT_NUMBER, "Time to spend in PBKDF in milliseconds" },
    { "cluster_size", QIMG_OPT_SIZE, "qcow2 cluster size", "65536" },
    { "extended_l2", QIMG_OPT_BOOL, "Extended L2 tables", "off" },
    { "preallocation", QIMG_OPT_STRING, "Preallocation mode (allowed values: off, metadata, falloc, full)" },
    { "compression_type", QIMG_OPT_STRING, "Compression method used for image cluster compression", "zlib" },
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "compat", QIMG_OPT_STRING, "Compatibility level (v2 [0.10] or v3 [1.1])" },
    { "backing_file", QIMG_OPT_STRING, "File name of a base image" },
    { "backing_fmt", QIMG_OPT_STRING, "Image format of the base image" },
    { "data_file", QIMG_OPT_STRING, "File name of an external data file" },
    { "data_file_raw", QIMG_OPT_BOOL, "The external data file must stay valid as a raw image" },
    { "lazy_refcounts", QIMG_OPT_BOOL, "Postpone refcount updates", "off" },
    { "refcount_bits", QIMG_OPT_NUMBER, "Width of a reference count entry in bits", "16" },
};

static const QimgOptRow file_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "nocow", QIMG_OPT_BOOL, "Turn off copy-on-write (valid only on btrfs)" },
    { "preallocation", QIMG_OPT_STRING, "Preallocation mode (allowed values: off, falloc, full)" },
    { "extent_size_hint", QIMG_OPT_SIZE, "Extent size hint for the image file, 0 to disable" },
};
#define RAW_ROWS 1

static const QimgOptRow luks_rows[] = {
    { "size", QIMG_OPT_SIZE, "Virtual disk size" },
    { "key-secret", QIMG_OPT_STRING, "ID of the secret that provides the keyslot passphrase" },
    { "cipher-alg", QIMG_OPT_STRING, "Name of encryption cipher algorithm" },
    { "cipher-mode", QIMG_OPT_STRING, "Name of encryption cipher mode" },
    { "ivgen-alg", QIMG_OPT_STRING, "Name of IV generator algorithm" },
    { "ivgen-hash-alg", QIMG_OPT_STRING, "Name of IV generator hash algorithm" },
    { "hash-alg", QIMG_OPT_STRING, "Name of encryption hash algorithm" },
    { "iter-time", QIMG_OPT_NUMBER, "Time to spend in PBKDF in milliseconds" },
};

#define FORMAT_ROWS_MAX 32
G_STATIC_ASSERT(G_N_ELEMENTS(qcow2_rows) <= FORMAT_ROWS_MAX);

/* What the format has is not told twice. */
static const QimgOptRow *
rows_of(const char *format, gboolean with_file, guint *n)
{
    static QimgOptRow both[FORMAT_ROWS_MAX + G_N_ELEMENTS(file_rows)];
    const QimgOptRow *own = qcow2_rows;
    guint n_own = G_N_ELEMENTS(qcow2_rows);

    if (g_str_equal(format, "raw") || g_str_equal(format, "file")) {
        *n = with_file ? G_N_ELEMENTS(file_rows) : RAW_ROWS;
        return file_rows;
    }
    if (g_str_equal(format, "luks")) {
        own = luks_rows;
        n_own = G_N_ELEMENTS(luks_rows);
    } else if (!g_str_equal(format, "qcow2")) {
        own = qimg_foreign_rows(format, &n_own);
    }
    if (!own)
        return NULL;
    g_assert(n_own <= FORMAT_ROWS_MAX);
    memcpy(both, own, n_own * sizeof *own);
    *n = n_own;
    for (gsize i = 0; with_file && i < G_N_ELEMENTS(file_rows); i++) {
        gboolean is_new = TRUE;
        for (guint q = 0; q < n_own; q++)
            is_new &= !g_str_equal(own[q].name, file_rows[i].name);
        if (is_new)
            both[(*n)++] = file_rows[i];
    }
    return both;
}

static void
refuse_format(const char *format, const char *subject)
{
    static const char *const only_read[] = { "bochs", "cloop", "dmg", "vvfat" };

    for (gsize i = 0; i < G_N_ELEMENTS(only_read); i++)
        if (g_str_equal(format, only_read[i])) {
            qimg_error_about(subject, "Format driver '%s' does not support image creation", format);
            return;
        }
    if (qimg_format_exists(format))
        qimg_error_about(subject, "kho makes no images of the format '%s'", format);
    else
        qimg_error_about(subject, "Unknown file format '%s'", format);
}

gboolean
qimg_create_options_init(QimgOptions *options, const char *format, gboolean with_file, const char *subject)
{
    guint n = 0;
    const QimgOptRow *rows = rows_of(format, with_file, &n);

    if (rows)
        qimg_options_init(options, rows, n);
    else
        refuse_format(format, subject);
    return rows != NULL;
}

gboolean
qimg_create_options_help(const char *format, const char *path)
{
    guint n = 0;
    const QimgOptRow *rows = rows_of(format, path != NULL, &n);

    if (!rows) {
        refuse_format(format, NULL);
        return FALSE;
    }
    if (path)
        qimg_print("Supported options:\n");
    else
        qimg_print("Supported %s options:\n", format);
    qimg_option_rows_print(rows, n);
    if (!path)
        qimg_print("\nThe protocol level may support further options.\n"
                   "Specify the target filename to include those options.\n");
    return TRUE;
}

/* --- values --- */

gboolean
qimg_prealloc_parse(const char *text, KhoPrealloc *prealloc)
{
    static const char *const names[] = {
        [KHO_PREALLOC_OFF] = "off",
        [KHO_PREALLOC_METADATA] = "metadata",
        [KHO_PREALLOC_FALLOC] = "falloc",
        [KHO_PREALLOC_FULL] = "full",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (g_str_equal(names[i], text)) {
            *prealloc = (KhoPrealloc) i;
            return TRUE;
        }
    return FALSE;
}

static gboolean
bad_value(const char *subject, const char *parameter, const char *value)
{
    qimg_error_about(subject, "Parameter '%s' does not accept value '%s'", parameter, value);
    return FALSE;
}

static gboolean
read_prealloc(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    const char *text = qimg_options_given(options, "preallocation");

    if (!text || qimg_prealloc_parse(text, &create->prealloc))
        return TRUE;
    return bad_value(subject, "preallocation", text);
}

static gboolean
apply_raw(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    if (!read_prealloc(options, subject, create))
        return FALSE;
    if (create->prealloc == KHO_PREALLOC_METADATA) {
        qimg_error_about(subject, "Unsupported preallocation mode: metadata");
        return FALSE;
    }
    return TRUE;
}

/* What QEMU can and kho cannot: each would change what the image is, so none is passed over. */
static gboolean
refuse_missing(const QimgOptions *options, const char *subject)
{
    static const char *const missing[] = { "encryption", "nocow" };

    for (gsize m = 0; m < G_N_ELEMENTS(missing); m++)
        if (g_strcmp0(qimg_options_given(options, missing[m]), "on") == 0) {
            qimg_error_about(subject, "kho makes no images with the option '%s'", missing[m]);
            return FALSE;
        }
    return TRUE;
}

static void
warn_of_hint(int error_number)
{
    qimg_warning("Failed to set extent size hint: %s", g_strerror(error_number));
}

static gboolean
read_hint(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    guint64 hint = qimg_options_number(options, "extent_size_hint");

    if (hint > G_MAXUINT32) {
        qimg_error_about(subject, "Extent size hint is too large");
        return FALSE;
    }
    create->extent_hint_bytes = (guint32) hint;
    create->no_extent_hint = warn_of_hint;
    return TRUE;
}

static gboolean
read_version(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    const char *compat = qimg_options_given(options, "compat");

    create->qcow2_version = 3;
    if (!compat || g_str_equal(compat, "1.1") || g_str_equal(compat, "v3"))
        return TRUE;
    create->qcow2_version = 2;
    return g_str_equal(compat, "0.10") || g_str_equal(compat, "v2") || bad_value(subject, "version", compat);
}

static gboolean
read_compression(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    create->compression = qimg_options_get(options, "compression_type");
    return g_str_equal(create->compression, "zlib") || g_str_equal(create->compression, "zstd")
           || bad_value(subject, "compression-type", create->compression);
}

/* @wrong, where there is such. */
static gboolean
all_well(const char *subject, const char *wrong)
{
    if (wrong)
        qimg_error_about(subject, "%s", wrong);
    return !wrong;
}

static gboolean
read_clusters(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    guint64 cluster = qimg_options_number(options, "cluster_size");
    const char *wrong = NULL;

    create->extended_l2 = qimg_options_number(options, "extended_l2") != 0;
    if (!num_is_pow2(cluster) || cluster < 512 || cluster > 2 * MIB)
        wrong = "Cluster size must be a power of two between 512 and 2048k";
    else if (create->extended_l2 && cluster < EXTENDED_CLUSTER_BYTES_MIN)
        wrong = "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes";
    create->cluster_bytes = (guint32) cluster;
    return all_well(subject, wrong);
}

/* @newer: how the level that it takes is asked for. */
static gboolean
read_refcount_bits(const QimgOptions *options, const char *subject, const char *newer, KhoImageCreate *create)
{
    guint64 bits = qimg_options_number(options, "refcount_bits");

    if (!num_is_pow2(bits) || bits > 64)
        return all_well(subject, "Refcount width must be a power of two and may not exceed 64 bits");
    create->refcount_bits = (guint) bits;
    if (create->qcow2_version >= 3 || bits == 16)
        return TRUE;
    qimg_error_about(
        subject,
        "Different refcount widths than 16 bits require compatibility level 1.1 or above (use %s or greater)",
        newer);
    return FALSE;
}

/* What does not go together, in the order in which QEMU looks. */
static gboolean
read_layout(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    const gboolean is_old = create->qcow2_version < 3;
    const char *wrong = NULL;

    if (is_old && qimg_options_number(options, "extended_l2"))
        return all_well(subject,
                        "Extended L2 entries are only supported with compatibility level 1.1 and above "
                        "(use version=v3 or greater)");
    if (!read_clusters(options, subject, create))
        return FALSE;
    create->lazy_refcounts = qimg_options_number(options, "lazy_refcounts") != 0;
    if (create->prealloc != KHO_PREALLOC_OFF && create->backing_file && !create->extended_l2)
        wrong = "Backing file and preallocation can only be used at the same time if extended_l2 is on";
    else if (create->backing_format && !create->backing_file)
        wrong = "Backing format cannot be used without backing file";
    else if (is_old && create->lazy_refcounts)
        wrong = "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or "
                "greater)";
    return all_well(subject, wrong) && read_refcount_bits(options, subject, "version=v3", create);
}

static gboolean
read_data_file(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    const char *wrong = NULL;

    create->data_file = qimg_options_given(options, "data_file");
    create->data_file_raw = qimg_options_number(options, "data_file_raw") != 0;
    if (create->data_file_raw && !create->data_file)
        wrong = "data-file-raw requires data-file";
    else if (create->data_file_raw && create->backing_file)
        wrong = "Backing file and data-file-raw cannot be used at the same time";
    else if (create->data_file && create->qcow2_version < 3)
        wrong = "External data files are only supported with compatibility level 1.1 and above (use "
                "version=v3 or greater)";
    else if (create->qcow2_version < 3 && !g_str_equal(create->compression, "zlib"))
        wrong = "Non-zlib compression type is only supported with compatibility level 1.1 and above (use "
                "version=v3 or greater)";
    return all_well(subject, wrong);
}

static gboolean
apply_qcow2(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    create->backing_file = qimg_options_given(options, "backing_file");
    create->backing_format = qimg_options_given(options, "backing_fmt");
    if (!read_version(options, subject, create) || !read_prealloc(options, subject, create)
        || !read_compression(options, subject, create))
        return FALSE;
    if (create->backing_format && !qimg_format_exists(create->backing_format))
        return bad_value(subject, "backing-fmt", create->backing_format);
    return read_layout(options, subject, create) && read_data_file(options, subject, create);
}

/* The words of luks as they are, and of qcow2 behind "encrypt.". */
static const char *
luks_word(const QimgOptions *options, const char *prefix, const char *name)
{
    g_autofree char *whole = g_strconcat(prefix, name, NULL);

    return qimg_options_given(options, whole);
}

static gboolean
read_luks(const QimgOptions *options, const char *prefix, const char *subject, KhoImageCreate *create)
{
    static KhoImageEncryption encryption; /* of the one image that a run makes */
    g_autofree char *iter_time = g_strconcat(prefix, "iter-time", NULL);

    encryption = (KhoImageEncryption){
        .format = "luks",
        .key_secret = luks_word(options, prefix, "key-secret"),
        .cipher_alg = luks_word(options, prefix, "cipher-alg"),
        .cipher_mode = luks_word(options, prefix, "cipher-mode"),
        .ivgen_alg = luks_word(options, prefix, "ivgen-alg"),
        .ivgen_hash_alg = luks_word(options, prefix, "ivgen-hash-alg"),
        .hash_alg = luks_word(options, prefix, "hash-alg"),
        .iter_time_ms = qimg_options_number(options, iter_time),
    };
    if (qimg_options_given(options, iter_time)) /* 0 is the least there is, not what is usual */
        encryption.iter_time_ms = MAX(encryption.iter_time_ms, 1);
    const KhoSecrets *secrets = qimg_object_secrets();
    if (!encryption.key_secret) {
        qimg_error_about(subject, "Parameter '%skey-secret' is required for cipher", prefix);
        return FALSE;
    }
    if (!secrets || !kho_secrets_has(secrets, encryption.key_secret)) {
        qimg_error_about(subject, "No secret with id '%s'", encryption.key_secret);
        return FALSE;
    }
    create->encryption = &encryption;
    create->secrets = secrets;
    return TRUE;
}

/* Which encryption is asked for: create->encryption, NULL for none. */
static gboolean
read_encryption(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    const char *format = qimg_options_given(options, "encrypt.format");

    if (format && g_strcmp0(qimg_options_given(options, "encryption"), "on") == 0) {
        qimg_error_about(subject,
                         "'encrypt.format' and its alias 'encryption' can't be used at the same time");
        return FALSE;
    }
    for (guint i = 0; !format && i < options->n_rows; i++)
        if (options->values[i] && g_str_has_prefix(options->rows[i].name, "encrypt.")) {
            qimg_error_about(subject, "Parameter 'encrypt.format' is missing");
            return FALSE;
        }
    if (!format)
        return TRUE;
    if (g_str_equal(format, "aes")) {
        qimg_error_about(subject, "kho makes no images with the option 'encrypt.format=aes'");
        return FALSE;
    }
    return g_str_equal(format, "luks") ? read_luks(options, "encrypt.", subject, create)
                                       : bad_value(subject, "format", format);
}

static gboolean
apply_luks(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    const char *prealloc = qimg_options_given(options, "preallocation");

    if (!prealloc || qimg_prealloc_parse(prealloc, &create->prealloc))
        return read_luks(options, "", subject, create);
    qimg_error_about(subject, "invalid parameter value: %s", prealloc);
    return FALSE;
}

gboolean
qimg_create_options_apply(const QimgOptions *options, const char *subject, KhoImageCreate *create)
{
    if (!read_hint(options, subject, create))
        return FALSE;
    if (g_str_equal(create->format, "raw"))
        return apply_raw(options, subject, create) && refuse_missing(options, subject);
    if (g_str_equal(create->format, "luks"))
        return apply_luks(options, subject, create) && refuse_missing(options, subject);
    if (!g_str_equal(create->format, "qcow2"))
        return qimg_foreign_apply(options, subject, create);
    return apply_qcow2(options, subject, create) && read_encryption(options, subject, create)
           && refuse_missing(options, subject);
}

gboolean
qimg_create_options_measure(const QimgOptions *options, KhoImageCreate *create)
{
    const char *prealloc = qimg_options_given(options, "preallocation");
    const char *compat = qimg_options_given(options, "compat");

    if (g_str_equal(create->format, "luks"))
        return read_luks(options, "", NULL, create);
    if (!g_str_equal(create->format, "qcow2"))
        return TRUE;
    create->backing_file = qimg_options_given(options, "backing_file");
    create->qcow2_version = g_strcmp0(compat, "0.10") == 0 ? 2 : 3;
    if (!read_clusters(options, NULL, create))
        return FALSE;
    if (prealloc && !qimg_prealloc_parse(prealloc, &create->prealloc)) {
        qimg_error("invalid parameter value: %s", prealloc);
        return FALSE;
    }
    if (compat && create->qcow2_version == 3 && !g_str_equal(compat, "1.1")) {
        qimg_error("Invalid compatibility level: '%s'", compat);
        return FALSE;
    }
    return read_refcount_bits(options, NULL, "compat=1.1", create)
           && (g_strcmp0(qimg_options_given(options, "encrypt.format"), "luks") != 0
               || read_luks(options, "encrypt.", NULL, create));
}

gboolean
qimg_create_options_check_folder(const KhoImageCreate *create, const char *path, const char *subject)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *here = g_get_current_dir();
    g_autofree char *there = g_canonicalize_filename(folder, here);

    if (!create->data_file || g_path_is_absolute(create->data_file) || g_str_equal(here, there))
        return TRUE;
    qimg_error_about(subject,
                     "kho looks for the data file %s in the image's folder, and qemu-img where it runs: give "
                     "its whole path",
                     create->data_file);
    return FALSE;
}
