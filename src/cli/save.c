/* save, restore, managedsave, managedsave-remove, save-image-dumpxml. */
#include "base/error.h"
#include "cli/domain.h"
#include "cli/output.h"
#include "cli/progress.h"

#include <kho/save.h>

/* --running and --paused, of every verb here that takes them. */
static gboolean
wished_state(gboolean running, gboolean paused, KhoSavedState *state, GError **error)
{
    if (running && paused)
        return fail(error, KHO_ERROR_INVALID, "--running does not go with --paused");
    *state = running ? KHO_SAVED_RUNNING : paused ? KHO_SAVED_PAUSED : KHO_SAVED_AS_IT_WAS;
    return TRUE;
}

/* A file as the user names it, seen from where they stand. */
static char *
absolute(const char *file)
{
    return g_canonicalize_filename(file, NULL);
}

#define RUNNING_HELP "let the guest run when it comes back, also where it is paused now"
#define PAUSED_HELP  "leave the guest paused when it comes back"
#define VERBOSE_HELP "show the progress in percent, also where standard error is no terminal"

typedef struct {
    const char *domain, *file;
    gboolean running, paused, verbose;
} SaveArgs;

static const CliArg save_args[] = {
    CLI_DOMAIN_ARG(SaveArgs),
    { CLI_STR, "FILE", offsetof(SaveArgs, file), NULL, "where the memory goes", .object = CLI_FILE },
    { CLI_FLAG, "--running", offsetof(SaveArgs, running), "no", RUNNING_HELP },
    { CLI_FLAG, "--paused", offsetof(SaveArgs, paused), "no", PAUSED_HELP },
    { CLI_FLAG, "--verbose", offsetof(SaveArgs, verbose), "no", VERBOSE_HELP },
    { 0 },
};

static gboolean
run_save(CliRun *cli, const void *p, GError **error)
{
    const SaveArgs *a = p;
    g_autofree char *file = absolute(a->file);
    const KhoJob *job = a->verbose ? progress_percent("Save") : cli->job;
    g_auto(CliDomain) opened = { 0 };
    KhoSavedState state = KHO_SAVED_AS_IT_WAS;

    if (!wished_state(a->running, a->paused, &state, error)
        || !cli_domain_open(cli, a->domain, &opened, error)
        || !kho_domain_save(opened.domain, file, state, job, error))
        return FALSE;
    out_done(cli, "Domain '%s' saved to %s", opened.name, a->file);
    return TRUE;
}

const CliVerb verb_save = {
    .name = "save",
    .noun = "domain",
    .summary = "write a machine's memory into a file and end it; restore brings it back",
    .description =
        "The guest stands still while its memory is written. When anything fails, or Ctrl-C ends it, the "
        "guest goes on as before and no file is left.\n\n"
        "The disks are not in the file: what fits them is lost once they are written again.",
    .examples = "kho save web1 /var/tmp/web1.save\nkho restore /var/tmp/web1.save",
    .args = save_args,
    .args_bytes = sizeof(SaveArgs),
    .run = run_save,
};

typedef struct {
    const char *file;
    gboolean running, paused, force;
} RestoreArgs;

static const CliArg restore_args[] = {
    { CLI_STR, "FILE", offsetof(RestoreArgs, file), NULL, "what save wrote", .object = CLI_FILE },
    { CLI_FLAG, "--running", offsetof(RestoreArgs, running), "no",
      "let the guest run, also where it was paused" },
    { CLI_FLAG, "--paused", offsetof(RestoreArgs, paused), "no",
      "leave the guest paused; resume lets it run" },
    { CLI_FLAG, "--force", offsetof(RestoreArgs, force), "no",
      "also from a file that was used, or onto disks that were written since: their file systems may break" },
    { 0 },
};

static gboolean
run_restore(CliRun *cli, const void *p, GError **error)
{
    const RestoreArgs *a = p;
    KhoRestoreOptions options = { .force = a->force };
    g_autofree char *file = absolute(a->file);
    g_autoptr(KhoHost) host = NULL;

    if (!wished_state(a->running, a->paused, &options.state, error) || !(host = cli_host_open(cli, error)))
        return FALSE;
    g_autofree char *name = kho_host_restore(host, file, &options, cli->job, error);
    if (!name)
        return FALSE;
    out_done(cli, "Domain '%s' restored from %s", name, a->file);
    return TRUE;
}

