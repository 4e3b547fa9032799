/* What changes what a machine does: start, shutdown, reboot, reset, destroy, suspend, resume. */
#include "base/error.h"
#include "cli/console.h"
#include "cli/domain.h"
#include "cli/output.h"

typedef struct {
    const char *domain;
    gboolean paused, console, force_boot;
} StartArgs;

static const CliArg start_args[] = {
    CLI_DOMAIN_ARG(StartArgs),
    { CLI_FLAG, "--paused", offsetof(StartArgs, paused), "no", "leave the guest paused; resume lets it run" },
    { CLI_FLAG, "--console", offsetof(StartArgs, console), "no", "connect to its console at once" },
    { CLI_FLAG, "--force-boot", offsetof(StartArgs, force_boot), "no",
      "throw its managed save away and boot" },
    { 0 },
};

static gboolean
run_start(CliRun *cli, const void *p, GError **error)
{
    const StartArgs *a = p;
    const ConsoleOptions options = { .escape = CONSOLE_ESCAPE };
    KhoStartFlags flags = (a->paused ? KHO_START_PAUSED : 0) | (a->force_boot ? KHO_START_FORCE_BOOT : 0);
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error)
        || !kho_domain_start(opened.domain, flags, cli->job, error))
        return FALSE;
    out_done(cli, "Domain '%s' started", opened.name);
    return !a->console || console_run(cli, opened.domain, &options, error);
}

const CliVerb verb_start = {
    .name = "start",
    .noun = "domain",
    .summary = "start a machine that is defined and shut off",
    .description =
        "It returns once the guest runs. An image that is missing, damaged or in use is refused, "
        "naming who holds it.\n\n"
        "A machine that has a managed save goes on from it, once: the save goes when the guest runs.",
    .examples = "kho start web1\nkho start web1 --console",
    .args = start_args,
    .args_bytes = sizeof(StartArgs),
    .run = run_start,
};

/* The verbs that take a machine, do one thing to it, and say so. */
static gboolean
act(CliRun *cli, const void *p, gboolean (*action)(KhoDomain *, GError **), const char *said, GError **error)
{
    const DomainArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error) || !action(opened.domain, error))
        return FALSE;
    out_done(cli, "Domain '%s' %s", opened.name, said);
    return TRUE;
}

static gboolean
run_shutdown(CliRun *cli, const void *p, GError **error)
{
    return act(cli, p, kho_domain_shutdown, "is being shutdown", error);
}

const CliVerb verb_shutdown = {
    .name = "shutdown",
    .noun = "domain",
    .summary = "ask a machine's guest to shut down",
    .description = "Presses the power button (ACPI) and returns at once; `kho domstate` tells when the guest "
                   "has followed.",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .run = run_shutdown,
};

static gboolean
run_reboot(CliRun *cli, const void *p, GError **error)
{
    return act(cli, p, kho_domain_reboot, "is being rebooted", error);
}

const CliVerb verb_reboot = {
    .name = "reboot",
    .noun = "domain",
    .summary = "ask a machine's guest to shut down, and start it again in the same QEMU",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .run = run_reboot,
};

static gboolean
run_reset(CliRun *cli, const void *p, GError **error)
{
    return act(cli, p, kho_domain_reset, "was reset", error);
}

const CliVerb verb_reset = {
    .name = "reset",
    .noun = "domain",
    .summary = "press a machine's reset button: the guest is not asked",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .run = run_reset,
};

static gboolean
run_suspend(CliRun *cli, const void *p, GError **error)
{
    return act(cli, p, kho_domain_suspend, "suspended", error);
}

const CliVerb verb_suspend = {
    .name = "suspend",
    .noun = "domain",
    .summary = "stop a machine's processors; its memory stays",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .run = run_suspend,
};

static gboolean
run_resume(CliRun *cli, const void *p, GError **error)
{
    return act(cli, p, kho_domain_resume, "resumed", error);
}

const CliVerb verb_resume = {
    .name = "resume",
    .noun = "domain",
    .summary = "let a suspended machine go on",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .run = run_resume,
};

typedef struct {
    const char *domain;
    gboolean graceful;
} DestroyArgs;

static const CliArg destroy_args[] = {
    CLI_DOMAIN_ARG(DestroyArgs),
    { CLI_FLAG, "--graceful", offsetof(DestroyArgs, graceful), "no",
      "never kill QEMU: fail where it does not end by itself" },
    { 0 },
};

static gboolean
run_destroy(CliRun *cli, const void *p, GError **error)
{
    const DestroyArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error)
        || !kho_domain_destroy(opened.domain, a->graceful, error))
        return FALSE;
    out_done(cli, "Domain '%s' destroyed", opened.name);
    return TRUE;
}

const CliVerb verb_destroy = {
    .name = "destroy",
    .noun = "domain",
    .summary = "end a machine at once, as by pulling its plug",
    .description = "The definition and the disks stay. QEMU is asked to quit, and killed where it does not.",
    .args = destroy_args,
    .args_bytes = sizeof(DestroyArgs),
    .run = run_destroy,
};
