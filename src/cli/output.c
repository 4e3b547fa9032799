/* stdout and stderr of kho: text, tables, JSON, errors. */
#include "cli/output.h"
#include "base/error.h"
#include "cli/progress.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct OutTable {
    guint columns;
    GPtrArray *cells; /* of char *, the head first */
};

/* The first failure of a write to stdout, as errno; 0 for none. */
static int failed_errno;
/* The last message of success: a run that did what it should must not be taken for one that did not, only
 * because nobody could be told. */
static char *done;

static void
note_failure(int result)
{
    if (result < 0 && failed_errno == 0)
        failed_errno = errno ? errno : EIO;
}

void
out_print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note_failure(vfprintf(stdout, format, args));
    va_end(args);
}

void
out_done(const CliRun *cli, const char *format, ...)
{
    if (cli->quiet || cli->json)
        return;
    va_list args;
    va_start(args, format);
    g_free(done);
    done = g_strdup_vprintf(format, args);
    va_end(args);
    out_print("%s\n", done);
}

void
out_field(const char *label, const char *format, ...)
{
    g_autofree char *head = g_strconcat(label, ":", NULL);
    va_list args;
    va_start(args, format);
    g_autofree char *value = g_strdup_vprintf(format, args);
    va_end(args);
    out_print("%-15s %s\n", head, value);
}

OutTable *
out_table_new(const char *first_head, ...)
{
    OutTable *table = g_new0(OutTable, 1);
    table->cells = g_ptr_array_new_with_free_func(g_free);
    va_list args;
    va_start(args, first_head);
    for (const char *head = first_head; head; head = va_arg(args, const char *)) {
        g_ptr_array_add(table->cells, g_strdup(head));
        table->columns++;
    }
    va_end(args);
    return table;
}

void
out_table_row(OutTable *table, const char *const *cells)
{
    for (guint i = 0; i < table->columns; i++)
        g_ptr_array_add(table->cells, error_one_line(cells[i] && *cells[i] ? cells[i] : "-"));
}

/* Columns that @text takes on a terminal. */
static gsize
text_columns(const char *text)
{
    gsize columns = 0;
    if (!g_utf8_validate(text, -1, NULL))
        return strlen(text);
    for (const char *at = text; *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);
        columns += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return columns;
}

void
out_table_print(const OutTable *table)
{
    g_autofree gsize *widths = g_new0(gsize, table->columns);
    gsize rule = 0;

    for (guint i = 0; i < table->cells->len; i++) {
        gsize width = text_columns(table->cells->pdata[i]);
        widths[i % table->columns] = MAX(widths[i % table->columns], width);
    }
    for (guint i = 0; i < table->columns; i++)
        rule += widths[i] + 3;
    for (guint i = 0; i < table->cells->len; i++) {
        const char *cell = table->cells->pdata[i];
        guint column = i % table->columns;
        if (column + 1 < table->columns) {
            out_print(" %s%*s", cell, (int) (widths[column] - text_columns(cell) + 2), "");
            continue;
        }
        out_print(" %s\n", cell);
        if (i + 1 == table->columns) {
            g_autofree char *dashes = g_strnfill(rule, '-');
            out_print("%s\n", dashes);
        }
    }
    out_print("\n");
}

void
out_table_free(OutTable *table)
{
    if (!table)
        return;
    g_ptr_array_unref(table->cells);
    g_free(table);
}

void
out_json(json_t *value)
{
    /* dumped to memory first: jansson's own writer does not say which errno stopped it */
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    json_decref(value);
    g_assert(text);
    out_print("%s\n", text);
    free(text);
}

void
out_list_add(OutList *list, json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    json_decref(value);
    g_assert(text);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *indented = g_strjoinv("\n  ", lines);
    free(text);
    out_print("%s\n  %s", list->has_some ? "," : "[", indented);
    list->has_some = TRUE;
}

void
out_list_end(const OutList *list)
{
    out_print(list->has_some ? "\n]\n" : "[]\n");
}

static void
print_stderr(const char *label, int colour, const char *message)
{
    g_autofree char *line = error_one_line(message);
    gboolean coloured =
        isatty(STDERR_FILENO) && !g_getenv("NO_COLOR") && g_strcmp0(g_getenv("TERM"), "dumb") != 0;

    progress_clear();
    fflush(stdout);
    if (coloured)
        fprintf(stderr, "\033[1;%dm%s:\033[0m %s\n", colour, label, line);
    else
        fprintf(stderr, "%s: %s\n", label, line);
}

void
out_error(const char *message)
{
    print_stderr("error", 31, message);
}

void
out_warning(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    print_stderr("warning", 33, message);
}

void
out_question(const char *question)
{
    progress_clear();
    fflush(stdout);
    fputs(question, stderr);
    fflush(stderr);
}

gboolean
out_flush(gboolean *pipe_closed, GError **error)
{
    note_failure(fflush(stdout));
    *pipe_closed = failed_errno == EPIPE;
    g_autofree char *was_done = g_steal_pointer(&done);
    if (failed_errno != 0 && was_done)
        return fail_errno(error, failed_errno, "it is done (%s), but cannot be told on standard output",
                          was_done);
    if (failed_errno != 0)
        return fail_errno(error, failed_errno, "cannot write to standard output");
    return TRUE;
}
