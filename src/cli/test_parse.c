/* The parser: every form a word may have, and every way to get one wrong. */
#include "base/error.h"
#include "cli/parse.h"
#include <string.h>

typedef struct {
    const char *file, *format, *target;
    guint64 size_bytes, count;
    gboolean force, plain;
    char **options;
} Args;

static const CliArg args[] = {
    { CLI_STR, "FILE", offsetof(Args, file), NULL, "the file" },
    { CLI_SIZE, "SIZE", offsetof(Args, size_bytes), CLI_OPTIONAL, "the size", .unit_bytes = 1024 },
    { CLI_STR, "TARGET", offsetof(Args, target), CLI_OPTIONAL, "the target" },
    { CLI_CHOICE, "--format", offsetof(Args, format), "qcow2", "the format", 'f', .choices = "qcow2|raw" },
    { CLI_UINT, "--count", offsetof(Args, count), CLI_OPTIONAL, "how many", 'c', .max = 9 },
    { CLI_FLAG, "--force", offsetof(Args, force), "no", "do it", 'F' },
    { CLI_FLAG, "--plain", offsetof(Args, plain), "no", "no extras", 'p' },
    { CLI_STRV, "--option", offsetof(Args, options), CLI_OPTIONAL, "an option", 'o' },
    { 0 },
};

static const CliVerb verb = { .name = "try", .noun = "kho", .args = args, .args_bytes = sizeof(Args) };

/* What each line gives: FILE SIZE TARGET format count force plain options, or the error's words. */
static const struct {
    const char *line, *gives, *says;
} rows[] = {
    { "a", "a 0 - qcow2 0 0 0", NULL },
    { "a 5 t", "a 5120 t qcow2 0 0 0", NULL },
    { "a 1M", "a 1048576 - qcow2 0 0 0", NULL },
    { "--file a --size=5 --target t", "a 5120 t qcow2 0 0 0", NULL },
    { "--target t a 5", "a 5120 t qcow2 0 0 0", NULL },
    { "--file=a t --size 1", "a 1024 t qcow2 0 0 0", NULL },
    { "a - -", NULL, "SIZE: " },
    { "a --target -", "a 0 - qcow2 0 0 0", NULL },
    { "a -f raw", "a 0 - raw 0 0 0", NULL },
    { "a -fraw -c3", "a 0 - raw 3 0 0", NULL },
    { "a --format=raw --count 9", "a 0 - raw 9 0 0", NULL },
    { "a -Fp", "a 0 - qcow2 0 1 1", NULL },
    { "a -pFc 4", "a 0 - qcow2 4 1 1", NULL },
    { "-o x a --option y=z -ow", "a 0 - qcow2 0 0 0 x y=z w", NULL },
    { "-- -a", "-a 0 - qcow2 0 0 0", NULL },
    { "a -- 1 --force", "a 1024 --force qcow2 0 0 0", NULL },
    { "a --force --force", "a 0 - qcow2 0 1 0", NULL },
    { "", NULL, "FILE is missing" },
    { "a 1 b c", NULL, "'c' is one argument too many" },
    { "a --nope", NULL, "unknown option '--nope'" },
    { "a -x", NULL, "unknown option '-x'" },
    { "a -px", NULL, "unknown option '-px'" },
    { "a --format", NULL, "--format needs a value" },
    { "a -f", NULL, "-f needs a value" },
    { "a -f vmdk", NULL, "'vmdk' is not one of qcow2, raw" },
    { "a -f raw --format=qcow2", NULL, "--format is given twice" },
    { "--file a --file b", NULL, "FILE is given twice" },
    { "a --force=yes", NULL, "--force takes no value" },
    { "a --count 10", NULL, "--count" },
    { "a --count -1", NULL, "--count" },
    { "a 12Q", NULL, "12Q" },
    { "a -1", NULL, "-1" },
    { "a 99999999999999999999", NULL, "SIZE" },
    { "a --json", NULL, "try prints no data" },
    { "a --root", NULL, "--root needs a value" },
};

static char *
told(const Args *got)
{
    g_autofree char *list = got->options ? g_strjoinv(" ", got->options) : NULL;
    return g_strdup_printf("%s %" G_GUINT64_FORMAT " %s %s %" G_GUINT64_FORMAT " %d %d%s%s", got->file,
                           got->size_bytes, got->target ? got->target : "-", got->format, got->count,
                           got->force, got->plain, list ? " " : "", list ? list : "");
}

