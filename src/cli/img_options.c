#include "cli/img_options.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "qemuimg/create_options.h"

#include <kho/save.h>
#include <kho/snapshot.h>
#include <string.h>

static void
warn_of_links(const char *path, guint links)
{
    out_warning("%s has %u more name%s (hard links): what is made takes the place of this one alone, and the "
                "others keep what is there now",
                path, links, links == 1 ? "" : "s");
}

void
img_options_init(ImgOptions *options, const char *format)
{
    *options = (ImgOptions){ .create.format = format,
                             .create.leaves_links = warn_of_links,
                             .texts = g_ptr_array_new_with_free_func(g_free) };
}

void
img_options_clear(ImgOptions *options)
{
    g_clear_pointer(&options->texts, g_ptr_array_unref);
    g_clear_pointer(&options->foreign, g_ptr_array_unref);
}

/* The tree whose machines may use the file at @path; NULL where there is none. A server's disk is no file of
 * it. */
static KhoHost *
tree_of(const CliRun *cli, const char *path)
{
    return kho_image_is_remote(path) ? NULL : kho_host_open(cli->root, NULL);
}

typedef gboolean (*CheckFunc)(KhoHost *host, const char *path, GError **error);

/* The file at @path, and the one that holds its data where that is another. */
static gboolean
check_files(const CliRun *cli, const char *path, CheckFunc check, GError **error)
{
    g_autoptr(KhoHost) host = tree_of(cli, path);
    KhoImageInfo info = { 0 };

    if (!host)
        return TRUE;
    if (!check(host, path, error))
        return FALSE;
    if (!kho_image_info(path, NULL, &info, NULL)) /* whoever opens it is told */
        return TRUE;
    gboolean free_too = !info.full_data_path || check(host, info.full_data_path, error);
    kho_image_info_clear(&info);
    return free_too;
}

gboolean
img_check_writable(const CliRun *cli, const char *path, GError **error)
{
    return check_files(cli, path, kho_snapshot_check_file, error);
}

gboolean
img_check_unsaved(const CliRun *cli, const char *path, GError **error)
{
    if (check_files(cli, path, kho_save_check_file, error))
        return TRUE;
    g_prefix_error(error, "it is not written without --force: ");
    return FALSE;
}

gboolean
img_check_readable(const CliRun *cli, const char *path, const char *format, GError **error)
{
    g_autoptr(KhoHost) host = tree_of(cli, path);

    return !host || kho_snapshot_check_read(host, path, format, error);
}

gboolean
img_check_backing(const CliRun *cli, const char *path, const KhoImageCreate *create, GError **error)
{
    const char *name = create->backing_file;
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    g_autofree char *folder = g_path_get_dirname(absolute);
    g_autofree char *backing =
        name && !kho_image_is_remote(name) ? g_canonicalize_filename(name, folder) : NULL;

    return !backing || img_check_readable(cli, backing, create->backing_format, error);
}

gboolean
img_keep_sound(const CliRun *cli, const char *path, const KhoImageCreate *create, GError **error)
{
    g_autoptr(KhoHost) host = create->backing_file ? tree_of(cli, path) : NULL;

    if (!host || kho_snapshot_check_built(host, path, error))
        return TRUE;
    fd_unlink(path, NULL);
    g_prefix_error(error, "the new image is not kept: ");
    return FALSE;
}

gboolean
img_prealloc_parse(const char *text, KhoPrealloc *prealloc, GError **error)
{
    return qimg_prealloc_parse(text, prealloc)
           || fail(error, KHO_ERROR_INVALID, "preallocation '%s' is not one of off, metadata, falloc, full",
                   text);
}

static gboolean
read_bool(const char *name, const char *value, gboolean *flag, GError **error)
{
    if (!g_str_equal(value, "on") && !g_str_equal(value, "off"))
        return fail(error, KHO_ERROR_INVALID, "%s=%s: on or off is wanted", name, value);
    *flag = g_str_equal(value, "on");
    return TRUE;
}

