/* console: copies bytes between the terminal and a machine's pty. */
#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "cli/console.h"
#include "cli/domain.h"
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* How long the console must have been quiet after the end of piped input before the copy ends: longer than an
 * emulated guest takes for its next word. */
#define QUIET_MS 2000

typedef struct {
    int fd;
    gboolean raw; /* fd is a terminal, and is raw */
    struct termios old;
} RawTerminal;

static gboolean
parse_escape(const char *text, char *escape, GError **error)
{
    if (text[0] == '^' && text[1] != '\0' && text[2] == '\0') {
        char upper = g_ascii_toupper(text[1]);
        if (upper >= '@' && upper <= '_') {
            *escape = (char) (upper - '@');
            return TRUE;
        }
    }
    if (text[0] != '\0' && text[1] == '\0') {
        *escape = text[0];
        return TRUE;
    }
    return fail(error, KHO_ERROR_INVALID, "escape '%s' is neither one character nor ^ and a letter", text);
}

static void
restore_terminal(RawTerminal *terminal)
{
    if (terminal->raw)
        tcsetattr(terminal->fd, TCSAFLUSH, &terminal->old); /* the rest of a paste is not for the shell */
    terminal->raw = FALSE;
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RawTerminal, restore_terminal)

/* With ISIG off Ctrl-C goes to the guest; what else may end this process comes as a signal that only sets the
 * job's flag, so that the terminal is put back on every way out. */
static void
make_raw(RawTerminal *terminal)
{
    struct termios raw;

    if (!isatty(terminal->fd) || tcgetattr(terminal->fd, &terminal->old) < 0)
        return;
    raw = terminal->old;
    cfmakeraw(&raw);
    terminal->raw = tcsetattr(terminal->fd, TCSANOW, &raw) == 0; /* what was typed ahead is for the guest */
}

/* What one side has sent and the other has not taken yet. A guest may never read its console, and a terminal
 * may have been stopped: neither must keep the loop from seeing the escape character. */
#define CHUNK_BYTES 4096 /* what a pipe that can be written takes at once (PIPE_BUF) */
#define INPUT_BYTES (1 << 20)
#define SHOWN_BYTES (64 << 10)

typedef struct {
    const CliRun *cli;
    int pty, terminal; /* terminal: where output goes */
    char escape;
    gboolean typed;       /* standard input is a terminal: the escape character counts */
    gboolean left;        /* by the escape character, or by the terminal's end */
    gboolean input_ended; /* a pipe's */
    gboolean ended;       /* the console: QEMU closed it */
    gint64 last_ms;       /* when the last byte came from the console */
    GString *input, *shown;
    gsize lost_bytes; /* typed, but more than fits into input */
} Copy;

