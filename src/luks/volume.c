#include "luks/volume.h"

#include "base/error.h"
#include "base/num.h"
#include "block/crypt.h"

#include <string.h>

typedef struct {
    FormatImage base;
    guint64 payload_off; /* where the disk begins */
} LuksVolume;

#ifdef KHO_MUTANTS
guint luks_volume_mutant;
#endif

static LuksVolume *
volume_of(FormatImage *image)
{
    return (LuksVolume *) image;
}

static gboolean
barrier(LuksRule rule, gpointer data, GError **error)
{
    const LuksVolume *volume = data;

#ifdef KHO_MUTANTS
    if (luks_volume_mutant & 1u << rule)
        return TRUE;
#endif
    return blk_flush(volume->base.file, error);
}

static LuksPlace
place_of(const LuksVolume *volume)
{
    return (LuksPlace){ .file = volume->base.file,
                        .room_bytes = volume->payload_off,
                        .barrier = barrier,
                        .data = (gpointer) volume };
}

static gboolean
luks_probe(const guint8 *head, gsize len)
{
    static const guint8 mark[] = { 'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1 };

    return len >= sizeof mark && memcmp(head, mark, sizeof mark) == 0;
}

/* The header lies in front of the disk, and the disk in the file. */
static gboolean
find_payload(BlkStore *file, guint64 file_bytes, guint64 *payload_off, GError **error)
{
    const LuksPlace all = { .file = file, .room_bytes = file_bytes };
    LuksHeader header;

    if (!luks_header_read(&all, &header, error))
        return FALSE;
    guint64 off = (guint64) header.payload_sector * CIPHER_SECTOR_BYTES;
    if (off > file_bytes)
        return fail(error, KHO_ERROR_CORRUPT,
                    "%s: bad LUKS header: the disk begins in sector %u, past the end of the file",
                    file->label, header.payload_sector);
    const LuksPlace before = { .file = file, .room_bytes = off };
    *payload_off = off;
    return luks_header_read(&before, &header, error);
}

static FormatImage *
luks_open_volume(BlkStore *file, FormatFlags flags, GError **error)
{
    guint64 file_bytes, payload_off;

    if (!blk_size(file, &file_bytes, error) || !find_payload(file, file_bytes, &payload_off, error))
        return NULL;
    if (file_bytes > num_align_down(NUM_OFFSET_MAX, CIPHER_SECTOR_BYTES)) {
        fail(error, KHO_ERROR_INVALID, "%s is too large: %" G_GUINT64_FORMAT " bytes", file->label,
             file_bytes);
        return NULL;
    }
    LuksVolume *volume = g_new0(LuksVolume, 1);
    volume->base.ops = &luks_volume_format;
    volume->base.file = file;
    volume->base.data = blk_crypt_new_behind(file, payload_off);
    volume->base.encrypted = TRUE;
    volume->base.guest_bytes = num_align_up(file_bytes - payload_off, CIPHER_SECTOR_BYTES);
    volume->base.flags = flags;
    volume->payload_off = payload_off;
    return &volume->base;
}

static gboolean
luks_info(FormatImage *image, FormatInfo *info, GError **error)
{
    const LuksPlace place = place_of(volume_of(image));
    LuksHeader header;

    if (!luks_header_read(&place, &header, error))
        return FALSE;
    *info = (FormatInfo){ .guest_bytes = image->guest_bytes,
                          .encrypted = TRUE,
                          .luks = g_memdup2(&header, sizeof header),
                          .snapshots = g_ptr_array_new() };
    return TRUE;
}

static gboolean
use_key(FormatImage *image, const LuksHeader *header, const LuksKey *key, GError **error)
{
    LuksSpec spec;

    luks_header_derive(header, &spec);
    SectorCipher *cipher = sector_cipher_new(&spec.cipher, key->bytes, error);
    if (cipher)
        blk_crypt_unlock(image->data, cipher);
    return cipher != NULL;
}

static gboolean
luks_unlock(FormatImage *image, const void *passphrase, gsize len, GError **error)
{
    const LuksPlace place = place_of(volume_of(image));
    g_auto(LuksKey) key = { .len = 0 };
    LuksHeader header;

    return luks_header_read(&place, &header, error)
           && luks_open(&place, &header, (LuksPassphrase){ passphrase, len }, &key, NULL, error)
           && use_key(image, &header, &key, error);
}

gboolean
luks_volume_unlock_with(FormatImage *image, const LuksKey *key, GError **error)
{
    const LuksPlace place = place_of(volume_of(image));
    LuksHeader header;

    return luks_header_read(&place, &header, error) && use_key(image, &header, key, error);
}

gboolean
luks_volume_change_keys(FormatImage *image, const LuksChange *change, GError **error)
{
    const LuksPlace place = place_of(volume_of(image));

    if (!(image->flags & FORMAT_WRITABLE))
        return fail(error, KHO_ERROR_DENIED, "%s is open for reading only", image->file->label);
    return luks_change(&place, change, error);
}

/* --- the disk --- */

static gboolean
luks_map(FormatImage *image, GuestOff at, guint64 max_bytes, Run *run, GError **error)
{
    *run = (Run){ .kind = RUN_DATA, .host = host_off(at.bytes), .bytes = max_bytes, .allocated = TRUE };
    return TRUE;
}

static gboolean
luks_prepare(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error)
{
    *place = (Place){ .at = at, .host = host_off(at.bytes), .bytes = max_bytes, .in_place = TRUE };
    return TRUE;
}

static gboolean
luks_commit(FormatImage *image, const Place *place, GError **error)
{
    return TRUE;
}

static void
luks_abandon(FormatImage *image, const Place *place)
{
}

static gboolean
luks_zero(FormatImage *image, GuestOff at, guint64 len, guint64 *done, GError **error)
{
    if (!blk_zero(image->data, at.bytes, len, BLK_ZERO_MAY_PUNCH, error))
        return FALSE;
    *done = len;
    return TRUE;
}

static gboolean
luks_flush(FormatImage *image, GError **error)
{
    return blk_flush(image->file, error);
}

static gboolean
luks_resize(FormatImage *image, guint64 guest_bytes, gboolean may_shrink, const struct KhoJob *job,
            GError **error)
{
    const char *label = image->file->label;
    guint64 now, wanted, disk;

    if (!num_add(num_align_up(MIN(guest_bytes, NUM_OFFSET_MAX), CIPHER_SECTOR_BYTES),
                 volume_of(image)->payload_off, &wanted)
        || wanted > num_align_down(NUM_OFFSET_MAX, CIPHER_SECTOR_BYTES))
        return fail(error, KHO_ERROR_INVALID, "cannot resize %s: %" G_GUINT64_FORMAT " bytes is too large",
                    label, guest_bytes);
    disk = wanted - volume_of(image)->payload_off;
    if (disk < image->guest_bytes && !may_shrink)
        return fail(error, KHO_ERROR_INVALID,
                    "cannot shrink %s from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                    " bytes: the data past the end would be lost",
                    label, image->guest_bytes, disk);
    if (!blk_truncate(image->file, wanted, error) || !blk_size(image->file, &now, error))
        return FALSE;
    if (now != wanted)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "cannot resize %s to %" G_GUINT64_FORMAT " bytes: a device of %" G_GUINT64_FORMAT
                    " bytes stays so",
                    label, wanted, now);
    image->guest_bytes = disk;
    return TRUE;
}

