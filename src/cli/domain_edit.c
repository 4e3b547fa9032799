/* edit: a machine's definition in the user's editor. */
#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/spawn.h"
#include "base/xml.h"
#include "cli/domain.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A file of the user's, removed on every way out. */
typedef struct {
    char *path;
} EditFile;

static void
edit_file_clear(EditFile *file)
{
    if (file->path)
        fd_unlink(file->path, NULL);
    g_free(file->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(EditFile, edit_file_clear)

static gboolean
edit_file_write(EditFile *file, const char *name, const char *text, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *pattern = g_strdup_printf("kho-%.100s-XXXXXX.xml", name);
    fd_auto int fd = g_file_open_tmp(pattern, &file->path, &why);

    if (fd < 0)
        return fail(error, KHO_ERROR_IO, "cannot make a file to edit: %s", why->message);
    return fd_write_full(fd, text, strlen(text), file->path, error) && fd_close(&fd, file->path, error);
}

/* The editor is a shell's words ("emacs -nw"); folder, editor and file are handed over as arguments, so that
 * no name can be read as code. */
static const char editor_script[] = "cd -- \"$1\" 2>/dev/null; eval \"$2 \\\"\\$3\\\"\"";

/* Ctrl-C is the editor's meanwhile: this process only notes it. */
static gboolean
run_editor(const char *path, GError **error)
{
    const char *editor = g_getenv("VISUAL");
    g_autofree char *folder = g_get_current_dir();
    SpawnFd fds[] = { { 0, 0 }, { 1, 1 }, { 2, 2 } };
    SpawnChild child;
    gboolean ended = FALSE;
    int status = 0;

    if (!editor || !*editor)
        editor = g_getenv("EDITOR");
    if (!editor || !*editor)
        editor = "vi";
    const char *argv[] = { "/bin/sh", "-c", editor_script, "sh", folder, editor, path, NULL };
    SpawnSpec spec = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds) };
    fflush(stdout);
    if (!spawn_start(&spec, &child, error))
        return FALSE;
    gboolean waited = proc_wait_end(child.pidfd, DEADLINE_NEVER, "the editor", error)
                      && proc_reap(child.pid, &ended, &status, error);
    fd_clear(&child.pidfd);
    if (!waited || !ended)
        return FALSE;
    if (status != 0) {
        g_autofree char *how = proc_status_text(status);
        return fail(error, KHO_ERROR_INVALID, "the editor '%s' failed (%s): nothing was changed", editor,
                    how);
    }
    return TRUE;
}

/* Whether to go back into the editor; never without a terminal. */
static gboolean
edit_again(const GError *why)
{
    char line[16];

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return FALSE;
    out_error(why->message);
    out_question("Edit again? [Y,n] ");
    return fgets(line, sizeof line, stdin) && (line[0] == '\n' || line[0] == 'y' || line[0] == 'Y');
}

/* Edits until the result can be defined, or the user gives up. *changed: whether it was. */
static gboolean
edit_until_good(const CliRun *cli, const CliDomain *opened, const EditFile *file, const char *before,
                gboolean *changed, GError **error)
{
    const KhoDomainDefineOptions options = { .expect_uuid = kho_domain_uuid(opened->domain),
                                             .expect_xml = before };

    for (;;) {
        g_autoptr(GError) why = NULL;
        g_autoptr(GPtrArray) unknown = NULL;
        gsize len;

        if (!run_editor(file->path, error))
            return FALSE;
        if (kho_job_is_cancelled(cli->job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled: machine '%s' was not changed", opened->name);
        g_autofree char *after = fd_read_file(file->path, XML_TEXT_MAX, &len, error);
        if (!after)
            return FALSE;
        *changed = strcmp(before, after) != 0;
        if (!*changed)
            return TRUE;
        g_autoptr(KhoDomain) defined = kho_domain_define(opened->host, after, len, &options, &unknown, &why);
        for (guint i = 0; defined && unknown && i < unknown->len; i++)
            out_warning("%s is kept, but kho does not know it", (const char *) unknown->pdata[i]);
        if (defined)
            return TRUE;
        if (!edit_again(why)) {
            g_propagate_prefixed_error(error, g_steal_pointer(&why),
                                       "machine '%s' was not changed: ", opened->name);
            return FALSE;
        }
    }
}

static gboolean
run_edit(CliRun *cli, const void *p, GError **error)
{
    const DomainArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    g_auto(EditFile) file = { NULL };
    gboolean changed = FALSE;

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autofree char *before = kho_domain_xml(opened.domain, TRUE, error);
    if (!before || !edit_file_write(&file, opened.name, before, error)
        || !edit_until_good(cli, &opened, &file, before, &changed, error))
        return FALSE;
    out_done(cli,
             changed ? "Domain '%s' XML configuration edited" : "Domain '%s' XML configuration not changed",
             opened.name);
    return TRUE;
}

const CliVerb verb_edit = {
    .name = "edit",
    .noun = "domain",
    .summary = "change a machine's definition in an editor",
    .description = "Starts $VISUAL, $EDITOR or vi on the definition and checks what it leaves; the old one "
                   "is replaced only by one that "
                   "is good. On a terminal it offers to edit again. A machine that runs is not changed "
                   "before its next start.",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .run = run_edit,
};