static gboolean
read_compat(const char *value, guint *version, GError **error)
{
    gboolean is_2 = g_str_equal(value, "0.10") || g_str_equal(value, "v2");

    if (!is_2 && !g_str_equal(value, "1.1") && !g_str_equal(value, "v3"))
        return fail(error, KHO_ERROR_INVALID, "compat=%s: 0.10 (version 2) or 1.1 (version 3) is wanted",
                    value);
    *version = is_2 ? 2 : 3;
    return TRUE;
}

static gboolean
read_cluster_size(const char *value, guint32 *bytes, GError **error)
{
    guint64 size;

    if (!num_parse_size(value, 1, &size, error))
        return FALSE;
    /* The format says which sizes there are; here it only has to fit, and 0 would mean the default. */
    if (size == 0 || size > G_MAXUINT32)
        return fail(error, KHO_ERROR_INVALID, "cluster_size=%s: 512 to 2M, a power of two, is wanted", value);
    *bytes = (guint32) size;
    return TRUE;
}

static gboolean
read_refcount_bits(const char *value, guint *bits, GError **error)
{
    guint64 number;

    if (!num_parse_uint(value, 64, "refcount_bits", &number, error))
        return FALSE;
    if (number == 0)
        return fail(error, KHO_ERROR_INVALID, "refcount_bits=0: 1 to 64, a power of two, is wanted");
    *bits = (guint) number;
    return TRUE;
}

/* @name: of qcow2's options, what follows "encrypt.". */
static gboolean
read_encryption(KhoImageEncryption *encryption, const char *name, const char *value, GError **error)
{
    const struct {
        const char *name;
        const char **place;
    } places[] = {
        { "format", &encryption->format },         { "key-secret", &encryption->key_secret },
        { "cipher-alg", &encryption->cipher_alg }, { "cipher-mode", &encryption->cipher_mode },
        { "ivgen-alg", &encryption->ivgen_alg },   { "ivgen-hash-alg", &encryption->ivgen_hash_alg },
        { "hash-alg", &encryption->hash_alg },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(places); i++)
        if (g_str_equal(places[i].name, name)) {
            *places[i].place = value;
            return TRUE;
        }
    if (!g_str_equal(name, "iter-time"))
        return fail(error, KHO_ERROR_INVALID,
                    "unknown option '%s' of encryption: there are cipher-alg, cipher-mode, format, hash-alg, "
                    "iter-time, "
                    "ivgen-alg, ivgen-hash-alg, key-secret",
                    name);
    if (!num_parse_uint(value, G_MAXUINT32, "iter-time", &encryption->iter_time_ms, error))
        return FALSE;
    encryption->iter_time_ms = MAX(encryption->iter_time_ms, 1); /* 0 is the least there is, as QEMU has it */
    return TRUE;
}