static gboolean
luks_check(FormatImage *image, FormatRepair repair, FormatCheck *result, GError **error)
{
    return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a LUKS volume: there is nothing to check",
                image->file->label);
}

static gboolean
luks_close(FormatImage *image, GError **error)
{
    gboolean ok = !(image->flags & FORMAT_WRITABLE) || blk_flush(image->file, error);

    blk_free(image->data);
    blk_free(image->file);
    g_free(image);
    return ok;
}

/* --- a new one --- */

static gboolean
no_barrier(LuksRule rule, gpointer data, GError **error)
{
    return TRUE;
}

guint64
luks_volume_head_bytes(const LuksSpec *spec)
{
    return luks_room_bytes(spec);
}

gboolean
luks_volume_create(BlkStore *file, const LuksFormat *format, guint64 guest_bytes, LuksKey *key,
                   GError **error)
{
    guint64 head = luks_room_bytes(&format->spec);
    const LuksPlace place = { .file = file, .room_bytes = head, .barrier = no_barrier };

    return blk_truncate(file, head + guest_bytes, error) && blk_zero(file, 0, head, BLK_ZERO_MAY_PUNCH, error)
           && luks_format(&place, format, key, error);
}

const FormatOps luks_volume_format = {
    .name = "luks",
    .probe = luks_probe,
    .open = luks_open_volume,
    .info = luks_info,
    .unlock = luks_unlock,
    .map = luks_map,
    .prepare = luks_prepare,
    .commit = luks_commit,
    .abandon = luks_abandon,
    .zero = luks_zero,
    .flush = luks_flush,
    .resize = luks_resize,
    .check = luks_check,
    .close = luks_close,
};
