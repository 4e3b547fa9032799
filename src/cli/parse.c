/* The parser of command lines. One pass over the words; options of the verb win over global ones of the same
 * name. */
#include "cli/parse.h"
#include "base/error.h"
#include "base/num.h"
#include <string.h>

const CliArg cli_global_args[] = {
    { CLI_STR, "--root", offsetof(CliGlobals, root), CLI_OPTIONAL,
      "the tree to work on (also KHO_ROOT; neither may be empty); without it /etc/kho, /var/lib/kho, ... for "
      "root, XDG folders for "
      "others",
      .object = CLI_FILE },
    { CLI_FLAG, "--json", offsetof(CliGlobals, json), "no", "print JSON (verbs that print data)" },
    { CLI_FLAG, "--quiet", offsetof(CliGlobals, quiet), "no", "no message of success", 'q' },
    { CLI_FLAG, "--no-progress", offsetof(CliGlobals, no_progress), "no",
      "no progress line on the terminal" },
    { CLI_FLAG, "--help", offsetof(CliGlobals, help), "no", "what a verb does, its arguments and examples",
      'h' },
    { CLI_FLAG, "--version", offsetof(CliGlobals, version), "no", "the version of kho" },
    { 0 },
};

static const CliArg no_args[] = { { 0 } };

/* One table, the struct it fills, and which rows were given. */
typedef struct {
    const CliArg *args;
    char *base;
    guint64 seen; /* bit i: row i was given */
} Target;

enum { MAX_ARGS = 64 };

char *
cli_arg_option(const CliArg *arg)
{
    if (!cli_arg_is_positional(arg))
        return g_strdup(arg->name);
    g_autofree char *lower = g_ascii_strdown(arg->name, -1);
    return g_strconcat("--", lower, NULL);
}

static gboolean
choice_allows(const CliArg *arg, const char *text)
{
    g_auto(GStrv) choices = g_strsplit(arg->choices, "|", -1);
    return g_strv_contains((const char *const *) choices, text);
}

static void
append_string(char ***list, const char *text)
{
    gsize n = *list ? g_strv_length(*list) : 0;
    *list = g_renew(char *, *list, n + 2);
    (*list)[n] = g_strdup(text);
    (*list)[n + 1] = NULL;
}

static gboolean
store_number(const CliArg *arg, void *at, const char *text, GError **error)
{
    g_autoptr(GError) why = NULL;
    guint64 value;
    gboolean good = arg->kind == CLI_SIZE
                        ? num_parse_size(text, arg->unit_bytes ? arg->unit_bytes : 1, &value, &why)
                        : num_parse_uint(text, arg->max ? arg->max : G_MAXUINT64, arg->name, &value, &why);
    if (!good)
        return arg->kind == CLI_SIZE ? fail(error, KHO_ERROR_INVALID, "%s: %s", arg->name, why->message)
                                     : fail(error, KHO_ERROR_INVALID, "%s", why->message);
    *(guint64 *) at = value;
    return TRUE;
}

static gboolean
store(const Target *target, gsize row, const char *text, GError **error)
{
    const CliArg *arg = &target->args[row];
    void *at = target->base + arg->offset;

    switch (arg->kind) {
    case CLI_CHOICE:
        if (!choice_allows(arg, text)) {
            g_auto(GStrv) choices = g_strsplit(arg->choices, "|", -1);
            g_autofree char *listed = g_strjoinv(", ", choices);
            return fail(error, KHO_ERROR_INVALID, "%s '%s' is not one of %s", arg->name, text, listed);
        }
        *(const char **) at = text;
        return TRUE;
    case CLI_STR: *(const char **) at = text; return TRUE;
    case CLI_STRV: append_string(at, text); return TRUE;
    case CLI_SIZE:
    case CLI_UINT: return store_number(arg, at, text, error);
    case CLI_FLAG: *(gboolean *) at = TRUE; return TRUE;
    case CLI_END: break;
    }
    g_assert_not_reached();
}

/* Stores a value that was given, refusing a second one. */
static gboolean
give(Target *target, gsize row, const char *text, GError **error)
{
    guint64 bit = G_GUINT64_CONSTANT(1) << row;

    if (target->seen & bit && target->args[row].kind != CLI_STRV && target->args[row].kind != CLI_FLAG)
        return fail(error, KHO_ERROR_INVALID, "%s is given twice", target->args[row].name);
    target->seen |= bit;
    return store(target, row, text, error);
}

static gssize
find_long(const Target *target, const char *name, gsize len)
{
    for (gsize i = 0; target->args[i].kind != CLI_END; i++) {
        g_autofree char *option = cli_arg_option(&target->args[i]);
        if (strlen(option) == len && strncmp(option, name, len) == 0)
            return (gssize) i;
    }
    return -1;
}

static gssize
find_short(const Target *target, char letter)
{
    for (gsize i = 0; target->args[i].kind != CLI_END; i++)
        if (target->args[i].short_name == letter)
            return (gssize) i;
    return -1;
}

