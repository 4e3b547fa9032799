/* Help for people: the overview, a noun, a verb. */
#include "cli/help.h"
#include "cli/exit.h"
#include "cli/output.h"
#include "cli/parse.h"
#include <string.h>

enum { WIDTH = 100, INDENT = 28 };

/* "--format FORMAT", "FILE", "-q, --quiet" */
static char *
arg_form(const CliArg *arg)
{
    GString *text = g_string_new(NULL);
    if (arg->short_name)
        g_string_append_printf(text, "-%c, ", arg->short_name);
    if (cli_arg_is_positional(arg) || arg->kind == CLI_FLAG)
        return g_string_free(g_string_append(text, arg->name), FALSE);
    if (arg->kind == CLI_CHOICE)
        g_string_append_printf(text, "%s %s", arg->name, arg->choices);
    else {
        g_autofree char *value = g_ascii_strup(arg->name + 2, -1);
        g_string_append_printf(text, "%s %s", arg->name, arg->kind == CLI_SIZE ? "SIZE" : value);
    }
    return g_string_free(text, FALSE);
}

char *
help_usage(const CliVerb *verb)
{
    GString *text = g_string_new("kho ");
    gboolean options = FALSE;

    g_string_append(text, verb->name);
    for (const CliArg *arg = verb->args; arg && arg->kind != CLI_END; arg++) {
        if (cli_arg_is_positional(arg) || arg->hidden)
            continue;
        if (arg->fallback) {
            options = TRUE;
            continue;
        }
        g_autofree char *form = arg_form(arg);
        g_string_append_printf(text, " %s", form);
    }
    if (options)
        g_string_append(text, " [OPTIONS]");
    for (const CliArg *arg = verb->args; arg && arg->kind != CLI_END; arg++)
        if (cli_arg_is_positional(arg) && !arg->hidden) {
            const char *more = arg->kind == CLI_STRV ? "..." : "";
            g_string_append_printf(text, arg->fallback ? " [%s%s]" : " %s%s", arg->name, more);
        }
    return g_string_free(text, FALSE);
}

/* Prints @text in lines of WIDTH, the first continuing at column @at, all others indented by @indent. */
static void
print_wrapped(const char *text, gsize at, gsize indent)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);

    for (char **word = words; *word; word++) {
        gsize len = (gsize) g_utf8_strlen(*word, -1);
        if (word != words && at + 1 + len > WIDTH) {
            out_print("\n%*s", (int) indent, "");
            at = indent;
        } else if (word != words) {
            out_print(" ");
            at++;
        }
        out_print("%s", *word);
        at += len;
    }
    out_print("\n");
}

static void
print_row(const char *name, const char *text)
{
    out_print("  %-*s", INDENT - 2, name);
    if (strlen(name) + 3 > INDENT)
        out_print("\n%*s", INDENT, "");
    print_wrapped(text, INDENT, INDENT);
}

static void
print_args(const CliArg *args)
{
    for (const CliArg *arg = args; arg->kind != CLI_END; arg++) {
        if (arg->hidden)
            continue;
        g_autofree char *form = arg_form(arg);
        gboolean told = arg->fallback && *arg->fallback && arg->kind != CLI_FLAG;
        g_autofree char *text =
            told ? g_strdup_printf("%s (default: %s)", arg->help, arg->fallback) : g_strdup(arg->help);
        print_row(form, text);
    }
}

static void
print_verbs_of(const CliNoun *noun)
{
    for (gsize i = 0; i < cli_n_verbs; i++)
        if (!cli_verbs[i]->hidden && strcmp(cli_verbs[i]->noun, noun->name) == 0)
            print_row(cli_verbs[i]->name, cli_verbs[i]->summary);
}

void
help_print_overview(void)
{
    out_print("kho " KHO_VERSION ": runs virtual machines with KVM/QEMU and keeps their disks\n\n"
              "Usage: kho [OPTIONS] VERB [ARGUMENTS]\n\n");
    for (gsize i = 0; i < cli_n_nouns; i++) {
        out_print("%s (%s)\n", cli_nouns[i].summary, cli_nouns[i].name);
        print_verbs_of(&cli_nouns[i]);
        out_print("\n");
    }
    out_print("Options of all verbs\n");
    print_args(cli_global_args);
    out_print("\n`kho help VERB` or `kho VERB --help` tells all about one; `pool list` is the same as "
              "`pool-list`.\n");
}

void
help_print_noun(const CliNoun *noun)
{
    out_print("%s\n", noun->summary);
    print_verbs_of(noun);
}

void
help_print_verb(const CliVerb *verb)
{
    g_autofree char *usage = help_usage(verb);
    out_print("%s: %s\n\nUsage: %s\n", verb->name, verb->summary, usage);
    if (verb->description) {
        g_auto(GStrv) paragraphs = g_strsplit(verb->description, "\n\n", -1);
        for (char **paragraph = paragraphs; *paragraph; paragraph++) {
            out_print("\n");
            print_wrapped(*paragraph, 0, 0);
        }
    }
    if (verb->args && verb->args->kind != CLI_END) {
        out_print("\nArguments\n");
        print_args(verb->args);
    }
    if (verb->json)
        out_print("\nWith --json it prints JSON; the keys are in docs/json.md.\n");
    if (verb->examples) {
        g_auto(GStrv) lines = g_strsplit(verb->examples, "\n", -1);
        out_print("\nExamples\n");
        for (char **line = lines; *line; line++)
            if (**line)
                out_print("  %s\n", *line);
    }
    for (const CliStatus *status = verb->statuses; status && status->when; status++) {
        g_autofree char *number = g_strdup_printf("%d", status->status);
        if (status == verb->statuses)
            out_print("\nExit status\n");
        print_row(number, status->when);
    }
    const CliNoun *noun = cli_noun_find(verb->name);
    if (noun) {
        out_print("\nAll of %s\n", noun->name);
        print_verbs_of(noun);
    }
}

void
help_print_exit_statuses(void)
{
    out_print("| status | name | meaning |\n|---:|---|---|\n");
    for (gsize i = 0; i < exit_n_rows; i++)
        out_print("| %d | %s | %s |\n", exit_rows[i].status, exit_rows[i].name, exit_rows[i].meaning);
}
