/* A terminal joined to a machine's console. */
#ifndef KHO_CLI_CONSOLE_H
#define KHO_CLI_CONSOLE_H

#include "cli/verb.h"

#include <kho/domain.h>

#define CONSOLE_ESCAPE "^]"

typedef struct ConsoleOptions {
    const char *device; /* "serial0"; NULL: the first */
    const char *escape; /* "^]" or one character */
} ConsoleOptions;

/* Copies bytes both ways until the escape character is typed, the machine ends, or standard input ends and
 * the console has been quiet (a pipe). The terminal is raw meanwhile, and as it was afterwards, whatever
 * happened. */
gboolean console_run(const CliRun *cli, KhoDomain *domain, const ConsoleOptions *options, GError **error);

#endif
