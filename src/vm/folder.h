/* The run folder of one machine (run/qemu/NAME): its files' names, its two locks, small files in it, its
 * making and removing. Used by kho-vm and by those who look from outside (vm/runtime.h); who may do what is
 * theirs.
 *
 * `supervisor` is taken before `alive`, both are let go by the end of their holders only, and the holder of
 * both removes the folder. A lock counts only while its file stands in the folder: between open and lock
 * another process may have removed it. */
#ifndef KHO_VM_FOLDER_H
#define KHO_VM_FOLDER_H

#include <kho/error.h>

#define VM_FILE_ALIVE      "alive"
#define VM_FILE_SUPERVISOR "supervisor"
#define VM_FILE_MONITOR    "monitor.sock"
#define VM_FILE_CLIENTS    "qmp.sock"
#define VM_FILE_STATUS     "status.json"
#define VM_FILE_LIVE_XML   "live.xml"
#define VM_FILE_STDERR     "stderr.fifo"
#define VM_FILE_UNPLUG     "unplug.json"

/* A descriptor of the folder; with @make it is made (0700, its parent exists). -1 with KHO_ERROR_NOT_FOUND.
 */
int vm_folder_open(const char *run_path, gboolean make, GError **error);

/* Takes a lock of the folder, making its file; the descriptor holds it, also for those who inherit it. -1
 * with KHO_ERROR_BUSY (held), _NOT_FOUND (the folder is being removed: open it again). */
int vm_folder_lock(int dirfd, const char *name, GError **error);

/* Whether a lock is held, without taking it; *exists: whether its file is there. */
gboolean vm_folder_is_locked(int dirfd, const char *name, gboolean *held, gboolean *exists, GError **error);

/* The processes other than this one that hold it, oldest first, as far as /proc shows them: ProcId's
 * (base/proc.h). */
GArray *vm_folder_holders(int dirfd, const char *name);

/* Makes @name hold @text, for readers at once or not at all. It need not outlive the host, so nothing is
 * flushed. */
gboolean vm_folder_write(int dirfd, const char *name, const char *text, GError **error);
/* KHO_ERROR_NOT_FOUND. */
char *vm_folder_read(int dirfd, const char *name, gsize *len, GError **error);

/* Removes everything in the folder but the locks: what a dead machine left. By the holder of both. */
void vm_folder_empty(int dirfd);

/* Removes everything in the folder, the locks last, then the folder. By the holder of both locks. */
gboolean vm_folder_remove(int dirfd, const char *run_path, GError **error);

#endif
