/* Looking for contradictions: the storage daemon has no command for it, so that qemu-img does it, in a cage
 * of the same kind. */
#include "foreign/foreign.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "foreign/caged.h"

#include <string.h>
#include <sys/wait.h>

#define PROGRAM   "qemu-img"
#define PACKAGE   "qemu-utils"
#define WORDS_MAX 65536
/* qemu-img's statuses. */
#define STATUS_LEAKS       3
#define STATUS_UNSUPPORTED 63

static char *
read_words(int fd, GError **error)
{
    gsize len;

    return fd_seek(fd, 0, PROGRAM, error) ? fd_read_all(fd, WORDS_MAX, &len, PROGRAM, error) : NULL;
}

/* What it printed, where it looked; its complaint otherwise. */
static json_t *
read_answer(const ForeignSpec *spec, int status, int out, int err, GError **error)
{
    g_autofree char *found = read_words(out, error);
    g_autofree char *words = found ? read_words(err, error) : NULL;

    if (!words)
        return NULL;
    if (status >= 0 && status <= STATUS_LEAKS && *found)
        return json_parse(found, strlen(found), spec->path, error);
    g_autofree char *shown = error_one_line(*words ? words : "no reason given");
    fail(error, status == STATUS_UNSUPPORTED ? KHO_ERROR_UNSUPPORTED : KHO_ERROR_INVALID,
         "%s: " PROGRAM ": %s", spec->path,
         status == STATUS_UNSUPPORTED ? "images of this format are not checked" : shown);
    return NULL;
}

/* That the tool is missing says nothing about the format: unlike what read_answer has for those that are not
 * checked, it is no KHO_ERROR_UNSUPPORTED. */
static gboolean
start_tool(Caged *caged, const SpawnSpec *start, const BrokerSpec *rules, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (caged_start(caged, start, PACKAGE, rules, &cause))
        return TRUE;
    return fail(error,
                cause->code == KHO_ERROR_UNSUPPORTED ? KHO_ERROR_NOT_FOUND : (KhoErrorCode) cause->code, "%s",
                cause->message);
}

json_t *
foreign_check(const ForeignSpec *spec, GError **error)
{
    const char *argv[] = { PROGRAM, "check", "-U", "--output=json", "-f", spec->format, spec->path, NULL };
    const BrokerSpec rules = {
        .path = spec->path, .fd = spec->fd, .admit = spec->admit, .claim = spec->claim, .data = spec->data
    };
    fd_auto int out = pipe_memory(PROGRAM, "", 0, error);
    fd_auto int err = out < 0 ? -1 : pipe_memory(PROGRAM, "", 0, error);
    const SpawnFd fds[] = { { out, 1 }, { err, 2 } };
    const SpawnSpec start = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds) };
    g_auto(Caged) caged = { .child.pidfd = -1 };
    gboolean ended = FALSE;
    int status = 0;

    if (err < 0 || !start_tool(&caged, &start, &rules, error)
        || !pipe_wait_unless(caged.child.pidfd, DEADLINE_NEVER, spec->job ? spec->job->cancelled : NULL,
                             spec->path, error)
        || !proc_reap(caged.child.pid, &ended, &status, error))
        return NULL;
    caged.child.pid = 0;
    fd_clear(&caged.child.pidfd);
    return read_answer(spec, WIFEXITED(status) ? WEXITSTATUS(status) : -1, out, err, error);
}
