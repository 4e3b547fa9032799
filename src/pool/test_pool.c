/* Rules held: only types that are built are admitted; a build is taken back whole; what counts as a volume;
 * what is refused before any file is made; what a thick, a sparse and a partly reserved volume take. */
#include "base/fd.h"
#include "pool/volume.h"
#include "store/test_scratch.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct {
    char *base;
    ModelPool *pool; /* of folder base/a/b/pool, not built */
} Fixture;

static void
set_up(Fixture *f, gconstpointer unused)
{
    f->base = scratch_make();
    g_autofree char *target = g_build_filename(f->base, "a", "b", "pool", NULL);
    f->pool = model_pool_new(MODEL_POOL_DIR, "pool", target);
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    model_pool_free(f->pool);
    scratch_remove(f->base);
}

static void
build(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *made = NULL;

    g_assert_true(pool_build(f->pool, &made, &error));
    g_assert_no_error(error);
}

static void
assert_refused(GError **error, KhoErrorCode code, const char *says)
{
    g_assert_error(*error, KHO_ERROR, (gint) code);
    g_test_message("%s", (*error)->message);
    g_assert_nonnull(strstr((*error)->message, says));
    g_clear_error(error);
}

static void
test_types(Fixture *f, gconstpointer unused)
{
    for (ModelPoolType type = MODEL_POOL_UNSET; type <= MODEL_POOL_VSTORAGE; type++) {
        g_autoptr(GError) error = NULL;

        f->pool->type = type;
        g_assert_cmpint(pool_check(f->pool, &error), ==, type == MODEL_POOL_DIR);
        if (type != MODEL_POOL_DIR)
            assert_refused(&error, KHO_ERROR_UNSUPPORTED, "pool pool");
    }
}

