/* The progress line and the cancel flag. */
#include "cli/progress.h"
#include "base/num.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile gint cancelled;
static gint64 started_us;
static gboolean shown;

static void
on_signal(int signal_number)
{
    g_atomic_int_set(&cancelled, 1);
}

static void
show_progress(guint64 done_bytes, guint64 total_bytes, gpointer data)
{
    enum { BAR = 30 };
    char bar[BAR + 1];
    gint64 now_us = g_get_monotonic_time();

    double seconds = (double) (now_us - started_us) / G_USEC_PER_SEC;
    if (seconds < 1.0 || total_bytes == 0)
        return;
    double share = MIN((double) done_bytes / (double) total_bytes, 1.0);
    for (int i = 0; i < BAR; i++)
        bar[i] = i < (int) (share * BAR) ? '=' : ' ';
    bar[BAR] = '\0';
    g_autofree char *done = num_format_size(done_bytes);
    g_autofree char *total = num_format_size(total_bytes);
    g_autofree char *rate = num_format_size((guint64) ((double) done_bytes / seconds));
    fprintf(stderr, "\r[%s] %3.0f %%  %s of %s, %s/s, %.0f s left\033[K", bar, share * 100, done, total, rate,
            share > 0 ? seconds / share - seconds : 0.0);
    fflush(stderr);
    shown = TRUE;
}

static void
show_percent(guint64 done_bytes, guint64 total_bytes, gpointer word)
{
    static int last = -1;
    int percent = total_bytes > 0 ? (int) ((double) done_bytes * 100 / (double) total_bytes) : 0;

    if (percent == last)
        return;
    last = percent;
    fprintf(stderr, "\r%s: [%3d %%]%s", (const char *) word, percent, percent == 100 ? "\n" : "");
    fflush(stderr);
}

void
progress_clear(void)
{
    if (!shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    shown = FALSE;
}

const KhoJob *
progress_start(gboolean show)
{
    static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
    static KhoJob job;
    struct sigaction action = { .sa_handler = on_signal };
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    sigemptyset(&action.sa_mask);
    sigemptyset(&ignore.sa_mask);
    for (gsize i = 0; i < G_N_ELEMENTS(ending); i++) {
        struct sigaction old;
        /* what a shell or nohup told this process to ignore stays ignored */
        if (sigaction(ending[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(ending[i], &action, NULL);
    }
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore,
              NULL); /* a file at its limit is an error like a full disk, with its message */
    started_us = g_get_monotonic_time();
    job.cancelled = &cancelled;
    job.progress = show && isatty(STDERR_FILENO) ? show_progress : NULL;
    return &job;
}

const KhoJob *
progress_percent(const char *word)
{
    static KhoJob job;

    job = (KhoJob){ .progress = show_percent, .data = (gpointer) word, .cancelled = &cancelled };
    return &job;
}
