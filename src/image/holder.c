#include "image/holder.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"

#include <glib/gstdio.h>
#include <string.h>

#define PROC_FILE_MAX ((gsize) 256 * 1024)

/* "lock:\t1: OFDLCK  ADVISORY  READ -1 fe:00:10952964 100 101"; the end is a number or EOF. */
gboolean
image_holder_line_locks(const char *line, guint64 byte)
{
    const char *words[16];
    gsize n = 0;
    g_autofree char *copy = g_strdup(line);
    char *rest = NULL;

    for (char *word = strtok_r(copy, " \t", &rest); word && n < G_N_ELEMENTS(words);
         word = strtok_r(NULL, " \t", &rest))
        words[n++] = word;
    if (n < 8 || !g_str_equal(words[0], "lock:") || !g_str_equal(words[2], "OFDLCK"))
        return FALSE;

    guint64 first, last;
    if (!num_parse_uint(words[n - 2], G_MAXUINT64, "lock", &first, NULL))
        return FALSE;
    if (g_str_equal(words[n - 1], "EOF"))
        return first <= byte;
    return num_parse_uint(words[n - 1], G_MAXUINT64, "lock", &last, NULL) && first <= byte && byte <= last;
}

static gboolean
descriptor_locks(const char *pid, const char *fd, guint64 byte)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fdinfo/%s", pid, fd);
    g_autofree char *text = fd_read_file(path, PROC_FILE_MAX, NULL, NULL);

    if (!text)
        return FALSE;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (gsize i = 0; lines[i]; i++)
        if (image_holder_line_locks(lines[i], byte))
            return TRUE;
    return FALSE;
}

/* Compares by what stat says of the open file: the device number in a lock line is another one on btrfs and
 * overlay file systems. */
static gboolean
process_locks(const char *pid, const struct stat *file, guint64 byte)
{
    g_autofree char *folder = g_strdup_printf("/proc/%s/fd", pid);
    g_autoptr(GDir) fds = g_dir_open(folder, 0, NULL);
    const char *fd;

    while (fds && (fd = g_dir_read_name(fds))) {
        g_autofree char *path = g_build_filename(folder, fd, NULL);
        struct stat st;

        if (g_stat(path, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino
            && descriptor_locks(pid, fd, byte))
            return TRUE;
    }
    return FALSE;
}

/* QEMU's -name takes "web1" or "guest=web1,debug-threads=on", where a comma within is doubled. */
static char *
guest_name(const char *value)
{
    GString *name = g_string_new(NULL);

    if (g_str_has_prefix(value, "guest="))
        value += strlen("guest=");
    for (const char *c = value; *c; c++) {
        if (*c == ',' && *++c != ',')
            break;
        g_string_append_c(name, *c);
    }
    return g_string_free(name, FALSE);
}

char *
image_holder_name(const char *cmdline, gsize len, guint64 pid, gboolean *is_machine)
{
    g_autofree char *program = len > 0 ? g_path_get_basename(cmdline) : g_strdup("?");
    g_autofree char *shown = error_one_line(program);
    const char *end = cmdline + len;

    *is_machine = FALSE;
    for (const char *arg = cmdline; arg < end; arg += strlen(arg) + 1) {
        const char *value = arg + strlen(arg) + 1;

        if ((g_str_equal(arg, "-name") || g_str_equal(arg, "--name")) && value < end) {
            g_autofree char *name = guest_name(value);
            g_autofree char *line = error_one_line(name);

            *is_machine = TRUE;
            return g_strdup_printf("machine '%s' (%s, pid %" G_GUINT64_FORMAT ")", line, shown, pid);
        }
    }
    return g_strdup_printf("%s (pid %" G_GUINT64_FORMAT ")", shown, pid);
}

char *
image_holder_describe(const struct stat *st, guint64 byte, gboolean *is_machine)
{
    g_autoptr(GDir) processes = g_dir_open("/proc", 0, NULL);
    const char *entry;

    while (processes && (entry = g_dir_read_name(processes))) {
        guint64 pid;
        gsize len = 0;

        if (!num_parse_uint(entry, G_MAXINT32, "pid", &pid, NULL) || !process_locks(entry, st, byte))
            continue;
        g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", entry);
        g_autofree char *cmdline = fd_read_file(path, PROC_FILE_MAX, &len, NULL);
        return image_holder_name(cmdline ? cmdline : "", len, pid, is_machine);
    }
    return NULL;
}
