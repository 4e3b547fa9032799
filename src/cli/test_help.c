/* The one-line usage, for every kind of argument, and that every verb of the registry has one that fits a
 * screen. */
#include "cli/help.h"

#include <string.h>

typedef struct {
    const char *file, *format, *needed, *secret;
    char **more;
    gboolean force;
} Args;

static const CliArg args[] = {
    { CLI_STR, "FILE", offsetof(Args, file), NULL, "the file" },
    { CLI_STR, "--format", offsetof(Args, format), "raw", "the format", 'f' },
    { CLI_CHOICE, "--needed", offsetof(Args, needed), NULL, "which", .choices = "a|b" },
    { CLI_STR, "--secret", offsetof(Args, secret), NULL, "not told of", .hidden = TRUE },
    { CLI_STRV, "MORE", offsetof(Args, more), CLI_OPTIONAL, "more files" },
    { CLI_FLAG, "--force", offsetof(Args, force), "no", "do it" },
    { 0 },
};

static void
test_usage(void)
{
    const CliVerb verb = { .name = "try", .args = args, .args_bytes = sizeof(Args) };
    const CliVerb bare = { .name = "bare" };
    g_autofree char *usage = help_usage(&verb);
    g_autofree char *bare_usage = help_usage(&bare);

    g_assert_cmpstr(usage, ==, "kho try --needed a|b [OPTIONS] FILE [MORE...]");
    g_assert_cmpstr(bare_usage, ==, "kho bare");
}

static void
test_every_verb(void)
{
    for (gsize i = 0; i < cli_n_verbs; i++) {
        g_autofree char *usage = help_usage(cli_verbs[i]);
        g_test_message("%s", usage);
        g_assert_cmpuint(strlen(usage), <, 120);
        g_assert_true(g_str_has_prefix(usage, "kho "));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/help/usage", test_usage);
    g_test_add_func("/help/every-verb", test_every_verb);
    return g_test_run();
}
