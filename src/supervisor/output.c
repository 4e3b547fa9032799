#include "supervisor/output.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "vm/folder.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>

#define LINE_MAX_BYTES      4096
#define COMPLAINT_MAX_BYTES 2000

struct Output {
    int fd;
    guint watch;
    VmLog *log;
    GString *line;      /* what has come of a line that has not ended */
    GString *complaint; /* a message of QEMU's and the lines that go on with it */
};

/* QEMU begins a message with its own name and a colon, other than a line that goes on with the one before.
 * What follows the name, or NULL. */
static const char *
message_of(const char *line)
{
    const char *colon = strchr(line, ':');
    const char *space = strchr(line, ' ');

    return g_str_has_prefix(line, "qemu") && colon && space == colon + 1 ? space + 1 : NULL;
}

/* What QEMU tells beside its complaints. */
static gboolean
is_news(const char *line)
{
    return strstr(line, ": warning: ") || strstr(line, ": info: ")
           || g_str_has_prefix(line, "char device redirected to ");
}

static void
take_line(Output *o)
{
    g_autofree char *line = error_one_line(o->line->str);

    g_string_set_size(o->line, 0);
    if (!*line)
        return;
    vm_log_qemu(o->log, line);
    if (is_news(line))
        return;
    const char *message = message_of(line);
    if (message)
        g_string_assign(o->complaint, message);
    else if (o->complaint->len + strlen(line) < COMPLAINT_MAX_BYTES)
        g_string_append_printf(o->complaint, "%s%s", o->complaint->len > 0 ? " " : "", line);
}

static void
take(Output *o, const char *bytes, gsize len)
{
    for (gsize i = 0; i < len; i++) {
        if (bytes[i] == '\n' || o->line->len >= LINE_MAX_BYTES)
            take_line(o);
        if (bytes[i] != '\n')
            g_string_append_c(o->line, bytes[i] ? bytes[i] : ' ');
    }
}

/* At most @rounds reads, so that a guest that makes QEMU write without end does not keep the loop. */
static void
read_some(Output *o, guint rounds)
{
    char chunk[16384];

    while (rounds-- > 0) {
        gssize n = pipe_read_some(o->fd, chunk, sizeof chunk);
        if (n <= 0)
            return;
        take(o, chunk, (gsize) n);
    }
}

static gboolean
on_readable(gint fd, GIOCondition condition, gpointer data)
{
    Output *o = data;

    read_some(o, 1);
    /* A fifo without a writer is readable for ever: QEMU has ended, death.c drains the rest. */
    if (condition & G_IO_IN)
        return G_SOURCE_CONTINUE;
    o->watch = 0;
    return G_SOURCE_REMOVE;
}

Output *
output_new(int folder, VmLog *log, GError **error)
{
    if (!pipe_make_fifo(folder, VM_FILE_STDERR, error))
        return NULL;
    fd_auto int fd = fd_open_at(folder, VM_FILE_STDERR, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0, error);
    if (fd < 0)
        return NULL;
    Output *o = g_new0(Output, 1);
    *o = (Output){
        .fd = fd_steal(&fd), .log = log, .line = g_string_new(NULL), .complaint = g_string_new(NULL)
    };
    o->watch = g_unix_fd_add(o->fd, G_IO_IN | G_IO_HUP, on_readable, o);
    return o;
}

void
output_free(Output *o)
{
    if (!o)
        return;
    g_clear_handle_id(&o->watch, g_source_remove);
    fd_clear(&o->fd);
    g_string_free(o->line, TRUE);
    g_string_free(o->complaint, TRUE);
    g_free(o);
}

int
output_open_for_qemu(int folder, GError **error)
{
    return fd_open_at(folder, VM_FILE_STDERR, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0, error);
}

void
output_drain(Output *o)
{
    read_some(o, 64);
    take_line(o);
}

const char *
output_complaint(const Output *o)
{
    return o->complaint->str;
}
