/* Files that QEMU is given while it runs, and gives back: what kho-open and kho-close come down to. Opening
 * them is kho-vm's part, since QEMU needs no rights on paths; the rest is QEMU's (add-fd, getfd, remove-fd).
 */
#ifndef KHO_SUPERVISOR_GRANT_H
#define KHO_SUPERVISOR_GRANT_H

#include "base/json.h"

struct Supervisor;

/* What QEMU is to be asked, and the descriptor that goes with it. */
typedef struct {
    const char *command;
    json_t *arguments;
    int fd; /* -1: none */
} Grant;

void grant_clear(Grant *grant);

/* Opens a regular file or block device for reading and writing, or with @read_only for reading, without
 * waiting for anybody (a pipe in its place is refused). -1 with @error. */
int grant_open_file(const char *path, gboolean read_only, GError **error);

/* kho-open, by its arguments: opens the file. FALSE with @error, @grant then untouched. */
gboolean grant_open(const json_t *wanted, Grant *grant, GError **error);

/* kho-close. A QEMU whose guest does not run keeps what it is told to close, and keeps its image locks: they
 * are ended here, since they would be in the way of the next job. */
gboolean grant_close(struct Supervisor *s, const json_t *wanted, Grant *grant, GError **error);

/* The guest runs again: what QEMU kept meanwhile is closed. Called before any client learns of it, so that no
 * number stands for another file yet. */
void grant_resumed(struct Supervisor *s);

#endif