static void
test_build(Fixture *f, gconstpointer unused)
{
    g_autofree char *top = g_build_filename(f->base, "a", NULL);
    g_autofree char *made = NULL;
    g_autofree char *again = NULL;
    g_autoptr(GError) error = NULL;
    GStatBuf st;

    g_assert_false(pool_start(f->pool, &error));
    assert_refused(&error, KHO_ERROR_NOT_FOUND, "pool-build pool");

    f->pool->permissions.mode = 0710;
    g_assert_true(pool_build(f->pool, &made, &error));
    g_assert_cmpstr(made, ==, top);
    g_assert_cmpint(g_stat(f->pool->target_path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0710);
    g_assert_true(pool_start(f->pool, &error));
    g_assert_true(pool_build(f->pool, &again, &error));
    g_assert_null(again);

    pool_unbuild(f->pool, again);
    g_assert_true(g_file_test(f->pool->target_path, G_FILE_TEST_IS_DIR));
    pool_unbuild(f->pool, made);
    g_assert_false(g_file_test(top, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(f->base, G_FILE_TEST_IS_DIR));
}

/* Modes count for root as for anybody, or no longer. */
static void
heed_modes(gboolean heed)
{
    const guint32 exempt = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct sets[2];

    g_assert_cmpint(syscall(SYS_capget, &head, sets), ==, 0);
    sets[0].effective = heed ? sets[0].effective & ~exempt : sets[0].permitted;
    g_assert_cmpint(syscall(SYS_capset, &head, sets), ==, 0);
}

static void
test_start_refuses_unlistable(Fixture *f, gconstpointer unused)
{
    build(f);
    /* Neither the names nor, with the names, what they name. */
    for (gint mode = 0; mode <= 0444; mode += 0444) {
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(g_chmod(f->pool->target_path, mode), ==, 0);
        heed_modes(TRUE);
        g_assert_false(pool_start(f->pool, &error));
        heed_modes(FALSE);
        assert_refused(&error, KHO_ERROR_DENIED, f->pool->target_path);
    }
    g_assert_cmpint(g_chmod(f->pool->target_path, 0755), ==, 0);
}

/* Links on the way do not make another place of it, and neither does what is still to be made. */
static void
test_place(Fixture *f, gconstpointer unused)
{
    g_autofree char *first = g_build_filename(f->base, "first", NULL);
    g_autofree char *link = g_build_filename(f->base, "link", NULL);
    g_autofree char *deep = g_build_filename(first, "deep", "er", NULL);
    g_autofree char *link_deep = g_build_filename(link, "deep", "er", NULL);
    g_autofree char *beside = g_build_filename(f->base, "deep", "er", NULL);
    struct {
        const char *a, *b;
        gboolean same;
    } pairs[] = { { first, link, TRUE },   { deep, link_deep, TRUE }, { first, deep, FALSE },
                  { deep, beside, FALSE }, { "/", "/..", TRUE },      { first, f->base, FALSE } };

    g_assert_cmpint(g_mkdir(first, 0700), ==, 0);
    g_assert_cmpint(symlink("first", link), ==, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(pairs); i++) {
        g_autoptr(ModelPool) a = model_pool_new(MODEL_POOL_DIR, "a", pairs[i].a);
        g_autoptr(ModelPool) b = model_pool_new(MODEL_POOL_DIR, "b", pairs[i].b);
        g_autofree char *place = pool_place(a);
        g_autofree char *other = pool_place(b);

        g_assert_true((strcmp(place, other) == 0) == pairs[i].same);
    }
}

/* What somebody put there since the build is kept. */
static void
test_unbuild_keeps(Fixture *f, gconstpointer unused)
{
    g_autofree char *other = g_build_filename(f->base, "a", "kept", NULL);
    g_autofree char *made = NULL;

    g_assert_true(pool_build(f->pool, &made, NULL));
    g_assert_true(g_file_set_contents(other, "", 0, NULL));
    pool_unbuild(f->pool, made);
    g_assert_true(g_file_test(other, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(f->pool->target_path, G_FILE_TEST_EXISTS));
}

/* The build fails half way, below a file: the folders above are taken back. */
static void
test_build_fails(Fixture *f, gconstpointer unused)
{
    g_autofree char *file = g_build_filename(f->base, "a", NULL);
    g_autofree char *made = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(file, "", 0, NULL));
    g_assert_false(pool_build(f->pool, &made, &error));
    g_assert_nonnull(strstr(error->message, "pool pool: "));
    g_assert_null(made);
    g_assert_true(g_file_test(file, G_FILE_TEST_IS_REGULAR));
}

static void
test_usage(Fixture *f, gconstpointer unused)
{
    PoolUsage usage;

    build(f);
    g_assert_true(pool_usage(f->pool, &usage, NULL));
    g_assert_cmpuint(usage.capacity_bytes, >, 0);
    g_assert_cmpuint(usage.allocation_bytes + usage.available_bytes, ==, usage.capacity_bytes);
}

static void
put(Fixture *f, const char *name, const void *bytes, gsize len)
{
    g_autofree char *path = pool_volume_path(f->pool, name);

    g_assert_true(g_file_set_contents(path, bytes, (gssize) len, NULL));
}

static void
test_list(Fixture *f, gconstpointer unused)
{
    static const char *const files[] = { "b", "a", "Z", "ä", ".hidden", "-x", "c d" };
    static const char *const expected[] = { "Z", "a", "b", "c d", "ä" };

    build(f);
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++)
        put(f, files[i], "", 0);
    g_autofree char *folder = pool_volume_path(f->pool, "folder");
    g_assert_cmpint(g_mkdir(folder, 0755), ==, 0);
    g_autoptr(GPtrArray) names = pool_list(f->pool, NULL);
    g_assert_cmpuint(names->len, ==, G_N_ELEMENTS(expected));
    for (guint i = 0; i < names->len; i++)
        g_assert_cmpstr(names->pdata[i], ==, expected[i]);
}

static void
test_formats(Fixture *f, gconstpointer unused)
{
    static guint8 iso[40000];
    static const guint8 broken[] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 9 };
    g_autoptr(GError) error = NULL;

    build(f);
    memcpy(iso + 32769, "CD001", 5);
    put(f, "cd", iso, sizeof iso);
    put(f, "short", iso, 32770);
    put(f, "broken", broken, sizeof broken);

    g_autoptr(PoolVolume) cd = pool_volume_read(f->pool, "cd", NULL, NULL);
    g_assert_cmpstr(cd->model->format, ==, "iso");
    g_assert_cmpstr(pool_volume_image_format(cd, NULL), ==, "raw");
    g_autoptr(PoolVolume) shorter = pool_volume_read(f->pool, "short", NULL, NULL);
    g_assert_cmpstr(shorter->model->format, ==, "raw");
    g_assert_cmpuint(shorter->model->physical_bytes, ==, 32770);
    g_autoptr(PoolVolume) damaged = pool_volume_read(f->pool, "broken", NULL, NULL);
    g_assert_cmpstr(damaged->model->format, ==, "unknown");
    g_assert_nonnull(damaged->problem);
    g_assert_null(pool_volume_image_format(damaged, &error));
    g_clear_error(&error);
    g_assert_null(pool_volume_read(f->pool, "none", NULL, &error));
    assert_refused(&error, KHO_ERROR_NOT_FOUND, "pool pool has no volume \"none\"");
    g_assert_null(pool_volume_read(f->pool, "../a", NULL, &error));
    assert_refused(&error, KHO_ERROR_INVALID, "begins with");
}

static guint64
allocated(Fixture *f, const char *name)
{
    g_autoptr(PoolVolume) volume = pool_volume_read(f->pool, name, NULL, NULL);

    g_assert_nonnull(volume);
    g_assert_cmpuint(volume->model->capacity_bytes, ==, 4 << 20);
    g_assert_cmpint(volume->model->permissions.mode, ==, 0600);
    return volume->model->allocation_bytes;
}

static void
create_raw(Fixture *f, const char *name, guint64 allocation_bytes)
{
    g_autoptr(ModelVolume) wanted = model_volume_new(name);
    g_autoptr(GError) error = NULL;

    wanted->capacity_bytes = 4 << 20;
    wanted->allocation_bytes = allocation_bytes;
    g_assert_true(pool_volume_create(f->pool, wanted, FALSE, NULL, NULL, &error));
    g_assert_no_error(error);
}

