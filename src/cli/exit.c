/* The table of exit statuses; help, the man page and docs/exit-status.md print it. */
#include "cli/exit.h"

static const int of_code[KHO_ERROR_N_CODES] = {
    [KHO_ERROR_INTERNAL] = 1, [KHO_ERROR_NOT_FOUND] = 3,   [KHO_ERROR_EXISTS] = 4,
    [KHO_ERROR_INVALID] = 5,  [KHO_ERROR_UNSUPPORTED] = 6, [KHO_ERROR_CORRUPT] = 7,
    [KHO_ERROR_BUSY] = 8,     [KHO_ERROR_DENIED] = 9,      [KHO_ERROR_NO_SPACE] = 10,
    [KHO_ERROR_IO] = 11,      [KHO_ERROR_TIMEOUT] = 12,    [KHO_ERROR_CANCELLED] = 130,
};

const ExitRow exit_rows[] = {
    { 0, "ok", "done" },
    { 1, "internal", "a fault of kho itself" },
    { EXIT_USAGE, "usage",
      "the command line is wrong: unknown verb or option, a value missing or malformed" },
    { 3, "not-found", "the machine, pool, volume or file named does not exist" },
    { 4, "exists", "it exists already" },
    { 5, "invalid", "the input is malformed or out of range, or the object is not in a state for this" },
    { 6, "unsupported", "well-formed, but this version or this host cannot do it" },
    { 7, "corrupt", "data on disk contradicts its own format" },
    { 8, "busy", "another process holds it; it may succeed later" },
    { 9, "denied", "rights are missing" },
    { 10, "no-space", "the disk, a quota or a limit is full" },
    { 11, "io", "the system reported a failure of a device or file" },
    { 12, "timeout", "a deadline passed" },
    { EXIT_FINDINGS, "findings",
      "a check ran and found leaks, or a comparison found differences, and nothing worse" },
    { 130, "cancelled", "cancelled by Ctrl-C or SIGTERM; the old state holds" },
};
const gsize exit_n_rows = G_N_ELEMENTS(exit_rows);

int
exit_status_of(const GError *error)
{
    if (!error || error->domain != KHO_ERROR || error->code < 0 || error->code >= KHO_ERROR_N_CODES)
        return of_code[KHO_ERROR_INTERNAL];
    return of_code[error->code];
}
