#include "base/error.h"
#include "vm/qmp.h"

#include <string.h>

static char *
describe(GPtrArray *messages)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < messages->len; i++) {
        g_autofree char *line = json_line(messages->pdata[i]);
        g_string_append_printf(text, "%s%s", i > 0 ? " " : "", line);
    }
    return g_string_free(text, FALSE);
}

/* What comes of @text when it arrives @step bytes at a time: the messages on one line, and ! after a refusal.
 */
static char *
decode(const char *text, gsize len, gsize step, gsize max_bytes)
{
    g_autoptr(QmpDecoder) decoder = qmp_decoder_new(max_bytes);
    g_autoptr(GPtrArray) messages = g_ptr_array_new_with_free_func((GDestroyNotify) json_decref);
    gboolean good = TRUE;

    for (gsize at = 0; good && at < len; at += step) {
        json_t *message;
        qmp_decoder_feed(decoder, text + at, MIN(step, len - at));
        while ((good = qmp_decoder_next(decoder, &message, NULL)) && message)
            g_ptr_array_add(messages, message);
    }
    g_autofree char *all = describe(messages);
    return g_strconcat(all, good ? "" : "!", NULL);
}

static const struct {
    const char *name, *text, *messages;
} rows[] = {
    { "nothing", "", "" },
    { "one", "{\"a\":1}\r\n", "{\"a\":1}" },
    { "two-joined", "{\"a\":1}{\"b\":2}", "{\"a\":1} {\"b\":2}" },
    { "white-space", " \t\r\n{}\n\n {}", "{} {}" },
    { "brackets-in-strings", "{\"}\":\"]{\",\"q\":\"\\\"}\"}", "{\"}\":\"]{\",\"q\":\"\\\"}\"}" },
    { "escapes", "{\"a\":\"\\\\\"}{}", "{\"a\":\"\\\\\"} {}" },
    { "nested", "{\"a\":[{\"b\":[]}]}", "{\"a\":[{\"b\":[]}]}" },
    { "half", "{\"a\":", "" },
    { "large-number", "{\"a\":18446744073709551615}", "{\"a\":1.8446744073709552e19}" },
    { "word-between", "{} x {}", "{}!" },
    { "list", "[1]", "!" },
    { "wrong-brackets", "{]", "!" },
    { "syntax", "{}{\"a\" 1}", "{}!" },
    { "bytes", "\xff", "!" },
};

static void
test_decodes(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);

    for (gsize step = 1; step <= 32; step++) {
        g_autofree char *got = decode(rows[i].text, strlen(rows[i].text), step, 1 << 20);
        g_assert_cmpstr(got, ==, rows[i].messages);
    }
}

/* One byte under the bound passes, one over does not, whether it ends or not. */
static void
test_bound(void)
{
    static const gsize max = 1000;
    g_autofree char *inside = g_strnfill(max - 7, 'x');
    g_autofree char *fits = g_strdup_printf("{\"a\":\"%s\"}", inside + 2);
    g_autofree char *over = g_strdup_printf("{\"a\":\"%sxxxx\"}", inside);
    g_autofree char *open = g_strdup_printf("{\"a\":\"%sxxxx", inside);

    for (gsize step = 1; step < 2000; step += 333) {
        g_autofree char *first = decode(fits, strlen(fits), step, max);
        g_autofree char *second = decode(over, strlen(over), step, max);
        g_autofree char *third = decode(open, strlen(open), step, max);
        g_assert_cmpstr(first, ==, fits);
        g_assert_cmpstr(second, ==, "!");
        g_assert_cmpstr(third, ==, "!");
    }
}

