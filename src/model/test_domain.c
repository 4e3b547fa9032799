#include "model/device_table.h"
#include "model/domain.h"
#include "model/pool.h"
#include "model/snapshot.h"
#include "model/table.h"
#include "model/volume.h"

#include <string.h>

static const ModelDefaults defaults = { .emulator = "/usr/bin/qemu-system-x86_64",
                                        .arch = "x86_64",
                                        .machine = "pc" };

static ModelDomain *
domain_of(const char *text)
{
    g_autoptr(GError) error = NULL;
    ModelDomain *d = model_domain_parse(text, strlen(text), &error);

    g_assert_no_error(error);
    g_assert_true(model_domain_complete(d, &defaults, &error));
    g_assert_no_error(error);
    return d;
}

#define MINIMAL "<domain type='qemu'><name>min</name><memory>131072</memory><os><type>hvm</type></os>"

/* Rows of one element stand together, and its text row comes first: the walk relies on it. */
static void
check_table(const ModelTable *table)
{
    g_assert_cmpuint(table->n_rows, <=, MODEL_ROWS_MAX);
    for (gsize i = 0; i < table->n_rows; i++) {
        const ModelRow *r = &table->rows[i];
        g_assert_cmpuint(r->member, <, table->bytes);
        g_assert_true(r->path[0] == '@' || r->path[0] == '/');
        if (r->kind == MODEL_LIST)
            check_table(r->sub);
        for (const char *end = r->path + 1; *end; end++) {
            if (*end != '/' && *end != '@')
                continue;
            gsize len = (gsize) (end - r->path);
            gboolean ended = FALSE;
            for (gsize j = i + 1; j < table->n_rows; j++) {
                const char *other = table->rows[j].path;
                gboolean below = strncmp(other, r->path, len) == 0 && strchr("/@", other[len]);
                if (below && ended)
                    g_error("%s: row %s stands apart from %s", table->element, other, r->path);
                ended |= !below;
            }
        }
    }
}

static void
test_tables(void)
{
    g_autoptr(ModelPool) pool = model_pool_new(MODEL_POOL_DIR, "p", "/p");
    g_autoptr(ModelVolume) volume = model_volume_new("v");

    check_table(&model_domain_table);
    check_table(pool->node.table);
    check_table(volume->node.table);
}

static void
test_defaults(void)
{
    g_autoptr(ModelDomain) d = domain_of(MINIMAL "</domain>");

    g_assert_nonnull(d->uuid);
    g_assert_true(g_uuid_string_is_valid(d->uuid));
    g_assert_cmpuint(d->memory_kib, ==, 131072);
    g_assert_cmpuint(d->current_memory_kib, ==, 131072);
    g_assert_cmpint(d->vcpus, ==, 1);
    g_assert_cmpstr(d->machine, ==, "pc");
    g_assert_cmpint(d->on_reboot, ==, MODEL_ACTION_RESTART);
    g_assert_cmpuint(d->boots->len, ==, 1);
    g_assert_cmpuint(d->balloons->len, ==, 1);
}

/* define -> dumpxml -> define changes nothing, with and without unknown content. */
static void
test_fixed_point(void)
{
    g_autoptr(ModelDomain) d =
        domain_of(MINIMAL "<iothreads>2</iothreads><x:y xmlns:x='urn:x'><x:z/></x:y>"
                          "<metadata><a:b xmlns:a='urn:a'>t</a:b></metadata>"
                          "<devices><disk><source file='/a'/><target dev='vda'/><iotune/></disk>"
                          "<sound model='ac97'/><disk device='cdrom'><target dev='hda'/></disk>"
                          "<console type='pty'/><interface type='user'/></devices></domain>");
    g_autofree char *first = model_domain_format(d, MODEL_FORMAT_INACTIVE);
    g_autoptr(ModelDomain) again = domain_of(first);
    g_autofree char *second = model_domain_format(again, MODEL_FORMAT_INACTIVE);

    g_assert_cmpstr(first, ==, second);
    g_assert_nonnull(strstr(first, "<x:y xmlns:x='urn:x'>"));
    g_assert_nonnull(strstr(first, "<sound model='ac97'/>"));
    g_assert_nonnull(strstr(first, "<iotune/>"));
    g_assert_nonnull(strstr(first, "<a:b xmlns:a='urn:a'>t</a:b>"));
}