static void
copy_clear(Copy *copy)
{
    g_string_free(copy->input, TRUE);
    g_string_free(copy->shown, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Copy, copy_clear)

/* As much of @pending as @fd takes now; -1 with errno. */
static gssize
send_some(int fd, GString *pending)
{
    gssize n = pipe_write_some(fd, pending->str, MIN(pending->len, CHUNK_BYTES));

    if (n < 0 && errno == EAGAIN)
        return 0;
    g_string_erase(pending, 0, MAX(n, 0));
    return n;
}

/* What the guest can no longer take is dropped; what it said is still shown. */
static void
end_console(Copy *copy)
{
    copy->ended = TRUE;
    g_string_set_size(copy->input, 0);
}

static void
take_from_console(Copy *copy)
{
    char buf[CHUNK_BYTES];
    gssize n = pipe_read_some(copy->pty, buf, sizeof buf);

    if (n > 0) {
        copy->last_ms = clock_now_ms();
        g_string_append_len(copy->shown, buf, n);
    } else if (n == 0 || errno != EAGAIN) { /* EIO: QEMU has closed its side */
        end_console(copy);
    }
}

/* What a terminal has more than fits is lost, with the bell that a terminal's own line discipline would ring.
 * A pipe is not read until there is room. */
static void
take_input(Copy *copy)
{
    char buf[CHUNK_BYTES];
    gssize n = pipe_read_some(STDIN_FILENO, buf, sizeof buf);

    if (n <= 0) {
        copy->input_ended = n == 0 || errno != EAGAIN;
        copy->left = copy->typed && copy->input_ended; /* the terminal went away */
        copy->last_ms = clock_now_ms();
        return;
    }
    const char *end = copy->typed ? memchr(buf, copy->escape, (gsize) n) : NULL;
    gsize len = end ? (gsize) (end - buf) : (gsize) n;
    gsize fits = copy->ended ? 0 : MIN(len, INPUT_BYTES - copy->input->len);
    g_string_append_len(copy->input, buf, (gssize) fits);
    if (!copy->ended && fits < len && copy->lost_bytes == 0)
        g_string_append_c(copy->shown, '\a');
    copy->lost_bytes += len - fits;
    copy->left = end != NULL;
}

/* Waits until something can be done, and does it. */
static gboolean
copy_step(Copy *copy, int timeout_ms, GError **error)
{
    gboolean listens = !copy->ended && copy->shown->len<SHOWN_BYTES, sends = copy->input->len> 0;
    gboolean takes = copy->typed || (!copy->input_ended && copy->input->len + CHUNK_BYTES <= INPUT_BYTES);
    struct pollfd pty = { .fd = listens || sends ? copy->pty : -1,
                          .events = (short) ((listens ? POLLIN : 0) | (sends ? POLLOUT : 0)) };
    struct pollfd fds[] = { pty,
                            { .fd = takes ? STDIN_FILENO : -1, .events = POLLIN },
                            { .fd = copy->shown->len > 0 ? copy->terminal : -1, .events = POLLOUT } };

    if (poll(fds, G_N_ELEMENTS(fds), timeout_ms) < 0)
        return errno == EINTR || fail_errno(error, errno, "cannot wait for the console");
    if (fds[1].revents)
        take_input(copy);
    if (fds[2].revents && send_some(copy->terminal, copy->shown) < 0)
        return fail_errno(error, errno, "cannot write to standard output");
    if (listens && fds[0].revents & ~POLLOUT)
        take_from_console(copy);
    if (!copy->ended && fds[0].revents & POLLOUT && send_some(copy->pty, copy->input) < 0)
        end_console(copy);
    return TRUE;
}

/* How long nothing needs to happen before the copy is over; -1: it goes on until something ends it. */
static gint64
quiet_for_ms(const Copy *copy)
{
    if (copy->input->len > 0 || copy->shown->len > 0)
        return -1;
    if (copy->ended)
        return 0;
    return copy->input_ended ? MAX(copy->last_ms + QUIET_MS - clock_now_ms(), 0) : -1;
}

static gboolean
copy_until_done(Copy *copy, GError **error)
{
    while (!copy->left) {
        gint64 quiet_ms = quiet_for_ms(copy);

        if (kho_job_is_cancelled(copy->cli->job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        if (quiet_ms == 0)
            return TRUE;
        if (!copy_step(copy, quiet_ms < 0 ? 1000 : (int) quiet_ms, error))
            return FALSE;
    }
    /* What was typed before the escape character goes where it can go at once. */
    while (copy->input->len > 0 && send_some(copy->pty, copy->input) > 0)
        ;
    return TRUE;
}

/* The terminal once more, such that a write to it never waits; others that use it must not come to share
 * that. -1 where it cannot be had, or output goes elsewhere. */
static int
open_terminal(void)
{
    return isatty(STDOUT_FILENO) ? fd_open("/proc/self/fd/1", O_WRONLY | O_NOCTTY | O_NONBLOCK, 0, NULL) : -1;
}

static void
say_goodbye(const Copy *copy)
{
    gsize lost = copy->lost_bytes + copy->input->len;

    if (copy->typed && !copy->cli->quiet && copy->shown->len == 0)
        out_print("\n");
    if (lost > 0 && !copy->ended)
        out_warning("the guest did not take the last %" G_GSIZE_FORMAT " bytes that were typed", lost);
}

gboolean
console_run(const CliRun *cli, KhoDomain *domain, const ConsoleOptions *options, GError **error)
{
    g_auto(Copy) copy = { .cli = cli,
                          .typed = isatty(STDIN_FILENO),
                          .last_ms = clock_now_ms(),
                          .input = g_string_new(NULL),
                          .shown = g_string_new(NULL) };
    g_autofree char *path = NULL;

    if (!parse_escape(options->escape, &copy.escape, error))
        return FALSE;
    g_autoptr(KhoConsoleClaim) claim = kho_domain_console_claim(domain, options->device, error);
    if (!claim || !(path = kho_domain_console_path(domain, options->device, error)))
        return FALSE;
    fd_auto int pty = fd_open(path, O_RDWR | O_NOCTTY | O_NONBLOCK, 0, error);
    if (pty < 0)
        return FALSE;
    fd_auto int terminal_fd = open_terminal();
    copy.pty = pty;
    copy.terminal = terminal_fd >= 0 ? terminal_fd : STDOUT_FILENO;
    if (copy.typed && !cli->quiet) {
        out_print("Connected to domain '%s'\nEscape character is %s (Ctrl + %c)\n", kho_domain_name(domain),
                  options->escape, options->escape[strlen(options->escape) - 1]);
        fflush(stdout);
    }
    g_auto(RawTerminal) terminal = { .fd = STDIN_FILENO };
    make_raw(&terminal);
    gboolean ended_well = copy_until_done(&copy, error);
    restore_terminal(&terminal);
    say_goodbye(&copy);
    return ended_well;
}

typedef struct {
    const char *domain, *device, *escape;
} ConsoleArgs;

static const CliArg console_args[] = {
    CLI_DOMAIN_ARG(ConsoleArgs),
    { CLI_STR, "DEVNAME", offsetof(ConsoleArgs, device), CLI_OPTIONAL,
      "alias of the device, as serial0; the first otherwise" },
    { CLI_STR, "--escape", offsetof(ConsoleArgs, escape), CONSOLE_ESCAPE,
      "character that ends the connection", 'e' },
    { 0 },
};

static gboolean
run_console(CliRun *cli, const void *p, GError **error)
{
    const ConsoleArgs *a = p;
    const ConsoleOptions options = { .device = a->device, .escape = a->escape };
    g_auto(CliDomain) opened = { 0 };

    return cli_domain_open(cli, a->domain, &opened, error)
           && console_run(cli, opened.domain, &options, error);
}

const CliVerb verb_console = {
    .name = "console",
    .noun = "domain",
    .summary = "connect the terminal to a machine's serial console",
    .description = "Everything typed goes to the guest, Ctrl-C too; Ctrl-] ends the connection. Only one can "
                   "be connected at a time. "
                   "Standard input may be a pipe: the connection then ends when the input has ended and the "
                   "console is quiet.",
    .examples = "kho console web1\necho poweroff | kho console web1",
    .args = console_args,
    .args_bytes = sizeof(ConsoleArgs),
    .run = run_console,
};
