#include "backup/manifest.h"

#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "store/tree.h"

#include <string.h>

/* The text's own hash: over all of it, the hash's digits being zeros. This form stays in all versions to
 * come, so that damage is told from a version that is not known. */
#define SELF_KEY    "manifest-sha256"
#define SELF_MARK   "\"" SELF_KEY "\": \""
#define SELF_ZEROS  "0000000000000000000000000000000000000000000000000000000000000000"
#define DISK_FORMAT "qcow2"

static const char *const compressions[] = { "zstd", "zlib", "none" };

static void
disk_free(gpointer data)
{
    KhoBackupDisk *disk = data;

    g_free(disk->target);
    g_free(disk->file);
    g_free(disk->format);
    g_free(disk->sha256);
    g_free(disk->compression);
    g_free(disk);
}

static void
left_out_free(gpointer data)
{
    KhoBackupLeftOut *left = data;

    g_free(left->what);
    g_free(left->target);
    g_free(left->source);
    g_free(left);
}

KhoBackupPoint *
backup_point_new(const char *machine, const char *name, const char *path)
{
    KhoBackupPoint *point = g_new0(KhoBackupPoint, 1);

    point->machine = g_strdup(machine);
    point->point = g_strdup(name);
    point->path = g_strdup(path);
    point->disks = g_ptr_array_new_with_free_func(disk_free);
    point->left_out = g_ptr_array_new_with_free_func(left_out_free);
    return point;
}

KhoBackupDisk *
backup_disk_add(KhoBackupPoint *point, const char *target)
{
    KhoBackupDisk *disk = g_new0(KhoBackupDisk, 1);

    disk->target = g_strdup(target);
    disk->file = target ? g_strconcat(target, ".qcow2", NULL) : NULL;
    disk->format = g_strdup(DISK_FORMAT);
    g_ptr_array_add(point->disks, disk);
    return disk;
}

KhoBackupLeftOut *
backup_left_out_add(KhoBackupPoint *point, const char *what, const char *target, const char *source)
{
    KhoBackupLeftOut *left = g_new0(KhoBackupLeftOut, 1);

    left->what = g_strdup(what);
    left->target = g_strdup(target);
    left->source = g_strdup(source);
    g_ptr_array_add(point->left_out, left);
    return left;
}

/* --- text ---------------------------------------------------------------------------------------------- */

static json_t *
json_of_size(guint64 bytes)
{
    return json_integer((json_int_t) bytes);
}

static json_t *
json_of_disk(const KhoBackupDisk *disk)
{
    json_t *object = json_object();

    json_set_string(object, "target", disk->target);
    json_set_string(object, "file", disk->file);
    json_set_string(object, "format", disk->format);
    json_object_set_new(object, "capacity-bytes", json_of_size(disk->capacity_bytes));
    json_object_set_new(object, "size-bytes", json_of_size(disk->size_bytes));
    json_set_string(object, "sha256", disk->sha256);
    json_set_string(object, "compression", disk->compression);
    return object;
}

static json_t *
json_of_left_out(const KhoBackupLeftOut *left)
{
    json_t *object = json_object();

    json_set_string(object, "what", left->what);
    json_set_string(object, "target", left->target);
    json_set_string(object, "source", left->source);
    return object;
}

static json_t *
json_of_point(const KhoBackupPoint *point)
{
    json_t *root = json_object(), *machine = json_object(), *xml = json_object();
    json_t *disks = json_array(), *left_out = json_array();

    for (guint i = 0; i < point->disks->len; i++)
        json_array_append_new(disks, json_of_disk(point->disks->pdata[i]));
    for (guint i = 0; i < point->left_out->len; i++)
        json_array_append_new(left_out, json_of_left_out(point->left_out->pdata[i]));
    json_set_string(machine, "name", point->name);
    json_set_string(machine, "uuid", point->uuid);
    json_set_string(xml, "file", BACKUP_XML_FILE);
    json_object_set_new(xml, "size-bytes", json_of_size(point->xml_bytes));
    json_set_string(xml, "sha256", point->xml_sha256);

    json_object_set_new(root, "version", json_integer(BACKUP_MANIFEST_VERSION));
    json_set_string(root, "id", point->id);
    json_object_set_new(root, "machine", machine);
    json_object_set_new(root, "when-ms", json_integer(point->when_ms));
    json_set_string(root, "state", point->state);
    json_set_string(root, "kho-version", point->kho_version);
    json_set_string(root, "qemu-version", point->qemu_version);
    json_object_set_new(root, "definition", xml);
    json_object_set_new(root, "disks", disks);
    json_object_set_new(root, "left-out", left_out);
    json_set_string(root, SELF_KEY, SELF_ZEROS);
    return root;
}

