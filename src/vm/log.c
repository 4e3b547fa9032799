#include "vm/log.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/owner.h"
#include "base/pipe.h"
#include "base/proc.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

/* The last line of a log is found within this, for lines are cut at LINE_MAX_BYTES. */
#define TAIL_BYTES     (64 << 10)
#define LINE_MAX_BYTES (8 << 10)

struct VmLog {
    char *path;
    int fd; /* -1 while it cannot be opened */
    guint64 bytes;
};

static gboolean
reopen(VmLog *log, GError **error)
{
    struct stat st;
    /* Without blocking: a pipe of that name is no log, and nobody may ever read from it. */
    fd_auto int fd = owner_open(log->path, O_WRONLY | O_APPEND | O_NONBLOCK, 0640, error);

    if (g_lstat(log->path, &st) == 0 && !S_ISREG(st.st_mode)) {
        g_clear_error(error);
        return fail(error, KHO_ERROR_INVALID, "the log %s is not a regular file: remove it", log->path);
    }
    if (fd < 0 || !fd_stat(fd, &st, log->path, error))
        return FALSE;
    log->fd = fd_steal(&fd);
    log->bytes = (guint64) st.st_size;
    return TRUE;
}

VmLog *
vm_log_open(const char *path, GError **error)
{
    g_autoptr(VmLog) log = g_new0(VmLog, 1);

    *log = (VmLog){ .path = g_strdup(path), .fd = -1 };
    return reopen(log, error) ? g_steal_pointer(&log) : NULL;
}

VmLog *
vm_log_open_later(const char *path)
{
    VmLog *log = g_new0(VmLog, 1);

    *log = (VmLog){ .path = g_strdup(path), .fd = -1 };
    return log;
}

void
vm_log_close(VmLog *log)
{
    if (!log)
        return;
    fd_clear(&log->fd);
    g_free(log->path);
    g_free(log);
}

/* NAME.log.2 becomes NAME.log.3, and so on; what cannot be renamed is written on. */
static void
rotate(VmLog *log)
{
    for (int i = VM_LOG_FILES - 1; i > 0; i--) {
        g_autofree char *from = i == 1 ? g_strdup(log->path) : g_strdup_printf("%s.%d", log->path, i - 1);
        g_autofree char *to = g_strdup_printf("%s.%d", log->path, i);
        fd_rename(from, to, NULL);
    }
    fd_clear(&log->fd);
    reopen(log, NULL);
}

static void
write_line(VmLog *log, const char *who, const char *text)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
    g_autofree char *clean = error_one_line(text);
    g_autofree char *line = g_strdup_printf(
        "%s.%03dZ %s: %.*s\n", time, g_date_time_get_microsecond(now) / 1000, who, LINE_MAX_BYTES, clean);
    gsize len = strlen(line);

    if (log->fd < 0)
        reopen(log, NULL);
    if (log->bytes + len > VM_LOG_MAX_BYTES)
        rotate(log);
    if (log->fd >= 0 && fd_write_full(log->fd, line, len, log->path, NULL))
        log->bytes += len;
}

static void
write_own(VmLog *log, const char *text)
{
    g_autofree char *who = g_strdup_printf("kho-vm[%d]", (int) proc_own_pid());
    write_line(log, who, text);
}

void
vm_log(VmLog *log, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    write_own(log, text);
}

void
vm_log_qemu(VmLog *log, const char *text)
{
    write_line(log, "qemu", text);
}

void
vm_log_end(VmLog *log, const char *reason, const char *detail)
{
    g_autofree char *text = g_strdup_printf("ended (%s): %s", reason, detail);
    write_own(log, text);
}

void
vm_log_start(VmLog *log, const char *detail)
{
    g_autofree char *text = g_strdup_printf("starting: %s", detail);
    write_own(log, text);
}

/* The last TAIL_BYTES of a log, from the beginning of a line. */
static char *
read_tail(const char *path)
{
    struct stat st;
    gsize len;
    fd_auto int fd = fd_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, NULL);

    if (fd < 0 || !fd_stat(fd, &st, path, NULL) || !S_ISREG(st.st_mode))
        return NULL;
    len = (gsize) MIN(st.st_size, TAIL_BYTES);
    g_autofree char *text = g_malloc0(len + 1);
    if (!fd_pread_full(fd, text, len, (guint64) st.st_size - len, path, NULL))
        return NULL;
    return g_steal_pointer(&text);
}

/* What kho-vm says in @line, after "TIME kho-vm[PID]: "; NULL for other lines. */
static const char *
own_words(const char *line)
{
    const char *who = strchr(line, ' ');

    if (!who || !g_str_has_prefix(who + 1, "kho-vm["))
        return NULL;
    const char *words = strstr(who, "]: ");
    return words ? words + 3 : NULL;
}

char *
vm_log_last_end(const char *path, gint64 *since_ms)
{
    g_autofree char *tail = read_tail(path);
    g_auto(GStrv) lines = tail ? g_strsplit(tail, "\n", -1) : NULL;

    for (guint i = lines ? g_strv_length(lines) : 0; i-- > 0;) {
        const char *words = own_words(lines[i]);
        if (words && g_str_has_prefix(words, "starting: "))
            return NULL;
        const char *close = words && g_str_has_prefix(words, "ended (") ? strchr(words, ')') : NULL;
        if (!close)
            continue;
        g_autofree char *time = g_strndup(lines[i], strcspn(lines[i], " "));
        g_autoptr(GDateTime) when = g_date_time_new_from_iso8601(time, NULL);
        if (when)
            *since_ms = g_date_time_to_unix(when) * 1000 + g_date_time_get_microsecond(when) / 1000;
        return g_strndup(words + strlen("ended ("), (gsize) (close - words) - strlen("ended ("));
    }
    return NULL;
}
