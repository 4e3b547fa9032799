/* A memory file on disk: whole only when finished, damage is found wherever it is, the mark of use stays; and
 * disks that were written are told from those that were not. */
#include "vm/ramfile.h"

#include "base/fd.h"
#include "store/test_scratch.h"
#include "vm/stamp.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

#define STREAM_BYTES (3 << 20)

static VmSaveHead *
make_head(void)
{
    VmSaveHead *head = vm_savehead_new();

    *head = (VmSaveHead){ .qemu_version = VM_QEMU_VERSION(7, 2, 0),
                          .saved_ms = 5,
                          .live_xml = g_strdup("<domain id='1'/>"),
                          .inactive_xml = g_strdup("<domain/>") };
    return head;
}

/* What QEMU does. */
static void
write_stream(const char *path, guint64 off)
{
    g_autofree guint8 *bytes = g_malloc(STREAM_BYTES);
    fd_auto int fd = fd_open(path, O_RDWR, 0, NULL);

    for (gsize i = 0; i < STREAM_BYTES; i++)
        bytes[i] = (guint8) (i * 7 + i / 4096);
    g_assert_true(fd_pwrite_full(fd, bytes, STREAM_BYTES, off, path, NULL));
}

typedef struct {
    char *folder, *path;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(VmSaveHead) head = make_head();
    g_autoptr(GError) error = NULL;

    f->folder = scratch_make();
    f->path = g_build_filename(f->folder, "a.save", NULL);
    g_assert_true(vm_ramfile_make(f->path, head, &error));
    g_assert_no_error(error);
    g_assert_false(vm_ramfile_make(f->path, head, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_EXISTS);
    g_clear_error(&error);
    g_assert_null(vm_ramfile_read(f->path, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "not whole"));
    g_clear_error(&error);
    write_stream(f->path, head->stream_off);
    g_assert_null(vm_ramfile_read(f->path, NULL));
    g_assert_true(vm_ramfile_finish(f->path, head, "{\"disks\":[]}", NULL, &error));
    g_assert_no_error(error);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    scratch_remove(f->folder);
    g_free(f->path);
}

static void
test_whole(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VmSaveHead) head = vm_ramfile_read(f->path, &error);
    g_autofree char *disks = NULL;

    g_assert_no_error(error);
    g_assert_cmpuint(head->stream_bytes, ==, STREAM_BYTES);
    g_assert_cmpstr(head->live_xml, ==, "<domain id='1'/>");
    g_assert_true(vm_ramfile_check_stream(f->path, head, NULL, &error));
    g_assert_true(vm_ramfile_disks(f->path, head, &disks, &error));
    g_assert_cmpstr(disks, ==, "{\"disks\":[]}");
}

static void
test_used(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < 4; i++) {
        gboolean used = i < 2;
        g_assert_true(vm_ramfile_set_used(f->path, used, &error));
        g_autoptr(VmSaveHead) head = vm_ramfile_read(f->path, &error);
        g_assert_no_error(error);
        g_assert_true(head->used == used);
        g_assert_true(vm_ramfile_check_stream(f->path, head, NULL, &error));
    }
}

/* One bit anywhere is found by one of the three. */
static gboolean
is_good(const char *path, GError **error)
{
    g_autoptr(VmSaveHead) head = vm_ramfile_read(path, error);
    g_autofree char *disks = NULL;

    return head && vm_ramfile_check_stream(path, head, NULL, error)
           && vm_ramfile_disks(path, head, &disks, error);
}

