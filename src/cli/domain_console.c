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
        tcsetattr(terminal->fd, TCSAFLUSH, &terminal->old);
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
    terminal->raw = tcsetattr(terminal->fd, TCSAFLUSH, &raw) == 0;
}

/* All of @len bytes into @fd, which may be a pty whose reader is slow: waits, but not longer than until
 * cancelled. */
static gboolean
write_patiently(int fd, const char *buf, gsize len, const CliRun *cli, const char *label, GError **error)
{
    while (len > 0) {
        gssize n = pipe_write_some(fd, buf, len);
        if (n < 0 && errno != EAGAIN)
            return fail_errno(error, errno, "cannot write to %s", label);
        if (kho_job_is_cancelled(cli->job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        if (n < 0) {
            struct pollfd full = { .fd = fd, .events = POLLOUT };
            poll(&full, 1, 100);
            continue;
        }
        buf += n;
        len -= (gsize) n;
    }
    return TRUE;
}

typedef struct {
    const CliRun *cli;
    int pty;
    char escape;
    gboolean typed; /* standard input is a terminal: the escape character counts */
    gboolean input_ended, done;
    gint64 last_ms; /* when the last byte came from the console */
} Copy;

static gboolean
copy_from_console(Copy *copy, GError **error)
{
    char buf[4096];
    gssize n = pipe_read_some(copy->pty, buf, sizeof buf);

    if (n <= 0) { /* EIO: QEMU has closed its side */
        copy->done = n == 0 || errno != EAGAIN;
        return TRUE;
    }
    copy->last_ms = clock_now_ms();
    return write_patiently(STDOUT_FILENO, buf, (gsize) n, copy->cli, "standard output", error);
}

static gboolean
copy_to_console(Copy *copy, GError **error)
{
    char buf[1024];
    gssize n = pipe_read_some(STDIN_FILENO, buf, sizeof buf);

    if (n <= 0) {
        copy->input_ended = n == 0 || errno != EAGAIN;
        copy->done = copy->typed && copy->input_ended; /* the terminal went away */
        copy->last_ms = clock_now_ms();
        return TRUE;
    }
    const char *end = copy->typed ? memchr(buf, copy->escape, (gsize) n) : NULL;
    copy->done = end != NULL;
    return write_patiently(copy->pty, buf, end ? (gsize) (end - buf) : (gsize) n, copy->cli, "the console",
                           error);
}

static gboolean
copy_until_done(Copy *copy, GError **error)
{
    while (!copy->done) {
        struct pollfd fds[] = { { .fd = copy->pty, .events = POLLIN },
                                { .fd = copy->input_ended ? -1 : STDIN_FILENO, .events = POLLIN } };
        gint64 quiet_ms = clock_now_ms() - copy->last_ms;

        if (kho_job_is_cancelled(copy->cli->job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        if (copy->input_ended && quiet_ms >= QUIET_MS)
            return TRUE;
        if (poll(fds, G_N_ELEMENTS(fds), copy->input_ended ? (int) (QUIET_MS - quiet_ms) : 1000) < 0
            && errno != EINTR)
            return fail_errno(error, errno, "cannot wait for the console");
        if (fds[0].revents && !copy_from_console(copy, error))
            return FALSE;
        if (!copy->done && fds[1].revents && !copy_to_console(copy, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
console_run(const CliRun *cli, KhoDomain *domain, const ConsoleOptions *options, GError **error)
{
    Copy copy = { .cli = cli, .typed = isatty(STDIN_FILENO), .last_ms = clock_now_ms() };
    g_autofree char *path = NULL;

    if (!parse_escape(options->escape, &copy.escape, error))
        return FALSE;
    g_autoptr(KhoConsoleClaim) claim = kho_domain_console_claim(domain, options->device, error);
    if (!claim || !(path = kho_domain_console_path(domain, options->device, error)))
        return FALSE;
    fd_auto int pty = fd_open(path, O_RDWR | O_NOCTTY | O_NONBLOCK, 0, error);
    if (pty < 0)
        return FALSE;
    copy.pty = pty;
    if (copy.typed && !cli->quiet) {
        out_print("Connected to domain '%s'\nEscape character is %s (Ctrl + %c)\n", kho_domain_name(domain),
                  options->escape, options->escape[strlen(options->escape) - 1]);
        fflush(stdout);
    }
    g_auto(RawTerminal) terminal = { .fd = STDIN_FILENO };
    make_raw(&terminal);
    gboolean ended_well = copy_until_done(&copy, error);
    restore_terminal(&terminal);
    if (copy.typed && !cli->quiet)
        out_print("\n");
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
