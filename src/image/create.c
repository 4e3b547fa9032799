#include "base/error.h"
#include "image/target.h"

gboolean
kho_image_create(const char *path, const KhoImageCreate *options, const KhoImageGate *gate, const KhoJob *job,
                 GError **error)
{
    if (!target_check(options, error))
        return FALSE;
    Target *target = target_begin(path, options, job, error);
    if (!target)
        return FALSE;
    KhoImage *image = target_open(target, options, options->size_bytes, gate, job, error);
    /* A new disk is empty, also where it is one that stood there before. */
    gboolean empty = image
                     && (options->backing_file || target_is_zero(target, options)
                         || kho_image_zero(image, 0, kho_image_size_bytes(image), error));
    if (image && !empty)
        kho_image_free(image);
    gboolean done = empty && target_finish(target, image, job, error);
    target_free(target, error);
    return done;
}
