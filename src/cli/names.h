/* Names of the objects in the tree, for completion: NULL-terminated lists, empty where anything fails. */
#ifndef KHO_CLI_NAMES_H
#define KHO_CLI_NAMES_H

#include "cli/verb.h"

char **names_of_machines(const CliRun *cli);
char **names_of_snapshots(const CliRun *cli, const char *machine);
char **names_of_pools(const CliRun *cli);
char **names_of_volumes(const CliRun *cli, const char *pool);

#endif
