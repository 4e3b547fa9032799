#include "qemuimg/args.h"
#include "qemuimg/help.h"
#include "qemuimg/output.h"
#include "qemuimg/qemuimg.h"
#include "qemuimg/verbs.h"

#include <getopt.h>
#include <signal.h>

gboolean
qemuimg_is_name(const char *program)
{
    g_autofree char *name = g_path_get_basename(program);

    return g_str_equal(name, "qemu-img");
}

#ifdef KHO_STEPS
/* For the test that asks for a row of each: "info", "info --format", "info -f", ... */
static void
print_table(void)
{
    for (gsize v = 0; v < qimg_n_verbs; v++) {
        qimg_print("%s\n", qimg_verbs[v]->name);
        for (const QimgOption *o = qimg_verbs[v]->options; o->kind != QIMG_END; o++) {
            if (o->letter)
                qimg_print("%s -%c\n", qimg_verbs[v]->name, o->letter);
            if (o->name)
                qimg_print("%s --%s\n", qimg_verbs[v]->name, o->name);
        }
    }
}
#endif

static int
run_verb(const QimgVerb *verb, int argc, char **argv)
{
    g_autofree void *args = g_malloc0(verb->args_bytes + 1);
    char *const *names;
    int status;

    if (qimg_args_read(verb, argc, argv, args, &names, &status))
        status = verb->run(args, names);
    qimg_args_clear(verb, args);
    return status;
}

/* Options before the verb. FALSE where the run ends with them. */
static gboolean
read_standard(int argc, char **argv, int *status)
{
    static const struct option names[] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { "trace", required_argument, NULL, 'T' },
        { 0 },
    };
    int found;

    *status = 1;
    while ((found = getopt_long(argc, argv, "+:hVT:", names, NULL)) != -1) {
        if (found == 'h' || found == 'V') {
            (found == 'h' ? qimg_help_print : qimg_version_print)();
            *status = 0;
        } else if (found == 'T') {
            qimg_error("kho has no trace events: leave out --trace");
        } else if (found == ':') {
            qimg_usage_error("missing argument for option '%s'", argv[optind - 1]);
        } else {
            qimg_usage_error("unrecognized option '%s'", argv[optind - 1]);
        }
        return FALSE;
    }
    return TRUE;
}

static int
run_words(int argc, char **argv)
{
    int status;

    if (argc < 2) {
        qimg_usage_error("Not enough arguments");
        return 1;
    }
#ifdef KHO_STEPS
    if (g_str_equal(argv[1], "--table")) {
        print_table();
        return 0;
    }
#endif
    opterr = 0;
    if (!read_standard(argc, argv, &status))
        return status;
    const char *name = argv[optind];
    for (gsize i = 0; name && i < qimg_n_verbs; i++)
        if (g_str_equal(qimg_verbs[i]->name, name))
            return run_verb(qimg_verbs[i], argc - optind, argv + optind);
    if (!name)
        return 0; /* `qemu-img --`: as qemu-img has it */
    qimg_usage_error("Command not found: %s", name);
    return 1;
}

int
qemuimg_main(int argc, char **argv)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    sigemptyset(&ignore.sa_mask);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a file at its limit is an error like a full disk */
    int status = run_words(argc, argv);
    qimg_die_if_cancelled();
    return qimg_flush() || status != 0 ? status : 1;
}
