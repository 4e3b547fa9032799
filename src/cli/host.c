#include "cli/host.h"

#include "base/owner.h"
#include "cli/output.h"

#include <string.h>

#define LOCK_WAIT_MS (30 * 1000)

/* Of the last tree that was opened; NULL while none was, or it is the one that everybody has of his own. */
static const char *opened_root;

static void
warn(const char *line, gpointer unused)
{
    out_warning("%s", line);
}

KhoHost *
cli_host_open(const CliRun *cli, GError **error)
{
    opened_root = cli->root;
    KhoHost *host = kho_host_open(cli->root, error);

    if (host) {
        kho_host_set_wait(host, LOCK_WAIT_MS, cli->job ? cli->job->cancelled : NULL);
        kho_host_set_warn(host, warn, NULL);
    }
    return host;
}

void
cli_host_explain(GError *error)
{
    g_autofree char *owner =
        opened_root && g_error_matches(error, KHO_ERROR, KHO_ERROR_DENIED) ? owner_other(opened_root) : NULL;

    if (!owner || strstr(error->message, "belongs to user"))
        return;
    g_autofree char *bare = error->message;
    error->message =
        g_strdup_printf("%s: the tree %s belongs to user %s: use sudo, or --root or KHO_ROOT for a tree of "
                        "your own",
                        bare, opened_root, owner);
}
