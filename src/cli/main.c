/* kho: finds the verb, runs it, prints its error, exits. */
#include "base/error.h"
#include "base/fd.h"
#include "cli/exit.h"
#include "cli/help.h"
#include "cli/host.h"
#include "cli/output.h"
#include "cli/parse.h"
#include "cli/progress.h"
#include "host/recover.h"
#include "qemuimg/qemuimg.h"

#include <string.h>

static int
usage_error(const CliVerb *verb, const GError *error)
{
    g_autofree char *message = NULL;
    if (verb)
        message = g_strdup_printf("%s: %s (`kho help %s`)", verb->name, error->message, verb->name);
    out_error(message ? message : error->message);
    return EXIT_USAGE;
}

/* What was printed must have arrived, or the run has failed whatever the verb said. */
static int
finish(int status)
{
    g_autoptr(GError) error = NULL;
    gboolean pipe_closed;

    progress_clear();
    if (out_flush(&pipe_closed, &error))
        return status;
    if (!pipe_closed)
        out_error(error->message);
    return status != 0 ? status : exit_status_of(error);
}

static int
run_verb(const CliVerb *verb, char *const *words, CliGlobals *globals)
{
    g_autoptr(GError) error = NULL;
    g_autofree void *values = g_malloc0(verb->args_bytes + 1);
    CliRun cli = { 0 };
    int status;

    if (!cli_parse(verb, words, values, globals, &error)) {
        cli_parse_clear(verb, values);
        return usage_error(verb, error);
    }
    if (globals->help || globals->version) {
        if (globals->help)
            help_print_verb(verb);
        else
            out_print("kho " KHO_VERSION "\n");
        cli_parse_clear(verb, values);
        return 0;
    }
    if (globals->root && !*globals->root) {
        fail(&error, KHO_ERROR_INVALID, "the root folder's name is empty: give --root a folder");
        cli_parse_clear(verb, values);
        return usage_error(NULL, error);
    }
    /* An empty KHO_ROOT is refused by what opens the tree: a variable that came out empty must not lead to
     * the system's machines. */
    cli.root = globals->root ? globals->root : g_getenv("KHO_ROOT");
    cli.json = globals->json;
    cli.quiet = globals->quiet;
    cli.job = progress_start(!globals->no_progress && !globals->quiet);
    status = verb->run(&cli, values, &error) ? cli.status : exit_status_of(error);
    progress_clear();
    if (status != 0 && error) {
        cli_host_explain(error);
        out_error(error->message);
    }
    cli_parse_clear(verb, values);
    return status;
}

/* A noun without a verb: what it can do, or that a verb belongs before options. */
static int
run_noun(const CliNoun *noun, char *const *words)
{
    g_autoptr(GError) error = NULL;

    if (!words[0] || strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0) {
        help_print_noun(noun);
        return 0;
    }
    fail(&error, KHO_ERROR_INVALID, "'%s' follows %s, where a verb belongs: `kho help %s` lists them",
         words[0], noun->name, noun->name);
    return usage_error(NULL, error);
}

static int
run_words(char *const *words)
{
    g_autoptr(GError) error = NULL;
    CliGlobals globals = { 0 };
    int used = cli_parse_globals(words, &globals, &error);

    if (used < 0)
        return usage_error(NULL, error);
    words += used;
    if (globals.version) {
        out_print("kho " KHO_VERSION "\n");
        return 0;
    }
    if (!words[0]) {
        help_print_overview();
        return globals.help ? 0 : EXIT_USAGE;
    }
    /* `backup` is a noun and a verb: the verb is what was meant. */
    const CliNoun *noun = cli_verb_find(words[0]) ? NULL : cli_noun_find(words[0]);
    if (noun && (!words[1] || words[1][0] == '-'))
        return run_noun(noun, words + 1);
    const CliVerb *verb = cli_verb_of_words(words, &used, &error);
    if (!verb)
        return usage_error(NULL, error);
    return run_verb(verb, words + used, &globals);
}

int
main(int argc, char **argv)
{
#ifdef KHO_STEPS
    if (argc == 2 && strcmp(argv[1], "--steps") == 0) {
        g_autofree char *names = change_step_names(machine_changes);
        out_print("%s", names);
        return finish(0);
    }
#endif
    if (!fd_hold_standard(NULL))
        return exit_status_of(NULL);
    if (argc > 0 && qemuimg_is_name(argv[0]))
        return qemuimg_main(argc, argv);
    return finish(run_words(argv + 1));
}
