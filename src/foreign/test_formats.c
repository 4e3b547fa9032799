#include "foreign/formats.h"

#include <kho/error.h>

#define TEXTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void
test_options(void)
{
    g_autoptr(GError) error = NULL;
    json_auto json_t *vhdx = foreign_format_create_options(
        "vhdx", 1 << 20, TEXTS("block_size=2M", "block_state_zero=off", "subformat=fixed"), &error);

    g_assert_no_error(error);
    g_autofree char *line = json_line(vhdx);
    g_assert_cmpstr(line, ==,
                    "{\"driver\":\"vhdx\",\"file\":\"file\",\"size\":1048576,\"block-size\":2097152,"
                    "\"block-state-zero\":false,\"subformat\":\"fixed\"}");
}

static const struct {
    const char *format, *option, *says;
    KhoErrorCode code;
} bad[] = {
    { "vmdk", "cluster_size=64k", "there are size, adapter_type", KHO_ERROR_INVALID },
    { "vmdk", "subformat=monolithicFlat", "monolithicSparse or", KHO_ERROR_UNSUPPORTED },
    { "vhdx", "block_state_zero=maybe", "on or off", KHO_ERROR_INVALID },
    { "qed", "cluster_size=much", "much", KHO_ERROR_INVALID },
    { "vdi", "subformat", "subformat", KHO_ERROR_INVALID },
    { "dmg", "x=y", "read only", KHO_ERROR_UNSUPPORTED },
};

static void
test_bad(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(GError) error = NULL;

    g_assert_null(foreign_format_create_options(bad[i].format, 1 << 20, TEXTS(bad[i].option), &error));
    g_assert_error(error, KHO_ERROR, (gint) bad[i].code);
    g_assert_nonnull(strstr(error->message, bad[i].says));
}

/* As qemu-img rounds them. */
static void
test_vpc_sizes(void)
{
    static const struct {
        guint64 asked, made;
    } rows[] = {
        { 512ull, 34816ull },
        { 1048576ull, 1079296ull },
        { 10485760ull, 10514432ull },
        { 41943040ull, 41953280ull },
        { 104857600ull, 104865792ull },
        { 528482304ull, 528482304ull },
        { 629145600ull, 629637120ull },
        { 1073741824ull, 1073995776ull },
        { 8589934592ull, 8590417920ull },
        { 33285996544ull, 33286127616ull },
        { 42949672960ull, 42951106560ull },
        { 107374182400ull, 107374632960ull },
        { 136365211648ull, 136365219840ull },
        { 139586437120ull, 139586437120ull },
        { 536870912000ull, 536870912000ull },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_auto json_t *loose = foreign_format_create_options("vpc", rows[i].asked, NULL, NULL);
        json_auto json_t *exact =
            foreign_format_create_options("vpc", rows[i].asked, TEXTS("force_size=on"), NULL);

        g_assert_cmpuint(json_int_or(loose, "size", 0), ==, rows[i].made);
        g_assert_cmpuint(json_int_or(exact, "size", 0), ==, rows[i].asked);
    }
}

static void
test_names(void)
{
    g_auto(GStrv) names = g_strsplit(foreign_format_names(), ", ", -1);

    for (char **name = names; *name; name++)
        g_assert_cmpstr(foreign_format_find(*name), ==, *name);
    g_assert_null(foreign_format_find("qcow2"));
    g_assert_null(foreign_format_probe((const guint8 *) "KDM", 3));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/foreign-formats/options", test_options);
    g_test_add_func("/foreign-formats/names", test_names);
    g_test_add_func("/foreign-formats/vpc-sizes", test_vpc_sizes);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *name = g_strdup_printf("/foreign-formats/bad/%" G_GSIZE_FORMAT, i);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_bad);
    }
    return g_test_run();
}
