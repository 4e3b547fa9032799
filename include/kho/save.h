/* Saving a machine's memory into a file, and bringing it back. A managed save is a file of kho's own, from
 * which the next start goes on. */
#ifndef KHO_SAVE_H
#define KHO_SAVE_H

#include <kho/domain.h>

/* What the guest does when its memory comes back. */
typedef enum {
    KHO_SAVED_AS_IT_WAS, /* what it did when it was saved, or what was wished then */
    KHO_SAVED_RUNNING,
    KHO_SAVED_PAUSED,
} KhoSavedState;

/**
 * kho_domain_save:
 * @file: absolute; an earlier save file of the same machine is replaced, anything else refused
 * @state: what the guest is to do when it comes back, unless another wish is given then
 *
 * Stops the guest, writes its memory into @file, and ends its QEMU. @file stands under its name only when it
 * is whole and durable; before that the guest goes on as it was when anything fails or is cancelled.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (it does not run), _EXISTS, _NO_SPACE (with the figure), _NOT_FOUND
 * (the folder), _DENIED, _CANCELLED, _BUSY.
 */
KHO_PUBLIC gboolean kho_domain_save(KhoDomain *domain, const char *file, KhoSavedState state,
                                    const KhoJob *job, GError **error);

/* The same into a file of kho's own. KHO_ERROR_INVALID where the machine has no definition. */
KHO_PUBLIC gboolean kho_domain_managed_save(KhoDomain *domain, KhoSavedState state, const KhoJob *job,
                                            GError **error);

KHO_PUBLIC gboolean kho_domain_has_managed_save(KhoDomain *domain);

/* *removed: there was one. */
KHO_PUBLIC gboolean kho_domain_managed_save_remove(KhoDomain *domain, gboolean *removed, GError **error);

typedef struct KhoRestoreOptions {
    KhoSavedState state;
    gboolean force; /* although the file was used already, or the disks have been written since */
} KhoRestoreOptions;

/**
 * kho_host_restore:
 * @file: absolute
 * @options: NULL for none
 *
 * Brings the machine of that file back; it need not be defined. The file stays, marked as used.
 *
 * Returns: its name, freed with g_free; NULL with KHO_ERROR_INVALID (no save file; it was used; a disk was
 * written since, or is another one by now; the machine runs), _CORRUPT, _EXISTS (name or uuid belong to
 * another machine), _NOT_FOUND (the file, a disk), _UNSUPPORTED (QEMU is older than the one that wrote it),
 * and as kho_domain_start. Nothing has changed then.
 */
KHO_PUBLIC char *kho_host_restore(KhoHost *host, const char *file, const KhoRestoreOptions *options,
                                  const KhoJob *job, GError **error);

/* Whether the file at @path may be written as far as managed saves are concerned: KHO_ERROR_BUSY where it is
 * a disk that a machine with one writes to, or under it, whose memory would not fit it any more. */
KHO_PUBLIC gboolean kho_save_check_file(KhoHost *host, const char *path, GError **error);

/* The definition in a save file: of the machine as it ran. */
KHO_PUBLIC char *kho_save_file_xml(const char *file, GError **error);

#endif