static void
test_unknown(void)
{
    g_autoptr(ModelDomain) d =
        domain_of(MINIMAL "\n<devices>\n<sound model='ac97'/><disk><source file='/a' x='1'/>\n"
                          "<target dev='vda'/></disk></devices><metadata><y/></metadata></domain>");
    g_autoptr(GPtrArray) unknown = model_domain_unknown(d);

    g_assert_cmpuint(unknown->len, ==, 2);
    g_assert_cmpstr(g_ptr_array_index(unknown, 0), ==, "<sound> in line 3");
    g_assert_cmpstr(g_ptr_array_index(unknown, 1), ==, "attribute 'x' of <source> in line 3");
}

/* The live copy has aliases; its inactive text does not. */
static void
test_live(void)
{
    g_autoptr(ModelDomain) d =
        domain_of(MINIMAL "<devices><disk><source file='/a'/><target dev='vdb'/></disk>"
                          "<disk><source file='/b'/><target dev='sda'/><alias name='ua-mine'/></disk>"
                          "<disk device='cdrom'><target dev='hdc'/></disk><serial type='pty'/>"
                          "<interface type='user'/></devices></domain>");
    g_autofree char *before = model_domain_format(d, MODEL_FORMAT_INACTIVE);

    d->id = 3;
    model_domain_assign_aliases(d);
    ((ModelChardev *) g_ptr_array_index(d->serials, 0))->source_path = g_strdup("/dev/pts/4");
    ModelDisk **disks = (ModelDisk **) d->disks->pdata;
    g_assert_cmpstr(disks[0]->alias, ==, "virtio-disk1");
    g_assert_cmpstr(disks[1]->alias, ==, "ua-mine");
    g_assert_cmpstr(disks[2]->alias, ==, "ide0-1-0");
    g_autofree char *live = model_domain_format(d, MODEL_FORMAT_LIVE);
    g_assert_nonnull(strstr(live, "<domain type='qemu' id='3'>"));
    g_assert_nonnull(strstr(live, "<source path='/dev/pts/4'/>"));
    g_assert_nonnull(strstr(live, "<alias name='serial0'/>"));
    g_autofree char *after = model_domain_format(d, MODEL_FORMAT_INACTIVE);
    g_assert_cmpstr(before, ==, after);
    g_assert_true(model_domain_disk(d, "sda") == disks[1]);
    g_assert_true(model_domain_disk(d, "/a") == disks[0]);
    g_assert_null(model_domain_disk(d, "vdz"));
}

static void
test_pool(void)
{
    static const char text[] =
        "<pool type='dir'><name>p</name><target><path>/srv/p</path><permissions><mode>0711</mode>"
        "<owner>0</owner><group>-1</group></permissions></target></pool>";
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelPool) p = model_pool_parse(text, strlen(text), &error);
    g_assert_no_error(error);

    g_assert_true(model_pool_complete(p, &error));
    g_assert_cmpint(p->permissions.mode, ==, 0711);
    g_assert_cmpint(p->permissions.group, ==, -1);
    g_free(p->uuid);
    p->uuid = g_strdup("11111111-2222-3333-4444-555555555555");
    g_autofree char *out = model_pool_format(p);
    g_assert_cmpstr(
        out, ==,
        "<pool type='dir'>\n  <name>p</name>\n  <uuid>11111111-2222-3333-4444-555555555555</uuid>\n"
        "  <capacity unit='bytes'>0</capacity>\n  <allocation unit='bytes'>0</allocation>\n"
        "  <available unit='bytes'>0</available>\n  <source/>\n  <target>\n    <path>/srv/p</path>\n"
        "    <permissions>\n      <mode>0711</mode>\n      <owner>0</owner>\n      <group>-1</group>\n"
        "    </permissions>\n  </target>\n</pool>\n");
}

static void
test_volume(void)
{
    static const char text[] =
        "<volume><name>v</name><capacity unit='G'>2</capacity><target><format type='qcow2'/>"
        "<features><lazy_refcounts/></features></target></volume>";
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelVolume) v = model_volume_parse(text, strlen(text), &error);
    g_assert_no_error(error);

    g_assert_cmpuint(v->capacity_bytes, ==, (guint64) 2 << 30);
    g_assert_true(v->allocation_bytes == MODEL_SIZE_UNSET);
    g_assert_cmpstr(v->format, ==, "qcow2");
    g_assert_true(v->lazy_refcounts);
    g_assert_cmpint(v->permissions.mode, ==, MODEL_UNSET);
}

/* ---- what is written reads the same ---- */

