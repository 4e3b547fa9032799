/* Names of overlays, and plans as JSON. */
#include "snapshot/overlay.h"
#include "snapshot/plan.h"

#include "store/test_scratch.h"
#include <kho/image.h>

static void
test_stem(void)
{
    static const struct {
        const char *path, *stem;
        gboolean is_overlay;
    } rows[] = {
        { "/a/web1.qcow2", "web1", FALSE },
        { "/a/web1.raw", "web1", FALSE },
        { "/a/web1.img", "web1", FALSE },
        { "/a/web1", "web1", FALSE },
        { "/a/web1.7.qcow2", "web1.7", FALSE },
        { "/a/web1.7.qcow2", "web1", TRUE },
        { "/a/web1.vmdk", "web1.vmdk", FALSE },
        { "/a/.qcow2", ".qcow2", FALSE },
        { "/a/1.qcow2", "1", TRUE },
        { "/a/.7.qcow2", ".7", TRUE },
        { "/a/web1..qcow2", "web1.", TRUE },
        { "/a/web1.7a.qcow2", "web1.7a", TRUE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *stem = overlay_stem(rows[i].path, rows[i].is_overlay);
        g_assert_cmpstr(stem, ==, rows[i].stem);
    }
}

static void
test_choose(void)
{
    char *folder = scratch_make();
    g_autofree char *file = g_strconcat(folder, "/a.raw", NULL);
    g_autofree char *there = g_strconcat(folder, "/a.3.qcow2", NULL);
    g_autofree char *dangling = g_strconcat(folder, "/a.4.qcow2", NULL);
    g_auto(SnapshotOverlays) overlays = { .next = 3, .paths = g_ptr_array_new_with_free_func(g_free) };

    g_assert_true(g_file_set_contents(there, "", 0, NULL));
    g_assert_cmpint(symlink("/nowhere", dangling), ==, 0);
    g_autofree char *first = overlay_choose(file, &overlays);
    g_assert_true(g_str_has_suffix(first, "/a.5.qcow2"));
    g_assert_cmpuint(overlays.next, ==, 6);
    g_autofree char *above = overlay_choose(first, &overlays);
    g_assert_true(g_str_has_suffix(above, "/a.6.qcow2"));
    g_autofree char *second = overlay_choose(file, &overlays); /* two disks of one stem */
    g_assert_true(g_str_has_suffix(second, "/a.7.qcow2"));
    scratch_remove(folder);
}

static void
test_make(void)
{
    char *folder = scratch_make();
    g_autofree char *file = g_strconcat(folder, "/a.raw", NULL);
    g_autofree char *overlay = g_strconcat(folder, "/a.1.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    KhoImageInfo info;
    struct stat st;

    g_assert_true(g_file_set_contents(file, "0123456789", 10, NULL));
    g_assert_cmpint(chmod(file, 0640), ==, 0);
    for (guint round = 0; round < 2; round++) {
        g_assert_true(overlay_make(overlay, file, "raw", NULL, &error));
        g_assert_no_error(error);
    }
    g_assert_true(kho_image_info(overlay, "qcow2", &info, &error));
    g_assert_cmpstr(info.backing_file, ==, "a.raw");
    g_assert_cmpstr(info.backing_format, ==, "raw");
    kho_image_info_clear(&info);
    g_assert_cmpint(stat(overlay, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0640);

    for (guint round = 0; round < 2; round++)
        g_assert_true(overlay_take_back(overlay, file, &error));
    g_assert_cmpint(access(overlay, F_OK), ==, -1);
    /* what another put there is neither taken nor removed */
    g_assert_true(g_file_set_contents(overlay, "mine", 4, NULL));
    g_assert_false(overlay_make(overlay, file, "raw", NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_EXISTS);
    g_clear_error(&error);
    g_assert_true(overlay_take_back(overlay, file, &error));
    g_assert_cmpint(access(overlay, F_OK), ==, 0);
    scratch_remove(folder);
}

typedef struct {
    char *name, *maybe;
} Row;

typedef struct {
    char *title;
    gint64 count;
    gboolean flag;
    GPtrArray *rows;
} Plan;

static const PlanField row_fields[] = {
    PLAN_FIELD(PLAN_STRING, "name", Row, name),
    PLAN_FIELD(PLAN_MAYBE, "maybe", Row, maybe),
};
static const PlanTable row_table = PLAN_TABLE(Row, row_fields);
static const PlanField fields[] = {
    PLAN_FIELD(PLAN_STRING, "title", Plan, title),
    PLAN_FIELD(PLAN_INT, "count", Plan, count),
    PLAN_FIELD(PLAN_FLAG, "flag", Plan, flag),
    PLAN_LIST("rows", Plan, rows, &row_table),
};
static const PlanTable table = PLAN_TABLE(Plan, fields);

static void
test_plan(void)
{
    Plan *plan = plan_new(&table);
    g_autoptr(GError) error = NULL;

    plan->title = g_strdup("t");
    plan->count = -7;
    plan->flag = TRUE;
    Row *row = plan_add(&row_table, plan->rows);
    row->name = g_strdup("vda");
    json_auto json_t *json = plan_write(&table, plan);
    plan_free(&table, plan);

    Plan *read = plan_read(&table, json, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(read->title, ==, "t");
    g_assert_cmpint(read->count, ==, -7);
    g_assert_true(read->flag);
    g_assert_cmpuint(read->rows->len, ==, 1);
    g_assert_cmpstr(((Row *) read->rows->pdata[0])->name, ==, "vda");
    g_assert_null(((Row *) read->rows->pdata[0])->maybe);
    plan_free(&table, read);

    json_object_del(json_array_get(json_object_get(json, "rows"), 0), "name");
    g_assert_null(plan_read(&table, json, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_clear_error(&error);
    json_object_set_new(json, "version", json_integer(SNAPSHOT_PLAN_VERSION + 1));
    g_assert_null(plan_read(&table, json, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/snapshot/stem", test_stem);
    g_test_add_func("/snapshot/choose", test_choose);
    g_test_add_func("/snapshot/make", test_make);
    g_test_add_func("/snapshot/plan", test_plan);
    return g_test_run();
}