static void
test_line(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_auto(GStrv) words = g_strsplit(rows[i].line, " ", -1);
    g_autoptr(GError) error = NULL;
    CliGlobals globals = { 0 };
    Args got;

    gboolean done = cli_parse(&verb, words, &got, &globals, &error);
    if (rows[i].gives) {
        g_assert_no_error(error);
        g_autofree char *text = told(&got);
        g_assert_cmpstr(text, ==, rows[i].gives);
    } else {
        g_assert_false(done);
        g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
        g_assert_nonnull(strstr(error->message, rows[i].says));
        g_assert_null(strchr(error->message, '\n'));
    }
    cli_parse_clear(&verb, &got);
}

static void
test_globals(void)
{
    const char *words[] = { "--root", "/x", "-q", "--json", "pool", "list", NULL };
    g_autoptr(GError) error = NULL;
    CliGlobals globals = { 0 };

    g_assert_cmpint(cli_parse_globals((char *const *) words, &globals, &error), ==, 4);
    g_assert_cmpstr(globals.root, ==, "/x");
    g_assert_true(globals.quiet && globals.json && !globals.help);
    const char *bad[] = { "--wrong", NULL };
    g_assert_cmpint(cli_parse_globals((char *const *) bad, &globals, &error), ==, -1);
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
}

/* Each verb's table can be parsed, asked about and told apart; a mistake in a row is found here, not by a
 * user. */
static void
test_tables(void)
{
    for (gsize v = 0; v < cli_n_verbs; v++) {
        const CliVerb *one = cli_verbs[v];
        g_test_message("%s", one->name);
        g_assert_true(cli_verb_find(one->name) == one);
        g_assert_nonnull(cli_noun_find(one->noun));
        g_assert_nonnull(one->run);
        g_assert_true(one->summary && g_ascii_islower(one->summary[0])
                      && !g_str_has_suffix(one->summary, "."));
        for (const CliArg *arg = one->args; arg && arg->kind != CLI_END; arg++) {
            g_test_message("  %s", arg->name);
            gsize width = arg->kind == CLI_FLAG                            ? sizeof(gboolean)
                          : arg->kind == CLI_SIZE || arg->kind == CLI_UINT ? sizeof(guint64)
                                                                           : sizeof(char *);
            g_assert_cmpuint(arg->offset + width, <=, one->args_bytes);
            g_assert_true(arg->help && *arg->help && !g_str_has_suffix(arg->help, "."));
            g_assert_true((arg->kind == CLI_CHOICE) == (arg->choices != NULL));
            g_assert_true(cli_arg_is_positional(arg) ? !g_ascii_islower(arg->name[0])
                                                     : g_str_has_prefix(arg->name, "--"));
            for (const CliArg *other = arg + 1; other->kind != CLI_END; other++) {
                g_autofree char *a = cli_arg_option(arg);
                g_autofree char *b = cli_arg_option(other);
                g_assert_cmpstr(a, !=, b);
                g_assert_true(!arg->short_name || arg->short_name != other->short_name);
                g_assert_cmpuint(arg->offset, !=, other->offset);
            }
        }
    }
}

static void
test_words(void)
{
    static const struct {
        const char *line, *verb;
        int used;
    } lines[] = {
        { "help", "help", 1 }, { "kho help", "help", 2 }, { "hlep", NULL, 0 }, { "kho nothing", NULL, 0 }
    };

    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_auto(GStrv) words = g_strsplit(lines[i].line, " ", -1);
        g_autoptr(GError) error = NULL;
        int used;
        const CliVerb *found = cli_verb_of_words(words, &used, &error);
        g_assert_cmpstr(found ? found->name : NULL, ==, lines[i].verb);
        if (found)
            g_assert_cmpint(used, ==, lines[i].used);
        else
            g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
        if (i == 2)
            g_assert_nonnull(strstr(error->message, "did you mean help?"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/cli/line/%" G_GSIZE_FORMAT "_%s", i, rows[i].line);
        g_strdelimit(path + strlen("/cli/line/"), " ", '_');
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_line);
    }
    g_test_add_func("/cli/globals", test_globals);
    g_test_add_func("/cli/tables", test_tables);
    g_test_add_func("/cli/words", test_words);
    return g_test_run();
}
