/* Which files machines name: the disks of definitions, of live definitions and of snapshots. Nothing here
 * waits for QEMU or takes a lock. */
#ifndef KHO_HOST_DISK_USER_H
#define KHO_HOST_DISK_USER_H

#include "host/host.h"

/* One file that one machine names. */
typedef struct HostDisk {
    char *machine;
    char *what;     /* "disk vda", "the kernel", "snapshot s1's disk vda" */
    char *cure;     /* what to do so that it names the file no longer */
    char *path;     /* NULL: see @text and @damage */
    char *format;   /* as stated; "raw" where nothing is, as when it starts */
    char *text;     /* a definition that cannot be read: what it names is not known but by its text */
    char *damage;   /* metadata of a snapshot that cannot be read, and why: what it names is not known */
    gboolean fixed; /* a snapshot's: it must stay as it is */
    gboolean past;  /* what the machine had when a snapshot was taken: it may have gone since */
} HostDisk;

/* HostDisk *, owned, of all machines. */
GPtrArray *host_disks_all(KhoHost *host, GError **error);

/* Whether a disk of any machine is this file and said to be raw. */
gboolean host_disks_say_raw(const GPtrArray *disks, const char *path);

/* Fails with KHO_ERROR_BUSY naming the first machine that would miss the file at @path after @doing
 * ("deleting it"), or might: a disk of it is that file, or has it in its chain, or cannot be looked at.
 * @but_own: what a machine goes on writing to may be changed all the same. Chains are followed through active
 * pools and the disk's own folder.
 */
gboolean
host_disks_check_unused(KhoHost *host, const char *path, const char *doing, gboolean but_own, GError **error);

#endif
