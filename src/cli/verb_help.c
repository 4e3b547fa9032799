/* kho help. */
#include "base/error.h"
#include "cli/help.h"
#include "cli/output.h"

typedef struct {
    char **words;
    gboolean man, completion, statuses;
} HelpArgs;

static const CliArg help_args[] = {
    { CLI_STRV, "VERB", offsetof(HelpArgs, words), CLI_OPTIONAL, "verb or noun to tell about",
      .object = CLI_VERB_NAME },
    { CLI_FLAG, "--man", offsetof(HelpArgs, man), "no", "print the man page, as groff" },
    { CLI_FLAG, "--bash-completion", offsetof(HelpArgs, completion), "no",
      "print bash's completion: source it" },
    { CLI_FLAG, "--exit-statuses", offsetof(HelpArgs, statuses), "no", "print the table of exit statuses" },
    { 0 },
};

static gboolean
run_help(CliRun *cli, const void *p, GError **error)
{
    const HelpArgs *a = p;
    int used;

    if (a->man)
        help_print_man();
    else if (a->completion)
        help_print_completion();
    else if (a->statuses)
        help_print_exit_statuses();
    else if (!a->words)
        help_print_overview();
    else if (!a->words[1] && !cli_verb_find(a->words[0]) && cli_noun_find(a->words[0]))
        help_print_noun(cli_noun_find(a->words[0]));
    else {
        const CliVerb *verb = cli_verb_of_words(a->words, &used, error);
        if (!verb)
            return FALSE;
        help_print_verb(verb);
    }
    return TRUE;
}

const CliVerb verb_help = {
    .name = "help",
    .noun = "kho",
    .summary = "tell about kho, a noun or a verb",
    .examples = "kho help\nkho help pool\nkho help vol-create-as\nsource <(kho help --bash-completion)",
    .args = help_args,
    .args_bytes = sizeof(HelpArgs),
    .run = run_help,
};
