/* The log of one machine: lines with their times, rotated by size. Written by kho-vm, and by who clears up
 * after one that died; read here for the last line only, which says how the machine ended. */
#ifndef KHO_VM_LOG_H
#define KHO_VM_LOG_H

#include <kho/error.h>

/* NAME.log, NAME.log.1, ... NAME.log.3, of this size each. */
#define VM_LOG_MAX_BYTES (1 << 20)
#define VM_LOG_FILES     4

typedef struct VmLog VmLog;

/* Opens for appending; the folder exists. */
VmLog *vm_log_open(const char *path, GError **error);
/* For a machine that runs already, where it cannot be opened: lines are lost until it can. */
VmLog *vm_log_open_later(const char *path);
void vm_log_close(VmLog *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmLog, vm_log_close)

/* One line: "2026-01-31T12:00:00.000Z kho-vm[PID]: TEXT". Control characters become spaces. A full disk loses
 * the line: a machine must not stop for its log. */
void vm_log(VmLog *log, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* One line that QEMU wrote, as "TIME qemu: TEXT": never to be taken for one of kho-vm's. */
void vm_log_qemu(VmLog *log, const char *text);

/* How QEMU ended: the line that vm_log_last_end looks for. @reason is libvirt's word: "shutdown",
 * "destroyed", "crashed", "failed"; @detail is for people. */
void vm_log_end(VmLog *log, const char *reason, const char *detail);

/* The reason of the last line of that kind since the last start, or NULL; *since_ms is its time. */
char *vm_log_last_end(const char *path, gint64 *since_ms);

/* The line of a start, which ends what was said before of an end. */
void vm_log_start(VmLog *log, const char *detail);

#endif
