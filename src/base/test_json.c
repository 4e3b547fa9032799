#include "base/json.h"

#include <kho/error.h>
#include <string.h>

static json_t *
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    json_t *json = json_parse(text, strlen(text), "the text", &error);

    g_assert_no_error(error);
    return json;
}

static void
test_refuses(void)
{
    static const char *const bad[] = { "", "[]", "5", "{", "{}x", "{\"a\":\"\xff\"}", "{\"a\":01}", "null" };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(json_parse(bad[i], strlen(bad[i]), "the text", &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
        g_assert_true(g_str_has_prefix(error->message, "the text is not"));
        g_assert_null(strchr(error->message, '\n'));
    }
}

static void
test_large_number(void)
{
    json_auto json_t *json = parse("{\"a\":18446744073709551615,\"b\":5}");

    g_assert_cmpfloat(json_number_value(json_object_get(json, "a")), ==, 18446744073709551616.0);
    g_assert_cmpfloat(json_number_value(json_object_get(json, "b")), ==, 5);
}

/* A row per rule: the member is there, missing, null, or of another type. */
static void
test_members(void)
{
    json_auto json_t *json = parse("{\"s\":\"x\",\"i\":-7,\"b\":true,\"n\":null,\"z\":\"a\\u0000b\"}");
    static const struct {
        const char *key;
        gboolean string, number, boolean, optional_string;
    } rows[] = {
        { "s", TRUE, FALSE, FALSE, TRUE },     { "i", FALSE, TRUE, FALSE, FALSE },
        { "b", FALSE, FALSE, TRUE, FALSE },    { "n", FALSE, FALSE, FALSE, TRUE },
        { "none", FALSE, FALSE, FALSE, TRUE }, { "z", FALSE, FALSE, FALSE, FALSE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = NULL;
        g_autofree char *optional = NULL;
        gint64 number = 99;
        gboolean boolean = 99;
        g_assert_cmpint(json_get_string(json, rows[i].key, "it", &text, &error), ==, rows[i].string);
        if (error)
            g_assert_nonnull(strstr(error->message, rows[i].key));
        g_assert_cmpint(text != NULL, ==, rows[i].string);
        g_assert_cmpint(json_get_int(json, rows[i].key, "it", &number, NULL), ==, rows[i].number);
        g_assert_cmpint(number, ==, rows[i].number ? -7 : 99);
        g_assert_cmpint(json_get_bool(json, rows[i].key, "it", &boolean, NULL), ==, rows[i].boolean);
        g_assert_cmpint(boolean, ==, rows[i].boolean ? TRUE : 99);
        g_assert_cmpint(json_opt_string(json, rows[i].key, "it", &optional, NULL), ==,
                        rows[i].optional_string);
    }
    g_assert_cmpstr(json_string_or(json, "s", "f"), ==, "x");
    g_assert_cmpstr(json_string_or(json, "i", "f"), ==, "f");
    g_assert_cmpint(json_int_or(json, "i", 3), ==, -7);
    g_assert_cmpint(json_int_or(json, "s", 3), ==, 3);
}

static void
test_lines(void)
{
    json_auto json_t *json = json_object();

    json_set_string(json, "z", "first\nline");
    json_set_string(json, "a", "\xff raw");
    json_set_string(json, "none", NULL);
    g_autofree char *line = json_line(json);
    g_assert_cmpstr(line, ==, "{\"z\":\"first\\nline\",\"a\":\"\xef\xbf\xbd raw\"}");
}

/* As QEMU has it: a sequence that is broken off or wrong is one mark. */
static void
test_bytes(void)
{
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        { "", "" },
        { "plain", "plain" },
        { "a\xff\xfe", "a\uFFFD\uFFFD" },
        { "a\xe2\x82z", "a\uFFFDz" },
        { "a\xe2z", "a\uFFFDz" },
        { "\xf0\x9f\x98", "\uFFFD" },
        { "a\xed\xa0\x80z", "a\uFFFDz" },
        { "a\xf4\x90\x80\x80z", "a\uFFFDz" },
        { "\xfc\x80\x80\x80\x80\x80", "\uFFFD" },
        { "\xe2(\xa1", "\uFFFD(\uFFFD" },
        { "\xef\xb7\x90\xef\xbf\xbf", "\uFFFD\uFFFD" },
        { "\xc3\xa4\xf0\x9f\x98\x80", "\xc3\xa4\xf0\x9f\x98\x80" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_auto json_t *made = json_from_bytes(rows[i].bytes);
        g_assert_cmpstr(json_string_value(made), ==, rows[i].text);
    }
    g_assert_null(json_from_bytes(NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/refuses", test_refuses);
    g_test_add_func("/json/large-number", test_large_number);
    g_test_add_func("/json/members", test_members);
    g_test_add_func("/json/lines", test_lines);
    g_test_add_func("/json/bytes", test_bytes);
    return g_test_run();
}
