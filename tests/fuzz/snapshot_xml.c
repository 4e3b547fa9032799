/* A snapshot's metadata: whatever is read is written so that it reads and is written the same, also once a
 * merge has moved each of its files, and once they are dropped. */
#include "model/snapshot.h"

#include <stdint.h>
#include <string.h>

#define MOVED "/srv/moved & <renamed>.qcow2"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
check_fixed_point(const ModelSnapshot *s)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *first = model_snapshot_format(s);
    g_autoptr(ModelSnapshot) read = model_snapshot_parse(first, strlen(first), &error);
    g_assert_no_error(error);
    g_autofree char *second = model_snapshot_format(read);

    g_assert_cmpstr(second, ==, first);
    g_assert_cmpstr(read->name, ==, s->name);
    g_assert_cmpstr(read->parent, ==, s->parent);
    g_assert_cmpint(read->deleting, ==, s->deleting);
    g_assert_cmpuint(read->files->len, ==, s->files->len);
    for (guint i = 0; i < s->files->len; i++) {
        const ModelSnapshotFile *had = s->files->pdata[i], *has = read->files->pdata[i];
        g_assert_cmpstr(has->file, ==, had->file);
        g_assert_cmpstr(has->stamp, ==, had->stamp);
    }
}

static void
move_all(ModelSnapshot *s)
{
    for (guint i = 0; i < s->files->len; i++) {
        const ModelSnapshotFile *file = s->files->pdata[i];
        g_autofree char *from = g_strdup(file->file);
        g_assert_true(model_snapshot_move_file(s, from, MOVED, "qcow2"));
        g_assert_cmpstr(file->file, ==, MOVED);
        g_assert_null(file->stamp);
    }
}

static void
drop_all(ModelSnapshot *s)
{
    while (s->files->len > 0) {
        const ModelSnapshotFile *file = s->files->pdata[0];
        guint before = s->files->len;
        g_autofree char *name = g_strdup(file->name);
        g_assert_true(model_snapshot_file(s, name) == file);
        g_assert_true(model_snapshot_drop_file(s, name));
        g_assert_cmpuint(s->files->len, ==, before - 1);
    }
}

/* A snapshot of the machine that the text holds, as kho makes one. */
static void
take_over(const ModelSnapshot *s)
{
    const ModelDomain *definition = model_snapshot_definition(s);
    g_autoptr(ModelSnapshot) own = model_snapshot_new("own");

    if (!definition)
        return;
    model_snapshot_set_domain(own, s->domains->len > 0 ? s->domains->pdata[0] : definition, definition);
    model_snapshot_add_disk(own, "vda", MODEL_LOCATION_EXTERNAL, MOVED, "qcow2");
    model_snapshot_add_file(own, "vda", MOVED, "raw");
    check_fixed_point(own);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelSnapshot) s = model_snapshot_parse((const char *) data, len, &error);

    if (!s) {
        g_assert_true(error->code == KHO_ERROR_INVALID || error->code == KHO_ERROR_UNSUPPORTED);
        g_assert_null(strchr(error->message, '\n'));
        return 0;
    }
    check_fixed_point(s);
    take_over(s);
    move_all(s);
    check_fixed_point(s);
    drop_all(s);
    check_fixed_point(s);
    return 0;
}
