/* The man page: groff from the table of verbs. */
#include "cli/exit.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/parse.h"
#include <string.h>

/* @text with what groff would read as commands made harmless. */
static char *
roff(const char *text)
{
    GString *out = g_string_new(NULL);
    if (*text == '.' || *text == '\'')
        g_string_append(out, "\\&");
    for (const char *at = text; *at; at++) {
        if (*at == '\\')
            g_string_append(out, "\\e");
        else if (*at == '-')
            g_string_append(out, "\\-");
        else
            g_string_append_c(out, *at);
        if (*at == '\n' && (at[1] == '.' || at[1] == '\''))
            g_string_append(out, "\\&");
    }
    return g_string_free(out, FALSE);
}

static void
print_roff(const char *before, const char *text, const char *after)
{
    g_autofree char *escaped = roff(text);
    out_print("%s%s%s", before, escaped, after);
}

static void
print_arg(const CliArg *arg)
{
    if (arg->hidden)
        return;
    out_print(".TP\n");
    if (arg->short_name) {
        char letter[] = { '-', arg->short_name, '\0' };
        print_roff("\\fB", letter, "\\fR, ");
    }
    print_roff(cli_arg_is_positional(arg) ? "\\fI" : "\\fB", arg->name, "\\fR");
    if (arg->kind == CLI_CHOICE)
        print_roff(" ", arg->choices, "");
    else if (!cli_arg_is_positional(arg) && arg->kind != CLI_FLAG) {
        g_autofree char *value = g_ascii_strup(arg->name + 2, -1);
        print_roff(" \\fI", arg->kind == CLI_SIZE ? "SIZE" : value, "\\fR");
    }
    print_roff("\n", arg->help, "");
    if (arg->fallback && *arg->fallback && arg->kind != CLI_FLAG)
        print_roff(" (default: ", arg->fallback, ")");
    out_print("\n");
}

static void
print_verb(const CliVerb *verb)
{
    g_autofree char *usage = help_usage(verb);

    print_roff(".SS ", verb->name, "\n");
    print_roff("", verb->summary, ".\n.PP\n");
    print_roff(".B ", usage, "\n");
    if (verb->description) {
        g_auto(GStrv) paragraphs = g_strsplit(verb->description, "\n\n", -1);
        for (char **paragraph = paragraphs; *paragraph; paragraph++)
            print_roff(".PP\n", *paragraph, "\n");
    }
    for (const CliArg *arg = verb->args; arg && arg->kind != CLI_END; arg++)
        print_arg(arg);
    if (verb->examples)
        print_roff(".PP\n.nf\n.RS\n", verb->examples, "\n.RE\n.fi\n");
    for (const CliStatus *status = verb->statuses; status && status->when; status++) {
        out_print(".TP\nexit status %d\n", status->status);
        print_roff("", status->when, "\n");
    }
}

void
help_print_man(void)
{
    out_print(".TH KHO 1 \"\" \"kho " KHO_VERSION "\" \"User commands\"\n"
              ".SH NAME\nkho \\- run virtual machines with KVM/QEMU and keep their disks\n"
              ".SH SYNOPSIS\n.B kho\n[\\fIOPTIONS\\fR] \\fIVERB\\fR [\\fIARGUMENTS\\fR]\n"
              ".SH DESCRIPTION\nkho defines and runs machines, and keeps pools, volumes and image files. "
              "There is no daemon: "
              "every command reads and changes the tree on disk, under locks.\n.PP\n"
              "A verb is written in one word or in two: \\fBpool\\-list\\fR is \\fBpool list\\fR. Arguments "
              "in capitals are given by "
              "place or by name: \\fBstart web1\\fR is \\fBstart \\-\\-domain web1\\fR. A machine is named "
              "by its name, uuid or id.\n"
              ".SH OPTIONS\n");
    for (const CliArg *arg = cli_global_args; arg->kind != CLI_END; arg++)
        print_arg(arg);
    for (gsize i = 0; i < cli_n_nouns; i++) {
        g_autofree char *heading = g_ascii_strup(cli_nouns[i].summary, -1);
        print_roff(".SH ", heading, "\n");
        for (gsize v = 0; v < cli_n_verbs; v++)
            if (!cli_verbs[v]->hidden && strcmp(cli_verbs[v]->noun, cli_nouns[i].name) == 0)
                print_verb(cli_verbs[v]);
    }
    out_print(".SH EXIT STATUS\n");
    for (gsize i = 0; i < exit_n_rows; i++) {
        out_print(".TP\n\\fB%d\\fR (%s)\n", exit_rows[i].status, exit_rows[i].name);
        print_roff("", exit_rows[i].meaning, "\n");
    }
    out_print(
        ".SH ENVIRONMENT\n"
        ".TP\n.B KHO_ROOT\nthe tree to work on, where \\-\\-root is not given; an empty one is refused\n"
        ".TP\n.B VISUAL, EDITOR\nwhat \\fBedit\\fR starts\n"
        ".TP\n.B NO_COLOR\nset: no colours\n"
        ".SH FILES\n"
        ".TP\n.I /etc/kho/qemu/NAME.xml\nthe definition of a machine\n"
        ".TP\n.I /var/log/kho/qemu/NAME.log\nits log\n"
        ".TP\n.I /var/lib/kho/images\nimages\n"
        ".SH SEE ALSO\n.BR qemu\\-system\\-x86_64 (1),\n.BR qemu\\-img (1)\n");
}
