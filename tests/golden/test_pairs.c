/* Pairs of files: NAME.xml and what must come of it. In domain/, pool/, volume/ and snapshot/ that is
 * NAME.out, the XML that kho stores, which must come out unchanged when it is read again; in live/, NAME.out
 * is the XML of a running machine; in argv/, NAME.args is QEMU's arguments, one a line. NAME.err, anywhere,
 * is the one line that refuses it. KHO_GOLDEN_UPDATE=1 writes them anew, for a look with git diff. */
#include "model/domain.h"
#include "model/pool.h"
#include "model/snapshot.h"
#include "model/volume.h"
#include "vm/argv.h"

#include <string.h>

#define UUID "c0ffee00-1111-4222-8333-444444444444"

static char *golden_dir;

/* ---- what each folder does with its text: the result, or NULL and the error ---- */

static ModelDomain *
define(const char *text, GError **error)
{
    static const ModelDefaults defaults = { .emulator = "/usr/bin/qemu-system-x86_64",
                                            .arch = "x86_64",
                                            .machine = "pc" };
    g_autoptr(ModelDomain) d = model_domain_parse(text, strlen(text), error);

    if (d && !d->uuid)
        d->uuid = g_strdup(UUID);
    if (!d || !model_domain_complete(d, &defaults, error))
        return NULL;
    return g_steal_pointer(&d);
}

static char *
run_domain(const char *text, GError **error)
{
    g_autoptr(ModelDomain) d = define(text, error);

    return d ? model_domain_format(d, MODEL_FORMAT_INACTIVE) : NULL;
}

static char *
run_live(const char *text, GError **error)
{
    g_autoptr(ModelDomain) d = define(text, error);

    if (!d)
        return NULL;
    d->id = 7;
    model_domain_assign_aliases(d);
    return model_domain_format(d, MODEL_FORMAT_LIVE);
}

static char *
run_pool(const char *text, GError **error)
{
    g_autoptr(ModelPool) p = model_pool_parse(text, strlen(text), error);

    if (p && !p->uuid)
        p->uuid = g_strdup(UUID);
    return p && model_pool_complete(p, error) ? model_pool_format(p) : NULL;
}

static char *
run_volume(const char *text, GError **error)
{
    g_autoptr(ModelVolume) v = model_volume_parse(text, strlen(text), error);

    return v ? model_volume_format(v) : NULL;
}

static char *
run_snapshot(const char *text, GError **error)
{
    g_autoptr(ModelSnapshot) s = model_snapshot_parse(text, strlen(text), error);

    return s ? model_snapshot_format(s) : NULL;
}

/* The file "a~qcow2~raw.img" of a disk of format F is a chain of F, qcow2, raw. Numbers count up over all
 * disks. */
static VmLayer *
layers_of(const ModelDisk *disk, gint *next, gsize *n)
{
    g_autofree char *base = g_path_get_basename(disk->source_file);
    g_autofree char *stem = g_strndup(base, strcspn(base, "."));
    g_auto(GStrv) formats = g_strsplit(stem, "~", -1);
    VmLayer *layers;

    *n = g_strv_length(formats);
    layers = g_new0(VmLayer, *n);
    for (gsize i = 0; i < *n; i++, ++*next) {
        const char *format = i == 0 ? disk->format : formats[i];
        layers[i] = (VmLayer){ .fd = 10 + *next,
                               .fdset = *next,
                               .format = strcmp(format, "raw") == 0 ? "raw" : "qcow2",
                               .read_only = i > 0 || disk->readonly };
    }
    return layers;
}

