/* Starting a program: an argument vector (never a shell), exactly the descriptors named and no others, its
 * own session where wanted; and running one to its end with a deadline. Processes as such live in
 * base/proc.h. */
#ifndef KHO_BASE_SPAWN_H
#define KHO_BASE_SPAWN_H

#include <glib.h>
#include <sys/types.h>

/* @from of the caller becomes @to of the program. */
typedef struct {
    int from, to;
} SpawnFd;

typedef struct {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up on PATH when it holds no slash */
    const char *const *env;  /* NULL: the caller's */
    const SpawnFd *fds;      /* no two with one @to; may overlap and cross with what the caller has open */
    gsize n_fds;
    gboolean new_session;      /* setsid: no terminal, no signals from one */
    gboolean dies_with_caller; /* killed when the thread that starts it ends, with its process or without */
    /* Called in the child before its exec, when its descriptors are in place; FALSE with errno ends it. Only
     * async-signal-safe calls. May be NULL. */
    gboolean (*confine)(gpointer data);
    gpointer confine_data;
    /* Called in the caller while the child waits before its exec; FALSE ends the child. The program runs only
     * after it returned TRUE: should the caller die before, the child ends too. May be NULL. */
    gboolean (*admit)(pid_t pid, gpointer data, GError **error);
    gpointer data;
} SpawnSpec;

typedef struct {
    pid_t pid;
    int pidfd; /* owned by the caller */
} SpawnChild;

/**
 * spawn_start:
 *
 * Starts a program. 0, 1 and 2 are /dev/null where @spec->fds does not name them; every other descriptor is
 * closed; signals have their default actions and none is blocked; the folder is "/".
 *
 * Returns: FALSE with the code of errno, naming the program, where it cannot be started (NOT_FOUND, DENIED,
 * ...): the child is gone by then. The caller reaps the child of a success (proc_reap, spawn_end).
 */
gboolean spawn_start(const SpawnSpec *spec, SpawnChild *child, GError **error);

typedef struct {
    int status;      /* as of waitpid(2) */
    char *out, *err; /* NUL-terminated, cut at SPAWN_CAPTURE_MAX */
} SpawnResult;

#define SPAWN_CAPTURE_MAX (1 << 20)

void spawn_result_clear(SpawnResult *result);

/* Runs a program to its end in a session of its own. At @deadline_ms (base/pipe.h) it is killed with its
 * process group: KHO_ERROR_TIMEOUT. A status other than 0 is no error here. */
gboolean spawn_run(const SpawnSpec *spec, gint64 deadline_ms, SpawnResult *result, GError **error);

/* Kills a child that is still there and reaps it. */
void spawn_end(SpawnChild *child);

#endif
