/* Names of the objects in the tree, for completion. */
#include "cli/names.h"

char **
names_of_machines(const CliRun *cli)
{
    return NULL;
}

char **
names_of_pools(const CliRun *cli)
{
    return NULL;
}

char **
names_of_volumes(const CliRun *cli, const char *pool)
{
    return NULL;
}
