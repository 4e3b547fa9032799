/* The images of a machine that is to be started. */
#include "vm/start_disks.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <kho/image.h>
#include <string.h>

/* Descriptor numbers of images in QEMU: above those that any process has, below those that kho keeps. */
#define FIRST_FD 3
G_STATIC_ASSERT(FIRST_FD + VM_START_FILES_MAX == 100);

void
vm_start_disks_clear(VmStartDisks *found)
{
    g_clear_pointer(&found->disks, g_array_unref);
    g_clear_pointer(&found->layers, g_ptr_array_unref);
    g_clear_pointer(&found->names, g_ptr_array_unref);
}

static gboolean
is_read_only(const ModelDisk *disk)
{
    return disk->readonly || disk->device == MODEL_DISK_CDROM;
}

/* A file of the machine's chains, by what it is and not by its name. */
typedef struct {
    dev_t dev;
    ino_t ino;
    gboolean written;
    const ModelDisk *disk;
    const char *path;
} Layer;

/* A file that one disk writes must be no part of another's chain: they would write over each other, or what a
 * disk stands on would change under it. The image locks of one process do not tell; those of QEMU do, in its
 * own words. */
static gboolean
check_layer(const ModelDomain *model, const Layer *layer, const GArray *seen, GError **error)
{
    for (guint i = 0; i < seen->len; i++) {
        const Layer *other = &g_array_index(seen, Layer, i);
        if (other->disk == layer->disk || (!other->written && !layer->written) || other->ino != layer->ino
            || other->dev != layer->dev)
            continue;
        if (other->written && layer->written)
            return fail(error, KHO_ERROR_INVALID, "disks %s and %s of machine '%s' are the same file %s",
                        other->disk->target, layer->disk->target, model->name, layer->path);
        const Layer *writer = other->written ? other : layer, *reader = other->written ? layer : other;
        return fail(error, KHO_ERROR_INVALID,
                    "disk %s of machine '%s' writes to %s, which disk %s reads: make it read-only, or give "
                    "it an overlay of its own",
                    writer->disk->target, model->name, writer->path, reader->disk->target);
    }
    return TRUE;
}

static guint
chain_length(KhoImage *image)
{
    guint length = 0;

    for (; image; image = kho_image_backing(image))
        length++;
    return length;
}

static gboolean
note_layer(const ModelDomain *model, const ModelDisk *disk, const VmLayer *layer, GArray *seen,
           GError **error)
{
    struct stat st;
    fd_auto int fd = fd_open(layer->path, O_RDONLY | O_NONBLOCK, 0, error);

    if (fd < 0 || !fd_stat(fd, &st, layer->path, error))
        return FALSE;
    const Layer noted = { st.st_dev, st.st_ino, !layer->read_only, disk, layer->path };
    if (!check_layer(model, &noted, seen, error))
        return FALSE;
    g_array_append_val(seen, noted);
    return TRUE;
}

/* One layer an image of the chain, the first writable unless the disk is read-only. */
static gboolean
add_layers(const ModelDisk *disk, KhoImage *image, VmPlan *plan, VmStartDisks *found, GError **error)
{
    guint n_layers = chain_length(image), at = 0;
    VmLayer *layers = g_new0(VmLayer, n_layers);
    VmDisk row = { .layers = layers, .n_layers = n_layers };

    g_ptr_array_add(found->layers, layers);
    for (; image; image = kho_image_backing(image), at++) {
        guint used = plan->files->len;
        if (used >= VM_START_FILES_MAX)
            return fail(error, KHO_ERROR_UNSUPPORTED,
                        "the chains of all disks together have more than %d files", VM_START_FILES_MAX);
        if (kho_image_data_path(image))
            return fail(error, KHO_ERROR_UNSUPPORTED,
                        "%s keeps its data in another file (%s), which machines cannot have yet: convert it",
                        kho_image_path(image), kho_image_data_path(image));
        char *path = g_canonicalize_filename(kho_image_path(image), NULL);
        g_ptr_array_add(found->names, path);
        layers[at] = (VmLayer){
            .fd = (gint) (FIRST_FD + used),
            .fdset = (gint) used,
            .format = strcmp(kho_image_format(image), "qcow2") == 0 ? "qcow2" : "raw",
            .read_only = at > 0 || is_read_only(disk),
            .path = path,
        };
        vm_plan_add_file(plan, path, layers[at].fd, layers[at].read_only);
    }
    g_array_append_val(found->disks, row);
    return TRUE;
}

/* Whether the disk's file may be missing, and is: the drive is empty then. */
static gboolean
drop_missing(ModelDisk *disk)
{
    gboolean optional = g_strcmp0(disk->startup_policy, "optional") == 0;

    if (!optional || g_file_test(disk->source_file, G_FILE_TEST_EXISTS))
        return FALSE;
    g_clear_pointer(&disk->source_file, g_free);
    return TRUE;
}

static gboolean
find_disk(const ModelDomain *model, ModelDisk *disk, VmPlan *plan, VmStartDisks *found, GArray *seen,
          GError **error)
{
    const KhoImageFlags flags = KHO_IMAGE_LOCAL | (is_read_only(disk) ? KHO_IMAGE_READ : KHO_IMAGE_WRITE);
    const VmDisk empty = { 0 };

    if (!disk->source_file || drop_missing(disk)) {
        g_array_append_val(found->disks, empty);
        return TRUE;
    }
    g_autoptr(KhoImage) image = kho_image_open(disk->source_file, disk->format ? disk->format : "raw", flags,
                                               &kho_image_gate_open, error);
    if (!image || !add_layers(disk, image, plan, found, error))
        return FALSE;
    const VmDisk *row = &g_array_index(found->disks, VmDisk, found->disks->len - 1);
    for (gsize i = 0; i < row->n_layers; i++)
        if (!note_layer(model, disk, &row->layers[i], seen, error))
            return FALSE;
    return TRUE;
}

gboolean
vm_start_disks_find(ModelDomain *model, VmPlan *plan, VmStartDisks *found, GError **error)
{
    g_autoptr(GArray) seen = g_array_new(FALSE, FALSE, sizeof(Layer));

    found->disks = g_array_new(FALSE, TRUE, sizeof(VmDisk));
    found->layers = g_ptr_array_new_with_free_func(g_free);
    found->names = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < model->disks->len; i++) {
        ModelDisk *disk = model->disks->pdata[i];
        g_autoptr(GError) why = NULL;
        if (!find_disk(model, disk, plan, found, seen, &why)) {
            g_propagate_prefixed_error(error, g_steal_pointer(&why),
                                       "disk %s of machine '%s': ", disk->target, model->name);
            return FALSE;
        }
    }
    return TRUE;
}