const CliVerb verb_restore = {
    .name = "restore",
    .noun = "domain",
    .summary = "bring a machine back from a file that save wrote",
    .description =
        "The machine need not be defined. The file stays, and is marked as used: its memory fits the disks "
        "only as long as nobody writes to them, so that a second restore is refused without --force.",
    .examples = "kho restore web1.save\nkho restore web1.save --paused",
    .args = restore_args,
    .args_bytes = sizeof(RestoreArgs),
    .run = run_restore,
};

typedef struct {
    const char *domain;
    gboolean running, paused, verbose;
} ManagedSaveArgs;

static const CliArg managedsave_args[] = {
    CLI_DOMAIN_ARG(ManagedSaveArgs),
    { CLI_FLAG, "--running", offsetof(ManagedSaveArgs, running), "no", RUNNING_HELP },
    { CLI_FLAG, "--paused", offsetof(ManagedSaveArgs, paused), "no", PAUSED_HELP },
    { CLI_FLAG, "--verbose", offsetof(ManagedSaveArgs, verbose), "no", VERBOSE_HELP },
    { 0 },
};

static gboolean
run_managedsave(CliRun *cli, const void *p, GError **error)
{
    const ManagedSaveArgs *a = p;
    const KhoJob *job = a->verbose ? progress_percent("Managedsave") : cli->job;
    g_auto(CliDomain) opened = { 0 };
    KhoSavedState state = KHO_SAVED_AS_IT_WAS;

    if (!wished_state(a->running, a->paused, &state, error)
        || !cli_domain_open(cli, a->domain, &opened, error)
        || !kho_domain_managed_save(opened.domain, state, job, error))
        return FALSE;
    out_done(cli, "Domain '%s' state saved by kho", opened.name);
    return TRUE;
}

const CliVerb verb_managedsave = {
    .name = "managedsave",
    .noun = "domain",
    .summary = "save a machine so that its next start goes on from there",
    .description = "As save does, into a file of kho's own.",
    .examples = "kho managedsave web1\nkho start web1",
    .args = managedsave_args,
    .args_bytes = sizeof(ManagedSaveArgs),
    .run = run_managedsave,
};

static gboolean
run_managedsave_remove(CliRun *cli, const void *p, GError **error)
{
    const DomainArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    gboolean removed;

    if (!cli_domain_open(cli, a->domain, &opened, error)
        || !kho_domain_managed_save_remove(opened.domain, &removed, error))
        return FALSE;
    if (removed)
        out_done(cli, "Removed managedsave image for domain '%s'", opened.name);
    else
        out_done(cli, "Domain '%s' has no manage save image; removal skipped", opened.name);
    return TRUE;
}

const CliVerb verb_managedsave_remove = {
    .name = "managedsave-remove",
    .noun = "domain",
    .summary = "throw a machine's managed save away, so that it boots when it is started",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .run = run_managedsave_remove,
};

typedef struct {
    const char *file;
} DumpxmlArgs;

static const CliArg dumpxml_args[] = {
    { CLI_STR, "FILE", offsetof(DumpxmlArgs, file), NULL, "what save wrote", .object = CLI_FILE },
    { 0 },
};

static gboolean
run_save_image_dumpxml(CliRun *cli, const void *p, GError **error)
{
    const DumpxmlArgs *a = p;
    g_autofree char *file = absolute(a->file);
    g_autofree char *xml = kho_save_file_xml(file, error);

    if (!xml)
        return FALSE;
    out_print("%s", xml);
    return TRUE;
}

const CliVerb verb_save_image_dumpxml = {
    .name = "save-image-dumpxml",
    .noun = "domain",
    .summary = "print the XML of the machine that a save file brings back",
    .args = dumpxml_args,
    .args_bytes = sizeof(DumpxmlArgs),
    .run = run_save_image_dumpxml,
};
