#include "qemuimg/output.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* QEMU prints the members of an object in the order of its hash table, which is the same in every run. */
static const char *const key_order[] = {
    "backing-filename-format",
    "image-end-offset",
    "compressed-clusters",
    "snapshots",
    "total-clusters",
    "corruptions",
    "virtual-size",
    "corruptions-fixed",
    "check-errors",
    "leaks-fixed",
    "leaks",
    "allocated-clusters",
    "filename",
    "cluster-size",
    "ivgen-alg",
    "hash-alg",
    "cipher-alg",
    "uuid",
    "ivgen-hash-alg",
    "format",
    "cipher-mode",
    "slots",
    "payload-offset",
    "master-key-iters",
    "actual-size",
    "fragmented-clusters",
    "format-specific",
    "full-backing-filename",
    "backing-filename",
    "encrypted",
    "dirty-flag",
    "icount",
    "vm-clock-nsec",
    "flags",
    "name",
    "date-sec",
    "date-nsec",
    "vm-clock-sec",
    "id",
    "vm-state-size",
};

static int failed_errno;
static volatile gint cancelled;
static volatile sig_atomic_t cancelled_by;
static volatile sig_atomic_t asked_how_far;
static gboolean shows;

static void
note_failure(int result)
{
    if (result < 0 && failed_errno == 0)
        failed_errno = errno ? errno : EIO;
}

void
qimg_print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note_failure(vfprintf(stdout, format, args));
    va_end(args);
}

static void
print_message(const char *kind, const char *format, va_list args)
{
    fprintf(stderr, "qemu-img: %s", kind);
    vfprintf(stderr, format, args);
}

void
qimg_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_message("", format, args);
    va_end(args);
    fputc('\n', stderr);
}

void
qimg_error_about(const char *subject, const char *format, ...)
{
    g_autofree char *prefix = subject ? g_strconcat(subject, ": ", NULL) : g_strdup("");
    va_list args;

    va_start(args, format);
    print_message(prefix, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void
qimg_error_open(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_message("", format, args);
    va_end(args);
}

void
qimg_usage_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_message("", format, args);
    va_end(args);
    fputs("\nTry 'qemu-img --help' for more information\n", stderr);
}

void
qimg_note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
}

void
qimg_warning(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_message("warning: ", format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* --- JSON --- */

static gsize
rank_of(const char *key)
{
    gsize rank = 0;

    while (rank < G_N_ELEMENTS(key_order) && strcmp(key_order[rank], key) != 0)
        rank++;
    return rank;
}

static json_t *ordered(json_t *value);

/* Keys that the table has not come last, in the order in which they were set. */
static json_t *
ordered_object(json_t *object)
{
    json_t *sorted = json_object();
    const char *key;
    json_t *member;

    for (gsize rank = 0; rank <= G_N_ELEMENTS(key_order); rank++)
        json_object_foreach (object, key, member) {
            if (rank_of(key) == rank)
                json_object_set_new(sorted, key, ordered(member));
        }
    return sorted;
}

/* A new reference. */
static json_t *
ordered(json_t *value)
{
    if (json_is_object(value))
        return ordered_object(value);
    if (!json_is_array(value))
        return json_incref(value);
    json_t *list = json_array();
    for (gsize i = 0; i < json_array_size(value); i++)
        json_array_append_new(list, ordered(json_array_get(value, i)));
    return list;
}

void
qimg_print_json(json_t *value)
{
    json_t *sorted = ordered(value);
    char *text = json_dumps(sorted, JSON_INDENT(4) | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

    json_decref(sorted);
    json_decref(value);
    g_assert(text);
    /* jansson takes it for text. */
    g_auto(GStrv) parts = g_strsplit(text, "\x7f", -1);
    g_autofree char *escaped = g_strjoinv("\\u007F", parts);
    qimg_print("%s\n", escaped);
    free(text);
}

gboolean
qimg_flush(void)
{
    note_failure(fflush(stdout));
    if (failed_errno == 0)
        return TRUE;
    qimg_error("cannot write to standard output: %s", g_strerror(failed_errno));
    return FALSE;
}

gboolean
qimg_wants_json(const char *output, gboolean *json)
{
    *json = g_strcmp0(output, "json") == 0;
    if (*json || !output || g_str_equal(output, "human"))
        return TRUE;
    qimg_error("--output must be used with human or json as argument.");
    return FALSE;
}

/* --- progress and cancelling --- */

static void
on_signal(int number)
{
    cancelled_by = number;
    g_atomic_int_set(&cancelled, 1);
}

static void
on_question(int number)
{
    asked_how_far = 1;
}

/* Over and over on stdout with -p, and once on stderr for each SIGUSR1. */
static void
show_progress(guint64 done_bytes, guint64 total_bytes, gpointer data)
{
    double share = total_bytes > 0 ? MIN((double) done_bytes / (double) total_bytes, 1.0) : 1.0;

    if (asked_how_far)
        qimg_note("    (%3.2f/100%%)\n", share * 100);
    asked_how_far = 0;
    if (!shows)
        return;
    qimg_print("    (%3.2f/100%%)\r", share * 100);
    fflush(stdout);
}

const KhoJob *
qimg_job(gboolean show)
{
    static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
    static KhoJob job;
    struct sigaction action = { .sa_handler = on_signal };

    sigemptyset(&action.sa_mask);
    for (gsize i = 0; i < G_N_ELEMENTS(ending); i++) {
        struct sigaction old;
        /* what a shell or nohup told this process to ignore stays ignored */
        if (sigaction(ending[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(ending[i], &action, NULL);
    }
    action.sa_handler = on_question;
    sigaction(SIGUSR1, &action, NULL);
    shows = show;
    job.cancelled = &cancelled;
    job.progress = show_progress;
    if (show)
        show_progress(0, 1, NULL);
    return &job;
}

void
qimg_progress_end(gboolean done)
{
    if (!shows)
        return;
    if (done)
        show_progress(1, 1, NULL);
    qimg_print("\n");
    shows = FALSE;
}

void
qimg_die_if_cancelled(void)
{
    struct sigaction standard = { .sa_handler = SIG_DFL };

    if (!cancelled_by)
        return;
    fflush(stdout);
    sigemptyset(&standard.sa_mask);
    sigaction(cancelled_by, &standard, NULL);
    raise(cancelled_by);
}
