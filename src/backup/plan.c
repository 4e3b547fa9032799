#include "backup/plan.h"

#include "backup/copy.h"
#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "store/tree.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <kho/image.h>
#include <string.h>
#include <unistd.h>

/* Far from those that a start and the plugging of disks use. */
#define FDSET_FIRST (1 << 20)
#define FDSET_LAST  (1 << 30)

/* Data that compresses better than to this share is rare. */
#define COMPRESSED_SHARE 20
/* Definition, manifest, the images' own tables. */
#define BESIDE_BYTES (256 * KIB)

static void
source_free(gpointer data)
{
    BackupSource *source = data;

    g_free(source->path);
    g_free(source->format);
    g_free(source->alias);
    g_free(source);
}

static BackupPlan *
plan_new(void)
{
    BackupPlan *plan = g_new0(BackupPlan, 1);

    plan->sources = g_ptr_array_new_with_free_func(source_free);
    return plan;
}

void
backup_plan_free(BackupPlan *plan)
{
    if (!plan)
        return;
    g_free(plan->store);
    g_free(plan->run_path);
    g_free(plan->emulator);
    g_free(plan->xml);
    kho_backup_point_free(plan->point);
    g_ptr_array_unref(plan->sources);
    g_free(plan);
}

char *
backup_plan_part(const BackupPlan *plan)
{
    return backup_part_path(plan->store, plan->point->machine, plan->point->point);
}

char *
backup_plan_file(const BackupPlan *plan, const char *file)
{
    g_autofree char *part = backup_plan_part(plan);

    return g_build_filename(part, file, NULL);
}

/* --- what goes in, and what is left out ------------------------------------------------------------------
 */

static const char *const compressions[] = {
    [KHO_BACKUP_ZSTD] = "zstd",
    [KHO_BACKUP_ZLIB] = "zlib",
    [KHO_BACKUP_PLAIN] = "none",
};

static void
add_source(BackupPlan *plan, const ModelDisk *disk, const BackupRequest *request)
{
    BackupSource *source = g_new0(BackupSource, 1);
    KhoBackupDisk *copy = backup_disk_add(plan->point, disk->target);

    source->path = g_strdup(disk->source_file);
    source->format = g_strdup(disk->format ? disk->format : "raw");
    source->alias = request->run_path ? g_strdup(disk->alias) : NULL;
    copy->compression = g_strdup(compressions[request->options->compression]);
    g_ptr_array_add(plan->sources, source);
}

static gboolean
sort_disk(BackupPlan *plan, const ModelDisk *disk, const BackupRequest *request, GError **error)
{
    gboolean removable = disk->device == MODEL_DISK_CDROM || disk->device == MODEL_DISK_FLOPPY;

    if (!disk->source_file && disk->type <= MODEL_SOURCE_FILE)
        return TRUE; /* an empty drive */
    if (removable || disk->readonly) {
        backup_left_out_add(plan->point, model_disk_device_word(disk->device), disk->target,
                            disk->source_file);
        return TRUE;
    }
    if (disk->type > MODEL_SOURCE_FILE || disk->device == MODEL_DISK_LUN)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "disk %s of machine '%s' is no file: it cannot be backed up", disk->target,
                    request->model->name);
    if (request->run_path && !disk->alias)
        return fail(error, KHO_ERROR_CORRUPT, "disk %s of machine '%s', which runs, has no alias",
                    disk->target, request->model->name);
    if (!store_name_check(disk->target, "disk", error))
        return FALSE;
    add_source(plan, disk, request);
    return TRUE;
}

static gboolean
sort_files(BackupPlan *plan, const BackupRequest *request, GError **error)
{
    const ModelDomain *model = request->model;
    const struct {
        const char *what, *path;
    } boot[] = { { "kernel", model->kernel },
                 { "initrd", model->initrd },
                 { "loader", model->loader },
                 { "nvram", model->nvram } };

    if (model->disks->len > BACKUP_DISKS_MAX)
        return fail(error, KHO_ERROR_UNSUPPORTED, "machine '%s' has more than %d disks", model->name,
                    BACKUP_DISKS_MAX);
    for (guint i = 0; i < model->disks->len; i++)
        if (!sort_disk(plan, model->disks->pdata[i], request, error))
            return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(boot); i++)
        if (boot[i].path)
            backup_left_out_add(plan->point, boot[i].what, NULL, boot[i].path);
    if (request->memory)
        backup_left_out_add(plan->point, "memory", NULL, request->memory);
    return TRUE;
}

/* --- the store -------------------------------------------------------------------------------------------
 */

/* Whether a point or its part folder stands. */
static gboolean
is_taken(const char *store, const char *machine, const char *name)
{
    g_autofree char *path = backup_point_path(store, machine, name);
    g_autofree char *part = backup_part_path(store, machine, name);

    return g_file_test(path, G_FILE_TEST_EXISTS) || g_file_test(part, G_FILE_TEST_EXISTS);
}

