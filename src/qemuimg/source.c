#include "qemuimg/source.h"

#include "qemuimg/keyval.h"
#include "qemuimg/object.h"
#include "qemuimg/output.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <kho/image_compare.h>
#include <string.h>
#include <unistd.h>

/* What qemu-img 7.2 lists, as names that -f and -O take. */
static const char *const formats[] = {
    "blkdebug",     "blklogwrites", "blkverify", "bochs", "cloop",     "compress",    "copy-before-write",
    "copy-on-read", "dmg",          "file",      "ftp",   "ftps",      "gluster",     "host_cdrom",
    "host_device",  "http",         "https",     "iscsi", "iser",      "luks",        "nbd",
    "nfs",          "null-aio",     "null-co",   "nvme",  "parallels", "preallocate", "qcow",
    "qcow2",        "qed",          "quorum",    "raw",   "rbd",       "replication", "snapshot-access",
    "ssh",          "throttle",     "vdi",       "vhdx",  "vmdk",      "vpc",         "vvfat",
};

gboolean
qimg_format_exists(const char *format)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++)
        if (g_str_equal(formats[i], format))
            return TRUE;
    return FALSE;
}

void
qimg_source_clear(QimgSource *source)
{
    g_free(source->name);
    g_free(source->path);
    g_free(source->format);
    g_free(source->key_secret);
    g_free(source->below);
    g_clear_pointer(&source->options, g_ptr_array_unref);
    *source = (QimgSource){ 0 };
}

/* --- names --- */

/* Options of a node that say nothing about what is read or written. */
static gboolean
is_harmless(const char *name)
{
    static const char *const tail[] = { "node-name",     "read-only",      "auto-read-only",
                                        "cache.direct",  "cache.no-flush", "discard",
                                        "detect-zeroes", "locking",        "aio",
                                        "force-share" };
    const char *own = g_str_has_prefix(name, "file.") ? name + strlen("file.") : name;

    for (gsize i = 0; i < G_N_ELEMENTS(tail); i++)
        if (g_str_equal(own, tail[i]))
            return TRUE;
    return FALSE;
}

/* How a format's secret is called. */
static const char *
key_word(const char *format)
{
    return g_strcmp0(format, "luks") == 0 ? "key-secret" : "encrypt.key-secret";
}

/* What opens an encrypted image; the format is known from its header. */
static gboolean
is_of_key(const char *driver, const char *name)
{
    return g_str_equal(name, key_word(driver))
           || (g_strcmp0(driver, "luks") != 0 && g_str_equal(name, "encrypt.format"));
}

static gboolean
is_one_of(const char *word, const char *a, const char *b)
{
    return !word || g_str_equal(word, a) || g_str_equal(word, b);
}

/* How many layers below the image an option is about; *own is the option's name there. */
static guint
depth_of(const char *name, const char **own)
{
    guint depth = 0;

    for (; g_str_has_prefix(name, "backing."); depth++)
        name += strlen("backing.");
    *own = name;
    return depth;
}

/* The value of the option @name of the layer at @depth; the last one counts. */
static const char *
get_at(const QimgKeyval *pairs, guint depth, const char *name)
{
    const char *own;

    for (guint i = pairs->len; i >= 2; i -= 2)
        if (depth_of(pairs->pdata[i - 2], &own) == depth && g_str_equal(own, name))
            return pairs->pdata[i - 1];
    return NULL;
}

static gboolean
is_file_driver(const char *driver)
{
    return driver && is_one_of(driver, "file", "host_device");
}

/* What is wrong with the options of one layer, as QEMU says it; NULL: nothing. */
static char *
fault_of_layer(const QimgKeyval *pairs, guint depth)
{
    const char *driver = get_at(pairs, depth, "driver"), *below = get_at(pairs, depth, "file.driver"), *own;
    gboolean is_file = is_file_driver(driver);
    gboolean is_format = is_one_of(driver, "qcow2", "raw") || g_str_equal(driver, "luks");

    if (driver && !qimg_format_exists(driver))
        return g_strdup_printf("Unknown driver '%s'", driver);
    if ((!is_file && !is_format) || !is_one_of(below, "file", "host_device"))
        return g_strdup_printf("kho opens no images with the driver '%s'",
                               is_file || is_format ? below : driver);
    for (guint i = 0; i < pairs->len; i += 2)
        if (depth_of(pairs->pdata[i], &own) == depth && !g_str_equal(own, "driver")
            && !g_str_equal(own, "file.driver") && !g_str_equal(own, is_file ? "filename" : "file.filename")
            && !is_harmless(own) && (is_file || !is_of_key(driver, own)))
            return g_strdup_printf("Block format '%s' does not support the option '%s'",
                                   driver ? driver : "raw", own);
    return NULL;
}

