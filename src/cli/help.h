/* Help texts, the man page and completion, all made from the table of verbs. */
#ifndef KHO_CLI_HELP_H
#define KHO_CLI_HELP_H

#include "cli/verb.h"

/* "kho pool-info [--bytes] POOL" */
char *help_usage(const CliVerb *verb);

void help_print_overview(void);
void help_print_noun(const CliNoun *noun);
void help_print_verb(const CliVerb *verb);
/* groff, section 1. */
void help_print_man(void);
/* The table of docs/exit-status.md. */
void help_print_exit_statuses(void);
/* bash's function, which asks `kho __complete`. */
void help_print_completion(void);

#endif
