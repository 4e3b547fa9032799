/* Where the disks of a point go, and whether there is room. */
#include "backup/copy.h"
#include "backup/hash.h"
#include "backup/restore.h"
#include "base/digest.h"
#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/xml.h"
#include "store/tree.h"

#include <fcntl.h>
#include <kho/image.h>
#include <string.h>

/* Beside the name of a disk; long enough to be nobody else's. */
#define HIDDEN_DIGITS 8

static void
disk_free(gpointer data)
{
    RestoreDisk *disk = data;

    g_free(disk->target);
    g_free(disk->source);
    g_free(disk->sha256);
    g_free(disk->path);
    g_free(disk->format);
    g_free(disk->pool);
    g_free(disk->hidden);
    g_free(disk);
}

static RestorePlan *
plan_new(void)
{
    RestorePlan *plan = g_new0(RestorePlan, 1);

    plan->disks = g_ptr_array_new_with_free_func(disk_free);
    return plan;
}

void
restore_plan_free(RestorePlan *plan)
{
    if (!plan)
        return;
    g_free(plan->id);
    g_free(plan->name);
    g_free(plan->uuid);
    g_free(plan->xml);
    g_ptr_array_unref(plan->disks);
    g_free(plan);
}

/* --- the machine -----------------------------------------------------------------------------------------
 */

static gboolean
fail_hash(const char *path, const char *expected, const char *got, GError **error)
{
    return fail(error, KHO_ERROR_CORRUPT, "%s is damaged: its SHA-256 was %s, and is %s", path, expected,
                got);
}

