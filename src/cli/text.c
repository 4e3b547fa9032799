#include "cli/text.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/xml.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A pipe that nobody has opened for writing yet is waited for as well: it is not read before there is
 * something. */
static char *
read_whole(const CliRun *cli, int fd, const char *label, gsize *len, GError **error)
{
    const volatile gint *cancelled = cli->job ? cli->job->cancelled : NULL;
    g_autoptr(GString) all = g_string_new(NULL);
    char chunk[16384];

    for (;;) {
        if (!pipe_wait_unless(fd, DEADLINE_NEVER, cancelled, label, error))
            return NULL;
        gssize n = pipe_read_some(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n < 0) {
            fail_errno(error, errno, "cannot read %s", label);
            return NULL;
        }
        if (n == 0)
            break;
        if ((gsize) n > XML_TEXT_MAX - all->len) {
            fail(error, KHO_ERROR_INVALID, "%s is larger than %d bytes", label, XML_TEXT_MAX);
            return NULL;
        }
        g_string_append_len(all, chunk, n);
    }
    *len = all->len;
    return g_string_free(g_steal_pointer(&all), FALSE);
}

gboolean
cli_text_read(const CliRun *cli, const char *file, CliText *out, GError **error)
{
    gboolean piped = strcmp(file, "-") == 0;
    CliText got = { .label = piped ? "standard input" : file };
    fd_auto int fd = piped ? -1 : fd_open(file, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, error);

    if (!piped && fd < 0)
        return FALSE;
    got.text = read_whole(cli, piped ? STDIN_FILENO : fd, got.label, &got.len, error);
    if (!got.text)
        return FALSE;
    *out = got;
    return TRUE;
}

gboolean
cli_text_blame(const CliText *text, GError **error)
{
    if (error && *error && g_str_has_prefix((*error)->message, "line "))
        g_prefix_error(error, "%s: ", text->label);
    return FALSE;
}

void
cli_text_clear(CliText *text)
{
    g_clear_pointer(&text->text, g_free);
}
