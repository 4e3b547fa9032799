/* Completion: `kho __complete INDEX WORDS...` prints the candidates for the word at INDEX, one a line;
 * ":file" asks the shell for file names. bash cuts words at "=" and ":", so those are joined again here. */
#include "base/error.h"
#include "base/num.h"
#include "cli/help.h"
#include "cli/names.h"
#include "cli/output.h"
#include "cli/parse.h"
#include <string.h>

typedef struct {
    const char *word; /* what is typed so far of the word */
    const CliRun *cli;
    const char *machine, *pool; /* what the line names, for snapshots and volumes */
} Wanted;

static void
offer(const Wanted *wanted, const char *candidate)
{
    if (g_str_has_prefix(candidate, wanted->word))
        out_print("%s\n", candidate);
}

static void
offer_all(const Wanted *wanted, char **candidates)
{
    for (char **at = candidates; at && *at; at++)
        offer(wanted, *at);
}

static void
offer_options(const Wanted *wanted, const CliArg *args)
{
    for (const CliArg *arg = args; arg && arg->kind != CLI_END; arg++) {
        g_autofree char *option = cli_arg_option(arg);
        if (!arg->hidden)
            offer(wanted, option);
    }
}

static void
offer_verbs(const Wanted *wanted, const CliNoun *noun)
{
    g_autofree char *prefix = noun ? g_strconcat(noun->name, "-", NULL) : NULL;

    for (gsize i = 0; i < cli_n_verbs; i++) {
        const CliVerb *verb = cli_verbs[i];
        if (verb->hidden || (noun && strcmp(verb->noun, noun->name) != 0))
            continue;
        offer(wanted,
              noun && g_str_has_prefix(verb->name, prefix) ? verb->name + strlen(prefix) : verb->name);
    }
    for (gsize i = 0; !noun && i < cli_n_nouns; i++)
        offer(wanted, cli_nouns[i].name);
}

static void
offer_values(const Wanted *wanted, const CliArg *arg)
{
    g_auto(GStrv) names = NULL;

    if (arg->kind == CLI_CHOICE)
        names = g_strsplit(arg->choices, "|", -1);
    else if (arg->object == CLI_MACHINE)
        names = names_of_machines(wanted->cli);
    else if (arg->object == CLI_SNAPSHOT && wanted->machine)
        names = names_of_snapshots(wanted->cli, wanted->machine);
    else if (arg->object == CLI_POOL)
        names = names_of_pools(wanted->cli);
    else if (arg->object == CLI_VOLUME && wanted->pool)
        names = names_of_volumes(wanted->cli, wanted->pool);
    else if (arg->object == CLI_FILE)
        out_print(":file\n");
    else if (arg->object == CLI_VERB_NAME)
        offer_verbs(wanted, NULL);
    offer_all(wanted, names);
}

/* The row of @args that the option @word means; NULL for none. */
static const CliArg *
option_of(const CliArg *args, const char *word)
{
    for (const CliArg *arg = args; arg && arg->kind != CLI_END; arg++) {
        g_autofree char *option = cli_arg_option(arg);
        gboolean is_short = word[0] == '-' && word[1] && !word[2] && word[1] == arg->short_name;
        if (is_short || strcmp(option, word) == 0)
            return arg;
    }
    return NULL;
}

static const CliArg *
positional_at(const CliArg *args, guint index)
{
    for (const CliArg *arg = args; arg && arg->kind != CLI_END; arg++) {
        if (!cli_arg_is_positional(arg))
            continue;
        if (index == 0 || arg->kind == CLI_STRV)
            return arg;
        index--;
    }
    return NULL;
}

