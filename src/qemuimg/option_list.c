#include "qemuimg/option_list.h"

#include "qemuimg/output.h"
#include "qemuimg/size.h"

#include <stdlib.h>
#include <string.h>

/* --- the text of a list --- */

static gboolean
is_list(const char *text)
{
    gsize len = strlen(text), commas = 0;

    if (len == 0 || text[0] == ',')
        return FALSE;
    /* A list that ends in a comma goes on with nothing; two of them are one that belongs to a value. */
    while (commas < len && text[len - 1 - commas] == ',')
        commas++;
    return commas % 2 == 0;
}

gboolean
qimg_option_list_join(char **list, const char *more)
{
    if (!is_list(more)) {
        qimg_error("Invalid option list: %s", more);
        return FALSE;
    }
    char *joined = *list ? g_strconcat(*list, ",", more, NULL) : g_strdup(more);
    g_free(*list);
    *list = joined;
    return TRUE;
}

/* Takes the next item off *at; NULL at the end. */
static char *
next_item(const char **at)
{
    GString *item = g_string_new(NULL);
    const char *from = *at;

    if (!*from)
        return g_string_free(item, TRUE);
    for (; *from; from++) {
        if (*from == ',' && *++from != ',')
            break;
        g_string_append_c(item, *from);
        if (!*from)
            break;
    }
    *at = from;
    return g_string_free(item, FALSE);
}

gboolean
qimg_option_list_wants_help(const char *list)
{
    for (const char *at = list; at && *at;) {
        g_autofree char *item = next_item(&at);

        if (g_str_equal(item, "help") || g_str_equal(item, "?"))
            return TRUE;
    }
    return FALSE;
}

/* --- rows --- */

static int
by_name(gconstpointer a, gconstpointer b)
{
    const QimgOptRow *const *one = a, *const *other = b;

    return strcmp((*one)->name, (*other)->name);
}

void
qimg_option_rows_print(const QimgOptRow *rows, guint n_rows)
{
    static const char *const types[] = {
        [QIMG_OPT_STRING] = "str",
        [QIMG_OPT_BOOL] = "bool (on/off)",
        [QIMG_OPT_NUMBER] = "num",
        [QIMG_OPT_SIZE] = "size",
    };
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();

    for (guint i = 0; i < n_rows; i++)
        g_ptr_array_add(sorted, (gpointer) &rows[i]);
    g_ptr_array_sort(sorted, by_name);
    for (guint i = 0; i < n_rows; i++) {
        const QimgOptRow *row = sorted->pdata[i];
        g_autofree char *left = g_strdup_printf("%s=<%s>", row->name, types[row->type]);

        qimg_print("  %-22s - %s\n", left, row->help);
    }
}

void
qimg_options_init(QimgOptions *options, const QimgOptRow *rows, guint n_rows)
{
    *options = (QimgOptions){ rows, n_rows, g_new0(char *, n_rows) };
}

void
qimg_options_clear(QimgOptions *options)
{
    for (guint i = 0; i < options->n_rows; i++)
        g_free(options->values[i]);
    g_free(options->values);
    *options = (QimgOptions){ 0 };
}

static guint
row_of(const QimgOptions *options, const char *name)
{
    guint i = 0;

    while (i < options->n_rows && !g_str_equal(options->rows[i].name, name))
        i++;
    return i;
}

/* --- values --- */

static char *
read_size(const char *name, const char *value, const char *subject)
{
    guint64 bytes;

    switch (qimg_size_parse(value, &bytes)) {
    case QIMG_SIZE_GOOD: return g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
    case QIMG_SIZE_TOO_LARGE:
        qimg_error_about(subject, "Value '%s' is out of range for parameter '%s'", value, name);
        return NULL;
    case QIMG_SIZE_MALFORMED: break;
    }
    qimg_error_about(subject,
                     "Parameter '%s' expects a non-negative number below 2^64\n"
                     "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                     "and exabytes, respectively.",
                     name);
    return NULL;
}

/* A negative one counts down from 2^64, as QEMU reads it. */
static gboolean
read_number(const char *text, guint64 *number)
{
    gint64 below;

    if (g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, number, NULL))
        return TRUE;
    if (!g_ascii_string_to_signed(text, 10, G_MININT64, -1, &below, NULL))
        return FALSE;
    *number = (guint64) below;
    return TRUE;
}

/* The value as it is shown, or NULL where it is wrong, which has been said. */
static char *
read_value(const QimgOptRow *row, const char *value, const char *subject)
{
    guint64 number;

    switch (row->type) {
    case QIMG_OPT_STRING: return g_strdup(value);
    case QIMG_OPT_BOOL:
        if (g_str_equal(value, "on") || g_str_equal(value, "off"))
            return g_strdup(value);
        qimg_error_about(subject, "Parameter '%s' expects 'on' or 'off'", row->name);
        return NULL;
    case QIMG_OPT_NUMBER:
        if (read_number(value, &number))
            return g_strdup_printf("%" G_GUINT64_FORMAT, number);
        qimg_error_about(subject, "Parameter '%s' expects a number", row->name);
        return NULL;
    case QIMG_OPT_SIZE: return read_size(row->name, value, subject);
    }
    return NULL;
}

/* One item: "name=value", "name" (on), "noname" (off). */
static gboolean
read_item(QimgOptions *options, char *item, const char *subject)
{
    char *equals = strchr(item, '=');
    const char *value = equals ? equals + 1 : "on";
    char *name = item;

    if (equals)
        *equals = '\0';
    if (!equals && g_str_has_prefix(name, "no")) {
        name += 2;
        value = "off";
    }
    guint row = row_of(options, name);
    if (row == options->n_rows) {
        qimg_error_about(subject, "Invalid parameter '%s'", name);
        return FALSE;
    }
    char *read = read_value(&options->rows[row], value, subject);
    if (!read)
        return FALSE;
    g_free(options->values[row]);
    options->values[row] = read;
    return TRUE;
}

gboolean
qimg_options_read(QimgOptions *options, const char *list, const char *subject)
{
    for (const char *at = list; at && *at;) {
        g_autofree char *item = next_item(&at);

        if (!read_item(options, item, subject))
            return FALSE;
    }
    return TRUE;
}

gboolean
qimg_options_set(QimgOptions *options, const char *name, const char *value)
{
    guint row = row_of(options, name);

    if (row == options->n_rows)
        return FALSE;
    g_free(options->values[row]);
    options->values[row] = g_strdup(value);
    return TRUE;
}

const char *
qimg_options_given(const QimgOptions *options, const char *name)
{
    guint row = row_of(options, name);

    return row < options->n_rows ? options->values[row] : NULL;
}

const char *
qimg_options_get(const QimgOptions *options, const char *name)
{
    guint row = row_of(options, name);

    if (row == options->n_rows)
        return NULL;
    return options->values[row] ? options->values[row] : options->rows[row].fallback;
}

guint64
qimg_options_number(const QimgOptions *options, const char *name)
{
    const char *value = qimg_options_get(options, name);

    return !value ? 0 : g_str_equal(value, "on") ? 1 : g_ascii_strtoull(value, NULL, 10);
}

void
qimg_options_print(const QimgOptions *options)
{
    for (guint i = 0; i < options->n_rows; i++) {
        const char *value = options->values[i] ? options->values[i] : options->rows[i].fallback;

        if (!value)
            continue;
        g_auto(GStrv) parts = g_strsplit(value, ",", -1);
        g_autofree char *doubled = g_strjoinv(",,", parts);
        qimg_print(" %s=%s", options->rows[i].name, doubled);
    }
}