static void
test_allocation(Fixture *f, gconstpointer unused)
{
    build(f);
    create_raw(f, "thick", MODEL_SIZE_UNSET);
    create_raw(f, "all", 4 << 20);
    create_raw(f, "half", 2 << 20);
    create_raw(f, "sparse", 0);
    g_assert_cmpuint(allocated(f, "thick"), >=, 4 << 20);
    g_assert_cmpuint(allocated(f, "all"), >=, 4 << 20);
    g_assert_cmpuint(allocated(f, "half"), >=, 2 << 20);
    g_assert_cmpuint(allocated(f, "half"), <, 4 << 20);
    g_assert_cmpuint(allocated(f, "sparse"), <, 1 << 20);
}

#define S(text) ((char *) (text))

/* Each row breaks one rule; nothing is made. */
static const struct {
    ModelVolume wanted;
    KhoErrorCode code;
    const char *says;
} refusals[] = {
    { { .name = S("a/b"), .capacity_bytes = 512 }, KHO_ERROR_INVALID, "slash" },
    { { .name = S("v"), .capacity_bytes = 0 }, KHO_ERROR_INVALID, "greater than 0" },
    { { .name = S("v"), .capacity_bytes = MODEL_SIZE_UNSET }, KHO_ERROR_INVALID, "greater than 0" },
    { { .name = S("v"), .capacity_bytes = 512, .allocation_bytes = 513 },
      KHO_ERROR_INVALID,
      "allocation 513" },
    { { .name = S("v"), .capacity_bytes = 512, .format = S("vmdk") }, KHO_ERROR_UNSUPPORTED, "vmdk" },
    { { .name = S("v"), .capacity_bytes = 512, .format = S("iso") }, KHO_ERROR_UNSUPPORTED, "iso" },
    { { .name = S("v"), .capacity_bytes = 512, .backing_path = S("/x"), .backing_format = S("raw") },
      KHO_ERROR_INVALID,
      "raw volume" },
    { { .name = S("v"), .capacity_bytes = 512, .format = S("qcow2"), .backing_path = S("/x") },
      KHO_ERROR_INVALID,
      "/x" },
    { { .name = S("v"), .capacity_bytes = 512, .format = S("qcow2"), .compat = S("2") },
      KHO_ERROR_INVALID,
      "compat '2'" },
    { { .name = S("v"), .capacity_bytes = 512, .permissions.owner = 4242 },
      KHO_ERROR_UNSUPPORTED,
      "<owner>" },
    { { .name = S("v"), .capacity_bytes = 512, .permissions.group = 4242 },
      KHO_ERROR_UNSUPPORTED,
      "<group>" },
};

static void
test_refusals(Fixture *f, gconstpointer unused)
{
    build(f);
    for (gsize i = 0; i < G_N_ELEMENTS(refusals); i++) {
        ModelVolume wanted = refusals[i].wanted;
        g_autoptr(GError) error = NULL;

        wanted.permissions.mode = MODEL_UNSET;
        if (!wanted.permissions.owner)
            wanted.permissions.owner = MODEL_UNSET;
        if (!wanted.permissions.group)
            wanted.permissions.group = MODEL_UNSET;
        g_assert_false(pool_volume_create(f->pool, &wanted, FALSE, &kho_image_gate_open, NULL, &error));
        assert_refused(&error, refusals[i].code, refusals[i].says);
    }
    g_autoptr(GPtrArray) names = pool_list(f->pool, NULL);
    g_assert_cmpuint(names->len, ==, 0);
}

/* Held alone, a volume is nobody else's; held for reading, nobody writes it. */
static void
test_hold(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    build(f);
    create_raw(f, "v", 0);
    g_autofree char *path = pool_volume_path(f->pool, "v");
    KhoImage *reader = pool_volume_hold(path, FALSE, &error);
    g_assert_no_error(error);
    g_assert_null(pool_volume_hold(path, TRUE, &error));
    assert_refused(&error, KHO_ERROR_BUSY, path);
    KhoImage *second = pool_volume_hold(path, FALSE, &error);
    g_assert_no_error(error);
    kho_image_free(second);
    kho_image_free(reader);
    KhoImage *alone = pool_volume_hold(path, TRUE, &error);
    g_assert_no_error(error);
    g_assert_null(pool_volume_hold(path, FALSE, &error));
    assert_refused(&error, KHO_ERROR_BUSY, path);
    g_assert_true(pool_volume_delete(f->pool, "v", &error));
    kho_image_free(alone);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/pool/" name, Fixture, NULL, set_up, fn, tear_down)
    ADD("types", test_types);
    ADD("build", test_build);
    ADD("start-refuses-unlistable", test_start_refuses_unlistable);
    ADD("place", test_place);
    ADD("unbuild-keeps", test_unbuild_keeps);
    ADD("build-fails", test_build_fails);
    ADD("usage", test_usage);
    ADD("list", test_list);
    ADD("formats", test_formats);
    ADD("allocation", test_allocation);
    ADD("refusals", test_refusals);
    ADD("hold", test_hold);
    return g_test_run();
}