/* Offers what may follow @words (the verb's, without the one being typed). */
static void
complete_argument(const CliVerb *verb, Wanted *wanted, char **words)
{
    const CliArg *pending = NULL; /* an option that waits for its value */
    guint n_positional = 0;

    for (char **word = words; *word; word++) {
        const CliArg *arg = pending;
        pending = NULL;
        if (!arg && (*word)[0] == '-' && (*word)[1]) {
            arg = option_of(verb->args, *word);
            arg = arg ? arg : option_of(cli_global_args, *word);
            pending = arg && arg->kind != CLI_FLAG ? arg : NULL;
            continue;
        }
        arg = arg ? arg : positional_at(verb->args, n_positional++);
        if (arg && arg->object == CLI_POOL)
            wanted->pool = *word;
        else if (arg && arg->object == CLI_MACHINE)
            wanted->machine = *word;
    }
    if (pending) {
        offer_values(wanted, pending);
    } else if (wanted->word[0] == '-') {
        offer_options(wanted, verb->args);
        offer_options(wanted, cli_global_args);
    } else {
        const CliArg *arg = positional_at(verb->args, n_positional);
        if (arg)
            offer_values(wanted, arg);
    }
}

/* "--pool", "=", "x" become "--pool", "x": what stands after "=" is completed as the option's value. */
static GPtrArray *
join_words(char **words, guint64 n)
{
    GPtrArray *joined = g_ptr_array_new();
    for (guint64 i = 0; i < n && words[i]; i++)
        if (strcmp(words[i], "=") != 0)
            g_ptr_array_add(joined, words[i]);
    g_ptr_array_add(joined, NULL);
    return joined;
}

typedef struct {
    guint64 index;
    char **words;
} CompleteArgs;

static const CliArg complete_args[] = {
    { CLI_UINT, "INDEX", offsetof(CompleteArgs, index), NULL, "which word is being typed; 0 is kho itself" },
    { CLI_STRV, "WORDS", offsetof(CompleteArgs, words), CLI_OPTIONAL, "the command line" },
    { 0 },
};

static gboolean
run_complete(CliRun *cli, const void *p, GError **error)
{
    const CompleteArgs *a = p;
    CliRun tree = *cli;
    CliGlobals globals = { 0 };
    guint64 n_words = a->words ? g_strv_length(a->words) : 0;
    guint64 index = MIN(a->index, n_words);
    const char *typed = index < n_words ? a->words[index] : "";
    Wanted wanted = { .word = strcmp(typed, "=") == 0 ? "" : typed, .cli = &tree };
    g_autoptr(GPtrArray) before = join_words(a->words, index);
    int used;

    if (index == 0)
        return TRUE;
    char **words = (char **) before->pdata + 1;
    g_autoptr(GError) ignored = NULL;
    int skipped = cli_parse_globals(words, &globals, &ignored);
    if (globals.root)
        tree.root = globals.root;
    if (skipped < 0)
        return TRUE; /* "--root" itself waits for its value, or a mistake stands before the verb */
    words += skipped;
    if (!words[0]) {
        if (wanted.word[0] == '-')
            offer_options(&wanted, cli_global_args);
        else
            offer_verbs(&wanted, NULL);
        return TRUE;
    }
    const CliNoun *noun = cli_noun_find(words[0]);
    if (noun && !words[1] && !cli_verb_find(words[0])) {
        offer_verbs(&wanted, noun);
        return TRUE;
    }
    const CliVerb *verb = cli_verb_of_words(words, &used, &ignored);
    if (verb)
        complete_argument(verb, &wanted, words + used);
    return TRUE;
}

const CliVerb verb_complete = {
    .name = "__complete",
    .noun = "kho",
    .summary = "candidates for a shell's completion",
    .args = complete_args,
    .args_bytes = sizeof(CompleteArgs),
    .hidden = TRUE,
    .run = run_complete,
};

void
help_print_completion(void)
{
    out_print("# bash completion for kho; made by `kho help --bash-completion`\n"
              "_kho() {\n"
              "    local IFS=$'\\n' cur=${COMP_WORDS[COMP_CWORD]}\n"
              "    [ \"$cur\" = = ] && cur=\n"
              "    COMPREPLY=($(\"${COMP_WORDS[0]}\" __complete -- \"$COMP_CWORD\" \"${COMP_WORDS[@]}\" "
              "2>/dev/null))\n"
              "    if [ \"${COMPREPLY[0]}\" = :file ]; then\n"
              "        compopt -o filenames 2>/dev/null\n"
              "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
              "    fi\n"
              "}\n"
              "complete -F _kho kho\n");
}
