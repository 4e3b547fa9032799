#include "crash/guest.h"

#include "base/num.h"

#include <string.h>

/* What the image has no bytes for. */
static void
read_through(FormatImage *image, guint64 at, guint8 *buf, const Run *run)
{
    guint64 backed = at < image->backing_bytes ? MIN(run->bytes, image->backing_bytes - at) : 0;

    memset(buf, 0, run->bytes);
    if (run->kind == RUN_HOLE)
        memset(buf, (guint8) GUEST_BACKING_VALUE, backed);
}

gboolean
guest_read(FormatImage *image, guint64 at, guint8 *buf, guint64 len, GError **error)
{
    while (len > 0) {
        Run run;
        if (!image->ops->map(image, guest_off(at), len, &run, error))
            return FALSE;
        g_assert(run.bytes > 0 && run.bytes <= len);
        gboolean ok = TRUE;
        if (run.kind == RUN_DATA)
            ok = blk_pread_padded(image->data, run.host.bytes, buf, run.bytes, error);
        else if (run.kind == RUN_COMPRESSED)
            ok = image->ops->inflate(image, guest_off(at), buf, run.bytes, error);
        else
            read_through(image, at, buf, &run);
        if (!ok)
            return FALSE;
        at += run.bytes;
        buf += run.bytes;
        len -= run.bytes;
    }
    return TRUE;
}

/* In pieces: a buffer for the whole disk would be new memory for every state. */
#define LOOK_BYTES (64 * KIB)

char *
guest_look(FormatImage *image, GuestSee see, gconstpointer data)
{
    g_autofree guint8 *bytes = g_malloc(MIN(LOOK_BYTES, image->guest_bytes) + 1);
    g_autoptr(GError) error = NULL;
    char *found = NULL;

    for (guint64 at = 0, len; at < image->guest_bytes && !found; at += len) {
        len = MIN(LOOK_BYTES, image->guest_bytes - at);
        if (!guest_read(image, at, bytes, len, &error))
            return g_strdup_printf("read: %s", error->message);
        for (guint64 i = 0; i + SECTOR <= len && !found; i += SECTOR) {
            guint64 value = 0;
            gboolean whole = guest_sector_value(bytes + i, &value);
            found = see((at + i) / SECTOR, value, whole, data);
        }
    }
    return found;
}

/* Fills a new place: the guest's bytes over what the rest of it reads as now. */
static gboolean
fill_place(FormatImage *image, const Place *place, guint64 at, const guint8 *buf, guint64 len, GError **error)
{
    g_autofree guint8 *all = g_malloc0(place->bytes);
    guint64 known = MIN(place->bytes, image->guest_bytes - place->at.bytes);
    guint64 skip = at - place->at.bytes;

    if (!guest_read(image, place->at.bytes, all, known, error))
        return FALSE;
    memcpy(all + skip, buf, MIN(len, place->bytes - skip));
    return blk_pwrite(image->data, place->host.bytes, all, place->bytes, error);
}

gboolean
guest_write(FormatImage *image, guint64 at, const guint8 *buf, guint64 len, GError **error)
{
    while (len > 0) {
        Place place;
        if (!image->ops->prepare(image, guest_off(at), len, &place, error))
            return FALSE;
        g_assert(place.at.bytes <= at && at < place.at.bytes + place.bytes);
        guint64 n = MIN(len, place.at.bytes + place.bytes - at);
        gboolean ok = place.in_place
                          ? blk_pwrite(image->data, place.host.bytes + (at - place.at.bytes), buf, n, error)
                          : fill_place(image, &place, at, buf, len, error);
        if (!ok || !image->ops->commit(image, &place, error)) {
            image->ops->abandon(image, &place);
            return FALSE;
        }
        at += n;
        buf += n;
        len -= n;
    }
    return TRUE;
}

gboolean
guest_zero(FormatImage *image, guint64 at, guint64 len, GError **error)
{
    while (len > 0) {
        guint64 done = 0;
        if (!image->ops->zero(image, guest_off(at), len, &done, error))
            return FALSE;
        if (done == 0) { /* inside a cluster: up to the next sector that zero may take */
            guint8 zeros[SECTOR] = { 0 };
            done = MIN(len, SECTOR);
            if (!guest_write(image, at, zeros, done, error))
                return FALSE;
        }
        at += done;
        len -= done;
    }
    return TRUE;
}

void
guest_sector_fill(guint8 *sector, guint64 value)
{
    for (guint i = 0; i < SECTOR; i += 8)
        memcpy(sector + i, &value, 8);
}

gboolean
guest_sector_value(const guint8 *sector, guint64 *value)
{
    memcpy(value, sector, 8);
    return memcmp(sector, sector + 8, SECTOR - 8) == 0;
}
