#include "qemuimg/args.h"

#include "qemuimg/help.h"
#include "qemuimg/object.h"
#include "qemuimg/option_list.h"
#include "qemuimg/output.h"

#include <getopt.h>
#include <string.h>

#define OPTIONS_MAX 32
/* What getopt_long returns for an option without a letter: its row's number above this. */
#define ROW_BASE 256

typedef struct {
    char letters[2 * OPTIONS_MAX + 4];
    struct option names[OPTIONS_MAX + 2];
} Getopt;

static gboolean
takes_value(const QimgOption *option)
{
    return option->kind != QIMG_FLAG && option->kind != QIMG_STEP;
}

/* ":" first, so that a value that is missing is told apart from an option that is unknown. */
static void
describe(const QimgVerb *verb, Getopt *to)
{
    guint letters = 0, names = 0;

    memset(to, 0, sizeof *to);
    to->letters[letters++] = ':';
    to->letters[letters++] = 'h';
    to->names[names++] = (struct option){ "help", no_argument, NULL, 'h' };
    for (guint i = 0; verb->options[i].kind != QIMG_END; i++) {
        const QimgOption *option = &verb->options[i];

        g_assert(i < OPTIONS_MAX);
        if (option->letter) {
            to->letters[letters++] = option->letter;
            if (takes_value(option))
                to->letters[letters++] = ':';
        }
        if (option->name)
            to->names[names++] =
                (struct option){ option->name, takes_value(option) ? required_argument : no_argument, NULL,
                                 (int) (ROW_BASE + i) };
    }
}

static const QimgOption *
option_of(const QimgVerb *verb, int found)
{
    if (found >= ROW_BASE)
        return &verb->options[found - ROW_BASE];
    for (const QimgOption *option = verb->options; option->kind != QIMG_END; option++)
        if (option->letter == found)
            return option;
    return NULL;
}

static gboolean
set_value(const QimgOption *option, char *value, void *args)
{
    void *member = (guint8 *) args + option->offset;

    if (option->take && !option->take(value))
        return FALSE;
    switch (option->kind) {
    case QIMG_END:
    case QIMG_IGNORED: break;
    case QIMG_FLAG: *(gboolean *) member = TRUE; break;
    case QIMG_TEXT: *(const char **) member = value; break;
    case QIMG_TEXTS:
        if (!*(GPtrArray **) member)
            *(GPtrArray **) member = g_ptr_array_new();
        g_ptr_array_add(*(GPtrArray **) member, value);
        break;
    case QIMG_STEP:
    case QIMG_STEP_WITH:
        if (!*(GPtrArray **) member)
            *(GPtrArray **) member = g_ptr_array_new();
        g_ptr_array_add(*(GPtrArray **) member, (gpointer) option->name);
        g_ptr_array_add(*(GPtrArray **) member, value);
        break;
    case QIMG_OPTIONS: return qimg_option_list_join(member, value);
    case QIMG_OBJECT: return qimg_object_add(value);
    }
    return TRUE;
}

/* FALSE where the run ends here. */
static gboolean
read_options(const QimgVerb *verb, int argc, char **argv, void *args, int *status)
{
    Getopt table;
    int found;

    describe(verb, &table);
    optind = 0; /* getopt begins anew */
    while ((found = getopt_long(argc, argv, table.letters, table.names, NULL)) != -1) {
        if (found == 'h') {
            qimg_help_print();
            *status = 0;
            return FALSE;
        }
        if (found == ':') {
            qimg_usage_error("missing argument for option '%s'", argv[optind - 1]);
            return FALSE;
        }
        const QimgOption *option = found == '?' ? NULL : option_of(verb, found);
        if (!option) {
            qimg_usage_error("unrecognized option '%s'", argv[optind - 1]);
            return FALSE;
        }
        if (!set_value(option, optarg, args))
            return FALSE;
    }
    return TRUE;
}

gboolean
qimg_args_read(const QimgVerb *verb, int argc, char **argv, void *args, char *const **names, int *status)
{
    char *last = verb->last_is_size && argc >= 3 ? argv[argc - 1] : NULL;

    *status = 1;
    if (verb->last_is_size && !last) { /* not even --help is looked for then */
        qimg_usage_error("Not enough arguments");
        return FALSE;
    }
    if (last)
        argv[argc - 1] = NULL;
    gboolean good = read_options(verb, last ? argc - 1 : argc, argv, args, status);
    if (last)
        argv[argc - 1] = last;
    *names = argv + optind;
    return good;
}

void
qimg_args_clear(const QimgVerb *verb, void *args)
{
    for (const QimgOption *option = verb->options; option->kind != QIMG_END; option++) {
        void *member = (guint8 *) args + option->offset;

        if (option->kind == QIMG_TEXTS || option->kind == QIMG_STEP || option->kind == QIMG_STEP_WITH)
            g_clear_pointer((GPtrArray **) member, g_ptr_array_unref);
        else if (option->kind == QIMG_OPTIONS)
            g_clear_pointer((char **) member, g_free);
    }
}

guint
qimg_names_count(char *const *names)
{
    return g_strv_length((char **) names);
}
