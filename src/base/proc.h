/* Processes: who is it, is it the same one still, signal it, wait for its end. Always by pidfd, so that no
 * other process that got the same number is hit. Starting programs lives in base/spawn.h. */
#ifndef KHO_BASE_PROC_H
#define KHO_BASE_PROC_H

#include <glib.h>
#include <sys/types.h>

/* What names one process for good: the pid alone is used again. */
typedef struct {
    pid_t pid;
    guint64 start_ticks; /* field 22 of /proc/PID/stat */
    char boot_id[40];    /* of /proc/sys/kernel/random/boot_id */
} ProcId;

pid_t proc_own_pid(void);

/* TRUE while a signal (SIGSTOP) keeps the process from running. */
gboolean proc_is_stopped(pid_t pid);

/* TRUE once SIGKILL is pending or its end has begun: the kernel may take milliseconds to free its memory
 * before anyone is told. Between the two, for microseconds, nothing shows. TRUE as well when there is no such
 * process. */
gboolean proc_is_ending(pid_t pid);

/* KHO_ERROR_NOT_FOUND when there is no such process (a zombie counts as none). */
gboolean proc_identify(pid_t pid, ProcId *id, GError **error);

/* A descriptor of exactly the process that @id names: opened, then verified. -1 with KHO_ERROR_NOT_FOUND when
 * that process is gone. */
int proc_open(const ProcId *id, GError **error);

/* A descriptor of a child that has not been waited for. */
int proc_open_child(pid_t pid, GError **error);

/* TRUE as well when it has ended already. */
gboolean proc_signal(int pidfd, int signal_number, GError **error);

/* A descriptor of what is open as @fd in another process: offset and locks are shared. -1 with
 * KHO_ERROR_DENIED where this process may not look into that one, KHO_ERROR_IO where nothing is open there.
 */
int proc_take_fd(int pidfd, int fd, GError **error);

/* Waits for the end of the process; KHO_ERROR_TIMEOUT. Does not reap. */
gboolean proc_wait_end(int pidfd, gint64 deadline_ms, const char *what, GError **error);

/* Reaps a child that has ended; *status as of waitpid(2). FALSE in *ended, with TRUE returned, when it still
 * runs. */
gboolean proc_reap(pid_t pid, gboolean *ended, int *status, GError **error);

/* "killed by signal 9 (Killed)", "exit status 1"; freed with g_free. */
char *proc_status_text(int status);

/* Leaves whoever started this process: the caller goes on in a child of its own session; the original ends at
 * once with status 0. Before any thread is started. */
gboolean proc_detach(GError **error);

/* Goes on as another user, for good, with that group alone; by root. Others of that user may look at this
 * process as at any of theirs. */
gboolean proc_become(uid_t uid, gid_t gid, GError **error);

/* The program that runs, from /proc/self/exe; freed with g_free. */
char *proc_own_program(GError **error);

/* This process's own arguments as one line, joined by spaces and cut after 50 characters: for others'
 * messages. */
char *proc_own_command(void);

/* The processes that hold an OFD lock on the file of @fd (by /proc/PID/fdinfo, where rights allow), this one
 * left out, oldest first: ProcId's. Walks all processes. */
GArray *proc_holders(int fd);

#endif
