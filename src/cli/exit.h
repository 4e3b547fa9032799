/* Exit statuses: one table for all verbs, from the code of an error to the number a shell sees. */
#ifndef KHO_CLI_EXIT_H
#define KHO_CLI_EXIT_H

#include <kho/error.h>

enum {
    EXIT_USAGE = 2, /* the command line itself is wrong */
    EXIT_FINDINGS =
        14, /* the verb ran, and found something short of corruption (img check: leaked clusters) */
};

typedef struct ExitRow {
    int status;
    const char *name, *meaning;
} ExitRow;

extern const ExitRow exit_rows[];
extern const gsize exit_n_rows;

/* The status of an error; of one that is not a KhoErrorCode, that of KHO_ERROR_INTERNAL. */
int exit_status_of(const GError *error);

#endif
