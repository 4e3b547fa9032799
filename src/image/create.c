#include "base/error.h"
#include "image/target.h"

gboolean
kho_image_create(const char *path, const KhoImageCreate *options, const KhoImageGate *gate, const KhoJob *job,
                 GError **error)
{
    if (!target_check(options, error))
        return FALSE;
    g_autoptr(Publish) publish =
        publish_begin(path, options->mode, options->overwrite ? PUBLISH_REPLACE : 0, error);
    if (!publish)
        return FALSE;
    KhoImage *image = target_open(publish, path, options, options->size_bytes, gate, job, error);
    return image && target_finish(publish, image, job, error);
}
