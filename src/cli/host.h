/* The host that verbs on machines, pools and volumes work on. */
#ifndef KHO_CLI_HOST_H
#define KHO_CLI_HOST_H

#include "cli/verb.h"

#include <kho/host.h>

/* The host of --root, whose waits for locks end with Ctrl-C, and by themselves after half a minute. */
KhoHost *cli_host_open(const CliRun *cli, GError **error);

/* Adds to an @error for missing rights whose the tree is that was opened, where it is another user's. */
void cli_host_explain(GError *error);

#endif
