#include "vm/ramfile.h"

#include "base/crc.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/owner.h"

#include <fcntl.h>
#include <string.h>

#define CHUNK_BYTES (1 << 20)
/* How often progress is told, in chunks. */
#define TELL_CHUNKS 64

static int
open_file(const char *path, int flags, guint64 *bytes, GError **error)
{
    struct stat st;
    fd_auto int fd = fd_open(path, flags | O_NONBLOCK, 0, error);

    if (fd < 0 || !fd_stat(fd, &st, path, error))
        return -1;
    if (!S_ISREG(st.st_mode)) {
        fail(error, KHO_ERROR_INVALID, "%s is not a regular file", path);
        return -1;
    }
    *bytes = (guint64) st.st_size;
    return fd_steal(&fd);
}

gboolean
vm_ramfile_make(const char *path, VmSaveHead *head, GError **error)
{
    gsize len;
    g_autofree guint8 *bytes = vm_savefile_encode(head, &len, error);
    fd_auto int fd = bytes ? owner_open(path, O_RDWR | O_EXCL, 0600, error) : -1;

    return fd >= 0 && fd_pwrite_full(fd, bytes, len, 0, path, error) && fd_close(&fd, path, error);
}

/* The CRC of @len bytes from @off on. */
static gboolean
measure(int fd, guint64 off, guint64 len, const char *path, const KhoJob *job, guint32 *crc, GError **error)
{
    g_autofree guint8 *buf = g_malloc(CHUNK_BYTES);

    *crc = 0;
    for (guint64 done = 0, chunks = 0; done < len; chunks++) {
        gsize n = (gsize) MIN(len - done, CHUNK_BYTES);
        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        if (!fd_pread_full(fd, buf, n, off + done, path, error))
            return FALSE;
        *crc = crc32_add(*crc, buf, n);
        done += n;
        if (job && job->progress && (chunks % TELL_CHUNKS == 0 || done == len))
            job->progress(done, len, job->data);
    }
    return TRUE;
}

/* Writes what may change in a head that stands. */
static gboolean
rewrite_sector(int fd, const char *path, VmSaveHead *head, GError **error)
{
    gsize len;
    g_autofree guint8 *bytes = vm_savefile_encode(head, &len, error);

    return bytes && fd_pwrite_full(fd, bytes, VM_SAVEFILE_SECTOR_BYTES, 0, path, error)
           && fd_sync(fd, path, error);
}

gboolean
vm_ramfile_finish(const char *path, VmSaveHead *head, const char *disks, const KhoJob *job, GError **error)
{
    gsize disks_bytes = disks ? strlen(disks) : 0;
    KhoJob quiet = { .cancelled = job ? job->cancelled : NULL };
    guint64 file_bytes;
    fd_auto int fd = open_file(path, O_RDWR, &file_bytes, error);

    if (fd < 0)
        return FALSE;
    if (disks_bytes > VM_SAVEFILE_DISKS_MAX_BYTES)
        return fail(error, KHO_ERROR_INVALID, "a list of disks of %" G_GSIZE_FORMAT " bytes", disks_bytes);
    if (file_bytes <= head->stream_off)
        return fail(error, KHO_ERROR_IO, "QEMU wrote nothing into %s", path);
    head->stream_bytes = file_bytes - head->stream_off;
    if (!measure(fd, head->stream_off, head->stream_bytes, path, &quiet, &head->stream_crc, error)
        || !fd_pwrite_full(fd, disks ? disks : "", disks_bytes, file_bytes, path, error)
        || !fd_sync(fd, path, error))
        return FALSE;
    head->disks_bytes = (guint32) disks_bytes;
    head->disks_crc = crc32_add(0, disks ? disks : "", disks_bytes);
    head->whole = TRUE;
    return rewrite_sector(fd, path, head, error);
}

static VmSaveHead *
read_head(int fd, guint64 file_bytes, const char *path, GError **error)
{
    guint8 page[VM_SAVEFILE_PAGE_BYTES];
    gsize len = (gsize) MIN(file_bytes, sizeof page);

    if (!fd_pread_full(fd, page, len, 0, path, error)
        || !vm_savefile_head_bytes(page, len, path, &len, error))
        return NULL;
    len = (gsize) MIN(file_bytes, len); /* at most VM_SAVEFILE_HEAD_MAX_BYTES */
    g_autofree guint8 *bytes = g_malloc(len);
    if (!fd_pread_full(fd, bytes, len, 0, path, error))
        return NULL;
    return vm_savefile_decode(bytes, len, file_bytes, path, error);
}

VmSaveHead *
vm_ramfile_read_any(const char *path, GError **error)
{
    guint64 bytes;
    fd_auto int fd = open_file(path, O_RDONLY, &bytes, error);

    return fd < 0 ? NULL : read_head(fd, bytes, path, error);
}

VmSaveHead *
vm_ramfile_read(const char *path, GError **error)
{
    g_autoptr(VmSaveHead) head = vm_ramfile_read_any(path, error);

    if (!head || head->whole)
        return g_steal_pointer(&head);
    fail(error, KHO_ERROR_CORRUPT, "the save file %s is not whole: whoever wrote it did not finish", path);
    return NULL;
}

static gboolean
damaged(const char *path, const char *what, GError **error)
{
    return fail(error, KHO_ERROR_CORRUPT, "the save file %s is damaged: the checksum of its %s is wrong",
                path, what);
}

gboolean
vm_ramfile_check_stream(const char *path, const VmSaveHead *head, const KhoJob *job, GError **error)
{
    guint64 bytes;
    guint32 crc;
    fd_auto int fd = open_file(path, O_RDONLY, &bytes, error);

    return fd >= 0 && measure(fd, head->stream_off, head->stream_bytes, path, job, &crc, error)
           && (crc == head->stream_crc || damaged(path, "memory", error));
}

gboolean
vm_ramfile_disks(const char *path, const VmSaveHead *head, char **disks, GError **error)
{
    guint64 bytes;
    fd_auto int fd = open_file(path, O_RDONLY, &bytes, error);
    /* decoding has bounded it by VM_SAVEFILE_DISKS_MAX_BYTES */
    g_autofree char *text = g_malloc0((gsize) head->disks_bytes + 1);

    if (fd < 0
        || !fd_pread_full(fd, text, head->disks_bytes, head->stream_off + head->stream_bytes, path, error))
        return FALSE;
    if (crc32_add(0, text, head->disks_bytes) != head->disks_crc)
        return damaged(path, "list of disks", error);
    *disks = head->disks_bytes > 0 ? g_steal_pointer(&text) : NULL;
    return TRUE;
}

gboolean
vm_ramfile_set_used(const char *path, gboolean used, GError **error)
{
    guint64 bytes;
    g_autoptr(VmSaveHead) head = vm_ramfile_read(path, error);

    if (!head || head->used == used)
        return head != NULL;
    fd_auto int fd = open_file(path, O_RDWR, &bytes, error);
    head->used = used;
    return fd >= 0 && rewrite_sector(fd, path, head, error);
}