/* The layer's path and format, where they are said. */
static KhoImageBelow
layer_at(const QimgKeyval *pairs, guint depth)
{
    const char *driver = get_at(pairs, depth, "driver");
    gboolean is_file = is_file_driver(driver);

    return (KhoImageBelow){ .path = get_at(pairs, depth, is_file ? "filename" : "file.filename"),
                            .format = is_file ? "raw" : driver,
                            .key_secret = get_at(pairs, depth, key_word(driver)) };
}

static char *
fault_of_options(const QimgKeyval *pairs, guint n_below)
{
    char *fault = pairs->len == 0 ? g_strdup("Must specify either driver or file") : NULL;

    for (guint depth = 0; !fault && depth <= n_below; depth++)
        fault = fault_of_layer(pairs, depth);
    if (!fault && !layer_at(pairs, 0).path)
        fault = g_strdup(is_file_driver(get_at(pairs, 0, "driver"))
                             ? "The 'file' block driver requires a file name"
                             : "A block device must be specified for \"file\"");
    return fault;
}

static gboolean
take_options(QimgKeyval *pairs, const char *name, QimgSource *source)
{
    guint n_below = 0;
    const char *own;

    for (guint i = 0; i < pairs->len; i += 2)
        n_below = MAX(n_below, depth_of(pairs->pdata[i], &own));
    g_autofree char *fault = fault_of_options(pairs, n_below);
    if (fault) {
        qimg_error("Could not open '%s': %s", name, fault);
        return FALSE;
    }
    const KhoImageBelow self = layer_at(pairs, 0);
    source->path = g_strdup(self.path);
    source->format = g_strdup(self.format);
    source->key_secret = g_strdup(self.key_secret);
    source->options = g_ptr_array_ref(pairs);
    source->below = g_new0(KhoImageBelow, n_below + 1);
    source->n_below = n_below;
    for (guint depth = 1; depth <= n_below; depth++)
        source->below[depth - 1] = layer_at(pairs, depth);
    return TRUE;
}

/* @name has a protocol: up to a colon that comes before any slash. */
static gboolean
take_protocol(const char *name, gsize len, QimgSource *source)
{
    g_autofree char *protocol = g_strndup(name, len);

    if (g_str_equal(protocol, "file")) {
        source->path = g_strdup(name + len + 1);
        return TRUE;
    }
    if (qimg_format_exists(protocol))
        qimg_error("Could not open '%s': kho opens no images with the protocol '%s'", name, protocol);
    else
        qimg_error("Could not open '%s': Unknown protocol '%s'", name, protocol);
    return FALSE;
}

static gboolean
read_name(const char *name, gboolean image_opts, QimgSource *source)
{
    static const char json[] = "json:";
    gsize colon = strcspn(name, ":/");
    g_autofree char *fault = NULL;
    gboolean is_json = !image_opts && g_str_has_prefix(name, json);

    if (!image_opts && !is_json && name[colon] == ':' && !kho_image_is_remote(name))
        return take_protocol(name, colon, source);
    if (!image_opts && !is_json) {
        source->path = g_strdup(name);
        return TRUE;
    }
    g_autoptr(QimgKeyval) pairs =
        is_json ? qimg_keyval_parse_json(name + strlen(json), &fault) : qimg_keyval_parse(name, NULL, &fault);
    if (!pairs) {
        qimg_error("Could not open '%s': %s", name, fault);
        return FALSE;
    }
    return take_options(pairs, name, source);
}

