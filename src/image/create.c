#include "base/error.h"
#include "base/num.h"
#include "image/target.h"

/* The space of a thick image, and what is replaced. */
static gboolean
plan_create(const Target *target, const KhoImageCreate *options, guint64 size_bytes, GError **error)
{
    CostPlace where = target_cost_place(target, options, size_bytes);
    KhoImagePlan *plan = options->plan;

    target_plan_loss(target, plan);
    if (plan && options->prealloc == KHO_PREALLOC_FULL)
        plan->write_bytes = options->prealloc_bytes ? MIN(options->prealloc_bytes, size_bytes) : size_bytes;
    return cost_reserved(&where, plan, error) && (!plan || target_try(target, options, size_bytes, error));
}

gboolean
kho_image_create(const char *path, const KhoImageCreate *options, const KhoImageGate *gate, const KhoJob *job,
                 GError **error)
{
    if (!target_check(options, error))
        return FALSE;
    Target *target = target_begin(path, options, job, error);
    if (!target)
        return FALSE;
    guint64 size = options->size_bytes;
    gboolean goes_on =
        target_look(target, options, gate, &size, error) && plan_create(target, options, size, error);
    if (!goes_on || options->plan) {
        target_free(target, NULL);
        return goes_on;
    }
    KhoImage *image = target_open(target, options, size, job, error);
    /* A new disk is empty, also where it is one that stood there before; or noise, as of a LUKS volume. */
    gboolean empty = image
                     && (options->backing_file || target_is_zero(target, options) || image->new_is_noise
                         || kho_image_zero(image, 0, kho_image_size_bytes(image), error));
    if (image && !empty)
        kho_image_free(image);
    gboolean done = empty && target_finish(target, image, job, error);
    target_free(target, error);
    return done;
}
