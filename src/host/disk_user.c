#include "host/disk_user.h"

#include "base/error.h"
#include "host/running.h"
#include "host/volume.h"
#include "snapshot/folder.h"
#include "store/list.h"
#include "vm/definition.h"

#include <string.h>

static void
disk_free(gpointer data)
{
    HostDisk *disk = data;

    g_free(disk->machine);
    g_free(disk->what);
    g_free(disk->cure);
    g_free(disk->path);
    g_free(disk->format);
    g_free(disk->text);
    g_free(disk->damage);
    g_free(disk);
}

/* Where the rows of one machine go, and what they have in common. */
typedef struct {
    GPtrArray *disks;
    const char *machine;
    const char *of; /* "", or "snapshot s1's " */
    const char *cure;
    gboolean past;
} Collect;

static HostDisk *
add(const Collect *to, const char *what, const char *path, const char *format)
{
    HostDisk *disk = g_new0(HostDisk, 1);

    *disk = (HostDisk){ .machine = g_strdup(to->machine),
                        .what = g_strconcat(to->of, what, NULL),
                        .cure = g_strdup(to->cure),
                        .path = g_strdup(path),
                        .format = g_strdup(format ? format : "raw"),
                        .past = to->past };
    g_ptr_array_add(to->disks, disk);
    return disk;
}

static void
add_model(const Collect *to, const ModelDomain *model)
{
    const struct {
        const char *what, *path;
    } files[] = { { "the kernel", model->kernel }, { "the initrd", model->initrd } };

    for (guint i = 0; i < model->disks->len; i++) {
        const ModelDisk *disk = model->disks->pdata[i];
        g_autofree char *what = g_strdup_printf("disk %s", disk->target ? disk->target : "without a name");
        if (disk->source_file)
            add(to, what, disk->source_file, disk->format);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++)
        if (files[i].path)
            add(to, files[i].what, files[i].path, NULL);
}

static void
add_defined(KhoHost *host, GPtrArray *disks, const char *name)
{
    g_autofree char *cure =
        g_strdup_printf("take it out with `kho edit %s`, or `kho undefine %s`, first", name, name);
    const Collect to = { .disks = disks, .machine = name, .of = "", .cure = cure };
    g_autoptr(ModelDomain) model = vm_definition(host->tree, name, NULL);
    g_autofree char *text = model ? NULL : vm_definition_text(host->tree, name, NULL, NULL);

    if (model) {
        add_model(&to, model);
    } else if (text) { /* else it has gone meanwhile */
        add(&to, "named in the damaged definition", NULL, NULL)->text = g_steal_pointer(&text);
    }
}

static void
add_live(KhoHost *host, GPtrArray *disks, const char *name)
{
    g_autofree char *cure = g_strdup_printf("`kho shutdown %s`, or detach it, first", name);
    const Collect to = { .disks = disks, .machine = name, .of = "", .cure = cure };
    gsize len = 0;
    g_autofree char *text = running_xml(host->tree, name, &len, NULL);
    g_autoptr(ModelDomain) model = text ? model_domain_parse(text, len, NULL) : NULL;

    if (model)
        add_model(&to, model);
}

/* The files that a snapshot closed, and those that the machine had then. */
static void
add_snapshot(GPtrArray *disks, const char *name, const ModelSnapshot *snapshot)
{
    const ModelDomain *model = model_snapshot_definition(snapshot);
    g_autofree char *of = g_strdup_printf("snapshot %s's ", snapshot->name);
    g_autofree char *cure = g_strdup_printf("`kho snapshot-delete %s %s` first", name, snapshot->name);
    Collect to = { .disks = disks, .machine = name, .of = of, .cure = cure };

    for (guint f = 0; f < snapshot->files->len; f++) {
        const ModelSnapshotFile *file = snapshot->files->pdata[f];
        g_autofree char *what = g_strdup_printf("disk %s", file->name);
        if (file->file)
            add(&to, what, file->file, file->format)->fixed = TRUE;
    }
    to.past = TRUE;
    if (model)
        add_model(&to, model);
}

/* Each is read by itself, so that a damaged one hides no other. */
static gboolean
add_snapshots(KhoHost *host, GPtrArray *disks, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(host->tree, name, error);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(GError) why = NULL;
        g_autoptr(ModelSnapshot) snapshot = snapshot_read(host->tree, name, names->pdata[i], &why);
        const Collect to = { .disks = disks, .machine = name, .of = "", .cure = "" };
        if (snapshot)
            add_snapshot(disks, name, snapshot);
        else if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) /* it may have gone meanwhile */
            add(&to, "damaged", NULL, NULL)->damage = g_strdup(why->message);
    }
    return names != NULL;
}

