#include "base/fd.h"
#include "vm/log.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

typedef struct {
    char *folder, *path;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    f->folder = g_dir_make_tmp("kho-log-XXXXXX", NULL);
    f->path = g_build_filename(f->folder, "m.log", NULL);
}

static char *
numbered(const Fixture *f, int n)
{
    return n == 0 ? g_strdup(f->path) : g_strdup_printf("%s.%d", f->path, n);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    for (int n = 0; n < 10; n++) {
        g_autofree char *path = numbered(f, n);
        g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(f->folder), ==, 0); /* nothing else was made */
    g_free(f->folder);
    g_free(f->path);
}

static char *
content(const Fixture *f, int n)
{
    g_autofree char *path = numbered(f, n);
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static void
test_lines(Fixture *f, gconstpointer data)
{
    g_autoptr(VmLog) log = vm_log_open(f->path, NULL);

    vm_log(log, "first %d", 1);
    vm_log_qemu(log, "two\nlines \x1b[31m");
    g_autofree char *text = content(f, 0);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 3);
    g_assert_true(g_regex_match_simple(
        "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z kho-vm\\[\\d+\\]: first 1$", lines[0], 0, 0));
    g_assert_true(g_str_has_suffix(lines[1], "Z qemu: two lines  [31m"));
}

/* Four files, whole lines, none above its size, the newest lines in the first. */
static void
test_rotates(Fixture *f, gconstpointer data)
{
    g_autoptr(VmLog) log = vm_log_open(f->path, NULL);
    g_autofree char *filler = g_strnfill(8000, 'x');

    for (int i = 0; i < 800; i++)
        vm_log(log, "%d %s", i, filler);
    for (int n = 0; n < VM_LOG_FILES; n++) {
        g_autofree char *text = content(f, n);
        g_assert_cmpuint(strlen(text), <=, VM_LOG_MAX_BYTES);
        g_assert_cmpint(text[strlen(text) - 1], ==, '\n');
        g_assert_cmpint(strstr(text, ": 799 ") != NULL, ==, n == 0);
    }
    g_autofree char *beyond = content(f, VM_LOG_FILES);
    g_assert_null(beyond);
}

/* A line longer than all is cut, not lost, and the next one begins anew. */
static void
test_long_line(Fixture *f, gconstpointer data)
{
    g_autoptr(VmLog) log = vm_log_open(f->path, NULL);
    g_autofree char *filler = g_strnfill(3 << 20, 'x');

    vm_log(log, "%s", filler);
    vm_log(log, "next");
    g_autofree char *text = content(f, 0);
    g_assert_cmpuint(strlen(text), <, 10000);
    g_assert_nonnull(strstr(text, "]: next\n"));
}

static void
write_text(const char *path, const char *text)
{
    fd_auto int fd = fd_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, NULL);

    g_assert_true(fd_write_full(fd, text, strlen(text), path, NULL));
}

/* What the log's lines say of the end. */
static void
test_last_end(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *text, *reason;
    } rows[] = {
        { "", NULL },
        { "2026-01-01T00:00:00.000Z kho-vm[1]: ended (destroyed): QEMU: exit status 0\n", "destroyed" },
        { "2026-01-01T00:00:00.000Z kho-vm[1]: ended (shutdown): x\n2026-01-01T00:00:01.000Z kho-vm[2]: "
          "noise\n",
          "shutdown" },
        { "2026-01-01T00:00:00.000Z kho-vm[1]: ended (shutdown): x\n2026-01-01T00:00:01.000Z kho-vm[2]: "
          "starting: q\n",
          NULL },
        { "2026-01-01T00:00:00.000Z qemu: kho-vm[1]: ended (forged): x\n", NULL },
        { "2026-01-01T00:00:00.000Z qemu: ended (forged): x\n", NULL },
        { "2026-01-01T00:00:00.000Z kho-vm[1]: the machine ended (x)\n", NULL },
        { "2026-01-01T00:00:00.000Z kho-vm[1]: ended (torn", NULL },
        { "kho-vm[1]:\n\n \n", NULL },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        gint64 since_ms = 5;
        write_text(f->path, rows[i].text);
        g_autofree char *reason = vm_log_last_end(f->path, &since_ms);
        g_assert_cmpstr(reason, ==, rows[i].reason);
        g_assert_cmpint(since_ms, ==, rows[i].reason ? 1767225600000 : 5);
    }
}

static void
test_end_is_found(Fixture *f, gconstpointer data)
{
    g_autoptr(VmLog) log = vm_log_open(f->path, NULL);
    gint64 since_ms = 0;
    g_autofree char *filler = g_strnfill(VM_LOG_MAX_BYTES - 100, 'x');

    g_assert_null(vm_log_last_end("/nowhere/log", &since_ms));
    vm_log_start(log, "qemu");
    vm_log_qemu(log, filler);
    vm_log_end(log, "crashed", "it said: a (b)\nc");
    g_autofree char *reason = vm_log_last_end(f->path, &since_ms);
    g_assert_cmpstr(reason, ==, "crashed");
    g_assert_cmpint(ABS(g_get_real_time() / 1000 - since_ms), <, 600000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/log/lines", Fixture, NULL, set_up, test_lines, tear_down);
    g_test_add("/log/rotates", Fixture, NULL, set_up, test_rotates, tear_down);
    g_test_add("/log/long-line", Fixture, NULL, set_up, test_long_line, tear_down);
    g_test_add("/log/last-end", Fixture, NULL, set_up, test_last_end, tear_down);
    g_test_add("/log/end-is-found", Fixture, NULL, set_up, test_end_is_found, tear_down);
    return g_test_run();
}