static ModelDisk *
disk_of(const ModelDomain *model, const char *target)
{
    for (guint i = 0; i < model->disks->len; i++) {
        ModelDisk *disk = model->disks->pdata[i];
        if (strcmp(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

static gboolean
is_in(const KhoBackupPoint *point, const char *target)
{
    for (guint i = 0; i < point->disks->len; i++)
        if (strcmp(((const KhoBackupDisk *) point->disks->pdata[i])->target, target) == 0)
            return TRUE;
    return FALSE;
}

static gboolean
is_left_out(const KhoBackupPoint *point, const char *target)
{
    for (guint i = 0; i < point->left_out->len; i++)
        if (g_strcmp0(((const KhoBackupLeftOut *) point->left_out->pdata[i])->target, target) == 0)
            return TRUE;
    return FALSE;
}

/* A disk that a guest writes and that is not in the point would be the original's own: two machines would
 * write to it. */
static gboolean
check_disks(const KhoBackupPoint *point, const ModelDomain *model, GError **error)
{
    for (guint i = 0; i < point->disks->len; i++) {
        const char *target = ((const KhoBackupDisk *) point->disks->pdata[i])->target;
        if (!disk_of(model, target))
            return fail(error, KHO_ERROR_CORRUPT, "%s has no disk %s, which its manifest names", point->path,
                        target);
    }
    for (guint i = 0; i < model->disks->len; i++) {
        const ModelDisk *disk = model->disks->pdata[i];
        gboolean may_lack =
            disk->device == MODEL_DISK_CDROM || disk->device == MODEL_DISK_FLOPPY || disk->readonly;
        if (!disk->source_file && disk->type <= MODEL_SOURCE_FILE)
            continue; /* an empty drive */
        if (!is_in(point, disk->target) && !(may_lack && is_left_out(point, disk->target)))
            return fail(error, KHO_ERROR_CORRUPT, "%s has a disk %s (%s), which its manifest does not hold",
                        point->path, disk->target, disk->source_file ? disk->source_file : "no file");
    }
    return TRUE;
}

ModelDomain *
restore_read_model(const KhoBackupPoint *point, GError **error)
{
    g_autofree char *path = g_build_filename(point->path, BACKUP_XML_FILE, NULL);
    gsize len;
    g_autofree char *text = fd_read_file(path, XML_TEXT_MAX, &len, error);
    g_autofree char *got = text ? digest_of(text, len, error) : NULL;
    g_autoptr(GError) why = NULL;

    if (!got || (strcmp(got, point->xml_sha256) != 0 && !fail_hash(path, point->xml_sha256, got, error)))
        return NULL;
    g_autoptr(ModelDomain) model = model_domain_parse(text, len, &why);
    if (!model)
        fail(error, KHO_ERROR_CORRUPT, "%s is no machine: %s", path, why->message);
    else if (!model->uuid || strcmp(model->name, point->name) != 0 || strcmp(model->uuid, point->uuid) != 0)
        fail(error, KHO_ERROR_CORRUPT, "%s is machine '%s' with uuid %s, its manifest says '%s' with %s",
             path, model->name, model->uuid ? model->uuid : "none", point->name, point->uuid);
    else if (check_disks(point, model, error))
        return g_steal_pointer(&model);
    return NULL;
}

void
restore_rename(ModelDomain *model, const char *name)
{
    g_free(model->name);
    model->name = g_strdup(name);
    g_free(model->uuid);
    model->uuid = g_uuid_string_random();
    for (guint i = 0; i < model->interfaces->len; i++)
        g_clear_pointer(&((ModelInterface *) model->interfaces->pdata[i])->mac, g_free);
}

/* --- places ----------------------------------------------------------------------------------------------
 */

/* Whether every disk can go to where its definition has it. */
static gboolean
may_keep_paths(const KhoBackupPoint *point, const ModelDomain *model)
{
    for (guint i = 0; i < point->disks->len; i++) {
        const ModelDisk *disk = disk_of(model, ((const KhoBackupDisk *) point->disks->pdata[i])->target);
        g_autofree char *folder = disk ? g_path_get_dirname(disk->source_file) : NULL;
        if (!disk || !g_path_is_absolute(disk->source_file)
            || g_file_test(disk->source_file, G_FILE_TEST_EXISTS)
            || g_file_test(disk->source_file, G_FILE_TEST_IS_SYMLINK) || !entry_check_writable(folder, NULL))
            return FALSE;
    }
    return TRUE;
}

static gboolean
place(const RestoreRequest *request, ModelDisk *disk, gboolean keep, GError **error)
{
    const char *name = request->model->name;

    if (keep)
        return TRUE;
    g_autofree char *file = g_strdup_printf("%s-%s.%s", name, disk->target, disk->format);
    g_autofree char *path = g_build_filename(request->folder, file, NULL);
    if (!store_file_name_check(file, "volume", error) || !entry_check_writable(request->folder, error))
        return FALSE;
    if (g_file_test(path, G_FILE_TEST_EXISTS) || g_file_test(path, G_FILE_TEST_IS_SYMLINK))
        return fail(error, KHO_ERROR_EXISTS,
                    "%s exists already: remove it, or restore under another name or into another pool", path);
    g_free(disk->source_file);
    disk->source_file = g_steal_pointer(&path);
    return TRUE;
}

/* Not made from the file's own name, which may be as long as a name can be. */
static char *
hidden_path(const char *path, const char *target, const char *id)
{
    g_autofree char *folder = g_path_get_dirname(path);

    return g_strdup_printf("%s/.%s.%.*s.kho-tmp", folder, target, HIDDEN_DIGITS, id);
}

static gboolean
add_disk(RestorePlan *plan, const RestoreRequest *request, const KhoBackupDisk *from, gboolean keep,
         GError **error)
{
    const KhoBackupPoint *point = request->point;
    ModelDisk *disk = disk_of(request->model, from->target);

    if (!disk || !disk->source_file || disk->type > MODEL_SOURCE_FILE)
        return fail(error, KHO_ERROR_CORRUPT, "%s has no disk %s, which its manifest names", point->path,
                    from->target);
    if (g_strcmp0(disk->format, "raw") != 0 && g_strcmp0(disk->format, "qcow2") != 0)
        return fail(error, KHO_ERROR_UNSUPPORTED, "disk %s has format '%s': raw and qcow2 can be restored",
                    from->target, disk->format ? disk->format : "none");
    if (!place(request, disk, keep, error))
        return FALSE;
    RestoreDisk *to = g_new0(RestoreDisk, 1);
    *to = (RestoreDisk){
        .target = g_strdup(from->target),
        .source = g_build_filename(point->path, from->file, NULL),
        .sha256 = g_strdup(from->sha256),
        .capacity_bytes = from->capacity_bytes,
        .path = g_strdup(disk->source_file),
        .format = g_strdup(disk->format),
        .hidden = hidden_path(disk->source_file, from->target, plan->id),
    };
    g_ptr_array_add(plan->disks, to);
    return TRUE;
}

RestorePlan *
restore_plan_make(const RestoreRequest *request, GError **error)
{
    const KhoBackupPoint *point = request->point;
    g_autoptr(RestorePlan) plan = plan_new();
    gboolean keep = request->keep_paths && may_keep_paths(point, request->model);

    plan->id = g_uuid_string_random();
    plan->name = g_strdup(request->model->name);
    plan->uuid = g_strdup(request->model->uuid);
    for (guint i = 0; i < point->disks->len; i++)
        if (!add_disk(plan, request, point->disks->pdata[i], keep, error))
            return NULL;
    plan->xml = model_domain_format(request->model, MODEL_FORMAT_INACTIVE);
    return g_steal_pointer(&plan);
}

/* --- room ------------------------------------------------------------------------------------------------
 */

gboolean
restore_check_file(const RestoreDisk *disk, const KhoJob *job, GError **error)
{
    HashFile hash = { .path = disk->source };
    gboolean right = hash_files(&hash, 1, job, error);

    if (right && hash.error) {
        g_propagate_error(error, g_steal_pointer(&hash.error));
        right = FALSE;
    }
    right = right
            && (strcmp(hash.sha256, disk->sha256) == 0
                || fail_hash(disk->source, disk->sha256, hash.sha256, error));
    hash_file_clear(&hash);
    return right;
}

static gboolean
measure(const RestoreDisk *disk, guint64 *bytes, GError **error)
{
    g_autoptr(KhoImage) image = backup_open_disk(disk->source, disk->capacity_bytes, error);

    return image && backup_measure(image, bytes, error);
}

/* How much goes to one file system. */
typedef struct {
    dev_t device;
    int folder;
    guint64 bytes;
    const char *path; /* one of the disks */
} Room;

static void
room_clear(gpointer data)
{
    fd_clear(&((Room *) data)->folder);
}

static Room *
room_of(GArray *rooms, const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    Room room = { .path = path };
    struct stat st;
    fd_auto int fd = fd_open(folder, O_RDONLY | O_DIRECTORY, 0, error);

    if (fd < 0 || !fd_stat(fd, &st, folder, error))
        return NULL;
    for (guint i = 0; i < rooms->len; i++)
        if (g_array_index(rooms, Room, i).device == st.st_dev)
            return &g_array_index(rooms, Room, i);
    room.device = st.st_dev;
    room.folder = fd_steal(&fd);
    g_array_append_val(rooms, room);
    return &g_array_index(rooms, Room, rooms->len - 1);
}

gboolean
restore_plan_check_room(const RestorePlan *plan, const KhoJob *job, GError **error)
{
    g_autoptr(GArray) rooms = g_array_new(FALSE, TRUE, sizeof(Room));

    g_array_set_clear_func(rooms, room_clear);
    for (guint i = 0; i < plan->disks->len; i++) {
        const RestoreDisk *disk = plan->disks->pdata[i];
        Room *room = room_of(rooms, disk->path, error);
        g_autoptr(GError) why = NULL;
        if (!room)
            return FALSE;
        if (measure(disk, &room->bytes, &why))
            continue;
        /* Damage is best told by what it is: a file that is not as it was written. */
        if (restore_check_file(disk, job, error))
            g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    for (guint i = 0; i < rooms->len; i++) {
        const Room *room = &g_array_index(rooms, Room, i);
        g_autofree char *label = g_strdup_printf("machine '%s', restored to %s,", plan->name, room->path);
        if (!entry_check_space(room->folder, room->bytes, label, error))
            return FALSE;
    }
    return TRUE;
}

/* --- JSON ------------------------------------------------------------------------------------------------
 */

json_t *
restore_plan_to_json(const RestorePlan *plan)
{
    json_t *root = json_object(), *disks = json_array();

    for (guint i = 0; i < plan->disks->len; i++) {
        const RestoreDisk *disk = plan->disks->pdata[i];
        json_t *object = json_object();
        json_set_string(object, "target", disk->target);
        json_set_string(object, "source", disk->source);
        json_set_string(object, "sha256", disk->sha256);
        json_set_string(object, "path", disk->path);
        json_set_string(object, "format", disk->format);
        json_set_string(object, "pool", disk->pool);
        json_set_string(object, "hidden", disk->hidden);
        json_array_append_new(disks, object);
    }
    json_set_string(root, "id", plan->id);
    json_set_string(root, "name", plan->name);
    json_set_string(root, "uuid", plan->uuid);
    json_set_string(root, "xml", plan->xml);
    json_object_set_new(root, "disks", disks);
    return root;
}

RestorePlan *
restore_plan_from_json(const json_t *json, GError **error)
{
    const json_t *disks = json_object_get(json, "disks");
    g_autoptr(RestorePlan) plan = plan_new();

    if (!json_get_string(json, "id", "the plan", &plan->id, error)
        || !json_get_string(json, "name", "the plan", &plan->name, error)
        || !json_get_string(json, "uuid", "the plan", &plan->uuid, error)
        || !json_get_string(json, "xml", "the plan", &plan->xml, error))
        return NULL;
    for (gsize i = 0; i < json_array_size(disks); i++) {
        const json_t *from = json_array_get(disks, i);
        RestoreDisk *disk = g_new0(RestoreDisk, 1);

        g_ptr_array_add(plan->disks, disk);
        if (!json_get_string(from, "target", "the plan", &disk->target, error)
            || !json_get_string(from, "source", "the plan", &disk->source, error)
            || !json_get_string(from, "sha256", "the plan", &disk->sha256, error)
            || !json_get_string(from, "path", "the plan", &disk->path, error)
            || !json_get_string(from, "format", "the plan", &disk->format, error)
            || !json_opt_string(from, "pool", "the plan", &disk->pool, error)
            || !json_get_string(from, "hidden", "the plan", &disk->hidden, error))
            return NULL;
    }
    return g_steal_pointer(&plan);
}