char *
backup_manifest_format(const KhoBackupPoint *point, GError **error)
{
    json_auto json_t *root = json_of_point(point);
    g_autofree char *text = json_text(root);
    g_autofree char *digest = digest_of(text, strlen(text), error);

    if (!digest)
        return NULL;
    memcpy(g_strrstr(text, SELF_MARK) + strlen(SELF_MARK), digest, DIGEST_DIGITS);
    return g_steal_pointer(&text);
}

/* --- reading ------------------------------------------------------------------------------------------- */

/* Does the text hash to what it says of itself? */
static gboolean
check_self(const char *text, gsize len, const char *label, GError **error)
{
    g_autofree char *blank = g_strndup(text, len);
    char *mark = g_strrstr(blank, SELF_MARK);
    char *digits = mark ? mark + strlen(SELF_MARK) : NULL;
    char said[DIGEST_DIGITS + 1] = { 0 };

    if (!digits || strnlen(digits, DIGEST_DIGITS) < DIGEST_DIGITS || strlen(blank) != len)
        return fail(error, KHO_ERROR_CORRUPT, "%s is damaged: it does not hold its own SHA-256", label);
    memcpy(said, digits, DIGEST_DIGITS);
    memcpy(digits, SELF_ZEROS, DIGEST_DIGITS);
    g_autofree char *got = digest_of(blank, len, error);
    if (!got || strcmp(got, said) == 0)
        return got != NULL;
    g_autofree char *shown = error_one_line(said);
    return fail(error, KHO_ERROR_CORRUPT, "%s is damaged: it says that its SHA-256 is %s, and it is %s",
                label, shown, got);
}

static gboolean
get_size(const json_t *object, const char *key, const char *label, guint64 *bytes, GError **error)
{
    gint64 value;

    if (!json_get_int(object, key, label, &value, error))
        return FALSE;
    if (value < 0)
        return fail(error, KHO_ERROR_INVALID, "%s: member '%s' is %" G_GINT64_FORMAT, label, key, value);
    *bytes = (guint64) value;
    return TRUE;
}

static gboolean
get_digest(const json_t *object, const char *label, char **digest, GError **error)
{
    return json_get_string(object, "sha256", label, digest, error)
           && (digest_is_text(*digest)
               || fail(error, KHO_ERROR_INVALID, "%s: member 'sha256' is no SHA-256", label));
}

static gboolean
check_disk(const KhoBackupPoint *point, const KhoBackupDisk *disk, const char *label, GError **error)
{
    gboolean known = FALSE;

    if (!store_name_check(disk->target, "disk", error) || !store_file_name_check(disk->file, "file", error))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(compressions); i++)
        known |= strcmp(disk->compression, compressions[i]) == 0;
    if (!known || strcmp(disk->format, DISK_FORMAT) != 0)
        return fail(error, KHO_ERROR_INVALID, "%s: disk %s has format '%s' and compression '%s'", label,
                    disk->target, disk->format, disk->compression);
    for (guint i = 0; i < point->disks->len; i++) {
        const KhoBackupDisk *other = point->disks->pdata[i];
        if (other != disk
            && (strcmp(other->target, disk->target) == 0 || strcmp(other->file, disk->file) == 0))
            return fail(error, KHO_ERROR_INVALID, "%s: disk %s stands there twice", label, disk->target);
    }
    return TRUE;
}