/* `--name`, `--name VALUE`, `--name=VALUE`: words consumed, 0 when neither table has it, -1 on error. */
static int
take_long(Target *targets, gsize n_targets, char *const *words, GError **error)
{
    gsize len = strcspn(words[0], "=");
    const char *inlined = words[0][len] == '=' ? words[0] + len + 1 : NULL;

    for (gsize t = 0; t < n_targets; t++) {
        gssize row = find_long(&targets[t], words[0], len);
        if (row < 0)
            continue;
        if (targets[t].args[row].kind == CLI_FLAG) {
            if (inlined) {
                fail(error, KHO_ERROR_INVALID, "%.*s takes no value", (int) len, words[0]);
                return -1;
            }
            return give(&targets[t], (gsize) row, NULL, error) ? 1 : -1;
        }
        if (!inlined && !words[1]) {
            fail(error, KHO_ERROR_INVALID, "%s needs a value", words[0]);
            return -1;
        }
        if (!give(&targets[t], (gsize) row, inlined ? inlined : words[1], error))
            return -1;
        return inlined ? 1 : 2;
    }
    return 0;
}

/* `-f VALUE`, `-fVALUE`, `-pq`: as take_long. */
static int
take_short(Target *targets, gsize n_targets, char *const *words, GError **error)
{
    for (const char *at = words[0] + 1; *at; at++) {
        Target *target = NULL;
        gssize row = -1;
        for (gsize t = 0; t < n_targets && row < 0; t++) {
            target = &targets[t];
            row = find_short(target, *at);
        }
        if (row < 0)
            return 0;
        if (target->args[row].kind == CLI_FLAG) {
            if (!give(target, (gsize) row, NULL, error))
                return -1;
            continue;
        }
        const char *value = at[1] ? at + 1 : words[1];
        if (!value) {
            fail(error, KHO_ERROR_INVALID, "-%c needs a value", *at);
            return -1;
        }
        if (!give(target, (gsize) row, value, error))
            return -1;
        return at[1] ? 1 : 2;
    }
    return 1;
}

/* "-", "-5G" and "-1" are values, as with virsh and qemu-img. */
static gboolean
is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0' && !g_ascii_isdigit(word[1]);
}

/* Called once all options are read, so that a positional given by name is passed over wherever it stood. */
static gboolean
give_positional(Target *target, const char *word, GError **error)
{
    for (gsize i = 0; target->args[i].kind != CLI_END; i++) {
        const CliArg *arg = &target->args[i];
        gboolean open = arg->kind == CLI_STRV || !(target->seen >> i & 1);
        if (cli_arg_is_positional(arg) && open)
            return give(target, i, word, error);
    }
    return fail(error, KHO_ERROR_INVALID, "'%s' is one argument too many", word);
}

int
cli_parse_globals(char *const *words, CliGlobals *globals, GError **error)
{
    Target target = { cli_global_args, (char *) globals, 0 };
    int used = 0;

    while (words[used] && is_option(words[used])) {
        int took = g_str_has_prefix(words[used], "--") ? take_long(&target, 1, &words[used], error)
                                                       : take_short(&target, 1, &words[used], error);
        if (took == 0)
            fail(error, KHO_ERROR_INVALID, "unknown option '%s' before the verb", words[used]);
        if (took <= 0)
            return -1;
        used += took;
    }
    return used;
}

static gboolean
fill_fallbacks(Target *target, GError **error)
{
    for (gsize i = 0; target->args[i].kind != CLI_END; i++) {
        const CliArg *arg = &target->args[i];
        if (target->seen >> i & 1 || arg->kind == CLI_FLAG)
            continue;
        if (!arg->fallback)
            return fail(error, KHO_ERROR_INVALID, "%s is missing: %s", arg->name, arg->help);
        if (*arg->fallback && !store(target, i, arg->fallback, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
cli_parse(const CliVerb *verb, char *const *words, void *values, CliGlobals *globals, GError **error)
{
    Target targets[] = { { verb->args ? verb->args : no_args, values, 0 },
                         { cli_global_args, (char *) globals, 0 } };
    g_autoptr(GPtrArray) by_place = g_ptr_array_new();
    gboolean options_end = FALSE;
    gsize n_args = 0;

    while (targets[0].args[n_args].kind != CLI_END)
        n_args++;
    g_assert(n_args <= MAX_ARGS);
    memset(values, 0, verb->args_bytes);
    for (gsize i = 0; words[i];) {
        int took = 1;
        if (!options_end && strcmp(words[i], "--") == 0)
            options_end = TRUE;
        else if (options_end || !is_option(words[i]))
            g_ptr_array_add(by_place, words[i]);
        else if (g_str_has_prefix(words[i], "--"))
            took = take_long(targets, G_N_ELEMENTS(targets), &words[i], error);
        else
            took = take_short(targets, G_N_ELEMENTS(targets), &words[i], error);
        if (took == 0)
            return fail(error, KHO_ERROR_INVALID, "unknown option '%s'", words[i]);
        if (took < 0)
            return FALSE;
        i += (gsize) took;
    }
    if (globals->help || globals->version)
        return TRUE;
    for (guint i = 0; i < by_place->len; i++)
        if (!give_positional(&targets[0], by_place->pdata[i], error))
            return FALSE;
    if (globals->json && !verb->json)
        return fail(error, KHO_ERROR_INVALID, "--json: %s prints no data", verb->name);
    return fill_fallbacks(&targets[0], error);
}

void
cli_parse_clear(const CliVerb *verb, void *values)
{
    for (const CliArg *arg = verb->args; arg && arg->kind != CLI_END; arg++)
        if (arg->kind == CLI_STRV)
            g_strfreev(*(char ***) (void *) ((char *) values + arg->offset));
}
