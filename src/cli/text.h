/* A text that a verb is given: a file of XML, or standard input. */
#ifndef KHO_CLI_TEXT_H
#define KHO_CLI_TEXT_H

#include "cli/verb.h"

typedef struct CliText {
    char *text;
    gsize len;
    const char *label; /* the file's name as it was given, or "standard input" */
} CliText;

/* Reads @file, or standard input for "-", whole; at most what an XML document may have. Waits for what may
 * wait (a pipe, a terminal) until Ctrl-C: KHO_ERROR_CANCELLED. */
gboolean cli_text_read(const CliRun *cli, const char *file, CliText *out, GError **error);

/* FALSE, for a return; an error that tells a line gets the file's name before it. */
gboolean cli_text_blame(const CliText *text, GError **error);

void cli_text_clear(CliText *text);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CliText, cli_text_clear)

#endif