static gboolean
read_disks(const json_t *list, const char *label, KhoBackupPoint *point, GError **error)
{
    if (!json_is_array(list) || json_array_size(list) > BACKUP_DISKS_MAX)
        return fail(error, KHO_ERROR_INVALID, "%s: member 'disks' is no list of at most %d", label,
                    BACKUP_DISKS_MAX);
    for (gsize i = 0; i < json_array_size(list); i++) {
        const json_t *from = json_array_get(list, i);
        KhoBackupDisk *disk = backup_disk_add(point, NULL);
        g_clear_pointer(&disk->format, g_free);
        if (!json_get_string(from, "target", label, &disk->target, error)
            || !json_get_string(from, "file", label, &disk->file, error)
            || !json_get_string(from, "format", label, &disk->format, error)
            || !get_size(from, "capacity-bytes", label, &disk->capacity_bytes, error)
            || !get_size(from, "size-bytes", label, &disk->size_bytes, error)
            || !get_digest(from, label, &disk->sha256, error)
            || !json_get_string(from, "compression", label, &disk->compression, error)
            || !check_disk(point, disk, label, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
read_left_out(const json_t *list, const char *label, KhoBackupPoint *point, GError **error)
{
    for (gsize i = 0; i < json_array_size(list); i++) {
        const json_t *from = json_array_get(list, i);
        KhoBackupLeftOut *left = backup_left_out_add(point, NULL, NULL, NULL);
        if (!json_get_string(from, "what", label, &left->what, error)
            || !json_opt_string(from, "target", label, &left->target, error)
            || !json_opt_string(from, "source", label, &left->source, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
read_version(const json_t *root, const char *label, GError **error)
{
    gint64 version;

    if (!json_get_int(root, "version", label, &version, error))
        return FALSE;
    return version <= BACKUP_MANIFEST_VERSION
           || fail(error, KHO_ERROR_UNSUPPORTED,
                   "%s has version %" G_GINT64_FORMAT ", this kho knows %d: use a newer kho", label, version,
                   BACKUP_MANIFEST_VERSION);
}

static gboolean
read_members(const json_t *root, const char *label, KhoBackupPoint *point, GError **error)
{
    const json_t *machine = json_object_get(root, "machine");
    const json_t *xml = json_object_get(root, "definition");

    return json_get_string(root, "id", label, &point->id, error)
           && json_get_string(machine, "name", label, &point->name, error)
           && store_name_check(point->name, "machine", error)
           && json_get_string(machine, "uuid", label, &point->uuid, error)
           && json_get_int(root, "when-ms", label, &point->when_ms, error)
           && json_get_string(root, "state", label, &point->state, error)
           && json_get_string(root, "kho-version", label, &point->kho_version, error)
           && json_opt_string(root, "qemu-version", label, &point->qemu_version, error)
           && get_size(xml, "size-bytes", label, &point->xml_bytes, error)
           && get_digest(xml, label, &point->xml_sha256, error)
           && read_disks(json_object_get(root, "disks"), label, point, error)
           && read_left_out(json_object_get(root, "left-out"), label, point, error);
}

/* What was read goes over to @to. */
static void
move_members(KhoBackupPoint *from, KhoBackupPoint *to)
{
    KhoBackupPoint read = *from;

    *from = *to;
    *to = read;
    to->machine = g_steal_pointer(&from->machine);
    to->point = g_steal_pointer(&from->point);
    to->path = g_steal_pointer(&from->path);
}

gboolean
backup_manifest_parse(const char *text, gsize len, const char *label, KhoBackupPoint *point, GError **error)
{
    g_autoptr(KhoBackupPoint) read = backup_point_new(NULL, NULL, NULL);
    g_autoptr(GError) why = NULL;

    if (!check_self(text, len, label, error))
        return FALSE;
    json_auto json_t *root = json_parse(text, len, label, &why);
    if (root && read_version(root, label, &why) && read_members(root, label, read, &why)) {
        move_members(read, point);
        return TRUE;
    }
    /* It is as kho wrote it, or somebody wrote its hash anew: still not what this version writes. */
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID))
        return fail(error, KHO_ERROR_CORRUPT, "%s", why->message);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}
