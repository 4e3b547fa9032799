/* The sweep over changes of key slots: after a crash the passphrases that open the disk are the old ones or
 * the new ones, and no slot is active that nothing opens. */
#include "base/num.h"
#include "block/record.h"
#include "crash/sweeps.h"
#include "luks/volume.h"
#include "qcow2/crypt.h"

#include <string.h>

#define FIRST                                                                                                \
    {                                                                                                        \
        "first", 5                                                                                           \
    }
static const LuksPassphrase first = FIRST, second = { "second", 6 };

/* Which passphrases open the disk. */
typedef struct {
    gboolean first, second;
} Opens;

typedef struct {
    LuksChange change;
    Opens before, after;
    gboolean in_volume; /* of its own, and not within a qcow2 image */
} KeyChange;

static const LuksFormat format = {
    .spec = { { CRYPTO_AES128, CRYPTO_CBC, CIPHER_IV_PLAIN64, CRYPTO_SHA256 }, CRYPTO_SHA1 },
    .iteration_ms = 1,
    .passphrase = FIRST,
};

/* NULL, or what is wrong with a header. */
static char *
look(const LuksPlace *place, const LuksHeader *header, Opens *opens)
{
    *opens = (Opens){ FALSE, FALSE };
    for (guint i = 0; i < LUKS_SLOTS; i++) {
        gboolean by_first = FALSE, by_second = FALSE;
        g_auto(LuksKey) key = { .len = 0 };
        g_autoptr(GError) error = NULL;

        if (!luks_slot_is_active(header, i))
            continue;
        if (!luks_slot_opens(place, header, i, first, &key, &by_first, &error)
            || (!by_first && !luks_slot_opens(place, header, i, second, &key, &by_second, &error)))
            return g_strdup_printf("key slot %u: %s", i, error->message);
        if (!by_first && !by_second)
            return g_strdup_printf("key slot %u is active, and no passphrase opens it", i);
        opens->first |= by_first;
        opens->second |= by_second;
    }
    return NULL;
}

static gboolean
same(Opens a, Opens b)
{
    return a.first == b.first && a.second == b.second;
}

/* Where the header lies. NULL, or what is wrong with the image around it. */
static char *
find_header(const guint8 *bytes, gsize len, BlkStore *store, LuksPlace *place)
{
    g_autofree guint8 *cluster = NULL;
    g_auto(Qcow2Extensions) extensions = { 0 };
    Qcow2Header header;
    char *found = crash_judge_check(bytes, len);

    if (found)
        return found;
    g_assert_true(qcow2_header_read(store, &header, &cluster, NULL));
    g_assert_true(
        qcow2_extensions_decode(cluster, (gsize) 1 << header.cluster_bits, &header, &extensions, NULL));
    place->off_bytes = extensions.luks_off;
    place->room_bytes = extensions.luks_bytes;
    return NULL;
}

static char *
judge_keys(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    const KeyChange *change = data;
    g_autoptr(BlkStore) store = blk_mem_new(bytes, len, "state");
    LuksPlace place = { .file = store, .room_bytes = luks_room_bytes(&format.spec) };
    g_autoptr(GError) error = NULL;
    LuksHeader luks;
    Opens opens;
    char *found = change->in_volume ? NULL : find_header(bytes, len, store, &place);

    if (found)
        return found;
    if (!luks_header_read(&place, &luks, &error))
        return g_strdup_printf("LUKS header: %s", error->message);
    found = look(&place, &luks, &opens);
    if (found)
        return found;
    if (same(opens, change->after) || (!durable && same(opens, change->before)))
        return NULL;
    /* Replaced by way of another slot: in between either opens it, never none. */
    if (!durable && change->change.force && (opens.first || opens.second))
        return NULL;
    return g_strdup_printf("key slots: the first passphrase opens %d, the second %d", opens.first,
                           opens.second);
}

static void
change_once(BlkStore *mem, KeyChange *change, const CrashOptions *options, CrashReport *report)
{
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(GBytes) base = blk_mem_snapshot(mem);
    CrashOptions replaying = *options;
    g_autoptr(GError) error = NULL;
    const FormatOps *ops = change->in_volume ? &luks_volume_format : &qcow2_format;
    FormatImage *image = ops->open(blk_record_new(mem, log), FORMAT_WRITABLE, &error);

    g_assert_no_error(error);
    (change->in_volume ? luks_volume_change_keys : qcow2_change_keys)(image, &change->change, &error);
    g_assert_no_error(error);
    g_assert_true(image->ops->close(image, NULL));
    replaying.judge = judge_keys;
    replaying.judge_data = change;
    crash_replay(base, log, NULL, &replaying, report);
}

/* @mem holds an image that the first passphrase opens. */
static void
sweep(BlkStore *mem, gboolean in_volume, const CrashOptions *options, CrashReport *report)
{
    const Opens one = { TRUE, FALSE }, both = { TRUE, TRUE }, other = { FALSE, TRUE };
    /* Slot 6 lies across two sectors. */
    KeyChange changes[] = {
        { { .add = TRUE, .slot = 6, .unlock = &first, .new_one = &second, .iteration_ms = 1 }, one, both },
        { { .slot = LUKS_ANY_SLOT, .old = &first }, both, other },
        { { .add = TRUE, .slot = LUKS_ANY_SLOT, .unlock = &second, .new_one = &first, .iteration_ms = 1 },
          other,
          both },
        { { .slot = 6 }, both, one },
        { { .add = TRUE, .slot = 0, .unlock = &first, .new_one = &second, .iteration_ms = 1, .force = TRUE },
          one,
          other },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        if (options->stop_at_first && report->violations > 0)
            return;
        changes[i].in_volume = in_volume;
        change_once(mem, &changes[i], options, report);
    }
}

void
sweep_keys(const CrashOptions *options, CrashReport *report)
{
    const Qcow2CreateOptions create = { .guest_bytes = 64 * KIB, .cluster_bytes = 4096, .luks = &format };
    g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "keys");

    g_assert_true(qcow2_create(mem, &create, NULL));
    sweep(mem, FALSE, options, report);
}

void
sweep_volume_keys(const CrashOptions *options, CrashReport *report)
{
    g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "volume");
    g_auto(LuksKey) key = { .len = 0 };

    g_assert_true(luks_volume_create(mem, &format, 64 * KIB, &key, NULL));
    sweep(mem, TRUE, options, report);
}
