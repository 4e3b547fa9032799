/* What kho prints: text and tables in virsh's form, JSON, errors. Nothing else in cli/ writes to stdout or
 * stderr, so that a write that fails (a full disk, a closed pipe) is noticed in one place. */
#ifndef KHO_CLI_OUTPUT_H
#define KHO_CLI_OUTPUT_H

#include "cli/verb.h"

/* jansson's, for those who print JSON. */
struct json_t;

void out_print(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* A message of success, with a line break added; not with -q or --json. */
void out_done(const CliRun *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* "Name:           web1": @label without its colon. */
void out_field(const char *label, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* A table: rows of the same number of cells as the head. NULL cells print as "-". */
typedef struct OutTable OutTable;
OutTable *out_table_new(const char *first_head, ...) G_GNUC_NULL_TERMINATED;
void out_table_row(OutTable *table, const char *const *cells);
/* " Id   Name   State", a rule, the rows, an empty line. */
void out_table_print(const OutTable *table);
void out_table_free(OutTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OutTable, out_table_free)

/* Prints @value, indented, keys in the order they were set, and drops the reference. */
void out_json(struct json_t *value);

/* The same for a list that may be too long for memory: each value is printed as it is added. */
typedef struct {
    gboolean has_some;
} OutList;
void out_list_add(OutList *list, struct json_t *value);
void out_list_end(const OutList *list);

/* "error: MESSAGE" on stderr, always one line; in colour on a terminal. */
void out_error(const char *message);
/* "warning: MESSAGE" on stderr. */
void out_warning(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* A question on stderr, without a line break. */
void out_question(const char *question);

/* Flushes stdout: FALSE with the code of what the system said (KHO_ERROR_NO_SPACE, _IO, ...) when anything
 * printed in this run did not arrive; where out_done was called, the message says that it is done all the
 * same. *pipe_closed: the reader went away, which needs no message. */
gboolean out_flush(gboolean *pipe_closed, GError **error);

#endif
