/* The files of a machine, other than its disks, that QEMU opens by name. It would find most faults too, but
 * says less about them; and what it would wait for must not hold up a start. */
#include "vm/start_files.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

/* /dev/null and its like (mem.c of the kernel): opening another device may wait, or do something to it. */
#define MEMORY_DEVICES 1

static gboolean
check_boot_file(const ModelDomain *model, const char *path, const char *what, GError **error)
{
    g_autoptr(GError) why = NULL;
    struct stat st;

    if (!path)
        return TRUE;
    /* Without waiting for who might write into a pipe: it is looked at before anyone reads it. */
    fd_auto int fd = fd_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &why);
    if (fd >= 0 && fd_stat(fd, &st, path, &why)
        && (S_ISREG(st.st_mode) || fail(&why, KHO_ERROR_INVALID, "%s is not a regular file", path)))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "%s of machine '%s': ", what, model->name);
    return FALSE;
}

/* QEMU makes the file where it is missing. */
static gboolean
check_output_file(const ModelDomain *model, const ModelChardev *chardev, const char *what, GError **error)
{
    const char *path = chardev->source_path;
    struct stat st;

    if (chardev->type != MODEL_CHARDEV_FILE)
        return TRUE;
    if (stat(path, &st) == 0) {
        gboolean memory = S_ISCHR(st.st_mode) && major(st.st_rdev) == MEMORY_DEVICES;
        return S_ISREG(st.st_mode) || memory
               || fail(error, KHO_ERROR_INVALID,
                       "%s of machine '%s' writes to %s, which is not a regular file", what, model->name,
                       path);
    }
    g_autofree char *folder = g_path_get_dirname(path);
    return g_file_test(folder, G_FILE_TEST_IS_DIR)
           || fail(error, KHO_ERROR_NOT_FOUND, "%s of machine '%s' writes to %s, whose folder is not there",
                   what, model->name, path);
}

static gboolean
check_output_files(const ModelDomain *model, const GPtrArray *chardevs, const char *what, GError **error)
{
    for (guint i = 0; i < chardevs->len; i++)
        if (!check_output_file(model, chardevs->pdata[i], what, error))
            return FALSE;
    return TRUE;
}

gboolean
vm_start_files_check(const ModelDomain *model, GError **error)
{
    return check_boot_file(model, model->kernel, "kernel", error)
           && check_boot_file(model, model->initrd, "initrd", error)
           && check_output_files(model, model->serials, "a serial port", error)
           && check_output_files(model, model->consoles, "a console", error);
}
