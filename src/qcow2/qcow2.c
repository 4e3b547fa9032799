/* The format's table of functions. */
#include "qcow2/qcow2.h"

#include "qcow2/amend.h"
#include "qcow2/backing.h"
#include "qcow2/bitmap_change.h"
#include "qcow2/cost.h"
#include "qcow2/crypt.h"
#include "qcow2/flush.h"
#include "qcow2/image.h"
#include "qcow2/map.h"
#include "qcow2/packed.h"
#include "qcow2/place.h"
#include "qcow2/repair.h"
#include "qcow2/resize.h"

static gboolean
probe(const guint8 *head, gsize len)
{
    /* Also where the header is cut short or of a version that cannot be read: taken for raw, it would be
     * written over. */
    return len >= 4 && be32_load(head) == QCOW2_MAGIC;
}

const FormatOps qcow2_format = {
    .name = "qcow2",
    .probe = probe,
    .open = qcow2_open,
    .info = qcow2_info,
    .set_data = qcow2_set_data,
    .map = qcow2_map,
    .inflate = qcow2_inflate,
    .prepare = qcow2_prepare,
    .prepare_new = qcow2_prepare_new,
    .commit = qcow2_commit,
    .abandon = qcow2_abandon,
    .zero = qcow2_zero,
    .packer_new = qcow2_packer_new,
    .pack = qcow2_pack,
    .packer_free = qcow2_packer_free,
    .put_packed = qcow2_put_packed,
    .unlock = qcow2_unlock,
    .flush = qcow2_flush,
    .resize = qcow2_resize,
    .extend = qcow2_extend,
    .set_backing = qcow2_set_backing,
    .empty = qcow2_empty,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_revert = qcow2_snapshot_revert,
    .snapshot_delete = qcow2_snapshot_delete,
    .amend = qcow2_amend,
    .cost = qcow2_cost,
    .room = qcow2_room,
    .bitmap = qcow2_bitmap_change,
    .check = qcow2_check,
    .close = qcow2_close,
};