/* The time; where a backup was made in this very second, with a number. */
static char *
name_of_now(const char *store, const char *machine)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H-%M-%SZ");
    g_autofree char *name = g_strdup(time);

    for (guint n = 2; is_taken(store, machine, name); n++) {
        g_free(name);
        name = g_strdup_printf("%s-%u", time, n);
    }
    return g_steal_pointer(&name);
}

static gboolean
check_free(const char *store, const char *machine, const char *name, GError **error)
{
    g_autofree char *path = backup_point_path(store, machine, name);
    g_autofree char *part = backup_part_path(store, machine, name);
    gboolean driven;

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return fail(error, KHO_ERROR_EXISTS,
                    "the store %s has a point '%s' of machine '%s' already: choose another name", store, name,
                    machine);
    if (!g_file_test(part, G_FILE_TEST_EXISTS))
        return TRUE;
    g_autofree char *id = backup_part_id(part, &driven);
    if (driven)
        return fail(error, KHO_ERROR_BUSY, "point '%s' of machine '%s' is being made just now in %s", name,
                    machine, part);
    return fail(error, KHO_ERROR_EXISTS, "an interrupted backup left %s: remove it, or choose another point",
                part);
}

static gboolean
check_writable(const char *store, const char *machine, GError **error)
{
    g_autofree char *folder = backup_machine_path(store, machine);
    const char *where = g_file_test(folder, G_FILE_TEST_EXISTS) ? folder : store;

    return entry_check_writable(where, error);
}

BackupPlan *
backup_plan_make(const BackupRequest *request, GError **error)
{
    const KhoBackupCreate *options = request->options;
    const ModelDomain *model = request->model;
    g_autoptr(BackupPlan) plan = plan_new();

    plan->store = backup_store_path(options->store, error);
    if (!plan->store || (options->point && !store_name_check(options->point, "point", error)))
        return NULL;
    g_autofree char *name = options->point ? g_strdup(options->point) : name_of_now(plan->store, model->name);
    g_autofree char *path = backup_point_path(plan->store, model->name, name);
    if (!check_free(plan->store, model->name, name, error)
        || !check_writable(plan->store, model->name, error))
        return NULL;
    plan->run_path = g_strdup(request->run_path);
    plan->compress = options->compression != KHO_BACKUP_PLAIN;
    plan->first_fdset = g_random_int_range(FDSET_FIRST, FDSET_LAST);
    plan->emulator = g_strdup(model->emulator);
    plan->xml = model_domain_format(model, MODEL_FORMAT_INACTIVE);
    plan->point = backup_point_new(model->name, name, path);
    plan->point->id = g_uuid_string_random();
    plan->point->name = g_strdup(model->name);
    plan->point->uuid = g_strdup(model->uuid);
    plan->point->state = g_strdup(request->state);
    plan->point->kho_version = g_strdup(KHO_VERSION);
    return sort_files(plan, request, error) ? g_steal_pointer(&plan) : NULL;
}

/* --- room ------------------------------------------------------------------------------------------------
 */

/* What the files of the chain take: what is read of them is no more, unless they are compressed. */
static void
taken_by_chain(KhoImage *image, guint64 *bytes)
{
    guint64 capacity_bytes = kho_image_size_bytes(image), found = 0;

    for (; image; image = kho_image_backing(image)) {
        GStatBuf st;
        if (g_stat(kho_image_path(image), &st) == 0)
            found += (guint64) st.st_blocks * 512;
    }
    *bytes += MIN(found, capacity_bytes);
}

/* Of a machine that runs the headers are read at most: its tables may change under the reader. */
static gboolean
measure_one(const BackupPlan *plan, const BackupSource *source, guint64 *bytes, GError **error)
{
    KhoImageFlags flags = KHO_IMAGE_LOCAL | (plan->run_path ? KHO_IMAGE_IDLE_LOCK : KHO_IMAGE_READ);
    g_autoptr(KhoImage) image =
        kho_image_open(source->path, source->format, flags, &kho_image_gate_open, error);

    if (image && plan->run_path)
        taken_by_chain(image, bytes);
    return image && (plan->run_path || backup_measure(image, bytes, error));
}

static gboolean
measure(const BackupPlan *plan, guint64 *bytes, GError **error)
{
    *bytes = 0;
    for (guint i = 0; i < plan->sources->len; i++) {
        g_autoptr(GError) why = NULL;
        if (measure_one(plan, plan->sources->pdata[i], bytes, &why))
            continue;
        const KhoBackupDisk *disk = plan->point->disks->pdata[i];
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk %s of machine '%s': ", disk->target,
                                   plan->point->name);
        return FALSE;
    }
    return TRUE;
}

