#include "cli/host.h"

#define LOCK_WAIT_MS (30 * 1000)

KhoHost *
cli_host_open(const CliRun *cli, GError **error)
{
    KhoHost *host = kho_host_open(cli->root, error);

    if (host)
        kho_host_set_wait(host, LOCK_WAIT_MS, cli->job ? cli->job->cancelled : NULL);
    return host;
}
