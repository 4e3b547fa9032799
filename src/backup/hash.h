/* SHA-256 of whole files, several at a time. What the hashes are compared with is the caller's business. */
#ifndef KHO_BACKUP_HASH_H
#define KHO_BACKUP_HASH_H

#include <kho/job.h>

typedef struct HashFile {
    const char *path;   /* borrowed */
    guint64 size_bytes; /* what was read */
    char *sha256;       /* owned; NULL with @error */
    GError *error;      /* why it could not be read */
} HashFile;

void hash_file_clear(HashFile *file);

/**
 * hash_files:
 * @files: their paths given, the rest zeroed
 *
 * Reads the files, one thread a file, as many at a time as there are processors. A file that cannot be read
 * has an error of its own. Progress is told from the calling thread, in bytes of the sizes that the files
 * have.
 *
 * Returns: FALSE with KHO_ERROR_CANCELLED.
 */
gboolean hash_files(HashFile *files, gsize n_files, const KhoJob *job, GError **error);

#endif