gboolean
backup_plan_check_room(const BackupPlan *plan, GError **error)
{
    fd_auto int store = fd_open(plan->store, O_RDONLY | O_DIRECTORY, 0, error);
    g_autofree char *label = g_strdup_printf(
        "a backup of machine '%s'%s to %s", plan->point->name,
        plan->compress && plan->run_path ? " (it runs, and its data may not compress)" : "", plan->store);
    guint64 bytes;

    if (store < 0 || !measure(plan, &bytes, error))
        return FALSE;
    /* On a full store a guest's write cannot be copied before, and waits or fails. */
    if (!plan->compress || plan->run_path)
        return entry_check_space(store, bytes, label, error);
    /* How much less compressed data will be is not known before; that little is out of the common. */
    g_autofree char *size = num_format_size(bytes);
    g_autofree char *estimate =
        g_strdup_printf("%s, of %s of data, compressed to a twentieth (an estimate),", label, size);
    return entry_check_space(store, bytes / COMPRESSED_SHARE + BESIDE_BYTES, estimate, error);
}

/* --- JSON ------------------------------------------------------------------------------------------------
 */

json_t *
backup_plan_to_json(const BackupPlan *plan)
{
    json_t *root = json_object(), *disks = json_array(), *left_out = json_array();
    const KhoBackupPoint *point = plan->point;

    for (guint i = 0; i < plan->sources->len; i++) {
        const BackupSource *source = plan->sources->pdata[i];
        const KhoBackupDisk *disk = point->disks->pdata[i];
        json_t *object = json_object();
        json_set_string(object, "target", disk->target);
        json_set_string(object, "compression", disk->compression);
        json_set_string(object, "path", source->path);
        json_set_string(object, "format", source->format);
        json_set_string(object, "alias", source->alias);
        json_array_append_new(disks, object);
    }
    for (guint i = 0; i < point->left_out->len; i++) {
        const KhoBackupLeftOut *left = point->left_out->pdata[i];
        json_t *object = json_object();
        json_set_string(object, "what", left->what);
        json_set_string(object, "target", left->target);
        json_set_string(object, "source", left->source);
        json_array_append_new(left_out, object);
    }
    json_set_string(root, "store", plan->store);
    json_set_string(root, "point", point->point);
    json_set_string(root, "id", point->id);
    json_set_string(root, "name", point->name);
    json_set_string(root, "uuid", point->uuid);
    json_set_string(root, "state", point->state);
    json_set_string(root, "run-path", plan->run_path);
    json_set_string(root, "emulator", plan->emulator);
    json_set_string(root, "xml", plan->xml);
    json_object_set_new(root, "compress", json_boolean(plan->compress));
    json_object_set_new(root, "first-fdset", json_integer(plan->first_fdset));
    json_object_set_new(root, "disks", disks);
    json_object_set_new(root, "left-out", left_out);
    return root;
}

static gboolean
read_sources(BackupPlan *plan, const json_t *list, GError **error)
{
    for (gsize i = 0; i < json_array_size(list); i++) {
        const json_t *from = json_array_get(list, i);
        BackupSource *source = g_new0(BackupSource, 1);
        g_autofree char *target = NULL, *compression = NULL;

        g_ptr_array_add(plan->sources, source);
        if (!json_get_string(from, "target", "the plan", &target, error)
            || !json_get_string(from, "compression", "the plan", &compression, error)
            || !json_get_string(from, "path", "the plan", &source->path, error)
            || !json_get_string(from, "format", "the plan", &source->format, error)
            || !json_opt_string(from, "alias", "the plan", &source->alias, error))
            return FALSE;
        backup_disk_add(plan->point, target)->compression = g_steal_pointer(&compression);
    }
    return TRUE;
}

static void
read_left_out(BackupPlan *plan, const json_t *list)
{
    for (gsize i = 0; i < json_array_size(list); i++) {
        const json_t *from = json_array_get(list, i);
        backup_left_out_add(plan->point, json_string_or(from, "what", ""),
                            json_string_or(from, "target", NULL), json_string_or(from, "source", NULL));
    }
}

BackupPlan *
backup_plan_from_json(const json_t *json, GError **error)
{
    g_autoptr(BackupPlan) plan = plan_new();
    g_autofree char *point = NULL, *name = NULL;

    if (!json_get_string(json, "store", "the plan", &plan->store, error)
        || !json_get_string(json, "point", "the plan", &point, error)
        || !json_get_string(json, "name", "the plan", &name, error)
        || !json_get_string(json, "xml", "the plan", &plan->xml, error)
        || !json_get_bool(json, "compress", "the plan", &plan->compress, error)
        || !json_get_int(json, "first-fdset", "the plan", &plan->first_fdset, error)
        || !json_opt_string(json, "emulator", "the plan", &plan->emulator, error)
        || !json_opt_string(json, "run-path", "the plan", &plan->run_path, error))
        return NULL;
    g_autofree char *path = backup_point_path(plan->store, name, point);
    plan->point = backup_point_new(name, point, path);
    plan->point->name = g_steal_pointer(&name);
    plan->point->kho_version = g_strdup(KHO_VERSION);
    if (!json_get_string(json, "id", "the plan", &plan->point->id, error)
        || !json_get_string(json, "uuid", "the plan", &plan->point->uuid, error)
        || !json_get_string(json, "state", "the plan", &plan->point->state, error)
        || !read_sources(plan, json_object_get(json, "disks"), error))
        return NULL;
    read_left_out(plan, json_object_get(json, "left-out"));
    return g_steal_pointer(&plan);
}