/* The bound is of one message: a stream may be of any length. */
static void
test_long_stream(void)
{
    g_autoptr(QmpDecoder) decoder = qmp_decoder_new(100);
    guint count = 0;

    for (guint i = 0; i < 10000; i++) {
        json_t *message = NULL;
        qmp_decoder_feed(decoder, "{\"a\":1}\n{\"b\"", 12);
        g_assert_true(qmp_decoder_next(decoder, &message, NULL));
        while (message) {
            count++;
            json_decref(message);
            g_assert_true(qmp_decoder_next(decoder, &message, NULL));
        }
        qmp_decoder_feed(decoder, ":2}", 3);
    }
    g_assert_cmpuint(count, ==, 19999);
}

static void
test_deep(void)
{
    g_autoptr(GString) text = g_string_new("{\"a\":");

    for (int i = 0; i < 100000; i++)
        g_string_append_c(text, '[');
    for (int i = 0; i < 100000; i++)
        g_string_append_c(text, ']');
    g_string_append_c(text, '}');
    g_autofree char *got = decode(text->str, text->len, text->len, 1 << 20);
    g_assert_cmpstr(got, ==, "!");
}

static void
test_messages(void)
{
    json_auto json_t *id = json_string("x");
    g_autoptr(GError) why = g_error_new(KHO_ERROR, KHO_ERROR_BUSY, "it is busy");
    struct {
        json_t *message;
        const char *line;
    } made[] = {
        { qmp_command("stop", NULL, NULL), "{\"execute\":\"stop\"}\n" },
        { qmp_command("a", json_object(), json_integer(5)),
          "{\"execute\":\"a\",\"arguments\":{},\"id\":5}\n" },
        { qmp_return(NULL, NULL), "{\"return\":{}}\n" },
        { qmp_return(json_integer(3), id), "{\"return\":3,\"id\":\"x\"}\n" },
        { qmp_error(why, id),
          "{\"error\":{\"class\":\"GenericError\",\"desc\":\"it is busy\",\"kho-code\":\"busy\"},"
          "\"id\":\"x\"}\n" },
        { qmp_error_unknown("what", NULL),
          "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"what\"}}\n" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(made); i++) {
        gsize len;
        g_autofree char *line = qmp_line(made[i].message, &len);
        g_assert_cmpstr(line, ==, made[i].line);
        g_assert_cmpuint(len, ==, strlen(line));
        json_decref(made[i].message);
    }
}

static void
test_errors(void)
{
    static const struct {
        const char *error;
        KhoErrorCode code;
        const char *message;
    } said[] = {
        { "{\"class\":\"GenericError\",\"desc\":\"no\\ngood\"}", KHO_ERROR_INVALID,
          "QEMU refused c: no good" },
        { "{\"class\":\"CommandNotFound\",\"desc\":\"d\"}", KHO_ERROR_UNSUPPORTED, "QEMU refused c: d" },
        { "{\"class\":\"DeviceNotFound\",\"desc\":\"d\"}", KHO_ERROR_NOT_FOUND, "QEMU refused c: d" },
        { "{\"class\":\"GenericError\",\"desc\":\"d\",\"kho-code\":\"busy\"}", KHO_ERROR_BUSY, "d" },
        { "{}", KHO_ERROR_INVALID, "QEMU refused c: it gave no reason" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(said); i++) {
        g_autofree char *text = g_strdup_printf("{\"error\":%s}", said[i].error);
        json_auto json_t *reply = json_parse(text, strlen(text), "the reply", NULL);
        g_autoptr(GError) error = NULL;
        g_assert_false(qmp_fail(reply, "c", &error));
        g_assert_error(error, KHO_ERROR, (gint) said[i].code);
        g_assert_cmpstr(error->message, ==, said[i].message);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/qmp/decodes/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_decodes);
    }
    g_test_add_func("/qmp/bound", test_bound);
    g_test_add_func("/qmp/long-stream", test_long_stream);
    g_test_add_func("/qmp/deep", test_deep);
    g_test_add_func("/qmp/messages", test_messages);
    g_test_add_func("/qmp/errors", test_errors);
    return g_test_run();
}