static void
test_garbled(Fixture *f, gconstpointer data)
{
    const guint64 head_bytes = 2 * VM_SAVEFILE_PAGE_BYTES;
    const guint64 places[] = { 0,
                               9,
                               20,
                               500,
                               4095,
                               4096,
                               4100,
                               head_bytes,
                               head_bytes + STREAM_BYTES / 2,
                               head_bytes + STREAM_BYTES - 1,
                               head_bytes + STREAM_BYTES + 3 };
    fd_auto int fd = fd_open(f->path, O_RDWR, 0, NULL);

    g_assert_true(is_good(f->path, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autoptr(GError) error = NULL;
        guint8 was, is;
        g_assert_true(fd_pread_full(fd, &was, 1, places[i], f->path, NULL));
        is = was ^ 0x10;
        g_assert_true(fd_pwrite_full(fd, &is, 1, places[i], f->path, NULL));
        g_assert_false(is_good(f->path, &error));
        g_assert_nonnull(strstr(error->message, f->path));
        g_assert_true(fd_pwrite_full(fd, &was, 1, places[i], f->path, NULL));
    }
    g_assert_true(is_good(f->path, NULL));
}

static void
test_truncated(Fixture *f, gconstpointer data)
{
    const guint64 lengths[] = {
        2 * VM_SAVEFILE_PAGE_BYTES + STREAM_BYTES + 5, 100000, 8192, 8191, 4097, 4096, 4000, 0
    };
    fd_auto int fd = fd_open(f->path, O_RDWR, 0, NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(fd_truncate(fd, lengths[i], f->path, NULL));
        g_assert_null(vm_ramfile_read(f->path, &error));
        g_assert_cmpint(error->code, ==, lengths[i] < 4096 ? KHO_ERROR_INVALID : KHO_ERROR_CORRUPT);
    }
}

static void
test_no_file(Fixture *f, gconstpointer data)
{
    g_autofree char *missing = g_build_filename(f->folder, "b.save", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_null(vm_ramfile_read(missing, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(vm_ramfile_read(f->folder, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
}

static void
test_cancel(Fixture *f, gconstpointer data)
{
    const gint cancelled = 1;
    const KhoJob job = { .cancelled = &cancelled };
    g_autoptr(VmSaveHead) head = vm_ramfile_read(f->path, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_false(vm_ramfile_check_stream(f->path, head, &job, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
}

static void
test_stamps(Fixture *f, gconstpointer data)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>"
        "<disk type='file' device='disk'><source file='%s'/><target dev='vda'/></disk>"
        "<disk type='file' device='cdrom'><source file='/nowhere'/><target dev='hdc' bus='ide'/></disk>"
        "<disk type='file' device='cdrom'><target dev='hdd' bus='ide'/></disk></devices></domain>",
        f->path);
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelDomain) model = model_domain_parse(xml, strlen(xml), &error);
    fd_auto int fd = fd_open(f->path, O_RDWR, 0, NULL);
    const struct timespec other[] = { { 5, 6 }, { 7, 9 } };

    g_assert_no_error(error);
    g_autofree char *stamps = vm_stamps_take(model, &error);
    g_assert_no_error(error);
    g_assert_true(vm_stamps_check(stamps, &error));
    g_auto(GStrv) parts = g_strsplit(stamps, ",\"below\":[]", 2); /* older ones do not have it */
    g_assert_cmpuint(g_strv_length(parts), ==, 2);
    g_autofree char *older = g_strconcat(parts[0], parts[1], NULL);
    g_assert_true(vm_stamps_check(older, &error));
    g_autofree char *garbled = g_strconcat(parts[0], ",\"below\":[{}]", parts[1], NULL);
    g_assert_false(vm_stamps_check(garbled, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_clear_error(&error);
    g_assert_cmpint(futimens(fd, other), ==, 0);
    g_assert_false(vm_stamps_check(stamps, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "disk 'vda'"));
    g_clear_error(&error);
    g_assert_cmpint(g_unlink(f->path), ==, 0);
    g_assert_false(vm_stamps_check(stamps, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    for (const char **bad =
             (const char *[]){ "{", "{}", "{\"disks\":[1]}", "{\"disks\":[{\"target\":1}]}", NULL };
         *bad; bad++) {
        g_clear_error(&error);
        g_assert_false(vm_stamps_check(*bad, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add("/ramfile/" name, Fixture, NULL, set_up, test, tear_down)
    ADD("whole", test_whole);
    ADD("used", test_used);
    ADD("garbled", test_garbled);
    ADD("truncated", test_truncated);
    ADD("no-file", test_no_file);
    ADD("cancel", test_cancel);
    ADD("stamps", test_stamps);
    return g_test_run();
}