static char *
run_argv(const char *text, GError **error)
{
    g_autoptr(ModelDomain) d = define(text, error);
    g_autoptr(GPtrArray) owned = g_ptr_array_new_with_free_func(g_free);
    gint next = 0;

    if (!d)
        return NULL;
    model_domain_assign_aliases(d);
    g_autofree VmDisk *disks = g_new0(VmDisk, d->disks->len + 1);
    for (guint i = 0; i < d->disks->len; i++) {
        const ModelDisk *disk = g_ptr_array_index(d->disks, i);
        if (!disk->source_file)
            continue;
        disks[i].layers = layers_of(disk, &next, &disks[i].n_layers);
        g_ptr_array_add(owned, (gpointer) disks[i].layers);
    }
    VmResources r = { .monitor_fd = 100,
                      .kvm = g_strcmp0(d->name, "no-kvm-here") != 0,
                      .vnc_port = 5907,
                      .disks = disks,
                      .n_disks = d->disks->len };
    g_autoptr(GError) early = NULL;
    gboolean early_ok = vm_argv_check(d, &early);
    g_auto(GStrv) argv = vm_argv_build(d, &r, error);
    if (r.kvm) /* otherwise what it knows without resources is the same verdict */
        g_assert_cmpint(early_ok, ==, argv != NULL);
    if (!argv)
        return NULL;
    g_autofree char *lines = g_strjoinv("\n", argv);
    return g_strconcat(lines, "\n", NULL);
}

static const struct {
    const char *folder, *ending;
    char *(*run)(const char *text, GError **error);
    gboolean is_fixed_point;
} folders[] = {
    { "domain", ".out", run_domain, TRUE },     { "live", ".out", run_live, FALSE },
    { "pool", ".out", run_pool, TRUE },         { "volume", ".out", run_volume, TRUE },
    { "snapshot", ".out", run_snapshot, TRUE }, { "argv", ".args", run_argv, FALSE },
};

/* ---- one pair ---- */

typedef struct {
    gsize folder;
    char *stem; /* path without ".xml" */
} Pair;

static char *
read_file(const char *stem, const char *ending)
{
    g_autofree char *path = g_strconcat(stem, ending, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : NULL;
}

static void
update(const char *stem, const char *ending, const char *text)
{
    g_autofree char *path = g_strconcat(stem, ending, NULL);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, text, -1, &error);
    g_assert_no_error(error);
}

static void
test_pair(gconstpointer data)
{
    const Pair *p = data;
    const char *ending = folders[p->folder].ending;
    g_autofree char *text = read_file(p->stem, ".xml");
    g_autoptr(GError) error = NULL;
    g_autofree char *got = folders[p->folder].run(text, &error);
    g_autofree char *message = got ? NULL : g_strconcat(error->message, "\n", NULL);

    if (g_getenv("KHO_GOLDEN_UPDATE"))
        update(p->stem, got ? ending : ".err", got ? got : message);
    g_autofree char *wanted = read_file(p->stem, ending);
    g_autofree char *refusal = read_file(p->stem, ".err");
    if ((wanted != NULL) == (refusal != NULL))
        g_error("%s.xml needs either %s or .err beside it", p->stem, ending);
    g_assert_cmpstr(got ? got : message, ==, wanted ? wanted : refusal);
    if (got && folders[p->folder].is_fixed_point) {
        g_autofree char *again = folders[p->folder].run(got, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(again, ==, got);
    }
}

static void
add_folder(gsize folder)
{
    g_autofree char *path = g_build_filename(golden_dir, folders[folder].folder, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint found = 0;

    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        g_autofree char *stem = g_strndup(name, strcspn(name, "."));
        if (!g_str_has_suffix(name, ".xml")) {
            g_autofree char *source = g_strdup_printf("%s/%s.xml", path, stem);
            if (!g_file_test(source, G_FILE_TEST_EXISTS))
                g_error("%s/%s has no %s.xml", path, name, stem);
            continue;
        }
        Pair *p = g_new0(Pair, 1);
        p->folder = folder;
        p->stem = g_build_filename(path, stem, NULL);
        g_autofree char *test = g_strdup_printf("/golden/%s/%s", folders[folder].folder, stem);
        g_test_add_data_func(test, p, test_pair);
        found++;
    }
    if (found == 0)
        g_error("%s holds no pairs", path);
}

int
main(int argc, char **argv)
{
    g_autofree char *here = g_path_get_dirname(argv[0]);

    g_test_init(&argc, &argv, NULL);
    golden_dir = g_build_filename(here, "..", "tests", "golden", NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++)
        add_folder(i);
    return g_test_run();
}
