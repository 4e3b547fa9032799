/* QEMU's block jobs (commit, stream, mirror, backup), for whoever drives one: begin, follow, let it have its
 * effect, cancel. A job is known by an id that the driver decides before, so that whoever comes after a
 * driver that died finds it. What is copied where, and what files that needs, is decided by those who call.
 */
#ifndef KHO_VM_JOB_H
#define KHO_VM_JOB_H

#include "vm/client.h"

#include <kho/job.h>

/* How far a job is; each includes those before. */
typedef enum {
    VM_JOB_ABSENT,    /* QEMU knows no job of that id: it was never begun, or is over */
    VM_JOB_WORKING,   /* it copies, or waits for others of its transaction */
    VM_JOB_READY,     /* all is copied, and what the guest writes goes to both sides (mirror, commit of the
                         layer in use): vm_job_complete */
    VM_JOB_PENDING,   /* all is copied: vm_jobs_finish lets it have its effect */
    VM_JOB_CONCLUDED, /* done, failed or cancelled */
} VmJobState;

/* How far the job is, by QEMU's word. */
gboolean vm_job_look(VmClient *client, const char *id, VmJobState *state, GError **error);

/* Adds to the arguments of a command that begins a job, alone or in a transaction, what the functions here
 * rely on: its id, and that it neither has its effect nor goes away by itself. Returns @arguments. */
json_t *vm_job_arguments(const char *id, json_t *arguments);

/**
 * vm_job_begin:
 * @command: "block-commit", "block-stream", "blockdev-backup", ...
 * @arguments: (transfer full)
 *
 * Begins a job with the arguments of vm_job_arguments. (Jobs of a transaction are begun by the caller.) A
 * "block-stream" goes away when it is over: VM_JOB_ABSENT then, and what it did is seen at the disk.
 */
gboolean
vm_job_begin(VmClient *client, const char *command, const char *id, json_t *arguments, GError **error);

/**
 * vm_jobs_wait:
 * @ids: NULL-terminated
 * @until: VM_JOB_READY or VM_JOB_PENDING
 * @guest_first: gives up as soon as QEMU could not make a write of the guest's, which a job that copies what
 *   the guest is about to overwrite may be the cause of
 * @job: told the sum of all, as QEMU counts it
 *
 * Returns once all jobs have come that far. Events of QEMU's are waited for.
 *
 * Returns: FALSE with KHO_ERROR_CANCELLED within 100 ms of the cancel, and where somebody cancelled a job at
 * QEMU; _NO_SPACE, _IO where one failed, or a write of the guest's; _NOT_FOUND where there is none of an id;
 * _TIMEOUT where QEMU is silent for a minute, or a job stands still for ten. The jobs are left as they are:
 * vm_jobs_cancel.
 */
gboolean vm_jobs_wait(VmClient *client, const char *const *ids, VmJobState until, gboolean guest_first,
                      const KhoJob *job, GError **error);

/* Lets a job that is VM_JOB_READY come to VM_JOB_PENDING: from here on nothing is copied. */
gboolean vm_job_complete(VmClient *client, const char *id, GError **error);

/* Lets jobs that are VM_JOB_PENDING have their effect, and ends them; those that are over already are passed
 * over. FALSE with the first error, when all have ended. */
gboolean vm_jobs_finish(VmClient *client, const char *const *ids, GError **error);

/* Ends jobs without their effect; those that are over already, and those that QEMU does not know, are passed
 * over. KHO_ERROR_TIMEOUT where QEMU does not end one within 10 s (it waits for requests that are under way).
 */
gboolean vm_jobs_cancel(VmClient *client, const char *const *ids, GError **error);

#endif