GPtrArray *
host_disks_all(KhoHost *host, GError **error)
{
    g_autoptr(GPtrArray) defined = store_list_domains(host->tree, error);
    g_autoptr(GPtrArray) run = defined ? store_list_domains_run(host->tree, error) : NULL;
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(disk_free);

    if (!run)
        return NULL;
    for (guint i = 0; i < defined->len; i++) {
        add_defined(host, disks, defined->pdata[i]);
        if (!add_snapshots(host, disks, defined->pdata[i], error))
            return NULL;
    }
    for (guint i = 0; i < run->len; i++)
        add_live(host, disks, run->pdata[i]);
    return g_steal_pointer(&disks);
}

gboolean
host_disks_say_raw(const GPtrArray *disks, const char *path)
{
    for (guint i = 0; i < disks->len; i++) {
        const HostDisk *disk = disks->pdata[i];
        if (disk->path && strcmp(disk->format, "raw") == 0 && host_same_file(disk->path, path))
            return TRUE;
    }
    return FALSE;
}

/* Goes down a chain. */
typedef struct {
    const char *path;
    HostGate *pools;
    char *folder;     /* of the disk itself: what lies beside it is as good as in a pool */
    gboolean met;     /* it came to the file */
    gboolean as_data; /* with it: as what holds an image's data, not as a backing file */
    gboolean ended;   /* it leads to where no chain is followed */
} Descent;

static gboolean
holds_data_of(const char *path, const char *image)
{
    KhoImageInfo info = { 0 };

    if (!kho_image_info(image, "qcow2", &info, NULL))
        return FALSE;
    gboolean holds = info.full_data_path && host_same_file(info.full_data_path, path);
    kho_image_info_clear(&info);
    return holds;
}

static gboolean
look_below(const char *path, const char *referrer, gpointer data, GError **error)
{
    Descent *descent = data;
    g_autofree char *folder = g_path_get_dirname(path);

    descent->met |= host_same_file(path, descent->path);
    if (descent->met) {
        descent->as_data = holds_data_of(path, referrer);
        return fail(error, KHO_ERROR_DENIED, "%s was looked for", path);
    }
    descent->ended = !host_same_file(folder, descent->folder)
                     && !descent->pools->gate.admit(path, referrer, descent->pools->gate.data, error);
    return !descent->ended;
}

/* Whether the file is not in the chain below the disk. One that cannot be looked at might lead to it. */
static gboolean
check_below(const HostDisk *disk, const char *path, const char *doing, HostGate *pools, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(disk->path);
    g_autoptr(GError) why = NULL;
    Descent descent = { .path = path, .pools = pools, .folder = folder };
    const KhoImageGate gate = { .admit = look_below, .data = &descent };

    if (strcmp(disk->format, "raw") == 0)
        return TRUE;
    kho_image_free(
        kho_image_open(disk->path, disk->format, KHO_IMAGE_NO_LOCK | KHO_IMAGE_LOCAL, &gate, &why));
    if (descent.met)
        return fail(error, KHO_ERROR_BUSY, "%s is %s of %s (%s) of machine '%s', which %s would break: %s",
                    path, descent.as_data ? "the data file" : "a backing file", disk->what, disk->path,
                    disk->machine, doing, disk->cure);
    return !why || descent.ended || disk->past
           || fail(error, KHO_ERROR_BUSY,
                   "whether %s is needed by %s (%s) of machine '%s' cannot be told: %s: put that "
                   "back, or %s",
                   path, disk->what, disk->path, disk->machine, why->message, disk->cure);
}

static gboolean
check_disk(const HostDisk *disk, const char *path, const char *doing, gboolean but_own, HostGate *pools,
           GError **error)
{
    if (disk->damage)
        return fail(error, KHO_ERROR_BUSY, "whether %s is needed cannot be told: %s", path, disk->damage);
    gboolean is_it = disk->path ? host_same_file(disk->path, path) : strstr(disk->text, path) != NULL;
    if (is_it && (disk->fixed || !but_own))
        return fail(error, KHO_ERROR_BUSY, "%s is %s of machine '%s', which %s would break: %s", path,
                    disk->what, disk->machine, doing, disk->cure);
    return is_it || !disk->path || check_below(disk, path, doing, pools, error);
}

gboolean
host_disks_check_unused(KhoHost *host, const char *path, const char *doing, gboolean but_own, GError **error)
{
    g_autoptr(GPtrArray) disks = host_disks_all(host, error);
    g_auto(HostGate) pools = { 0 };

    if (!disks || !host_gate_init(&pools, host, NULL, error))
        return FALSE;
    for (guint i = 0; i < disks->len; i++)
        if (!check_disk(disks->pdata[i], path, doing, but_own, &pools, error))
            return FALSE;
    return TRUE;
}