static gboolean
read_one(ImgOptions *options, const char *name, const char *value, GError **error)
{
    KhoImageCreate *create = &options->create;

    if (g_str_has_prefix(name, "encrypt.")) {
        create->encryption = &options->encryption;
        return read_encryption(&options->encryption, name + strlen("encrypt."), value, error);
    }
    if (g_str_equal(name, "size"))
        return num_parse_size(value, 1, &create->size_bytes, error);
    if (g_str_equal(create->format, "luks") && !g_str_equal(name, "preallocation")) {
        create->encryption = &options->encryption;
        options->encryption.format = "luks";
        return read_encryption(&options->encryption, name, value, error);
    }
    if (g_str_equal(name, "cluster_size"))
        return read_cluster_size(value, &create->cluster_bytes, error);
    if (g_str_equal(name, "refcount_bits"))
        return read_refcount_bits(value, &create->refcount_bits, error);
    if (g_str_equal(name, "compat"))
        return read_compat(value, &create->qcow2_version, error);
    if (g_str_equal(name, "lazy_refcounts"))
        return read_bool(name, value, &create->lazy_refcounts, error);
    if (g_str_equal(name, "extended_l2"))
        return read_bool(name, value, &create->extended_l2, error);
    if (g_str_equal(name, "data_file_raw"))
        return read_bool(name, value, &create->data_file_raw, error);
    if (g_str_equal(name, "preallocation"))
        return img_prealloc_parse(value, &create->prealloc, error);
    if (g_str_equal(name, "compression_type"))
        create->compression = value;
    else if (g_str_equal(name, "data_file"))
        create->data_file = value;
    else if (g_str_equal(name, "backing_file"))
        create->backing_file = value;
    else if (g_str_equal(name, "backing_fmt"))
        create->backing_format = value;
    else
        return fail(error, KHO_ERROR_INVALID,
                    "unknown option '%s': there are backing_file, backing_fmt, cluster_size, compat, "
                    "compression_type, data_file, data_file_raw, encrypt.*, extended_l2, lazy_refcounts, "
                    "preallocation, refcount_bits, size",
                    name);
    return TRUE;
}

/* Takes "name=value" off the front of *rest, with doubled commas made single. */
static char *
next_item(const char **rest)
{
    GString *item = g_string_new(NULL);
    const char *c = *rest;

    for (; *c; c++) {
        if (*c == ',' && *++c != ',')
            break;
        g_string_append_c(item, *c);
    }
    *rest = c;
    return g_string_free(item, FALSE);
}

/* Options of formats that QEMU makes for kho are QEMU's to read. */
static gboolean
is_foreign(const ImgOptions *options, const char *item)
{
    const char *format = options->create.format;

    return !g_str_equal(format, "qcow2") && !g_str_equal(format, "raw") && !g_str_equal(format, "luks")
           && !g_str_has_prefix(item, "size=");
}

gboolean
img_options_read(ImgOptions *options, char *const *lists, GError **error)
{
    options->foreign = g_ptr_array_new();
    for (; lists && *lists; lists++)
        for (const char *rest = *lists; *rest;) {
            char *item = next_item(&rest);
            char *equals = strchr(item, '=');

            g_ptr_array_add(options->texts, item);
            if (!equals)
                return fail(error, KHO_ERROR_INVALID, "option '%s' has no value: NAME=VALUE is wanted", item);
            if (is_foreign(options, item)) {
                g_ptr_array_add(options->foreign, item);
                continue;
            }
            *equals = '\0';
            options->has_lazy_refcounts |= g_str_equal(item, "lazy_refcounts");
            if (!read_one(options, item, equals + 1, error))
                return FALSE;
        }
    g_ptr_array_add(options->foreign, NULL);
    options->create.foreign_options = (const char *const *) options->foreign->pdata;
    return TRUE;
}

KhoSecrets *
img_secrets_read(char *const *lists, GError **error)
{
    g_autoptr(KhoSecrets) secrets = kho_secrets_new();

    for (; lists && *lists; lists++)
        if (!kho_secrets_add(secrets, *lists, KHO_SECRETS_FILES_ONLY, error))
            return NULL;
    return g_steal_pointer(&secrets);
}

gboolean
img_size_parse(const char *text, guint64 now_bytes, guint64 *bytes, GError **error)
{
    char sign = *text == '+' || *text == '-' ? *text++ : '\0';
    guint64 size;

    if (!num_parse_size(text, 1, &size, error))
        return FALSE;
    if (sign == '-' && size > now_bytes)
        return fail(error, KHO_ERROR_INVALID, "-%s is more than the image's %" G_GUINT64_FORMAT " bytes",
                    text, now_bytes);
    if (sign == '+' && !num_add(now_bytes, size, &size))
        return fail(error, KHO_ERROR_INVALID, "+%s is too large", text);
    *bytes = sign == '-' ? now_bytes - size : size;
    return TRUE;
}
