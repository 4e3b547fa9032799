/* From the words of a command line to a verb's struct of arguments, and the options that every verb takes.
 * The tables that drive it are in verb.h. */
#ifndef KHO_CLI_PARSE_H
#define KHO_CLI_PARSE_H

#include "cli/verb.h"

/* Accepted before the verb and after it. */
typedef struct CliGlobals {
    const char *root;
    gboolean json, quiet, no_progress, help, version;
} CliGlobals;

/* The global options as a table on CliGlobals, for help and completion. */
extern const CliArg cli_global_args[];

/* "--file" of a positional "FILE"; the name itself of an option. Owned by the caller. */
char *cli_arg_option(const CliArg *arg);

/* Reads options before the verb: returns how many words they took, or -1 with @error. */
int cli_parse_globals(char *const *words, CliGlobals *globals, GError **error);

/**
 * cli_parse:
 * @words: what follows the verb, NULL-terminated
 * @values: (out): the verb's struct of args_bytes, zeroed and filled here; strings point into @words or the
 *          table, CLI_STRV lists are allocated and freed by cli_parse_clear
 *
 * Returns: FALSE with KHO_ERROR_INVALID naming the word or argument that is wrong, for status 2. When
 * globals->help is set on return, @values may lack required arguments.
 */
gboolean
cli_parse(const CliVerb *verb, char *const *words, void *values, CliGlobals *globals, GError **error);
void cli_parse_clear(const CliVerb *verb, void *values);

#endif