gboolean
qimg_source_read(const char *name, const char *format, gboolean image_opts, QimgSource *source)
{
    g_auto(QimgSource) read = { 0 };

    if (image_opts && format) {
        qimg_error("--image-opts and --format are mutually exclusive");
        return FALSE;
    }
    if (!read_name(name, image_opts, &read))
        return FALSE;
    if (format && !qimg_format_exists(format)) {
        qimg_error("Could not open '%s': Unknown driver '%s'", name, format);
        return FALSE;
    }
    if (format) {
        g_free(read.format);
        read.format = g_strdup(g_str_equal(format, "file") ? "raw" : format);
    }
    read.name = g_strdup(name);
    *source = read;
    read = (QimgSource){ 0 };
    return TRUE;
}

/* --- opening --- */

const char *
qimg_reason(const GError *error, const char *path)
{
    const char *rest = error->message;
    g_autofree char *whole = g_canonicalize_filename(path, NULL);

    if (g_str_has_prefix(rest, whole))
        path = whole;
    if (g_str_has_prefix(rest, path) && g_str_has_prefix(rest + strlen(path), ": "))
        rest += strlen(path) + 2;
    return rest;
}

/* Why the file itself, whatever is in it, cannot be opened; NULL: it can. */
static char *
fault_of_file(const char *path, gboolean writable, const GError *error)
{
    GStatBuf st;

    if (kho_image_is_remote(path))
        return NULL;
    if (!*path)
        return g_strdup("The 'file' block driver requires a file name");
    if (g_stat(path, &st) != 0 || (error->code == KHO_ERROR_DENIED && g_access(path, writable ? 6 : 4) != 0))
        return g_strdup_printf("Could not open '%s': %s", path, g_strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return g_strdup_printf("'file' driver requires '%s' to be a regular file", path);
    return NULL;
}

static char *
fault_of_backing(const char *path, const char *format, KhoImageFlags flags)
{
    KhoImageInfo info;

    if (!kho_image_info(path, format, &info, NULL))
        return NULL;
    g_autofree char *below = g_strdup(info.full_backing_path);
    g_autofree char *below_format = g_strdup(info.backing_format);
    kho_image_info_clear(&info);
    if (!below)
        return NULL;

    KhoImageFlags how = flags & ~(guint) KHO_IMAGE_WRITE;
    g_autoptr(GError) error = NULL;
    g_autoptr(KhoImage) image = kho_image_open(below, below_format, how, &kho_image_gate_open, &error);
    if (image)
        return NULL;
    g_autofree char *fault = qimg_open_fault(below, below_format, how, error);
    return g_strconcat("Could not open backing file: ", fault, NULL);
}

static char *
fault_of_data(const char *path, const char *format, gboolean writable, const GError *error)
{
    KhoImageInfo info;

    if (!kho_image_info(path, format, &info, NULL))
        return NULL;
    char *fault = info.full_data_path ? fault_of_file(info.full_data_path, writable, error) : NULL;
    kho_image_info_clear(&info);
    return fault;
}

char *
qimg_open_fault(const char *path, const char *format, KhoImageFlags flags, const GError *error)
{
    gboolean writable = (flags & KHO_IMAGE_WRITE) != 0;
    char *fault = fault_of_file(path, writable, error);

    if (fault)
        return fault;
    /* The image alone, and as it would be opened: else the fault is in what lies below it. */
    g_autoptr(GError) alone = NULL;
    g_autoptr(KhoImage) image =
        kho_image_open(path, format, flags | KHO_IMAGE_NO_BACKING, &kho_image_gate_open, &alone);
    if (image)
        fault = flags & KHO_IMAGE_NO_BACKING ? NULL : fault_of_backing(path, format, flags);
    else
        fault = fault_of_data(path, format, writable, alone);
    if (fault)
        return fault;
    if (alone && alone->code == KHO_ERROR_BUSY)
        return g_strdup_printf("Failed to get %s lock\nIs another process using the image [%s]?",
                               writable ? "\"write\"" : "shared \"write\"", path);
    if (error->code == KHO_ERROR_DENIED && image)
        return g_strdup("Invalid password, cannot unlock any keyslot");
    if (alone && alone->code == KHO_ERROR_INVALID && g_strcmp0(format, "qcow2") == 0
        && strstr(alone->message, "is not a qcow2 image"))
        return g_strdup("Image is not in qcow2 format");
    return g_strdup(qimg_reason(alone ? alone : error, path));
}

/* Why nothing can be made at @path, whatever it would be; 0: it can. */
static int
errno_of_place(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    GStatBuf st;

    if (g_stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return EISDIR;
    if (!*path || g_stat(folder, &st) != 0)
        return *path ? errno : ENOENT;
    if (!S_ISDIR(st.st_mode))
        return ENOTDIR;
    return g_access(folder, W_OK | X_OK) == 0 ? 0 : errno;
}

static gboolean
is_too_large(const KhoImageCreate *create)
{
    KhoImageCreate plain = *create;
    KhoImageMeasure measure;

    plain.encryption = NULL;
    return !kho_image_measure(&plain, NULL, &measure, NULL, NULL);
}

char *
qimg_create_fault(const char *path, const KhoImageCreate *create, const GError *error)
{
    const char *reason = qimg_reason(error, path);
    int place = kho_image_is_remote(path) ? 0 : errno_of_place(path);

    /* In somebody's use, or the source of what it should become. */
    if (error->code == KHO_ERROR_BUSY
        || (error->code == KHO_ERROR_INVALID && strstr(reason, "is the source itself")))
        return g_strdup_printf("Failed to get \"write\" lock\nIs another process using the image [%s]?",
                               path);
    if (place != 0)
        return g_strdup_printf("Could not create '%s': %s", path, g_strerror(place));
    if (create->data_file && (place = errno_of_place(create->data_file)) != 0)
        return g_strdup_printf("Could not create '%s': %s", create->data_file, g_strerror(place));
    if (error->code == KHO_ERROR_INVALID && is_too_large(create))
        return g_strdup_printf("The image size is too large for file format '%s'%s", create->format,
                               create->cluster_bytes ? " (try using a larger cluster size)" : "");
    return g_strdup(reason);
}

KhoImageSource
qimg_source_image(const QimgSource *source, KhoImageFlags flags, const KhoJob *job)
{
    return (KhoImageSource){ .path = source->path,
                             .format = source->format,
                             .flags = flags,
                             .gate = &kho_image_gate_open,
                             .job = job,
                             .secrets = qimg_object_secrets(),
                             .key_secret = source->key_secret,
                             .below = source->below,
                             .n_below = source->n_below };
}

gboolean
qimg_source_info(const QimgSource *source, KhoImageInfo *info, GError **error)
{
    const KhoImageSource image = qimg_source_image(source, 0, NULL);

    return kho_image_info_source(&image, info, error);
}

static gboolean
is_encrypted(KhoImage *image)
{
    KhoImageInfo info;

    if (!kho_image_describe(image, &info, NULL))
        return FALSE;
    gboolean encrypted = info.encrypted;
    kho_image_info_clear(&info);
    return encrypted;
}

/* Headers alone can be read of an encrypted image that nobody named a secret for; those below are opened by
 * whichever fits, where none was named. What is missing, as QEMU says it, or NULL. */
static char *
lacks_key(const QimgSource *source, KhoImage *image, KhoImageFlags flags)
{
    GString *fault = g_string_new(NULL);
    gboolean has_key = source->key_secret != NULL;

    for (; image && !(flags & KHO_IMAGE_NO_DATA); image = kho_image_backing(image)) {
        if (!has_key && is_encrypted(image)) {
            g_string_append_printf(fault, "Parameter '%s' is required for cipher",
                                   key_word(kho_image_format(image)));
            return g_string_free(fault, FALSE);
        }
        g_string_append(fault, "Could not open backing file: ");
        has_key = qimg_object_secrets() != NULL;
    }
    g_string_free(fault, TRUE);
    return NULL;
}

/* A secret that is named and that there is not, as QEMU says it, or NULL. */
static char *
lacks_secret(const QimgSource *source)
{
    const KhoSecrets *secrets = qimg_object_secrets();
    GString *fault = g_string_new(NULL);

    for (guint depth = 0; depth <= source->n_below; depth++) {
        const char *key = depth == 0 ? source->key_secret : source->below[depth - 1].key_secret;

        if (key && (!secrets || !kho_secrets_has(secrets, key))) {
            g_string_append_printf(fault, "No secret with id '%s'", key);
            return g_string_free(fault, FALSE);
        }
        g_string_append(fault, "Could not open backing file: ");
    }
    g_string_free(fault, TRUE);
    return NULL;
}

KhoImage *
qimg_source_open(const QimgSource *source, KhoImageFlags flags)
{
    const KhoImageSource open = qimg_source_image(source, flags, NULL);
    g_autofree char *missing = lacks_secret(source);
    g_autoptr(GError) error = NULL;
    g_autoptr(KhoImage) image = missing ? NULL : kho_image_open_source(&open, &error);

    if (image)
        missing = lacks_key(source, image, flags);
    if (!missing && !image)
        missing = qimg_open_fault(source->path, source->format, flags, error);
    if (!missing)
        return g_steal_pointer(&image);
    qimg_error("Could not open '%s': %s", source->name, missing);
    return NULL;
}

KhoImage *
qimg_open(const char *name, const char *format, gboolean image_opts, KhoImageFlags flags)
{
    g_auto(QimgSource) source = { 0 };

    return qimg_source_read(name, format, image_opts, &source) ? qimg_source_open(&source, flags) : NULL;
}

void
qimg_warn_if_guessed(const QimgSource *source, const KhoImage *image)
{
    if (!source->format && g_str_equal(kho_image_format(image), "raw"))
        qimg_note(
            "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write operations on "
            "block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.\n",
            source->path);
}

gboolean
qimg_cache_is_known(const char *mode)
{
    static const char *const modes[] = { "none", "off", "writeback", "writethrough", "directsync", "unsafe" };

    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++)
        if (g_str_equal(modes[i], mode))
            return TRUE;
    return FALSE;
}

static gboolean
cache_mode_is_known(const char *mode, const char *which)
{
    if (qimg_cache_is_known(mode))
        return TRUE;
    qimg_error("Invalid %scache option: %s", which, mode);
    return FALSE;
}

gboolean
qimg_take_source_cache(const char *mode)
{
    return cache_mode_is_known(mode, "source ");
}

gboolean
qimg_take_cache(const char *mode)
{
    return cache_mode_is_known(mode, "");
}

gboolean
qimg_show_snapshot(KhoImage *image, const char *which)
{
    g_autoptr(GError) error = NULL;
    gboolean shown;

    if (g_str_has_prefix(which, "snapshot.")) {
        g_autofree char *id = NULL, *name = NULL;
        g_auto(GStrv) parts = g_strsplit(which, ",", -1);

        for (guint i = 0; parts[i]; i++) {
            if (g_str_has_prefix(parts[i], "snapshot.id=") && !id)
                id = g_strdup(strchr(parts[i], '=') + 1);
            else if (g_str_has_prefix(parts[i], "snapshot.name=") && !name)
                name = g_strdup(strchr(parts[i], '=') + 1);
            else {
                qimg_error("Failed in parsing snapshot param '%s'", which);
                return FALSE;
            }
        }
        shown = kho_image_show_snapshot(image, id, name, &error);
    } else {
        shown = kho_image_show_snapshot(image, which, NULL, NULL)
                || kho_image_show_snapshot(image, NULL, which, &error);
    }
    if (shown)
        return TRUE;
    if (error->code == KHO_ERROR_NOT_FOUND)
        qimg_error("Failed to load snapshot: Can't find snapshot");
    else if (error->code == KHO_ERROR_UNSUPPORTED)
        qimg_error("Failed to load snapshot: Block format '%s' used by device '' does not support "
                   "temporarily loading "
                   "internal snapshots",
                   kho_image_format(image));
    else
        qimg_error("Failed to load snapshot: %s", qimg_reason(error, kho_image_path(image)));
    return FALSE;
}

char *
qimg_find_bitmap(const QimgSource *source, gboolean any)
{
    char *name = NULL;
    KhoImageInfo info;

    if (!qimg_source_info(source, &info, NULL))
        return NULL;
    for (guint i = 0; !name && i < info.bitmaps->len; i++) {
        const KhoImageBitmap *b = info.bitmaps->pdata[i];
        if (any || b->in_use)
            name = g_strdup(b->name);
    }
    kho_image_info_clear(&info);
    return name;
}