static char *
random_text(void)
{
    static const char *const pieces[] = { " ", "  ", "\t", "\n",  "\r", "\r\n", "\n    ", "'",      "\"",
                                          "&", "<",  ">",  "]]>", "/",  "a",    "é",      "\u00a0", "&#32;" };
    g_autoptr(GString) text = g_string_new(NULL);

    for (gint n = g_test_rand_int_range(0, 7); n > 0; n--)
        g_string_append(text, pieces[g_test_rand_int_range(0, G_N_ELEMENTS(pieces))]);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static gboolean
is_free_text(const ModelRow *row)
{
    return row->kind == MODEL_STRING && !row->words;
}

/* Each text of the struct, and of one struct in each of its lists. */
static void
fill_texts(ModelNode *node)
{
    for (gsize i = 0; i < node->table->n_rows; i++) {
        const ModelRow *row = &node->table->rows[i];
        if (is_free_text(row))
            MODEL_MEMBER(node, row, char *) = random_text();
        if (row->kind == MODEL_NUMBER) /* an element's text, beside whose absence no attribute stands */
            MODEL_MEMBER(node, row, gint) = row->min;
        if (row->kind != MODEL_LIST)
            continue;
        ModelNode *item = model_node_new(row->sub);
        fill_texts(item);
        g_ptr_array_add(MODEL_MEMBER(node, row, GPtrArray *), item);
    }
}

static void
compare_texts(const ModelNode *one, const ModelNode *two)
{
    for (gsize i = 0; i < one->table->n_rows; i++) {
        const ModelRow *row = &one->table->rows[i];
        if (is_free_text(row))
            g_assert_cmpstr(MODEL_MEMBER(one, row, char *), ==, MODEL_MEMBER(two, row, char *));
        if (row->kind != MODEL_LIST)
            continue;
        const GPtrArray *left = MODEL_MEMBER(one, row, GPtrArray *),
                        *right = MODEL_MEMBER(two, row, GPtrArray *);
        g_assert_cmpuint(left->len, ==, right->len);
        for (guint n = 0; n < left->len; n++)
            compare_texts(left->pdata[n], right->pdata[n]);
    }
}

/* The name of a file is what it was, to the last blank. */
static void
test_texts(void)
{
    g_autoptr(ModelSnapshot) snapshot = model_snapshot_new("s");
    g_autoptr(ModelPool) pool = model_pool_new(MODEL_POOL_DIR, "p", "/p");
    g_autoptr(ModelVolume) volume = model_volume_new("v");
    const ModelTable *tables[] = { &model_domain_table, snapshot->node.table, pool->node.table,
                                   volume->node.table };

    for (gsize i = 0; i < G_N_ELEMENTS(tables); i++)
        for (guint round = 0; round < 50; round++) {
            g_autoptr(ModelNode) node = model_node_new(tables[i]);
            g_autoptr(GError) error = NULL;
            fill_texts(node);
            g_autofree char *text = model_table_format(node);
            g_autoptr(ModelNode) again = model_table_parse(tables[i], text, strlen(text), &error);
            g_assert_no_error(error);
            compare_texts(node, again);
            g_autofree char *twice = model_table_format(again);
            g_assert_cmpstr(twice, ==, text);
        }
}

/* The same where something that no row knows stands beside the text; and layout around that is none. */
static void
test_texts_beside(void)
{
    static const char text[] =
        "<domain type='qemu'>\n  <os>\n    <type>hvm</type>\n    <kernel>/a  \n      <x/>\n    </kernel>\n"
        "  </os>\n  <devices>\n    <graphics passwd=' p '>\n      <y/>\n    </graphics>\n  </devices>\n"
        "</domain>\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelNode) node = model_table_parse(&model_domain_table, text, strlen(text), &error);
    g_assert_no_error(error);
    const ModelDomain *d = (const ModelDomain *) (const void *) node;

    g_assert_cmpstr(d->kernel, ==, "/a  ");
    g_assert_cmpstr(((const ModelGraphics *) d->graphics->pdata[0])->passwd, ==, " p ");
    g_autofree char *out = model_table_format(node);
    g_assert_cmpstr(out, ==, text);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/model/tables", test_tables);
    g_test_add_func("/model/defaults", test_defaults);
    g_test_add_func("/model/fixed-point", test_fixed_point);
    g_test_add_func("/model/unknown", test_unknown);
    g_test_add_func("/model/live", test_live);
    g_test_add_func("/model/pool", test_pool);
    g_test_add_func("/model/volume", test_volume);
    g_test_add_func("/model/texts", test_texts);
    g_test_add_func("/model/texts-beside", test_texts_beside);
    return g_test_run();
}
